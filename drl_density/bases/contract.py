"""The contract of the normalised densities that serve as references of an energy sequence."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from drl_density.devices import normal_draws


class Tail(StrEnum):
    """How a log density decays far from the origin, which decides whether what is added to it keeps a finite integral.

    >>> Tail("quadratic") is Tail.QUADRATIC
    True
    """

    QUADRATIC = "quadratic"
    """At least as fast as the largest of -x^T C^-1 x / 2 over the covariances C of :meth:`Base.covariances`, up to linear
    terms."""

    UNKNOWN = "unknown"
    """Not known to outweigh a network of linear growth."""


Numbers = Callable[[Tensor, tuple[int, ...]], Tensor]
"""Standard normal numbers ``(k, *shape)``, float64, of the rows with the given indices ``(k,)``."""


class Conditional(Protocol):
    """Marginals and conditionals of a density, for any pattern of missing coordinates in every row."""

    def observed_log_density(self, x: Tensor, is_missing: Tensor) -> Tensor:
        """Log density of the observed coordinates of each row, in nats, ``(n,)``, float64.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
        """
        ...

    def sample(
        self, x: Tensor, is_missing: Tensor, num_samples: int, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the missing coordinates given the observed ones, as whole vectors ``(n, num_samples, d)``, float64.

        Args:
            x: rows of shape ``(n, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
            num_samples: how many draws to make for each row.
        """
        like = x.double()

        def numbers(rows: Tensor, shape: tuple[int, ...]) -> Tensor:
            return normal_draws((len(rows), *shape), like, generator)

        return self.draw(x[:, None], is_missing, num_samples, numbers)[0].squeeze(1)

    def draw(self, x: Tensor, is_missing: Tensor, num_samples: int, numbers: Numbers) -> tuple[Tensor, Tensor]:
        """Draw as :meth:`sample` does, at several points for each row, with the log density of the observed coordinates.

        Args:
            x: points of shape ``(n, points, d)``. Values at missing coordinates are ignored.
            is_missing: which coordinates are missing, ``(n, d)``.
            num_samples: how many draws to make for each point.
            numbers: source of the random numbers, which follow from the row if it gives each row its own.

        Returns:
            Whole vectors ``(n, points, num_samples, d)``, and log densities ``(n, points)``, float64.
        """
        ...


