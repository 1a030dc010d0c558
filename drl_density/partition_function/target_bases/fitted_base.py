"""The base that describes pilot draws best, defended by wider and heavier ones.

Candidates are a Gaussian, a mixture of Gaussians, Student's t in all coordinates or in each, products of one-dimensional
mixtures in the given axes or in rotated ones, and a regression of scales on one coordinate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from drl_density.partition_function.annealing.plan import spread_or_one
from drl_density.partition_function.factors import covariance_factor
from drl_density.partition_function.target_bases.columns import Columns, fit_columns, look_normal
from drl_density.partition_function.target_bases.contract import Chart, FlatBase, GivenBase, KeptBase
from drl_density.partition_function.target_bases.curved_base import CurvedRegression, curved_orders
from drl_density.partition_function.target_bases.defended import DefendedBase
from drl_density.partition_function.target_bases.mixture import MixtureBase
from drl_density.partition_function.target_bases.rotated import RotatedBase
from drl_density.partition_function.target_bases.scale_base import ScaleBase, ScaleRegression, strongest_drivers
from drl_density.partition_function.target_bases.student import (
    DEGREES,
    StudentBase,
    StudentFits,
    StudentProduct,
    TailChart,
    quartile_spread,
)

if TYPE_CHECKING:  # scikit-learn loads slowly and is needed only while a base is fitted
    from sklearn.mixture import GaussianMixture

WIDE_FACTOR = 1.5
"""Width of the defensive Gaussian in standard deviations of the draws: wide enough to bound weights in moderate tails."""
WIDE_SHARE, HEAVY_SHARE, GIVEN_SHARE, KEPT_SHARE = 0.05, 0.05, 0.05, 0.1
"""Shares of the wide Gaussian, of the heavy tails, of a given base and of a kept one; the fitted one has the rest. Defence
costs at most log(1 / 0.75) nats of weight. Source: Hesterberg 1995 (defensive mixtures)."""
DRIVER_SHARE, DRIVER_FACTOR = 0.1, 2.0
"""Share and width of a wide normal in the distribution of a driver. Draws outside a neck show how scales continue into it,
so the base reaches further along the driver than the draws."""
HEAVY_DEGREES = 5
"""Most degrees of freedom of the heavy tails. Five leave fourth moments, so that mean log weights have an error; draws that
are heavier take fewer."""
MIXTURE_SIZES = (1, 2, 4, 8, 16, 32)
MOST_UNSHRUNK = 20
"""Fewest rows per coordinate at which a covariance needs no shrinkage."""
NORMAL_ERRORS = 4.0
"""Standard errors of Mardia's kurtosis within which the draws' distances from their mean are those of a Gaussian."""
MOST_CURVED = 20
"""Coordinates up to which curved regressions are tried; their maps go from one coordinate to the next."""
LEAST_CURVED_ROWS = 10
"""Fewest rows per coordinate at which curved regressions are tried; held-out rows decide whether they win."""
NUM_DRIVERS = 3
"""Drivers that are tried: the strongest by a straight line is not always the one that held-out draws prefer."""
MOST_COMPONENTS_ANALYSED = 100
"""Coordinates up to which independent components are looked for."""


@dataclass(frozen=True)
class _Units:
    """Units of data columns in which rows were standardised, and the factor by which fitted spreads are widened."""

    center: Tensor
    spread: Tensor
    widening: float
    like: Tensor

    def standardised(self, rows: Tensor) -> Tensor:
        return (rows.flatten(0, 1).double() - self.center) / self.spread

    def covariance(self, values: Tensor) -> Tensor:
        """A covariance of standardised rows in data units, with a ridge of 1e-9, so that it has a Cholesky factor."""
        # The ridge is of 1 at least, the variance of standardised rows, as a coordinate that does not vary has variance 0.
        return self.spread[:, None] * self.spread * (values + 1e-9 * values.diagonal().clamp_min(1).diag())


@dataclass(frozen=True)
class _Built:
    """A base in data units, with the part that gives kernels a local scale."""

    base: FlatBase
    local: MixtureBase | Chart | None = None


@dataclass(frozen=True)
class _Candidate:
    """A kind of base, how it is built from the fit to half of the rows, and from all of them where that differs."""

    build: Callable[[_Units], _Built]
    from_all: Callable[[_Units], _Built] | None = None


def fit_base(
    draws: Tensor,
    *,
    given: FlatBase | None = None,
    kept: KeptBase | None = None,
    widening: float = 1.2,
    most_components: int = 16,
    is_kept_enough: bool = False,
) -> DefendedBase:
    """Fit several kinds of base to half of the draws and keep the one that describes the other half best.

    The result is the fitted base to 75 to 90 %; a Gaussian 1.5 times as wide as the draws, heavy tails and the given base
    have 5 % each, the kept one 10 %. The kept base takes the place of the fitted one where it describes the draws better.

    Args:
        draws: pilot draws of the target ``(replicate, n, d)``; replicates are independent, so half of them is held out.
        given: base that keeps a share of 5 %.
        kept: base that keeps a share of 10 %, and competes with those that are fitted.
        widening: factor on every fitted standard deviation.
        most_components: largest number of components of the mixture of Gaussians.
        is_kept_enough: whether the kept base is taken without fitting any other, as it describes the target well.
    """
    half = len(draws) // 2
    everything, like = draws.flatten(0, 1).double().cpu(), draws.flatten(0, 1)[0]
    units = _Units(everything.mean(0), _spread(everything), widening, like)
    train, held = units.standardised(draws[:half].cpu()), units.standardised(draws[half:].cpu())
    whole = torch.cat([train, held])
    excess = _mardia(train)
    fits = StudentFits.fit(train, held) if excess > NORMAL_ERRORS else None
    if kept is not None and is_kept_enough:
        best = _Built(kept, kept.local)
    else:
        candidates = [*_elliptical(train, held, most_components), *(() if fits is None else _students(fits))]
        candidates += _shaped(train, held, is_round=abs(excess) < NORMAL_ERRORS)
        if kept is not None:
            candidates.append(_Candidate(lambda _: _Built(_in_units(kept, units)), lambda _: _Built(kept, kept.local)))
        plain = _Units(torch.zeros_like(train[0]), torch.ones_like(train[0]), 1.0, train)
        chosen = max(candidates, key=_score(held, _defence(whole, fits, plain), plain))
        best = (chosen.from_all or chosen.build)(units)
    parts = _defence(whole, fits, units)
    if given is not None:
        parts.append((given, GIVEN_SHARE))
    if kept is not None and best.base is not kept:
        parts.append((kept, KEPT_SHARE))
    bases, shares = zip(*parts, strict=True)
    return DefendedBase((best.base, *bases), (1 - sum(shares), *shares), best.local)


def _in_units(base: FlatBase, units: _Units) -> FlatBase:
    """A base in data units as one of standardised rows."""
    volume = units.spread.log().sum()
    return GivenBase(
        lambda rows: base.log_prob((units.center + units.spread * rows).to(units.like)).double() + volume,
        lambda count, generator: (base.draw(count, generator).double() - units.center) / units.spread,
        base.event_shape,
    )


def _defence(whole: Tensor, fits: StudentFits | None, units: _Units) -> list[tuple[FlatBase, float]]:
    """The wide Gaussian and the heavy tails, with their shares."""
    covariance = WIDE_FACTOR**2 * units.covariance(_covariance(whole)[0])
    middle = units.center + units.spread * whole.mean(0)
    wide, heavy = (
        MixtureBase(torch.ones(1), middle[None], covariance[None], units.like),
        _heavy_tails(whole, fits, units),
    )
    return [(wide, WIDE_SHARE), *((part, HEAVY_SHARE / len(heavy)) for part in heavy)]


def _score(held: Tensor, defence: list[tuple[FlatBase, float]], plain: _Units) -> Callable[[_Candidate], float]:
    """A function that gives a candidate's mean log density on held-out rows, defended as the base will be.

    Without defence one row far from all others would decide, by how far a kind's light tails put it below the rest.
    """
    beside = torch.stack([part.log_prob(held) + math.log(share) for part, share in defence]).logsumexp(0)
    share = math.log(1 - sum(share for _, share in defence))

    def score(candidate: _Candidate) -> float:
        found = float(torch.logaddexp(candidate.build(plain).base.log_prob(held) + share, beside).mean())
        return found if math.isfinite(found) else -math.inf

    return score


def _shaped(train: Tensor, held: Tensor, *, is_round: bool) -> Iterator[_Candidate]:
    """Products and regressions; what cannot win on rows that look Gaussian is left out.

    Args:
        train: rows to fit to ``(n, d)``.
        held: rows to score with ``(m, d)``.
        is_round: whether the rows' distances from their mean are those of a Gaussian.
    """
    columns = fit_columns(train, held)
    yield _Candidate(lambda units: _product(columns, units))
    if train.shape[1] == 1 or (is_round and bool(look_normal(train).all())):
        return
    yield from _rotated(train, held)
    yield from _charts(train, held, columns)


def _spread(rows: Tensor) -> Tensor:
    """Standard deviation of every coordinate, or the quartiles' where far points make up most of the variance."""
    deviation, quartiles = spread_or_one(rows), quartile_spread(rows)
    return torch.where((deviation > 10 * quartiles) & (quartiles > 0), quartiles, deviation)


