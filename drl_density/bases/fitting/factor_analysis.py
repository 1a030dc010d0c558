r"""Expectation maximisation for mixtures of factor analysers, over minibatches of rows.

A batch of rows costs :math:`O(n K d r)`, most of it in one product of matrices in float32. Sums over rows are kept in
float64. After a first pass over all rows, every batch takes the place of its share of the sums, so that they hold about half
a pass, and the parameters follow after every batch. Source: Ghahramani and Hinton 1996 (CRG-TR-96-1) for the updates with
augmented factors; Neal and Hinton 1998 for batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from drl_density.bases.factor_analysers import FactorAnalysers
from drl_density.errors import DataError
from drl_density.records.brief import brief

LEAST_NOISE = 1e-3
"""Least variance of the independent noise, in model space, where columns have variance 1."""
LEAST_SHARE = 1e-3
"""Share of a row below which a component leaves the row out of its sums: these rows together weigh next to nothing."""
LEAST_HELD, LEAST_WEIGHT = 1e-9, 1e-12
"""Share of all rows below which a component keeps its shape, and its least weight, whose log must be finite."""
MOST_HELD = 2**24
"""Numbers in the largest temporary value of a batch, 64 MiB in float32."""
USUAL_BATCH = 2500
"""Rows in a batch at most."""
NUM_PLACING_ROWS, NUM_PLACING_AXES, NUM_LLOYD_STEPS = 20_000, 40, 12
"""Rows, principal axes and steps of the k-means that places the first components."""
ROWS_PER_COMPONENT = 2
"""Rows at least for each component: with fewer, some component could hold a single row."""

DrawRows: TypeAlias = Callable[[Tensor], Tensor]
"""Rows in model space ``(n, d)``, float32, of indices ``(n,)``; rounded values may get fresh noise at every call."""


@dataclass(frozen=True)
class FactorSize:
    """Size of a mixture of factor analysers.

    Attributes:
        num_components: number K of components.
        num_factors: number r of factors of each component.

    >>> FactorSize(32, 16).num_bytes(784)
    14151680
    """

    num_components: int
    num_factors: int

    def num_bytes(self, num_features: int) -> int:
        """Bytes that a fit holds beside the data: parameters, sums in float64, and one batch.

        Args:
            num_features: length d of the vectors.
        """
        numbers = self.num_components * num_features * (self.num_factors + 2)
        # Parameters, their whitened form and the sums of a batch in float32, and the sums of a pass in float64.
        return numbers * (4 + 4 + 4 + 8) + 4 * min(MOST_HELD, USUAL_BATCH * self.num_components * self.num_factors)

    def largest_within(self, num_bytes: int, num_features: int) -> FactorSize | None:
        """The size with most components, and as many factors at most, that needs no more than ``num_bytes``; None for none.

        >>> FactorSize(256, 64).largest_within(2**26, 784)
        FactorSize(num_components=128, num_factors=16)
        """
        size = self
        while size.num_bytes(num_features) > num_bytes:
            if size.num_components <= 1 and size.num_factors <= 1:
                return None
            # The larger of both is halved: four factors for each component is the usual shape.
            halves_factors = size.num_factors > 16 or size.num_components == 1
            size = (
                FactorSize(size.num_components, max(1, size.num_factors // 2))
                if halves_factors
                else FactorSize(size.num_components // 2, size.num_factors)
            )
        return size


@dataclass(frozen=True, eq=False)
class _Parameters:
    """Parameters of the components, float32: weights ``(K,)``, means, loadings ``(K, d, r)`` and noises ``(K, d)``."""

    weights: Tensor
    means: Tensor
    loadings: Tensor
    noises: Tensor

    __repr__ = brief

    def whitened(self) -> tuple[Tensor, Tensor]:
        """Cholesky factors C of I + W^T psi^-1 W ``(K, r, r)``, and C^-1 W^T psi^-1 ``(K, r, d)``."""
        pulled = (self.loadings / self.noises[..., None]).mT
        identity = torch.eye(self.loadings.shape[2]).to(self.loadings)
        triangles = torch.linalg.cholesky(identity + pulled @ self.loadings)
        return triangles, torch.linalg.solve_triangular(triangles, pulled, upper=False)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over rows for each component, float64, with factors augmented by a constant 1.

    Attributes:
        held: sum of the rows' shares ``(K,)``.
        cross: sum of x times augmented factors ``(K, d, r + 1)``.
        inner: sum of products of augmented factors ``(K, r + 1, r + 1)``.
        squares: sum of x squared ``(K, d)``.
    """

    held: Tensor
    cross: Tensor
    inner: Tensor
    squares: Tensor

    __repr__ = brief

    def parts(self) -> tuple[Tensor, ...]:
        """All sums."""
        return self.held, self.cross, self.inner, self.squares

    def mixed(self, other: _Sums, share: float) -> _Sums:
        """These sums with a share of them replaced by those of another set of rows."""
        return _Sums(*(old.lerp(new, share) for old, new in zip(self.parts(), other.parts(), strict=True)))