class Draw(Protocol):
    """Source of draws of a density without noise."""

    def __call__(self, base: Base, num_samples: int, /, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw vectors ``(num_samples, d)`` of ``base``."""
        ...


@dataclass(frozen=True)
class NoiseStep:
    """Scales and variances of one step of noise, x_noisier = a x_cleaner + s eps.

    Attributes:
        signal: alpha^2 of the cleaner state.
        noise: sigma^2 of the cleaner state.
        noisier_signal: alpha^2 of the noisier state.
        noisier_noise: sigma^2 of the noisier state.
    """

    signal: float
    noise: float
    noisier_signal: float
    noisier_noise: float

    @classmethod
    def between(cls, log_snr: Tensor, noisier: Tensor) -> Self:
        """Build the step between two log-SNRs ``()``."""
        values = (torch.sigmoid(sign * value.double()) for value in (log_snr, noisier) for sign in (1, -1))
        return cls(*map(float, values))

    def draw_cleaner(self, x: Tensor, mean: Tensor, variance: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw cleaner states whose coordinates are independent and normal before the noisier one is known, ``(n, d)``.

        Args:
            x: noisier states ``(n, d)``.
            mean: means of the cleaner states ``(n, d)``.
            variance: their variances ``(n, d)``.
        """
        squared = self.noisier_signal / self.signal
        spread = self.noisier_noise - squared * self.noise
        posterior = 1 / (1 / variance + squared / spread)
        center = posterior * (mean / variance + squared**0.5 / spread * x)
        return center + posterior.sqrt() * normal_draws(x.shape, x, generator)


class Base(nn.Module, abc.ABC):
    r"""A normalised density over vectors, with its noised forms if it has any in closed form.

    The noised form at log-SNR :math:`\lambda` is the exact density of :math:`\alpha x + \sigma \varepsilon` for x from this
    density, with :math:`\alpha^2 = \mathrm{sigmoid}(\lambda)` and :math:`\sigma^2 = \mathrm{sigmoid}(-\lambda)`. A call
    ``base(x, log_snr)`` evaluates it, one log-SNR for all rows or one per row, and satisfies the contract of networks
    (:mod:`drl_density.networks.contract`). A density without noised forms sets ``has_noised_form = False``, and every
    method that needs one raises ``NotImplementedError``.

    Attributes:
        kind: name of the class in a saved state.
        has_noised_form: whether the density under noise is known in closed form at every level.
        has_quick_draws: whether a draw costs far less than a pass of a network; draws of other densities are worth keeping.

    >>> from drl_density.bases import NoisedGaussianMixture
    >>> base = NoisedGaussianMixture.standard(2)
    >>> base.has_noised_form, base.tail.value, base.sample(3).shape
    (True, 'quadratic', torch.Size([3, 2]))
    """

    kind: ClassVar[str]
    has_noised_form: ClassVar[bool] = True
    has_quick_draws: bool = True
    has_bounded_growth: ClassVar[bool] = False
    is_integrable: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def num_features(self) -> int:
        """Length d of the vectors."""

    @property
    def num_components(self) -> int:
        """Number of components of a mixture; 1 for every other density."""
        return 1

    @property
    @abc.abstractmethod
    def tail(self) -> Tail:
        """Decay of the log density, the same at every noise level."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density without noise of rows ``x`` ``(n, *event)``, in nats, ``(n,)``."""

    @abc.abstractmethod
    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``."""

    def sample_at(
        self,
        log_snr: Tensor,
        num_samples: int,
        *,
        generator: torch.Generator | None = None,
        draw: Draw | None = None,
    ) -> Tensor:
        """Draw noised vectors ``(num_samples, d)``, each from the density of its level.

        Args:
            log_snr: ``()`` for all draws or ``(num_samples,)``.
            num_samples: how many vectors to draw; equal to the length of ``log_snr`` if each has a level of its own.
            draw: source of the draws without noise, which the noise is added to; :meth:`sample` when not given, whose draws
                are independent.
        """
        drawn = (draw or type(self).sample)(self, num_samples, generator=generator)
        noise = normal_draws(drawn.shape, drawn, generator)
        signal, spread = (torch.sigmoid(value).sqrt().reshape(-1, 1).to(drawn) for value in (log_snr, -log_snr))
        return signal * drawn + spread * noise

    @abc.abstractmethod
    def to_state(self) -> dict[str, Any]:
        """Plain values, ready for JSON, from which :meth:`from_state` builds a density of the same class and shapes.

        Tensors are not among them; they are in ``state_dict()``.
        """

    @classmethod
    @abc.abstractmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build the density of a saved state, with tensors that wait for ``load_state_dict``.

        Args:
            values: the plain values that :meth:`to_state` returned.
        """

    def noised(self, log_snr: Tensor) -> Base:
        """Build the density of the noised vectors at one log-SNR ``()``.

        Raises:
            NotImplementedError: no noised form in closed form.
        """
        raise NotImplementedError(self._refusal("noised form"))

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of noised rows, in nats, ``(n,)``, in the dtype of ``x``.

        Args:
            x: rows of shape ``(n, *event)``.
            log_snr: ``()`` for all rows or ``(n,)``.

        Raises:
            NotImplementedError: no noised form in closed form.
        """
        raise NotImplementedError(self._refusal("noised form"))

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of the scaled score against the noise, :math:`E\lVert\sigma s(x) + \varepsilon\rVert^2`.

        For a mixture it is the mean over components of the error that each has alone.

        Args:
            log_snr: log-SNRs of any shape, which is the shape of the result.

        Raises:
            NotImplementedError: no noised form in closed form.
        """
        raise NotImplementedError(self._refusal("noised form"))

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance of every component ``(K, d, d)`` at one log-SNR ``()``; None means without noise.

        Raises:
            NotImplementedError: no components with covariances.
        """
        raise NotImplementedError(self._refusal("covariance"))

    def conditional(self, log_snr: Tensor | None = None) -> Conditional:
        """Marginals and conditionals at one log-SNR ``()``; None means without noise.

        Raises:
            NotImplementedError: no conditionals in closed form.
        """
        raise NotImplementedError(self._refusal("conditional"))

    def sample_cleaner(
        self, x: Tensor, log_snr: Tensor, noisier: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draw the state at a cleaner level given the state at a noisier one, exactly, in the shape of ``x``.

        .. math:: x_t \sim b(x_t \mid x_{t+1}), \qquad x_{t+1} = a x_t + s \varepsilon

        Args:
            x: noisier states ``(n, *event)``.
            log_snr: log-SNR of each cleaner state ``(n,)``.
            noisier: log-SNR of each noisier state ``(n,)``.

        Raises:
            NotImplementedError: no such conditional in closed form.
        """
        flat, drawn = x.flatten(1), torch.empty_like(x.flatten(1))
        for pair in torch.stack([log_snr, noisier], 1).unique(dim=0):
            own = ((log_snr == pair[0]) & (noisier == pair[1])).nonzero().squeeze(1)
            drawn[own] = self._cleaner_states(flat[own], NoiseStep.between(pair[0], pair[1]), generator)
        return drawn.reshape(x.shape)

    def _cleaner_states(self, x: Tensor, step: NoiseStep, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError(self._refusal("distribution of a cleaner state"))

    def _refusal(self, missing: str) -> str:
        return (
            f"{type(self).__name__} has no {missing} in closed form; use a Gaussian mixture or factor analysers where one "
            "is needed"
        )


def signal_and_noise(log_snr: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Squared scales (alpha^2, sigma^2) of signal and noise, in the dtype and on the device of ``like``.

    They are computed in the precision of ``log_snr`` and rounded once.

    Args:
        log_snr: any shape; None means without noise.
        like: tensor that gives dtype and device.
    """
    value = torch.tensor(math.inf) if log_snr is None else log_snr
    return torch.sigmoid(value).to(like), torch.sigmoid(-value).to(like)
