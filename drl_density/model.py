"""The sequence of energy-based models over noise levels, and the one place where a network becomes a log density."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from drl_density.bases import Base, NoisedGaussianMixture, Tail
from drl_density.devices import whole_float32
from drl_density.distributions import ChainSampler, EnergyDistribution, RecoveryDistribution, SamplerPolicy
from drl_density.execution import ExecutedModule
from drl_density.networks import contract
from drl_density.schedule import Level, NoiseSchedule
from drl_density.shapes import per_row


class LogNormalizers(nn.Module):
    """The learned constants c as a smooth function of the log-SNR: a line plus a small network that starts at zero."""

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 32)
        nn.init.normal_(self.hidden.weight, std=2.0, generator=generator)
        nn.init.normal_(self.hidden.bias, std=2.0, generator=generator)
        self.readout = nn.Linear(32, 1)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, log_snr: Tensor) -> Tensor:
        """c at each log-SNR, same shape."""
        return self.readout(torch.tanh(self.hidden(log_snr[..., None] / 4))).squeeze(-1)


class MeanNormalizers(nn.Module):
    """Mean of several models' learned constants: by Hoelder's inequality at least the log Z of their averaged energy,
    as far as each constant is its model's log Z.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def readout(self) -> nn.Linear:
        """The last layer of the first member, which tells device and dtype."""
        return self.members[0].readout

    def forward(self, log_snr: Tensor) -> Tensor:
        """c at each log-SNR, same shape."""
        return torch.stack([member(log_snr) for member in self.members]).mean(0)


