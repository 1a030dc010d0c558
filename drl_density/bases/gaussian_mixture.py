"""Gaussian mixtures, exact at every noise level."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from drl_density.bases.contract import Base, NoiseStep, Tail, signal_and_noise
from drl_density.bases.mixture_conditional import MixtureConditional, chosen_products
from drl_density.devices import generator_device, normal_draws
from drl_density.networks.distinct_levels import by_row, distinct_levels

CACHED_VALUES = 2**19
"""Whitened values of a chunk of rows on the CPU: two megabytes in float32, about a second-level cache."""

CACHED_LOGITS = 2**17
"""Log densities of a chunk of rows under every component, in float64: one megabyte."""

ROWS_PER_COLUMN, MOST_MATRICES = 2, 2**22
"""Rows for each column from which the matrices of all components are set up for one multiplication with all rows, and
numbers in these matrices up to which they are: 32 megabytes in float64."""


class NoisedGaussianMixture(Base):
    r"""A Gaussian mixture and its exact density under the noise of any level.

    .. math:: p_\lambda(x) = \sum_k w_k\, \mathcal{N}(x;\ \alpha \mu_k,\ \alpha^2 C_k + \sigma^2 I)

    Each component is stored as the axes and variances of its covariance. The covariance of every level is then diagonal in
    the same axes, and nothing has to be factorised again. Components of independent columns are stored without axes. There
    are no trainable parameters; the tensors are float32 buffers.

    Args:
        weights: weights of the components, positive and summing to 1, shape ``(K,)``.
        means: means of the components, shape ``(K, d)``.
        covariances: positive definite matrices ``(K, d, d)``, or variances of independent columns ``(K, d)``.

    Raises:
        ValueError: shapes that do not fit, weights that are not a distribution, or a covariance that is not positive
            definite.

    >>> mixture = NoisedGaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    >>> mixture(torch.zeros(3, 2), torch.tensor(0.0)).shape
    torch.Size([3])
    """

    kind = "gaussian_mixture"

    log_weights: Tensor
    variances: Tensor
    axes: Tensor | None
    centers: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__()
        count, num_features = means.shape
        shapes = ((count, num_features, num_features), (count, num_features))
        if weights.shape != (count,) or covariances.shape not in shapes:
            raise ValueError(
                "expected weights (K,), means (K, d), covariances (K, d, d) or variances (K, d), got "
                f"{tuple(weights.shape)}, {tuple(means.shape)}, {tuple(covariances.shape)}"
            )
        check_weights(weights)
        variances, axes, centers = covariances.double(), None, means.double()
        if covariances.ndim == 3:
            variances, axes = torch.linalg.eigh(variances)
            centers = torch.einsum("kd,kde->ke", centers, axes)
        if not bool((variances > 0).all()):
            raise ValueError(
                f"every covariance must be positive definite, least eigenvalue {float(variances.min()):.3g}"
            )
        self.register_buffer("log_weights", weights.double().log().float())
        self.register_buffer("variances", variances.float())
        self.register_buffer("axes", None if axes is None else axes.float())
        self.register_buffer("centers", centers.float())
        self._kept: tuple[tuple[Any, ...], Exponents] | None = None

    @classmethod
    def standard(cls, num_features: int) -> Self:
        """Build the single component N(0, I), which is standard normal at every level."""
        return cls(torch.ones(1), torch.zeros(1, num_features), torch.ones(1, num_features))

    @classmethod
    def empty(cls, num_components: int, num_features: int, *, is_diagonal: bool = False) -> Self:
        """Build a mixture of the given shape whose buffers wait for ``load_state_dict``.

        Args:
            num_components: number of components K.
            num_features: length d of the vectors.
            is_diagonal: whether columns are independent within each component.
        """
        spread = torch.ones(num_features) if is_diagonal else torch.eye(num_features)
        weights = torch.full((num_components,), 1 / num_components)
        return cls(weights, torch.zeros(num_components, num_features), spread.expand(num_components, *spread.shape))

    @classmethod
    def even(cls, parts: Sequence[NoisedGaussianMixture]) -> Self:
        """Build the mixture of several mixtures, each with the same share; its components are those of all of them.

        Args:
            parts: mixtures over vectors of one length. If any has axes, components of independent columns get them too.

        Raises:
            ValueError: no mixtures, or mixtures of different lengths.

        >>> NoisedGaussianMixture.even([NoisedGaussianMixture.standard(2)] * 3).num_components
        3
        """
        if len({part.num_features for part in parts}) != 1:
            raise ValueError(f"expected mixtures of one length, got {[part.num_features for part in parts]}")
        num_features, is_diagonal = parts[0].num_features, all(part.is_diagonal for part in parts)
        whole = cls.empty(sum(part.num_components for part in parts), num_features, is_diagonal=is_diagonal)
        identity = torch.eye(num_features)
        state = {
            "log_weights": torch.cat([part.log_weights - math.log(len(parts)) for part in parts]),
            "variances": torch.cat([part.variances for part in parts]),
            "centers": torch.cat([part.centers for part in parts]),
        }
        if not is_diagonal:
            axes = [
                identity.expand(part.num_components, *identity.shape).to(part.variances)
                if part.axes is None
                else part.axes
                for part in parts
            ]
            state["axes"] = torch.cat(axes)
        whole.to(parts[0].variances)
        whole.load_state_dict(state)
        return whole

    @property
    def is_diagonal(self) -> bool:
        """Whether columns are independent within each component, which is then stored without axes."""
        return self.axes is None

    @property
    def num_components(self) -> int:
        """Number K of components."""
        return len(self.log_weights)

    @property
    def num_features(self) -> int:
        """Length d of the vectors."""
        return self.centers.shape[1]

    @property
    def tail(self) -> Tail:
        """Quadratic decay, with the components' covariances."""
        return Tail.QUADRATIC

    def to_state(self) -> dict[str, Any]:
        """Plain values that give the shapes of the buffers."""
        sizes = {"num_components": self.num_components, "num_features": self.num_features}
        return {"kind": self.kind, **sizes, "is_diagonal": self.is_diagonal}

    @classmethod
    def from_state(cls, values: dict[str, Any]) -> Self:
        """Build a mixture of the shape in ``values``, whose buffers wait for ``load_state_dict``."""
        return cls.empty(values["num_components"], values["num_features"], is_diagonal=values["is_diagonal"])

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density without noise of rows ``x`` ``(n, *event)``, in nats, ``(n,)``."""
        return self(x, torch.tensor(math.inf))  # sigmoid(inf) is exactly 1 and sigmoid(-inf) exactly 0

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw independent vectors ``(num_samples, d)``."""
        chosen = draw_components(self.log_weights, num_samples, generator)
        noise = normal_draws((num_samples, self.num_features), self.variances, generator)
        drawn = self.centers[chosen] + self.variances[chosen].sqrt() * noise
        return drawn if self.axes is None else chosen_products(self.axes, chosen, drawn)

    def noised(self, log_snr: Tensor) -> Self:
        """Build the mixture of the noised vectors at one log-SNR ``()``, on the same axes."""
        signal, noise = signal_and_noise(log_snr, self.variances)
        other = copy.deepcopy(self)
        other.variances, other.centers = signal * self.variances + noise, signal.sqrt() * self.centers
        return other

    def covariances(self, log_snr: Tensor | None = None) -> Tensor:
        """Covariance of every component ``(K, d, d)`` at one log-SNR ``()``; None means without noise."""
        signal, noise = signal_and_noise(log_snr, self.variances)
        variances = signal * self.variances + noise
        return torch.diag_embed(variances) if self.axes is None else (self.axes * variances[:, None]) @ self.axes.mT

    def expected_error(self, log_snr: Tensor) -> Tensor:
        r"""Expected squared error of the scaled score against the noise, as for one component alone.

        .. math:: E\lVert \sigma s(x) + \varepsilon \rVert^2
            = \textstyle\sum_k w_k \sum_i \alpha^2 v_{ki} / (\alpha^2 v_{ki} + \sigma^2)

        Args:
            log_snr: log-SNRs of any shape, which is the shape of the result.
        """
        signal, noise = (torch.sigmoid(value)[..., None, None] for value in (log_snr, -log_snr))
        carried = signal * self.variances.to(log_snr)
        return ((carried / (carried + noise)).sum(-1) * self.log_weights.to(log_snr).exp()).sum(-1)

    def conditional(self, log_snr: Tensor | None = None) -> MixtureConditional:
        """Marginals and conditionals at one log-SNR ``()``; None means without noise."""
        variances, centers, axes = self.variances.double(), self.centers.double(), self.axes
        if log_snr is not None:
            signal = torch.sigmoid(log_snr.double())
            variances, centers = signal * variances + torch.sigmoid(-log_snr.double()), signal.sqrt() * centers
        return MixtureConditional(
            self.log_weights.double(), centers, variances, None if axes is None else axes.double()
        )

    def _cleaner_states(self, x: Tensor, step: NoiseStep, generator: torch.Generator | None) -> Tensor:
        """Draw the component, then the state along its axes, given the noisier state; float64 inside."""
        variances, centers = self.variances.double(), self.centers.double()
        axes = None if self.axes is None else self.axes.double()
        along = x.double()[:, None] if axes is None else torch.einsum("nd,kde->nke", x.double(), axes)
        after = step.noisier_signal * variances + step.noisier_noise
        exponent = (along - step.noisier_signal**0.5 * centers).square() / after + after.log()
        chosen = draw_of_each(self.log_weights.double() - 0.5 * exponent.sum(-1), generator)
        own = along.squeeze(1) if axes is None else along[torch.arange(len(x), device=x.device), chosen]
        mean, variance = step.signal**0.5 * centers[chosen], step.signal * variances[chosen] + step.noise
        drawn = step.draw_cleaner(own, mean, variance, generator)
        return (drawn if axes is None else chosen_products(axes, chosen, drawn)).to(x)

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of noised rows, in nats, ``(n,)``, in the dtype of ``x``.

        Args:
            x: rows of shape ``(n, *event)``.
            log_snr: ``()`` for all rows or ``(n,)``.
        """
        flat = x.flatten(1)
        distinct, row_level = distinct_levels(log_snr.to(x))
        constant = 0.5 * flat.shape[1] * math.log(2 * math.pi)
        if distinct.ndim == 0 and flat.device.type == "cpu":
            exponents = self._exponents(log_snr.double(), len(flat))
            if exponents is not None:
                return (exponents.log_density(flat.double()) - constant).to(x)
        signal, noise = (torch.sigmoid(value)[..., None, None] for value in (distinct, -distinct))
        scales = (signal * self.variances.to(x) + noise).rsqrt()
        centers = signal.sqrt() * self.centers.to(x) * scales
        heights = scales.log().sum(-1) + self.log_weights.to(x)
        axes = None if self.axes is None else self.axes.to(x)
        values = []
        # Rows in chunks whose whitened values (rows, K, d) stay in the cache: twice as fast for mixtures of many components.
        has_own_levels = distinct.ndim > 0 and row_level is None  # one set of scales for every row
        size = max(16, CACHED_VALUES // self.centers.numel())
        if has_own_levels or flat.device.type != "cpu":
            size = max(1, len(flat))
        for start in range(0, max(1, len(flat)), size):
            part = slice(start, start + size)
            level = None if row_level is None else row_level[part]
            projected = flat[part][:, None]
            if axes is not None:
                # torch annotates dims as int alone, although it takes lists of dimensions too.
                projected = torch.tensordot(flat[part], axes, dims=([1], [1]))  # pyright: ignore[reportArgumentType]
            whitened = projected * by_row(scales, level) - by_row(centers, level)
            values.append((by_row(heights, level) - 0.5 * whitened.square().sum(-1)).logsumexp(-1))
        return torch.cat(values) - constant

    def _exponents(self, log_snr: Tensor, num_rows: int) -> Exponents | None:
        """The exponents of all components at one log-SNR ``()``, where setting them up is worth it.

        Whether it is depends on sizes alone, so that equal calls give equal bits whatever was called before.
        """
        is_worth_it = num_rows >= ROWS_PER_COLUMN * self.num_features
        if self.axes is None or self.axes.numel() > MOST_MATRICES or not is_worth_it:
            return None
        parts = (self.log_weights, self.variances, self.axes, self.centers)
        if log_snr.requires_grad or any(part.requires_grad or part.is_inference() for part in parts):
            return None  # kept exponents would have no derivative, or no version
        key = (float(log_snr), *((part.data_ptr(), part._version) for part in parts))
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():  # what is kept serves later calls with gradients too
            level = torch.tensor(key[0], dtype=torch.float64)
            signal, noise = torch.sigmoid(level), torch.sigmoid(-level)
            found = Exponents.of(
                self.log_weights.double(),
                signal * self.variances.double() + noise,
                self.axes.double(),
                signal.sqrt() * self.centers.double(),
            )
        self._kept = (key, found)
        return found


@dataclass(frozen=True)
class Exponents:
    r"""Log densities of all components as linear functions of products of columns.

    Each component's exponent is linear in the products :math:`x_i x_j` and the columns :math:`x_i`, so one multiplication
    gives the exponents of all rows and components. Its terms cancel, which float64 affords.

    Attributes:
        factors: factors of products and columns for every component, ``(d (d + 1) / 2 + d, K)``.
        heights: constants of the components, without that of the normal density, ``(K,)``.
    """

    factors: Tensor
    heights: Tensor

    @classmethod
    def of(cls, log_weights: Tensor, variances: Tensor, axes: Tensor, centers: Tensor) -> Self:
        """Build the exponents, in float64, from what the components are stored as.

        Args:
            log_weights: ``(K,)``.
            variances: along the axes, ``(K, d)``.
            axes: ``(K, d, d)``.
            centers: along the axes, ``(K, d)``.
        """
        precisions = 1 / variances
        matrices = (axes * precisions[:, None]) @ axes.mT
        first, second = torch.triu_indices(centers.shape[1], centers.shape[1])
        # A product of two different columns stands for both entries of the symmetric matrix.
        squares = matrices[:, first, second] * torch.where(first == second, -0.5, -1.0).to(precisions)
        linear = (axes @ (precisions * centers)[..., None])[..., 0]
        heights = 0.5 * precisions.log().sum(-1) + log_weights - 0.5 * (precisions * centers**2).sum(-1)
        return cls(torch.cat([squares, linear], 1).T.contiguous(), heights)

    def log_density(self, rows: Tensor) -> Tensor:
        """Log density of rows ``(n, d)`` without the constant of the normal density, ``(n,)``."""
        first, second = torch.triu_indices(rows.shape[1], rows.shape[1])
        parts = rows.split(max(16, CACHED_LOGITS // len(self.heights)))
        products = (torch.cat([part[:, first] * part[:, second], part], 1) for part in parts)
        return torch.cat([torch.addmm(self.heights, part, self.factors).logsumexp(-1) for part in products])


def check_weights(weights: Tensor) -> None:
    """Check that weights ``(K,)`` of components are a distribution.

    Raises:
        ValueError: a weight that is not positive, or a sum other than 1.
    """
    # Weights may come in float32, whose sum over thousands of components is off by up to 1e-4.
    if not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-4:
        raise ValueError(f"weights must be positive and sum to 1, got {weights.tolist()}")


def draw_components(log_weights: Tensor, num_samples: int, generator: torch.Generator | None) -> Tensor:
    """Draw indices of components ``(num_samples,)`` on the device of ``log_weights``.

    Args:
        log_weights: logarithms of the components' weights, ``(K,)``.
    """
    weights = log_weights.exp().to(log_weights.device if generator is None else generator_device(generator))
    return torch.multinomial(weights, num_samples, replacement=True, generator=generator).to(log_weights.device)


def draw_of_each(logs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw an index for each row ``(n,)`` with these unnormalised log probabilities ``(n, K)``."""
    shares = logs.softmax(-1).to(logs.device if generator is None else generator_device(generator))
    return torch.multinomial(shares, 1, generator=generator).squeeze(1).to(logs.device)
