"""Plain maps from data to model space: shift and scale, whitening, and the logit of bounded columns."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import constraints

from drl_density.errors import DataError
from drl_density.transforms.data_transform import Bounds, DataTransform
from drl_density.transforms.units import binary_units


class Affine(DataTransform):
    r"""u_i = l_i + c_i x_i in every column.

    Args:
        loc: shift l, a number for all columns or shape ``(d,)``.
        scale: factor c, likewise a number or ``(d,)``, never 0.

    >>> Affine(1.0, torch.tensor([2.0, -2.0]))(torch.ones(2))
    tensor([ 3., -1.])
    """

    kind = "affine"

    def __init__(self, loc: float | Tensor, scale: float | Tensor) -> None:
        super().__init__()
        self.loc, self.scale = _as_tensor(loc), _as_tensor(scale)

    @property
    def bounds(self) -> Bounds:
        """The whole space."""
        return Bounds.unbounded(self.loc + self.scale)

    @property
    def tail_scale(self) -> Tensor:
        """0, because the Jacobian is constant."""
        return torch.zeros((), dtype=torch.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The kind, and the tensors ``loc`` and ``scale``."""
        return {"kind": self.kind}, {"loc": self.loc, "scale": self.scale}

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with these ``tensors``; ``settings`` hold the kind alone."""
        return cls(tensors["loc"], tensors["scale"])

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log |c_i|, the same in every row of ``x`` ``(*, d)``."""
        return self.scale.to(x.dtype).abs().log().expand(x.shape)

    def select(self, columns: Tensor) -> Affine:
        """The shifts and factors of some columns, given by their indices."""
        loc, scale = (value[columns] if value.ndim else value for value in (self.loc, self.scale))
        return Affine(loc, scale)

    def pull_back(self, image: Bounds) -> Bounds:
        """The box ``image`` mapped back; a negative factor exchanges lower and upper ends."""
        first, second = (self.inv(end.double()) for end in image)
        loc, scale = (value.expand(first.shape) for value in (self.loc, self.scale))
        cells = {
            index: histogram.rescaled(float(-loc[index] / scale[index]), float(1 / scale[index]))
            for index, histogram in image.cells.items()
        }
        return Bounds(torch.minimum(first, second), torch.maximum(first, second), cells)

    def carry_tail(self, scale: Tensor) -> Tensor:
        """``scale`` / c^2, because exp(s x^2 / 2) is exp(s (u - l)^2 / (2 c^2)) in the output u."""
        return scale / self.scale.double().square()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of log |c_i| over the columns, the same for every row."""
        return self.scale.abs().log().expand(x.shape[-1]).sum(-1).expand(x.shape[:-1])

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale


def standardize(x: Tensor, *, weights: Tensor | None = None) -> Affine:
    """Subtracts the mean and divides by the standard deviation of each column of ``x`` ``(rows, d)``, ignoring NaN.

    Args:
        weights: relative weight of each row, ``(rows,)``; all equal when not given.

    Raises:
        DataError: constant columns, named by their indices.

    >>> bool(standardize(torch.tensor([[0.0], [2.0]]))(torch.tensor([1.0])) == 0)
    True
    """
    unit = binary_units(x.double())
    rows = x.double() / unit
    if bool(x.isnan().any()):
        mean, scale = _moments_of_seen(rows, weights)
    else:
        mean, covariance = _moments(rows, weights)
        scale = covariance.diagonal().sqrt()
    _refuse_constant(scale)
    return Affine(-mean / scale, 1 / (scale * unit))


class Whitening(DataTransform):
    r"""u = L^{-1} (x - m) with a lower-triangular L; it mixes columns.

    Args:
        mean: centre m of the data, shape ``(d,)``.
        factor: Cholesky factor L of the covariance, shape ``(d, d)``, with a positive diagonal.

    >>> whitening = Whitening(torch.zeros(2), torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    >>> whitening(torch.ones(2))
    tensor([0.5000, 0.2500])
    """

    kind = "whitening"

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.mean, self.factor = mean, factor

    @property
    def bounds(self) -> Bounds:
        """The whole space."""
        return Bounds.unbounded(self.mean)

    @property
    def tail_scale(self) -> Tensor:
        """0, because the Jacobian is constant."""
        return torch.zeros((), dtype=torch.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The kind, and the tensors ``mean`` and ``factor``."""
        return {"kind": self.kind}, {"mean": self.mean, "factor": self.factor}

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with these ``tensors``; ``settings`` hold the kind alone."""
        return cls(tensors["mean"], tensors["factor"])

    def pull_back(self, image: Bounds) -> Bounds:
        """The whole space for an unbounded ``image``.

        Raises:
            DataError: for a bounded ``image``, which is a parallelepiped in data space and no box.
        """
        if image.cells or not bool(image.lower.isinf().all() and image.upper.isinf().all()):
            raise DataError("a whitening mixes columns, so bounds behind it are no bounds of single columns")
        return self.bounds

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-log det L, the same for every row."""
        return -self.factor.to(x).diagonal().log().sum().expand(x.shape[:-1])

    def _call(self, x: Tensor) -> Tensor:
        centered = (x - self.mean.to(x)).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.factor.to(x), centered, upper=False).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return (self.factor.to(y) @ y.unsqueeze(-1)).squeeze(-1) + self.mean.to(y)