class LevelLogDensity:
    """``model.log_density`` with its level fixed: a picklable callable that keeps sight of the parameters."""

    def __init__(self, model: EnergySequence, level: float) -> None:
        self.model, self.level = model, level

    def __call__(self, x: Tensor) -> Tensor:
        return self.model.log_density(x, self.level)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the energy."""
        return self.model.network.parameters()


class EnergySequence(ExecutedModule):
    r"""Energy-based models :math:`p_t(x) = \exp(F_t(x)) / Z_t` for levels t = 0..T-1, above them the base N(0, I).

    .. math:: F_t(x) = \log \textstyle\sum_k w_k\,
        \mathcal{N}(x; \alpha_t \mu_k, \alpha_t^2 C_k + \sigma_t^2 I) + g(x, \lambda_t)

    with a fixed Gaussian mixture (N(0, I) unless given) and a network g. The base is exactly noised, so with g = 0
    every level is that mixture's model of the data, normalised. Levels are continuous: F is defined at any log-SNR.
    ``log_density`` is the only function that turns a network output into a log density.

    A new sequence is in evaluation mode, in which it is one density: in training mode dropout is drawn and spectral norms
    are iterated anew at every pass, so ``train()`` is for passes that learn; :func:`drl_density.training.train` calls it.

    Args:
        schedule: noise levels.
        network: g, see :mod:`drl_density.networks`.
        event_shape: shape of one point.
        base: the fixed mixture over the flattened point; standard normal when not given.
        has_base: False for F = g alone.
        is_integrable: whether exp(F) has a finite integral. By default it is declared from the parts: a Gaussian base
            and a network of bounded growth.
        initializer: network that proposes a x_level from x_noisier, see
            :class:`~drl_density.training.CooperativeRecovery`; no part
            of the density.
        dtype: of the parameters; that of the network when not given.
        generator: source of the constants' initial weights.

    Source: Gao et al. 2021 (arXiv 2012.08125).

    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> model.log_density(torch.zeros(3, 2), 0).shape
    torch.Size([3])
    >>> model.level(1)
    EnergyDistribution(batch_shape=(), event_shape=(2,), normalization='none')
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        network: nn.Module,
        event_shape: tuple[int, ...],
        *,
        base: Base | None = None,
        has_base: bool = True,
        is_integrable: bool | None = None,
        initializer: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.schedule, self.network = schedule, network
        self.initializer = initializer
        self.event_shape = torch.Size(event_shape)
        if base is None and has_base:
            base = NoisedGaussianMixture.standard(self.event_shape.numel())
        self.base = base if has_base else None
        self.constants = LogNormalizers(generator=generator)
        if is_integrable is None:
            is_integrable = contract.is_integrable(network)
            if self.base is not None:
                is_integrable = self.base.tail is Tail.QUADRATIC and contract.has_bounded_growth(network)
        self.is_integrable = is_integrable
        if dtype is not None:
            self.to(dtype)
        self.eval()

    @property
    def num_levels(self) -> int:
        """T."""
        return self.schedule.num_levels

    @property
    def dtype(self) -> torch.dtype:
        """dtype in which the network computes."""
        return next(p.dtype for p in self.parameters())

    def log_density(self, x: Tensor, level: Level) -> Tensor:
        """F at a level (one for all rows, or one per row), unnormalised.

        Args:
            x: rows ``(batch, *event)``.
            level: continuous level(s) in [0, T], a number or shape ``(batch,)``.

        Returns:
            shape ``(batch,)``, in the dtype and on the device of ``x``, which need not be the model's.
        """
        return self.log_density_at(x, self.schedule.log_snr_at(level))

    def log_density_at(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """F at given log-SNR, shape ``()`` or ``(batch,)``; :meth:`log_density` in the continuous coordinate.

        ``label``, an integer per row, is for networks with labels, and 0 (not told) when left out.

        Args:
            x: rows ``(batch, *event)``.
            log_snr: one for all rows, or one per row.
            label: integers ``()`` or ``(batch,)``.

        Raises:
            ValueError: complex rows, or rows of another shape.
        """
        if x.is_complex():
            raise ValueError(
                "expected real rows, got complex ones: give real and imaginary parts as a pair of channels"
            )
        if x.shape[1:] != self.event_shape:
            raise ValueError(
                f"expected rows of event shape {tuple(self.event_shape)} with one batch dimension, got {tuple(x.shape)}"
            )
        home, x = x.device, x.to(self.device)
        label = None if label is None else label.to(x.device)
        return self.execution.run(self._evaluate, x, log_snr.to(x.device), label).to(home)

    def _evaluate(self, x: Tensor, log_snr: Tensor, label: Tensor | None) -> Tensor:
        given = () if label is None else (label,)
        with self.execution.network_precision(x.device):
            tilt = self.network(x.to(self.dtype), log_snr.to(self.dtype), *given).to(x.dtype)
        if self.base is None:
            return tilt
        with whole_float32(x.device):
            return self.base(x, log_snr) + tilt

    def score(self, x: Tensor, level: Level, *, label: Tensor | None = None, has_graph: bool = False) -> Tensor:
        """Gradient of ``log_density`` in x, shape of ``x``; ``has_graph`` keeps it differentiable in x and parameters.

        Args:
            x: rows ``(batch, *event)``.
            level: continuous, in [0, T], a number or one per row ``(batch,)``.
            label: integers ``()`` or ``(batch,)``, for networks with labels.
            has_graph: keep the graph.
        """
        with torch.enable_grad():
            point = x if has_graph and x.requires_grad else x.detach().requires_grad_(True)
            values = self.log_density_at(point, self.schedule.log_snr_at(level), label)
            (gradient,) = torch.autograd.grad(values.sum(), point, create_graph=has_graph)
        return gradient

    def denoise(self, x: Tensor, level: Level, *, has_graph: bool = False) -> Tensor:
        """Posterior mean of the clean row by Tweedie's formula, (x + sigma^2 score) / alpha.

        Args:
            x: rows ``(batch, *event)``.
            level: continuous, in [0, T], a number or one per row ``(batch,)``.
            has_graph: keep the result differentiable in x and parameters.
        """
        schedule = self.schedule
        alpha, sigma = (per_row(value(level).to(x), x) for value in (schedule.alpha_at, schedule.sigma_at))
        return (x + sigma**2 * self.score(x, level, has_graph=has_graph)) / alpha

    def log_normalizer(self, level: Level) -> Tensor:
        """Learned constant c at continuous level(s): log Z as the noise-level classifier sees it.

        Args:
            level: continuous, any shape.
        """
        return self.constants(self.schedule.log_snr_at(level).to(self.constants.readout.weight))

    @property
    def log_normalizers(self) -> Tensor:
        """Learned constants of levels 0..T-1, shape ``(T,)``."""
        with torch.no_grad():
            return self.log_normalizer(torch.arange(self.num_levels, dtype=torch.float64))

    @property
    def top(self) -> dist.TorchDistribution:
        """The known base, level T: N(0, I)."""
        zeros = torch.zeros(self.event_shape, dtype=self.dtype, device=self.device)
        scale = torch.ones_like(zeros)
        return dist.Normal(zeros, scale, validate_args=False).to_event(len(self.event_shape))

    def level(self, level: float, *, sampler: SamplerPolicy | None = None) -> EnergyDistribution:
        """The marginal model of one level, unnormalised.

        Args:
            level: continuous, in [0, T].
            sampler: policy of ``sample``; adjusted chains by default.
        """
        self.schedule.log_snr_at(level)
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return EnergyDistribution(
            LevelLogDensity(self, level), self.event_shape, sampler=sampler, like=like, is_integrable=self.is_integrable
        )

    def recovery(self, level: float, *, noisier: float | None = None) -> Recovery:
        """The family of conditionals p(x_level | x_noisier); ``noisier`` is one level up unless given.

        Args:
            level: of the cleaner state.
            noisier: of the state that is given.
        """
        return Recovery(self, level, min(level + 1, self.num_levels) if noisier is None else noisier)

    def truncate(self, level: float) -> EnergySequence:
        """The same models with ``level`` as the new level 0 (parts are shared, not copied)."""
        return self._sharing(self.schedule.truncate(level) if level else self.schedule, self.network, self.initializer)

    def with_network(self, network: nn.Module, *, initializer: nn.Module | None = None) -> EnergySequence:
        """The same base and levels under another network, such as a guided one (parts are shared, not copied).

        Args:
            network: g.
            initializer: that of the new sequence, if any.
        """
        return self._sharing(self.schedule, network, initializer)

    def _sharing(self, schedule: NoiseSchedule, network: nn.Module, initializer: nn.Module | None) -> EnergySequence:
        is_same = network is self.network
        other = EnergySequence(
            schedule,
            network,
            self.event_shape,
            base=self.base,
            has_base=self.base is not None,
            is_integrable=self.is_integrable if is_same else None,
            initializer=initializer,
        )
        other.constants, other.execution.is_graphed = self.constants, self.execution.is_graphed
        return other.train(self.training)


class Recovery:
    """p(x_level | x_noisier) for states yet to be given: ``condition`` makes the distribution."""

    def __init__(self, model: EnergySequence, level: float, noisier: float) -> None:
        self.model, self.level, self.noisier = model, level, noisier
        step_alpha, step_sigma = model.schedule.step_between(level, noisier)
        self.step_alpha, self.step_sigma = float(step_alpha), float(step_sigma)

    @property
    def scale(self) -> float:
        """Standard deviation to expect of the conditional, (a^2 / s^2 + 1 / sigma^2)^(-1/2): the unit of step sizes."""
        sigma = float(self.model.schedule.sigma_at(self.level))
        return (self.step_alpha**2 / self.step_sigma**2 + 1 / sigma**2) ** -0.5

    def normal_approximation(self, x_noisier: Tensor) -> dist.TorchDistribution:
        r"""N(x; x' + (s^2 / a^2) grad F(x'), (s / a)^2 I) with x' = x_noisier / a: F taken as linear around x'.

        For rows ``(batch, *event)``. The error of the mean is of order s^4, so this is for short steps.

        Source: Gao et al. 2021, section 3.2 (there in y = a x), the T = 1000 setting.
        """
        center, spread = x_noisier / self.step_alpha, self.step_sigma / self.step_alpha
        mean = center + spread**2 * self.model.score(center, self.level)
        return dist.Normal(mean, torch.full_like(mean, spread), validate_args=False).to_event(mean.ndim - 1)

    def condition(
        self, x_noisier: Tensor, *, sampler: SamplerPolicy | None = None, validate_args: bool | None = None
    ) -> RecoveryDistribution:
        """The distribution of the cleaner state given ``x_noisier`` of shape ``batch_shape + event_shape``."""
        event_dim = len(self.model.event_shape)
        if x_noisier.shape[x_noisier.ndim - event_dim :] != self.model.event_shape:
            raise ValueError(
                f"expected states ending in event shape {tuple(self.model.event_shape)}, got {tuple(x_noisier.shape)}"
            )
        return RecoveryDistribution(
            LevelLogDensity(self.model, self.level),
            x_noisier,
            self.step_alpha,
            self.step_sigma,
            sampler=sampler or ChainSampler(num_warmup=100, num_steps=50, step_size=self.scale),
            event_dim=event_dim,
            validate_args=validate_args,
        )