def fit_factor_analysers(
    rows: Tensor | DrawRows,
    size: FactorSize,
    *,
    num_rows: int | None = None,
    num_passes: int = 6,
    max_seconds: float = math.inf,
    most_bytes: int | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> FactorAnalysers:
    """Fit a mixture of factor analysers by expectation maximisation.

    Args:
        rows: rows ``(n, d)`` in model space, or a function that gives them by index, with fresh noise where there is any.
        size: number of components and of their factors.
        num_rows: number n of rows that a function can give.
        num_passes: passes over all rows, the first of which settles the sums.
        max_seconds: wall-clock seconds after which the passes end; the first batches are always done.
        most_bytes: memory that the fit may take beside the rows; not checked when not given.
        generator: source of the first means and of the order of the rows.
        device: where the components are fitted; the CPU when not given.

    Raises:
        DataError: fewer than two rows for each component, or more memory than allowed, with the size that would fit.

    >>> x = torch.randn(200, 6) @ torch.randn(6, 6)
    >>> fit_factor_analysers(x, FactorSize(2, 2)).num_factors
    2
    """
    ended = time.monotonic() + max_seconds
    draw, count = (rows, num_rows) if callable(rows) else (lambda index: rows[index].float(), len(rows))
    if count is None:
        raise DataError("give num_rows, the number of rows that the function can give")
    if count < ROWS_PER_COMPONENT * size.num_components:
        raise DataError(
            f"{size.num_components} components need at least {ROWS_PER_COMPONENT * size.num_components} rows, got {count}: "
            f"ask for at most {max(1, count // ROWS_PER_COMPONENT)} components, or give more rows"
        )
    chosen = torch.randperm(count, generator=generator)[: max(NUM_PLACING_ROWS, 4 * size.num_components)]
    placing = draw(chosen).float()
    num_features = placing.shape[1]
    if most_bytes is not None and size.num_bytes(num_features) > most_bytes:
        raise DataError(_too_large(size, num_features, most_bytes))
    found = _first_components(placing, size, generator, device or torch.device("cpu"))
    batch = max(1, min(USUAL_BATCH, MOST_HELD // (size.num_components * size.num_factors)))
    sums: _Sums | None = None
    for number in range(num_passes):
        order = torch.randperm(count, generator=generator)
        done = 0
        for part in order.split(batch):
            if number and time.monotonic() > ended:
                return _finished(found, count)
            own = _expected(found, draw(part).to(found.means))
            done += len(part)
            if sums is None:
                sums = own
            elif number == 0:  # the sums of the first pass are a plain mean over its rows
                sums = sums.mixed(own, len(part) / done)
            else:
                window = 1.0 if number == num_passes - 1 else 2.0
                sums = sums.mixed(own, min(1.0, window * len(part) / count))
            if number:
                found = _maximized(found, sums)
        if number == 0 and sums is not None:
            found = _maximized(found, sums)
    return _finished(found, count)


def _too_large(size: FactorSize, num_features: int, most_bytes: int) -> str:
    fitting = size.largest_within(most_bytes, num_features)
    mend = (
        "no size fits: use a machine with more memory, or smaller images"
        if fitting is None
        else f"ask for {fitting.num_components} components of {fitting.num_factors} factors, which fit"
    )
    return (
        f"{size.num_components} components of {size.num_factors} factors over {num_features} columns need "
        f"{size.num_bytes(num_features) / 2**20:.0f} MiB, and {most_bytes / 2**20:.0f} MiB are available: {mend}"
    )


def _first_components(
    x: Tensor, size: FactorSize, generator: torch.Generator | None, device: torch.device
) -> _Parameters:
    """Components at the clusters of a k-means in the principal axes of rows, each with its own principal axes."""
    num_components, num_factors = size.num_components, size.num_factors
    overall = x.var(0).clamp_min(LEAST_NOISE)  # columns may be constant
    axes = _principal_axes(x, min(NUM_PLACING_AXES, x.shape[1]), generator)[0]
    placed = x @ axes
    centers = placed[torch.randperm(len(x), generator=generator)[:num_components]]
    nearest = torch.cdist(placed, centers).argmin(1)
    for _ in range(NUM_LLOYD_STEPS):
        held = torch.bincount(nearest, minlength=num_components)
        total = torch.zeros_like(centers).index_add_(0, nearest, placed)
        # An empty cluster keeps its center; the clamp only spares it a division by zero.
        centers = torch.where(held[:, None] > 0, total / held.clamp_min(1)[:, None], centers)
        nearest = torch.cdist(placed, centers).argmin(1)
    parts = []
    for number in range(num_components):
        own = x[nearest == number]
        if len(own) < 2:  # a cluster of fewer starts as a wide component at the two nearest rows
            own = x[(placed - centers[number]).square().sum(1).argsort()[:2]]
        mean = own.mean(0)
        usable = min(num_factors, len(own) - 1, x.shape[1])
        directions, variances = _principal_axes(own, usable, generator)
        loadings = torch.zeros(x.shape[1], num_factors)
        loadings[:, :usable] = directions * variances.sqrt()
        # A few rows say little about single columns: their variances are drawn towards those of all rows.
        spread = (len(own) * own.var(0) + num_factors * overall) / (len(own) + num_factors)
        # Nearly as many factors as rows explain these rows wholly. A tenth of each variance stays noise all the same.
        noise = (spread - loadings.square().sum(1)).clamp_min(LEAST_NOISE).maximum(0.1 * spread)
        parts.append((len(own), mean, loadings, noise))
    weights, means, all_loadings, noises = zip(*parts, strict=True)
    shares = torch.tensor(weights, dtype=torch.float32)
    found = (shares / shares.sum(), torch.stack(means), torch.stack(all_loadings), torch.stack(noises))
    return _Parameters(*(part.to(device) for part in found))


def _principal_axes(x: Tensor, number: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors ``(d, number)`` of the covariance of rows, with their variances; random subspace iteration."""
    y = x - x.mean(0)
    wide = min(number + 4, *y.shape)
    basis = torch.randn(y.shape[1], wide, generator=generator)
    for _ in range(4):
        basis = torch.linalg.qr(y.T @ (y @ basis))[0]
    values, rotation = torch.linalg.eigh((y @ basis).T @ (y @ basis) / (len(x) - 1))
    order = values.argsort(descending=True)[:number]
    # Rounding may leave the variance of an axis that no row uses slightly negative.
    return basis @ rotation[:, order], values[order].clamp_min(0.0)


def _expected(found: _Parameters, x: Tensor) -> _Sums:
    """Mean sums of rows ``x`` ``(n, d)``, each in the components by its posterior probabilities."""
    triangles, pulled = found.whitened()
    num_components, num_factors = found.loadings.shape[0], found.loadings.shape[2]
    inverse = 1 / found.noises
    whitened = (x @ pulled.flatten(0, 1).T).unflatten(1, (num_components, num_factors))
    whitened = whitened - torch.einsum("krd,kd->kr", pulled, found.means)
    distance = x.square() @ inverse.T - 2 * x @ (found.means * inverse).T + (found.means.square() * inverse).sum(1)
    heights = found.weights.log() - 0.5 * found.noises.log().sum(1)
    heights = heights - triangles.diagonal(dim1=1, dim2=2).log().sum(1)
    shares = (heights - 0.5 * (distance - whitened.square().sum(2))).softmax(1)
    covariances = torch.cholesky_inverse(triangles).double()
    like, num_features = shares.double(), x.shape[1]
    held = like.new_zeros(num_components)
    cross = like.new_zeros(num_components, num_features, num_factors + 1)
    inner = like.new_zeros(num_components, num_factors + 1, num_factors + 1)
    squares = like.new_zeros(num_components, num_features)
    for number in range(num_components):
        own = (shares[:, number] > LEAST_SHARE).nonzero().flatten()
        if not len(own):
            continue
        share, rows = shares[own, number], x[own]
        factors = torch.linalg.solve_triangular(triangles[number].T, whitened[own, number].T, upper=True).T
        augmented = torch.cat([factors, torch.ones_like(share)[:, None]], 1)
        weighted = share[:, None] * augmented
        held[number] = share.double().sum()
        cross[number] = (rows.T @ weighted).double()
        inner[number] = (weighted.T @ augmented).double()
        inner[number, :-1, :-1] += held[number] * covariances[number]
        squares[number] = (share @ rows.square()).double()
    return _Sums(*(part / len(x) for part in (held, cross, inner, squares)))


def _maximized(found: _Parameters, sums: _Sums) -> _Parameters:
    """Parameters that maximise the expected log density; a component that holds next to no row keeps its shape."""
    is_alive = sums.held > LEAST_HELD
    held = torch.where(is_alive, sums.held, 1.0)
    identity = torch.eye(sums.inner.shape[-1]).to(sums.inner)
    inner = torch.where(is_alive[:, None, None], sums.inner, identity)
    solved = torch.linalg.solve(inner, sums.cross.mT).mT
    noises = (sums.squares - (solved * sums.cross).sum(2)) / held[:, None]
    weights = sums.held.clamp_min(LEAST_WEIGHT)
    alive = is_alive[:, None]
    return _Parameters(
        (weights / weights.sum()).to(found.weights),
        torch.where(alive, solved[..., -1], found.means.double()).to(found.means),
        torch.where(alive[..., None], solved[..., :-1], found.loadings.double()).to(found.loadings),
        # Columns that are constant in a component, or that its factors explain wholly, keep the least noise.
        torch.where(alive, noises.clamp_min(LEAST_NOISE), found.noises.double()).to(found.noises),
    )


def _finished(found: _Parameters, count: int) -> FactorAnalysers:
    """The density on the CPU, without components that hold less than half a row."""
    kept = found.weights > 0.5 / count
    weights = found.weights[kept].double()
    parts = (weights / weights.sum(), found.means[kept], found.loadings[kept], found.noises[kept])
    return FactorAnalysers(*(part.cpu() for part in parts))