def whiten(x: Tensor, *, weights: Tensor | None = None) -> Whitening:
    """The affine map that gives the rows ``x`` ``(rows, d)`` mean zero and identity covariance.

    Args:
        weights: relative weight of each row, ``(rows,)``; all equal when not given.

    Raises:
        DataError: columns that are constant or linearly dependent.

    >>> rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> rows[:, 1] += 2 * rows[:, 0]
    >>> bool(torch.allclose(whiten(rows)(rows).T.cov(), torch.eye(2).double()))
    True
    """
    unit = binary_units(x.double())
    mean, covariance = _moments(x.double() / unit, weights)
    _refuse_constant(covariance.diagonal().sqrt())
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed):
        raise DataError(
            "the columns are linearly dependent, so they cannot be whitened: drop one of each dependent pair"
        )
    return Whitening(mean * unit, unit[:, None] * factor)


class Logit(DataTransform):
    r"""u = log((x - l) / (h - x)) of every column, for values strictly between l and h.

    Args:
        lower: lower end l of the interval, a number for all columns or shape ``(d,)``.
        upper: upper end h of the interval, likewise a number or ``(d,)``.

    Raises:
        ValueError: a lower end that is not below the upper end.

    >>> float(Logit(0.0, 2.0)(torch.tensor([1.0]))[0])
    0.0
    """

    kind = "logit"

    def __init__(self, lower: float | Tensor, upper: float | Tensor) -> None:
        super().__init__()
        self.lower, self.upper = (torch.as_tensor(v, dtype=torch.float64) for v in (lower, upper))
        if not bool((self.lower < self.upper).all()):
            raise ValueError(f"need lower < upper, got {lower} and {upper}")
        self.domain = constraints.independent(constraints.interval(self.lower, self.upper), 1)

    @property
    def bounds(self) -> Bounds:
        """The open interval of each column."""
        return Bounds(self.lower, self.upper)

    @property
    def tail_scale(self) -> Tensor:
        """0, because the Jacobian (2 + e^u + e^-u) / (h - l) grows exponentially in u and no faster."""
        return torch.zeros((), dtype=torch.float64)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The kind, and the tensors ``lower`` and ``upper``."""
        return {"kind": self.kind}, {"lower": self.lower, "upper": self.upper}

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with these ``tensors``; ``settings`` hold the kind alone."""
        return cls(tensors["lower"], tensors["upper"])

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log (h - l) / ((x - l) (h - x)) of every column of ``x`` ``(*, d)``."""
        lower, upper = self.lower.to(x), self.upper.to(x)
        return (self.upper - self.lower).to(x).log() - (x - lower).log() - (upper - x).log()

    def select(self, columns: Tensor) -> Logit:
        """The logit between the ends of some columns, given by their indices."""
        lower, upper = (value[columns] if value.ndim else value for value in (self.lower, self.upper))
        return Logit(lower, upper)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the columns of log (h - l) / ((x - l) (h - x))."""
        return self.column_log_jacobian(x).sum(-1)

    def _call(self, x: Tensor) -> Tensor:
        return (x - self.lower.to(x)).log() - (self.upper.to(x) - x).log()

    def _inverse(self, y: Tensor) -> Tensor:
        return self.bounds.nearest_inside(self.lower.to(y) + (self.upper - self.lower).to(y) * torch.sigmoid(y))


def logit(lower: float | Tensor, upper: float | Tensor) -> Logit:
    """The logit map of columns bounded by ``lower`` and ``upper``.

    >>> logit(0.0, 1.0)(torch.tensor([0.5]))
    tensor([0.])
    """
    return Logit(lower, upper)


def _as_tensor(value: float | Tensor) -> Tensor:
    # Without dimensions a float64 tensor leaves the dtype of what it multiplies as it is.
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _moments(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    x = x.double()
    if weights is None:
        return x.mean(0), x.T.cov().reshape(x.shape[1], x.shape[1])
    shares = weights.double() / weights.double().sum()
    return shares @ x, x.T.cov(aweights=weights.double()).reshape(x.shape[1], x.shape[1])


def _moments_of_seen(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every column over the cells that are not NaN."""
    shares = (~x.isnan()).double() * (1.0 if weights is None else weights.double()[:, None])
    shares = shares / shares.sum(0)
    mean = torch.where(x.isnan(), 0.0, x * shares).sum(0)
    return mean, torch.where(x.isnan(), 0.0, (x - mean).square() * shares).sum(0).sqrt()


def _refuse_constant(scale: Tensor) -> None:
    constant = (~(scale > 0)).nonzero().flatten().tolist()
    if constant:
        raise DataError(f"columns {constant} do not vary, so they cannot be scaled: drop them")
