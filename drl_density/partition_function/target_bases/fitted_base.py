"""Normalised bases fitted to pilot draws.

There are four kinds: a Gaussian, a mixture of Gaussians, a product of one-dimensional mixtures, and a regression of scales
on one coordinate.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI, ScaleBase, ScaleRegression

if TYPE_CHECKING:  # scikit-learn loads slowly and is needed only while a base is fitted
    from sklearn.mixture import GaussianMixture


class FlatBase(Protocol):
    """A normalised distribution over flattened points ``(d,)`` with exact draws."""

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point, ``(d,)``."""
        ...

    def log_prob(self, x: Tensor, /) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        ...

    def draw(self, num_rows: int, generator: torch.Generator | None, /) -> Tensor:
        """Independent draws ``(num_rows, d)``."""
        ...


class MixtureBase:
    """A mixture of Gaussians with full covariances.

    Args:
        weights: share of each component, ``(K,)``, adding to 1.
        means: mean of each component, ``(K, d)``.
        covariances: covariance of each component, ``(K, d, d)``.
        like: tensor of the dtype and device to compute in.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, like: Tensor) -> None:
        factors = torch.linalg.cholesky(covariances.double())
        inverse = torch.linalg.inv(factors)
        self.num_components, dim = means.shape
        self.event_shape = torch.Size((dim,))
        heights = weights.double().log() - factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * dim * LOG_TWO_PI
        self.weights, self.means, self.factors = weights.to(like), means.to(like), factors.to(like)
        self._whiten = inverse.reshape(-1, dim).T.contiguous().to(like)
        self._shift = torch.einsum("kij,kj->ki", inverse, means.double()).flatten().to(like)
        self._heights = heights.to(like)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log weight plus log density of every component at rows ``(n, d)``, ``(n, K)``."""
        whitened = (x @ self._whiten - self._shift).unflatten(1, (self.num_components, -1))
        return self._heights - 0.5 * whitened.square().sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.log_joint(x).logsumexp(1)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        noise = torch.randn(
            num_rows, self.means.shape[1], generator=generator, dtype=self.means.dtype, device=self.means.device
        )
        if self.num_components == 1:
            return torch.addmm(self.means, noise, self.factors[0].T)
        chosen = torch.multinomial(self.weights, num_rows, replacement=True, generator=generator)
        return self.means[chosen] + (self.factors[chosen] @ noise[..., None]).squeeze(-1)