def _mardia(rows: Tensor) -> float:
    """Mardia's kurtosis of rows ``(n, d)`` less that of a Gaussian, in standard errors."""
    count, dim = rows.shape
    covariance, _ = _covariance(rows)
    factor = covariance_factor(covariance + 1e-9 * torch.eye(dim).double())
    squared = torch.linalg.solve_triangular(factor, (rows - rows.mean(0)).T, upper=False).square().sum(0)
    return float(squared.square().mean() - dim * (dim + 2)) / math.sqrt(8 * dim * (dim + 2) / count)


def _covariance(rows: Tensor) -> tuple[Tensor, bool]:
    """Covariance of rows ``(n, d)``, and whether it was shrunk towards equal variances, as it is where rows are few.

    Source: Ledoit and Wolf 2004 (a well-conditioned estimator for large-dimensional covariance matrices).
    """
    if rows.shape[1] == 1:
        return rows.var().reshape(1, 1), False
    if len(rows) >= MOST_UNSHRUNK * rows.shape[1]:
        return rows.T.cov(), False
    from sklearn.covariance import ledoit_wolf

    return torch.as_tensor(ledoit_wolf(rows.numpy())[0]), True


def _elliptical(train: Tensor, held: Tensor, most_components: int) -> Iterator[_Candidate]:
    """Mixtures of growing size, as long as each component has 8 (d + 3) rows and two more sizes may still gain."""
    rows, others = train.numpy(), held.numpy()
    best, worse = -math.inf, 0
    for count in MIXTURE_SIZES:
        if count > 1 and (count > most_components or 8 * count * (rows.shape[1] + 3) > len(rows)):
            break
        try:
            fitted = _fit(rows, count)
        except ValueError:  # a component collapsed on a few rows; larger mixtures would collapse too
            break
        score = float(fitted.score(others))
        yield _Candidate(lambda units, fitted=fitted: _mixture(*_parameters(fitted), units))
        worse = 0 if score > best else worse + 1
        best = max(best, score)
        if worse == 2:
            break
    covariance, is_shrunk = _covariance(train)
    if is_shrunk:
        one, whole = torch.ones(1).double(), torch.cat([train, held])
        yield _Candidate(
            lambda units: _mixture(one, train.mean(0)[None], covariance[None], units),
            # Few rows: once the kind is chosen, the held-out half takes part too.
            lambda units: _mixture(one, whole.mean(0)[None], _covariance(whole)[0][None], units),
        )


