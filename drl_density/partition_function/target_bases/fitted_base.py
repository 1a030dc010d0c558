"""Normalised bases fitted to pilot draws: a Gaussian, a mixture of Gaussians, a product of one-dimensional mixtures, or a
regression of scales on one coordinate.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from drl_density.partition_function.target_bases.scale_base import LOG_TWO_PI, ScaleBase, ScaleRegression

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture


class MixtureBase:
    """A mixture of Gaussians with full covariances.

    Args:
        weights: ``(K,)``, adding to 1.
        means: ``(K, d)``.
        covariances: ``(K, d, d)``.
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
        """log weight plus log density of every component at rows ``(n, d)``: ``(n, K)``."""
        whitened = (x @ self._whiten - self._shift).unflatten(1, (self.num_components, -1))
        return self._heights - 0.5 * whitened.square().sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density, ``(n,)``."""
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
        weights: ``(K, d)``, columns adding to 1. Components stand first because reductions over a short last axis are slow.
        means: ``(K, d)``.
        spreads: standard deviations ``(K, d)``.
    """

    def __init__(self, weights: Tensor, means: Tensor, spreads: Tensor) -> None:
        self.weights, self.means, self.spreads = weights, means, spreads
        self.event_shape = torch.Size(weights.shape[1:])
        self._heights = weights.log() - spreads.log() - 0.5 * LOG_TWO_PI

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of rows ``(n, d)``, ``(n,)``."""
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
    """A fitted base with a share of wider ones, so that its tails are never those of the draws alone.

    Attributes:
        parts: the fitted base first; each has ``log_prob`` and ``draw``.
        shares: of the parts, adding to 1.
        local: what gives kernels the scale of the place they are at: a mixture by its components' covariances, a scale
            regression by its coordinates; None where there is neither.
    """

    parts: tuple[Any, ...]
    shares: tuple[float, ...]
    local: MixtureBase | ScaleRegression | None

    @property
    def event_shape(self) -> torch.Size:
        """Shape of one point."""
        return self.parts[0].event_shape

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of rows ``(n, d)``, ``(n,)``."""
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
    """A distribution that somebody gave, over flattened points."""

    flat_log_prob: Callable[[Tensor], Tensor]
    flat_draw: Callable[[int, torch.Generator | None], Tensor]
    event_shape: torch.Size

    def log_prob(self, x: Tensor) -> Tensor:
        """log density of rows ``(n, d)``, ``(n,)``."""
        return self.flat_log_prob(x)

    def draw(self, num_rows: int, generator: torch.Generator | None) -> Tensor:
        """Exact draws ``(num_rows, d)``."""
        return self.flat_draw(num_rows, generator)


def fit_base(draws: Tensor, *, given: Any = None, widening: float = 1.2, most_components: int = 16) -> DefendedBase:
    """Fit the four kinds to half of the draws, keep the one that describes the other half best.

    Args:
        draws: pilot draws of the target ``(replicate, n, d)``; replicates are independent, so half of them is held out.
        given: a base that keeps a share of 5 %.
        widening: factor on every fitted standard deviation.
        most_components: of the mixture of Gaussians.

    Returns:
        90 % the fitted base, the rest a Gaussian 1.5 times as wide as the draws and the given base.
    """
    half = len(draws) // 2
    everything = draws.flatten(0, 1).double()
    center, unit = everything.mean(0), everything.std(0)
    unit = torch.where(unit > 0, unit, torch.ones_like(unit))
    train, held = (
        ((part.flatten(0, 1).double() - center) / unit).cpu().numpy() for part in (draws[:half], draws[half:])
    )
    mixtures = []
    for count in (1, 2, 4, 8, 16, 32):
        if count > 1 and (count > most_components or 8 * count * (train.shape[1] + 3) > len(train)):
            break
        mixtures.append(_fit(train, count))
    best = max(mixtures, key=lambda fitted: fitted.score(held))
    columns = [_fit_column(train[:, [column]], held[:, [column]]) for column in range(train.shape[1])]
    units, like = (center, unit, widening), draws.flatten(0, 1)[0]
    chart = _fit_chart(train, [column for _, column in columns], held)
    scores = (best.score(held), sum(score for score, _ in columns), chart[0])
    fitted: Any
    if max(scores) == scores[0]:
        scaled = widening**2 * unit[:, None] * unit * torch.as_tensor(best.covariances_)
        means = center + unit * torch.as_tensor(best.means_)
        fitted = local = MixtureBase(torch.as_tensor(best.weights_), means, scaled, like)
    elif max(scores) == scores[1]:
        fitted, local = _product([column for _, column in columns], units, like), None
    else:
        local = chart[1].in_units(center, unit).widened(widening).to(like)
        one = (center[[local.driver]], unit[[local.driver]], widening)
        fitted = ScaleBase(local, _product([columns[local.driver][1]], one, like))
    covariance = (
        everything.T.cov() if everything.shape[1] > 1 else everything.var().reshape(1, 1)
    ) + 1e-9 * unit.square().diag()
    wide = MixtureBase(torch.ones(1), center[None], 1.5**2 * covariance[None], like)
    if given is None:
        return DefendedBase((fitted, wide), (0.9, 0.1), local)
    return DefendedBase((fitted, wide, given), (0.9, 0.05, 0.05), local)


def _fit(rows: np.ndarray, count: int) -> GaussianMixture:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # any mixture is a valid base; the best on held-out draws is kept
        return GaussianMixture(count, reg_covar=1e-8, tol=2e-3, max_iter=60, random_state=0).fit(rows)


def _fit_column(train: np.ndarray, held: np.ndarray) -> tuple[float, GaussianMixture]:
    fits = [_fit(train, count) for count in (1, 2, 3)]
    scores = [float(fitted.score(held)) for fitted in fits]
    best = max(range(3), key=lambda index: scores[index] - 0.002 * index)
    return scores[best], fits[best]


def _fit_chart(
    train: np.ndarray, columns: list[GaussianMixture], held: np.ndarray
) -> tuple[float, ScaleRegression | None]:
    """Score on held-out rows and the regression; minus infinity where there is none."""
    if train.shape[1] < 2:
        return -math.inf, None
    try:
        chart = ScaleRegression.fit(torch.as_tensor(train))
    except torch.linalg.LinAlgError:  # a coordinate that does not vary has no regression; the other kinds remain
        return -math.inf, None
    no_units = (torch.zeros(1).double(), torch.ones(1).double(), 1.0)
    base = ScaleBase(chart, _product([columns[chart.driver]], no_units, torch.empty(0).double()))
    score = float(base.log_prob(torch.as_tensor(held)).mean())
    return (score, chart) if math.isfinite(score) else (-math.inf, None)


def _product(columns: list[GaussianMixture], units: tuple[Tensor, Tensor, float], like: Tensor) -> ProductBase:
    center, unit, widening = units
    most = max(fitted.n_components for fitted in columns)
    weights, means, spreads = (torch.zeros(most, len(columns), dtype=torch.float64) for _ in range(3))
    spreads += 1
    for column, fitted in enumerate(columns):
        count = fitted.n_components
        weights[:count, column] = torch.as_tensor(fitted.weights_)
        means[:count, column] = center[column] + unit[column] * torch.as_tensor(fitted.means_[:, 0])
        spreads[:count, column] = widening * unit[column] * torch.as_tensor(fitted.covariances_[:, 0, 0]).sqrt()
    return ProductBase(weights.to(like), means.to(like), spreads.to(like))