class ProductBase:
    """Independent coordinates, each a mixture of normals.

    Args:
        weights: share of each component in each coordinate, ``(K, d)``, columns adding to 1. The components come first
            because reductions over a short last axis are slow.
        means: means of the components, ``(K, d)``.
        spreads: standard deviations of the components, ``(K, d)``.
    """

    def __init__(self, weights: Tensor, means: Tensor, spreads: Tensor) -> None:
        self.weights, self.means, self.spreads = weights, means, spreads
        self.event_shape = torch.Size(weights.shape[1:])
        self._heights = weights.log() - spreads.log() - 0.5 * LOG_TWO_PI

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        parts = zip(self._heights, self.means, self.spreads, strict=True)
        terms = [height - 0.5 * ((x - mean) / spread).square() for height, mean, spread in parts]
        return functools.reduce(torch.logaddexp, terms).sum(-1)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        chosen = torch.multinomial(self.weights.T, num_rows, replacement=True, generator=generator).T
        noise = torch.randn(chosen.shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
        return self.means.gather(0, chosen) + self.spreads.gather(0, chosen) * noise


@dataclass(frozen=True)
class DefendedBase:
    """A fitted base mixed with wider ones, whose tails reach beyond the draws that it was fitted to.

    Attributes:
        parts: fitted base first, then wider ones.
        shares: share of each part, adding to 1.
        local: part that gives kernels a local scale, by the covariances of a mixture's components or by the coordinates of
            a scale regression; ``None`` where there is neither.
    """

    parts: tuple[FlatBase, ...]
    shares: tuple[float, ...]
    local: MixtureBase | ScaleRegression | None

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        return self.parts[0].event_shape

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        terms = [part.log_prob(x) + math.log(share) for part, share in zip(self.parts, self.shares, strict=True)]
        return torch.stack(terms).logsumexp(0)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        chosen = torch.multinomial(torch.tensor(self.shares), num_rows, replacement=True, generator=generator)
        counts = torch.bincount(chosen, minlength=len(self.parts)).tolist()
        rows = torch.cat([part.draw(count, generator) for part, count in zip(self.parts, counts, strict=True)])
        return rows[chosen.argsort().argsort().to(rows.device)]


@dataclass(frozen=True)
class GivenBase:
    """A given distribution over flattened points.

    Attributes:
        flat_log_prob: log density of rows ``(n, d)``.
        flat_draw: exact draws, ``flat_draw(num_rows, generator)`` with shape ``(num_rows, d)``.
        event_shape: shape of one point, ``(d,)``.
    """

    flat_log_prob: Callable[[Tensor], Tensor]
    flat_draw: Callable[[int, torch.Generator | None], Tensor]
    event_shape: torch.Size

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``(n, d)``, ``(n,)``."""
        return self.flat_log_prob(x)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        return self.flat_draw(num_rows, generator)


@dataclass(frozen=True)
class _Units:
    """Units of data columns in which rows were standardised, and the factor by which fitted spreads are widened."""

    center: Tensor
    spread: Tensor
    widening: float

    def column(self, index: int) -> _Units:
        """Units of one column."""
        return _Units(self.center[[index]], self.spread[[index]], self.widening)


@dataclass(frozen=True)
class _Scored:
    """A column's mixture with its mean log density on the held-out rows."""

    score: float
    mixture: GaussianMixture


@dataclass(frozen=True)
class _Candidate:
    """A fitted base with its mean log density on the held-out rows."""

    score: float
    base: MixtureBase | ProductBase | ScaleBase
    local: MixtureBase | ScaleRegression | None


WIDE_FACTOR = 1.5
"""Width of the defensive Gaussian in standard deviations of the draws: wide enough to bound weights in moderate tails."""
FITTED_SHARE, WIDE_SHARE = 0.9, 0.1
"""Shares of the fitted and the wide part; a given base takes half of the wide share. Defence costs at most log(1 / 0.9)
nats of weight. Source: Hesterberg 1995 (defensive mixtures)."""
MIXTURE_SIZES = (1, 2, 4, 8, 16, 32)


def fit_base(
    draws: Tensor, *, given: FlatBase | None = None, widening: float = 1.2, most_components: int = 16
) -> DefendedBase:
    """Fit four kinds of base to half of the draws and keep the one that describes the other half best.

    The result is 90 % the fitted base; a Gaussian 1.5 times as wide as the draws and the given base share the rest.

    Args:
        draws: pilot draws of the target ``(replicate, n, d)``; replicates are independent, so half of them is held out.
        given: base that keeps a share of 5 %.
        widening: factor on every fitted standard deviation.
        most_components: largest number of components of the mixture of Gaussians.
    """
    half = len(draws) // 2
    everything, like = draws.flatten(0, 1).double(), draws.flatten(0, 1)[0]
    units = _Units(everything.mean(0), spread_or_one(everything), widening)
    train, held = (
        ((part.flatten(0, 1).double() - units.center) / units.spread).cpu().numpy()
        for part in (draws[:half], draws[half:])
    )
    mixtures = _fit_mixtures(train, most_components)
    columns = [_fit_column(train[:, [column]], held[:, [column]]) for column in range(train.shape[1])]
    chart_score, chart = _fit_chart(train, columns, held)
    candidates = [
        _mixture_candidate(mixtures, held, units, like),
        _Candidate(sum(column.score for column in columns), _product(columns, units, like), None),
    ]
    if chart is not None:
        local = chart.in_units(units.center, units.spread).widened(widening).to(like)
        driver = _product([columns[local.driver]], units.column(local.driver), like)
        candidates.append(_Candidate(chart_score, ScaleBase(local, driver), local))
    best = max(candidates, key=lambda candidate: candidate.score)
    wide = MixtureBase(torch.ones(1), units.center[None], WIDE_FACTOR**2 * _covariance(everything, units)[None], like)
    if given is None:
        return DefendedBase((best.base, wide), (FITTED_SHARE, WIDE_SHARE), best.local)
    return DefendedBase((best.base, wide, given), (FITTED_SHARE, WIDE_SHARE / 2, WIDE_SHARE / 2), best.local)


def _covariance(rows: Tensor, units: _Units) -> Tensor:
    """Covariance of rows with a ridge of 1e-9 of each variance, so that it has a Cholesky factor."""
    covariance = rows.T.cov() if rows.shape[1] > 1 else rows.var().reshape(1, 1)
    return covariance + 1e-9 * units.spread.square().diag()


def _fit_mixtures(train: np.ndarray, most_components: int) -> list[GaussianMixture]:
    """Mixtures of growing size, as long as each component has at least 8 (d + 3) rows."""
    mixtures = []
    for count in MIXTURE_SIZES:
        if count > 1 and (count > most_components or 8 * count * (train.shape[1] + 3) > len(train)):
            break
        mixtures.append(_fit(train, count))
    return mixtures


def _mixture_candidate(mixtures: list[GaussianMixture], held: np.ndarray, units: _Units, like: Tensor) -> _Candidate:
    """The mixture of Gaussians that describes the held-out rows best, in data units."""
    scores = [float(fitted.score(held)) for fitted in mixtures]
    best = max(range(len(mixtures)), key=lambda index: scores[index])
    weights, means, covariances = _parameters(mixtures[best])
    scaled = units.widening**2 * units.spread[:, None] * units.spread * covariances
    base = MixtureBase(weights, units.center + units.spread * means, scaled, like)
    return _Candidate(scores[best], base, base)


def _fit(rows: np.ndarray, count: int) -> GaussianMixture:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        # Any mixture is a valid base, converged or not; the best on held-out draws is kept.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(count, reg_covar=1e-8, tol=2e-3, max_iter=60, random_state=0).fit(rows)


def _fit_column(train: np.ndarray, held: np.ndarray) -> _Scored:
    """Mixture of up to three normals; a further component has to gain 0.002 nats a row on the held-out rows."""
    fits = [_fit(train, count) for count in (1, 2, 3)]
    scores = [float(fitted.score(held)) for fitted in fits]
    best = max(range(3), key=lambda index: scores[index] - 0.002 * index)
    return _Scored(scores[best], fits[best])


def _fit_chart(train: np.ndarray, columns: list[_Scored], held: np.ndarray) -> tuple[float, ScaleRegression | None]:
    """Score on held-out rows and the scale regression; minus infinity and ``None`` where there is none."""
    if train.shape[1] < 2:
        return -math.inf, None
    try:
        chart = ScaleRegression.fit(torch.as_tensor(train))
    except (
        RuntimeError
    ):  # torch's LinAlgError: a coordinate that does not vary has no regression; the other kinds remain
        return -math.inf, None
    no_units = _Units(torch.zeros(1).double(), torch.ones(1).double(), 1.0)
    base = ScaleBase(chart, _product([columns[chart.driver]], no_units, torch.empty(0).double()))
    score = float(base.log_prob(torch.as_tensor(held)).mean())
    return (score, chart) if math.isfinite(score) else (-math.inf, None)


def _parameters(fitted: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    """Weights ``(K,)``, means ``(K, d)`` and covariances ``(K, d, d)``."""
    weights, means, covariances = (
        torch.as_tensor(np.asarray(values)) for values in (fitted.weights_, fitted.means_, fitted.covariances_)
    )
    return weights, means, covariances


def _product(columns: list[_Scored], units: _Units, like: Tensor) -> ProductBase:
    """Independent mixtures of the columns, in data units; a column with fewer components gets some of weight 0."""
    fitted = [_parameters(column.mixture) for column in columns]
    most = max(len(shares) for shares, _, _ in fitted)
    weights, means, spreads = (torch.zeros(most, len(fitted), dtype=torch.float64) for _ in range(3))
    spreads += 1
    for column, (shares, centers, covariances) in enumerate(fitted):
        count, center, unit = len(shares), units.center[column], units.spread[column]
        weights[:count, column] = shares
        means[:count, column] = center + unit * centers[:, 0]
        spreads[:count, column] = units.widening * unit * covariances[:, 0, 0].sqrt()
    return ProductBase(weights.to(like), means.to(like), spreads.to(like))