def _students(fits: StudentFits) -> Iterator[_Candidate]:
    """Student's t in all coordinates, and one for every coordinate."""
    yield _Candidate(lambda units: _charted(_student_product(fits, units)))
    if fits.means.shape[1] > 1:
        yield _Candidate(lambda units: _Built(_joint_student(fits, units)))


def _joint_student(fits: StudentFits, units: _Units, most: int = DEGREES[-1]) -> StudentBase:
    _, degrees, mean, scale = fits.joint(most)
    return StudentBase(degrees, units.center + units.spread * mean, units.covariance(scale), units.like)


def _charted(base: StudentProduct) -> _Built:
    """A product of Student's t with coordinates in which chains cross its tails."""
    return _Built(base, TailChart(base.centers, base.scales))


def _student_product(fits: StudentFits, units: _Units, most: int = DEGREES[-1]) -> StudentProduct:
    _, degrees, centers, spreads = fits.alone(most)
    moved = units.center + units.spread * centers
    return StudentProduct(degrees.to(units.like), moved.to(units.like), (units.spread * spreads).to(units.like))


def _heavy_tails(whole: Tensor, fits: StudentFits | None, units: _Units) -> tuple[FlatBase, ...]:
    """Student's t in all coordinates and in each, with five degrees of freedom or as few as the draws have."""
    if fits is not None:
        parts = (_joint_student(fits, units, HEAVY_DEGREES), _student_product(fits, units, HEAVY_DEGREES))
    else:
        # Scales of the same covariance as the draws.
        share = (HEAVY_DEGREES - 2) / HEAVY_DEGREES
        covariance = units.covariance(share * _covariance(whole)[0])
        center = units.center + units.spread * whole.mean(0)
        degrees = torch.full_like(center, HEAVY_DEGREES)
        spreads = covariance.diagonal().sqrt()
        parts = (
            StudentBase(HEAVY_DEGREES, center, covariance, units.like),
            StudentProduct(degrees.to(units.like), center.to(units.like), spreads.to(units.like)),
        )
    return parts if whole.shape[1] > 1 else parts[:1]


