"""The sequence of energy-based models over noise levels, in which a network becomes a log density."""

from __future__ import annotations

from collections.abc import Iterator

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from drl_density.autograd import outside_inference_mode
from drl_density.bases import Base, NoisedGaussianMixture, Tail
from drl_density.devices import whole_float32
from drl_density.distributions import ChainSampler, EnergyDistribution, RecoveryDistribution, SamplerPolicy
from drl_density.errors import NumericalError
from drl_density.execution import ExecutedModule
from drl_density.networks import LogNormalizers, contract
from drl_density.schedule import Level, NoiseSchedule
from drl_density.shapes import as_event_shape, per_row


class LevelLogDensity:
    """``model.log_density`` at a fixed level, as a callable that can be pickled and gives access to the parameters.

    Args:
        model: the sequence of models.
        level: the fixed level in [0, T].
    """

    def __init__(self, model: EnergySequence, level: float) -> None:
        self.model, self.level = model, level

    def __call__(self, x: Tensor) -> Tensor:
        return self.model.log_density(x, self.level)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of the network."""
        return self.model.network.parameters()


class EnergySequence(ExecutedModule):
    r"""Energy-based models :math:`p_t(x) = \exp(F_t(x)) / Z_t` for levels t = 0..T-1, with N(0, I) as level T.

    .. math:: F_t(x) = \log b_t(x) + g(x, \lambda_t)

    Here b_t is a fixed base under the noise of level t, exact and normalised, and g is a network. With g = 0 every level is
    the base's model of the data. Levels are continuous: F is defined at any log-SNR. Only :meth:`log_density` turns a
    network output into a log density; how its passes run is set by ``execution``.

    A new sequence is in evaluation mode, in which it is one fixed density. In training mode every pass draws dropout and
    iterates spectral norms, so ``train()`` is for passes that learn; :func:`drl_density.training.train` calls it.

    Args:
        schedule: noise levels of the sequence.
        network: the network g, which satisfies :mod:`drl_density.networks.contract`.
        event_shape: shape of one point.
        base: normalised density b of the flattened point, with noised forms; N(0, I) when not given.
        has_base: whether there is a base; without one, F = g.
        is_integrable: whether exp(F) has a finite integral. By default the parts declare it: a base of quadratic decay with
            a network of bounded growth, any base with a bounded network, or an integrable network without a base.
        initializer: network that proposes x_level from x_noisier, see :class:`~drl_density.training.CooperativeRecovery`.
            Log densities never use it. It is stored here so that it is averaged, sharded, moved and saved together with the
            energy that it was trained with, and is still there when samples are drawn.
        dtype: type of the parameters; that of the network when not given.
        generator: source of the constants' initial weights.

    Attributes:
        execution: precision and CUDA graphs of the passes, see :mod:`drl_density.execution`.
        constants: learned constants c as a function of the log-SNR.

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
        self.event_shape = as_event_shape(event_shape)
        if base is None and has_base:
            base = NoisedGaussianMixture.standard(self.event_shape.numel())
        self.base = base if has_base else None
        self.constants = LogNormalizers(generator=generator)
        if is_integrable is None:
            is_integrable = contract.is_integrable(network)
            if self.base is not None:
                is_outweighed = self.base.tail is Tail.QUADRATIC and contract.has_bounded_growth(network)
                is_integrable = is_outweighed or contract.is_bounded(network)
        self.is_integrable = is_integrable
        if dtype is not None:
            self.to(dtype)
        self.eval()

    def __repr__(self) -> str:
        """One line; the modules inside print themselves."""
        parts = [f"event_shape={tuple(self.event_shape)}", f"num_levels={self.num_levels}"]
        held = {"network": self.network, "base": self.base}
        parts += [f"{name}={type(part).__name__}" for name, part in held.items() if part is not None]
        return f"EnergySequence({', '.join(parts)}, {sum(each.numel() for each in self.parameters())} parameters)"

    @property
    def num_levels(self) -> int:
        """Number T of levels below the top."""
        return self.schedule.num_levels

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters, in which the network computes."""
        return self.first_parameter.dtype

    @property
    def is_base_alone(self) -> bool:
        """Whether there is no network, so that level 0 is its normalised base: log Z is 0 exactly."""
        return self.base is not None and isinstance(self.network, contract.NoTilt)

    def log_density(self, x: Tensor, level: Level) -> Tensor:
        """Evaluate F, the unnormalised log density of a level, in nats.

        Args:
            x: rows of shape ``(batch, *event)``.
            level: continuous level in [0, T]: a number for all rows, or one per row ``(batch,)``.

        Returns:
            One value per row ``(batch,)``, in the dtype and on the device of ``x``, which may differ from the model's.

        Raises:
            ValueError: complex rows, rows of another shape, or a level outside [0, T].
        """
        return self.log_density_at(x, self.schedule.log_snr_at(level))

    def log_density_at(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Evaluate F at given log-SNRs; see :meth:`log_density`.

        Args:
            x: rows of shape ``(batch, *event)``.
            log_snr: one value for all rows ``()`` or one per row ``(batch,)``.
            label: integers ``()`` or ``(batch,)`` for a network with labels; None means unlabelled.

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

    def tilt_at(self, x: Tensor, log_snr: Tensor, label: Tensor | None = None) -> Tensor:
        """Evaluate the network g alone: the log density of a level relative to its base, in nats, ``(batch,)``.

        Args:
            x: rows of shape ``(batch, *event)`` on the device of the model.
            log_snr: one value for all rows ``()`` or one per row ``(batch,)``.
            label: integers ``()`` or ``(batch,)`` for a network with labels; None means unlabelled.
        """
        given = () if label is None else (label,)
        with self.execution.network_precision(x.device):
            return self.network(x.to(self.dtype), log_snr.to(self.dtype), *given).to(x.dtype)

    def tilt_with_columns(self, x: Tensor, values: Tensor, places: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the network at flat points that differ in some columns alone, ``(n, k)``; the others are mapped once.

        Args:
            x: points ``(n, d)`` on the device of the model, whose entries at ``places`` are ignored.
            values: entries at ``places`` of k points for each of ``x``, ``(n, k, m)``.
            places: columns that differ, ``(m,)``.
            log_snr: log signal-to-noise ratio of all points, ``()``.
        """
        network, level = self.network, log_snr.to(self.dtype)
        with self.execution.network_precision(x.device):
            if len(self.event_shape) == 1 and isinstance(network, contract.MapsColumns) and network.maps_columns:
                return network.with_columns(x.to(self.dtype), values.to(self.dtype), places, level).to(x.dtype)
            whole = x[:, None].repeat(1, values.shape[1], 1)
            whole[:, :, places] = values
            return network(whole.to(self.dtype).reshape(-1, *self.event_shape), level).to(x.dtype).reshape(values.shape[:2])

    def base_at(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Evaluate the base alone, for rows ``x`` and ``log_snr`` as in :meth:`tilt_at`: normalised, in nats.

        Raises:
            NumericalError: a sequence without a base.
        """
        if self.base is None:
            raise NumericalError("this sequence has no base")
        with whole_float32(x.device):
            return self.base(x, log_snr)

    def tilt(self, x: Tensor, level: Level) -> Tensor:
        """Evaluate the network alone at a level, for rows ``x`` on the device of the model; see :meth:`tilt_at`."""
        return self.tilt_at(x, self.schedule.log_snr_at(level).to(x.device))

    def _evaluate(self, x: Tensor, log_snr: Tensor, label: Tensor | None) -> Tensor:
        tilt = self.tilt_at(x, log_snr, label)
        return tilt if self.base is None else self.base_at(x, log_snr) + tilt

    @outside_inference_mode
    def score(self, x: Tensor, level: Level, *, label: Tensor | None = None, has_graph: bool = False) -> Tensor:
        """Compute the gradient of :meth:`log_density` in x, in the shape of ``x``.

        Args:
            x: rows of shape ``(batch, *event)``.
            level: continuous level in [0, T]: a number for all rows, or one per row ``(batch,)``.
            label: integers ``()`` or ``(batch,)`` for a network with labels; None means unlabelled.
            has_graph: whether the result stays differentiable in x and the parameters.
        """
        with torch.enable_grad():
            point = x if has_graph and x.requires_grad else x.detach().requires_grad_(True)
            values = self.log_density_at(point, self.schedule.log_snr_at(level), label)
            (gradient,) = torch.autograd.grad(values.sum(), point, create_graph=has_graph)
        return gradient

    def denoise(self, x: Tensor, level: Level, *, has_graph: bool = False) -> Tensor:
        """Estimate the posterior mean of the clean row by Tweedie's formula, (x + sigma^2 score) / alpha.

        Args:
            x: noised rows ``(batch, *event)`` of that level.
            level: continuous level in [0, T]: a number for all rows, or one per row ``(batch,)``.
            has_graph: whether the result stays differentiable in x and the parameters.
        """
        schedule = self.schedule
        alpha, sigma = (per_row(value(level).to(x), x) for value in (schedule.alpha_at, schedule.sigma_at))
        return (x + sigma**2 * self.score(x, level, has_graph=has_graph)) / alpha

    def log_normalizer(self, level: Level) -> Tensor:
        """Evaluate the learned constant c, the estimate of log Z by noise-level classification, in nats.

        Args:
            level: continuous levels in [0, T], of any shape.
        """
        return self.constants(self.schedule.log_snr_at(level))

    @property
    def log_normalizers(self) -> Tensor:
        """Learned constants of levels 0..T-1, shape ``(T,)``."""
        with torch.no_grad():
            return self.log_normalizer(torch.arange(self.num_levels, dtype=torch.float64))

    @property
    def top(self) -> dist.TorchDistribution:
        """The known distribution of level T, N(0, I)."""
        zeros = torch.zeros(self.event_shape, dtype=self.dtype, device=self.device)
        scale = torch.ones_like(zeros)
        return dist.Normal(zeros, scale, validate_args=False).to_event(len(self.event_shape))

    def level(self, level: float, *, sampler: SamplerPolicy | None = None) -> EnergyDistribution:
        """Build the unnormalised distribution of one level.

        Args:
            level: continuous level in [0, T].
            sampler: how ``sample`` draws; adjusted chains by default.

        Raises:
            ValueError: a level outside [0, T].
        """
        self.schedule.log_snr_at(level)  # refuses levels outside [0, T]
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return EnergyDistribution(
            LevelLogDensity(self, level), self.event_shape, sampler=sampler, like=like, is_integrable=self.is_integrable
        )

    def recovery(self, level: float, *, noisier: float | None = None) -> Recovery:
        """Build the family of recovery conditionals p(x_level | x_noisier).

        Args:
            level: continuous level of the cleaner state.
            noisier: level of the given, noisier state; one above ``level`` by default.
        """
        return Recovery(self, level, min(level + 1, self.num_levels) if noisier is None else noisier)

    def truncate(self, level: float) -> EnergySequence:
        """Build the sequence of the same models with ``level`` as its level 0; it shares all parts with this one."""
        return self._sharing(self.schedule.truncate(level) if level else self.schedule, self.network, self.initializer)

    def with_network(self, network: nn.Module, *, initializer: nn.Module | None = None) -> EnergySequence:
        """Build a sequence with another network, such as one of a single label; it shares all other parts.

        Args:
            network: the network g of the new sequence.
            initializer: the initialiser of the new sequence, if it has one.
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
    """The conditionals p(x_level | x_noisier) of two levels; :meth:`condition` gives the distribution for given states.

    Args:
        model: the sequence of models.
        level: continuous level of the cleaner state.
        noisier: level of the noisier state.

    Attributes:
        step_alpha: the scale a in x_noisier = a x_level + s eps.
        step_sigma: the noise s of that step.
    """

    def __init__(self, model: EnergySequence, level: float, noisier: float) -> None:
        self.model, self.level, self.noisier = model, level, noisier
        step_alpha, step_sigma = model.schedule.step_between(level, noisier)
        self.step_alpha, self.step_sigma = float(step_alpha), float(step_sigma)

    @property
    def scale(self) -> float:
        """Expected standard deviation of the conditional, (a^2 / s^2 + 1 / sigma^2)^(-1/2), the unit of step sizes."""
        sigma = float(self.model.schedule.sigma_at(self.level))
        return (self.step_alpha**2 / self.step_sigma**2 + 1 / sigma**2) ** -0.5

    def normal_approximation(self, x_noisier: Tensor) -> dist.TorchDistribution:
        r"""Build the normal approximation, which takes F as linear around x' = x_noisier / a.

        .. math:: \mathcal{N}\big(x;\ x' + (s / a)^2\, \nabla F(x'),\ (s / a)^2 I\big)

        The error of its mean is of order s^4, so it is meant for short steps.

        Args:
            x_noisier: noisier states ``(batch, *event)``.

        Source: Gao et al. 2021, section 3.2 (there in y = a x), the T = 1000 setting.
        """
        center, spread = x_noisier / self.step_alpha, self.step_sigma / self.step_alpha
        mean = center + spread**2 * self.model.score(center, self.level)
        return dist.Normal(mean, torch.full_like(mean, spread), validate_args=False).to_event(mean.ndim - 1)

    def condition(
        self, x_noisier: Tensor, *, sampler: SamplerPolicy | None = None, validate_args: bool | None = None
    ) -> RecoveryDistribution:
        """Build the distribution of the cleaner state given a noisier one.

        Args:
            x_noisier: noisier states of shape ``batch_shape + event_shape``.
            sampler: how ``sample`` draws; by default adjusted chains whose step size is :attr:`scale`.
            validate_args: whether the distribution checks its arguments, as Pyro's distributions do.

        Raises:
            ValueError: states of another event shape.
        """
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
