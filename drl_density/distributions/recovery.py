"""The recovery conditional of a cleaner level given a noisier state, as a Pyro distribution."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.distributions.sampling import ChainSampler, SamplerPolicy
from drl_density.distributions.unnormalized import UnnormalizedDistribution, real_support
from drl_density.mcmc import LogDensity


@methods_outside_inference_mode
class RecoveryDistribution(UnnormalizedDistribution):
    r"""The recovery conditional of a cleaner level given a noisier state, up to its normaliser.

    .. math:: \log p(x_t \mid x_{t+1}) = F_t(x_t) - \frac{\lVert x_{t+1} - a\,x_t\rVert^2}{2 s^2} + \text{const}.

    The batch shape is that of ``x_noisier``: one conditional per row. Chains start at ``x_noisier`` and use the kernel's
    step size in units of the conditional's scale (a^2 / s^2 + 1 / sigma_t^2)^(-1/2).

    Args:
        log_density: energy F_t of the cleaner level, maps rows ``(n, *event)`` to ``(n,)``.
        x_noisier: state one or several levels up, ``batch_shape + event_shape``.
        step_alpha: signal a of the noising step.
        step_sigma: noise s of the noising step.
        sampler: policy of ``sample``; adjusted chains by default.
        event_dim: number of event dimensions.
        validate_args: whether values are checked to be real; Pyro's own choice when not given.

    Source: Gao et al. 2021, equation 5 (there in y = a x).

    >>> step = RecoveryDistribution(lambda x: -0.5 * (x**2).sum(-1), torch.ones(4, 2), 0.8, 0.6)
    >>> step.batch_shape, step.event_shape
    (torch.Size([4]), torch.Size([2]))
    """

    def __init__(
        self,
        log_density: LogDensity,
        x_noisier: Tensor,
        step_alpha: float | Tensor,
        step_sigma: float | Tensor,
        *,
        sampler: SamplerPolicy | None = None,
        event_dim: int = 1,
        validate_args: bool | None = None,
    ) -> None:
        self.log_density = log_density
        self.x_noisier = x_noisier
        self.step_alpha, self.step_sigma = float(step_alpha), float(step_sigma)
        self.sampler = ChainSampler(num_warmup=100, num_steps=50) if sampler is None else sampler
        split = x_noisier.ndim - event_dim
        self._event_support = real_support(x_noisier.shape[split:])
        TorchDistribution.__init__(self, x_noisier.shape[:split], x_noisier.shape[split:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        """A new object whose conditioning states are broadcast to another batch shape."""
        new = cast("Self", self._get_checked_instance(RecoveryDistribution, _instance))  # Pyro leaves the type open
        shape = torch.Size(batch_shape)
        new._take_settings(self, shape)
        new.step_alpha, new.step_sigma = self.step_alpha, self.step_sigma
        new.x_noisier = self.x_noisier.expand(shape + self.event_shape)
        return new

    def _log_density(self, x: Tensor) -> Tensor:
        residual = (self.x_noisier - self.step_alpha * x) / self.step_sigma
        misfit = residual.square().flatten(residual.ndim - self.event_dim).sum(-1)
        return self._rows_log_density(x) - 0.5 * misfit

    def _initial(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return self.x_noisier.expand(shape + self.event_shape)