def _rotated(train: Tensor, held: Tensor) -> Iterator[_Candidate]:
    """Products of one-dimensional mixtures along principal axes and along independent components."""
    center = train.mean(0)
    for whiten in _axes(train):
        columns = fit_columns((train - center) @ whiten, (held - center) @ whiten)
        yield _Candidate(lambda units, columns=columns, whiten=whiten: _turned(columns, center, whiten, units))


def _axes(train: Tensor) -> Iterator[Tensor]:
    """Matrices ``(d, d)`` to coordinates of unit variance, by principal and by independent components."""
    values, vectors = torch.linalg.eigh(_covariance(train)[0])
    # Axes along which the rows do not vary have eigenvalues of 0, or less by rounding.
    principal = vectors / values.clamp_min(1e-9 * float(values.max())).sqrt()
    yield principal
    if not 2 <= train.shape[1] <= MOST_COMPONENTS_ANALYSED or len(train) < 5 * train.shape[1]:
        return
    from sklearn.decomposition import fastica
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Any rotation is valid, converged or not; the best on held-out draws is kept.
        warnings.simplefilter("ignore", ConvergenceWarning)
        white = ((train - train.mean(0)) @ principal).numpy()
        _, turned, _ = fastica(white, whiten=False, max_iter=100, tol=1e-3, random_state=0)  # pyright: ignore[reportArgumentType] (stub)
    yield principal @ torch.as_tensor(np.asarray(turned)).T


def _charts(train: Tensor, held: Tensor, columns: Columns) -> Iterator[_Candidate]:
    """Regressions on one coordinate, of scales alone or curved ones."""
    for chart in _regressions(train):

        def build(units: _Units, chart: ScaleRegression | CurvedRegression = chart) -> _Built:
            local = chart.in_units(units.center, units.spread).widened(units.widening).to(units.like)
            driver = columns.product(units.center, units.spread, units.widening, units.like, kept=[chart.driver])
            return _Built(ScaleBase(local, driver.defended(DRIVER_SHARE, DRIVER_FACTOR)), local)

        yield _Candidate(build)


def _regressions(train: Tensor) -> Iterator[ScaleRegression | CurvedRegression]:
    """Every regression that can be fitted; a coordinate that does not vary has none."""
    fits: list[Callable[[], ScaleRegression | CurvedRegression]] = [lambda: ScaleRegression.fit(train)]
    if (
        train.shape[1] <= MOST_CURVED
        and len(train) >= LEAST_CURVED_ROWS * train.shape[1]
        and bool((train.std(0) > 0).all())
    ):
        for order, shape in curved_orders(train, strongest_drivers(train)[:NUM_DRIVERS]):
            fits.append(lambda order=order, shape=shape: CurvedRegression.fit(train, order, shape))
    for fit in fits:
        try:
            yield fit()
        # LinAlgError for collinear columns, NumericalError for a constant driver, and a plain RuntimeError of lstsq where a
        # fit diverges to NaN. The regression then does not compete, and the other kinds remain.
        except RuntimeError:
            continue


def _fit(rows: np.ndarray, count: int) -> GaussianMixture:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        # Any mixture is a valid base, converged or not; the best on held-out draws is kept.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(count, reg_covar=1e-8, tol=2e-3, max_iter=60, random_state=0).fit(rows)


def _parameters(fitted: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    """Weights ``(K,)``, means ``(K, d)`` and covariances ``(K, d, d)``."""
    weights, means, covariances = (
        torch.as_tensor(np.asarray(values)) for values in (fitted.weights_, fitted.means_, fitted.covariances_)
    )
    return weights, means, covariances


def _mixture(weights: Tensor, means: Tensor, covariances: Tensor, units: _Units) -> _Built:
    """A mixture of standardised rows in data units; it also gives kernels a local scale."""
    scaled = units.widening**2 * torch.stack([units.covariance(values) for values in covariances])
    base = MixtureBase(weights, units.center + units.spread * means, scaled, units.like)
    return _Built(base, base)


def _product(columns: Columns, units: _Units) -> _Built:
    return _Built(columns.product(units.center, units.spread, units.widening, units.like))


def _turned(columns: Columns, center: Tensor, whiten: Tensor, units: _Units) -> _Built:
    """A product in rotated axes of standardised rows, in data units."""
    zero, one = torch.zeros_like(center), torch.ones_like(center)
    product = columns.product(zero, one, units.widening, units.like)
    return _Built(
        RotatedBase(product, units.center + units.spread * center, whiten / units.spread[:, None], units.like)
    )
