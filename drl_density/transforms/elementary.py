"""Plain maps from data to model space, from torch's own transforms where they exist."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import AffineTransform, Transform

from drl_density.errors import DataError


def standardize(x: Tensor, *, weights: Tensor | None = None) -> AffineTransform:
    """Subtract the mean and divide by the standard deviation of each column of ``x`` ``(rows, d)``, NaN left out.

    Args:
        weights: of the rows ``(rows,)``.

    Raises:
        DataError: naming the columns (by index) that are constant.

    >>> bool(standardize(torch.tensor([[0.0], [2.0]]))(torch.tensor([1.0])) == 0)
    True
    """
    if bool(x.isnan().any()):
        mean, scale = _moments_of_seen(x.double(), weights)
    else:
        mean, covariance = _moments(x, weights)
        scale = covariance.diagonal().sqrt()
    _refuse_constant(scale)
    return AffineTransform(-mean / scale, 1 / scale, event_dim=1)


def whiten(x: Tensor, *, weights: Tensor | None = None) -> Whitening:
    """The affine map that gives ``x`` mean zero and identity covariance.

    Args:
        x: rows ``(rows, d)``.
        weights: of the rows ``(rows,)``.

    Raises:
        DataError: columns that are constant or linearly dependent.

    >>> rows = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).double()
    >>> rows[:, 1] += 2 * rows[:, 0]
    >>> bool(torch.allclose(whiten(rows)(rows).T.cov(), torch.eye(2).double()))
    True
    """
    mean, covariance = _moments(x, weights)
    _refuse_constant(covariance.diagonal().sqrt())
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed):
        raise DataError(
            "the columns are linearly dependent, so they cannot be whitened: drop one of each dependent pair"
        )
    return Whitening(mean, factor)


class Whitening(Transform):
    r"""u = L^{-1} (x - m) with a lower-triangular L; it mixes columns.

    Args:
        mean: m, shape ``(d,)``.
        factor: L, shape ``(d, d)``, positive diagonal.

    >>> whitening = Whitening(torch.zeros(2), torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    >>> whitening(torch.ones(2))
    tensor([0.5000, 0.2500])
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.mean, self.factor = mean, factor

    def _call(self, x: Tensor) -> Tensor:
        centered = (x - self.mean.to(x)).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.factor.to(x), centered, upper=False).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return (self.factor.to(y) @ y.unsqueeze(-1)).squeeze(-1) + self.mean.to(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """-log det L, the same for every row."""
        return -self.factor.to(x).diagonal().log().sum().expand(x.shape[:-1])


class Logit(Transform):
    r"""u = log((x - l) / (h - x)) of every column, for values strictly inside [l, h].

    Args:
        lower: l, a number or shape ``(d,)``.
        upper: h, a number or shape ``(d,)``.

    Raises:
        ValueError: a lower end that is not below the upper.

    >>> float(Logit(0.0, 2.0)(torch.tensor([1.0]))[0])
    0.0
    """

    codomain = constraints.real_vector
    bijective = True

    def __init__(self, lower: float | Tensor, upper: float | Tensor) -> None:
        super().__init__()
        self.lower, self.upper = (torch.as_tensor(v, dtype=torch.float64) for v in (lower, upper))
        if not bool((self.lower < self.upper).all()):
            raise ValueError(f"need lower < upper, got {lower} and {upper}")

    @property
    def domain(self) -> constraints.Constraint:
        """The open interval of each column."""
        return constraints.independent(constraints.interval(self.lower, self.upper), 1)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """(lower, upper) of the columns."""
        return self.lower, self.upper

    def _call(self, x: Tensor) -> Tensor:
        return (x - self.lower.to(x)).log() - (self.upper.to(x) - x).log()

    def _inverse(self, y: Tensor) -> Tensor:
        return self.lower.to(y) + (self.upper - self.lower).to(y) * torch.sigmoid(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log (h - l) / ((x - l) (h - x)), summed over columns."""
        width = (self.upper - self.lower).to(x).log()
        return (width - (x - self.lower.to(x)).log() - (self.upper.to(x) - x).log()).sum(-1)


def logit(lower: float | Tensor, upper: float | Tensor) -> Logit:
    """The logit map of columns bounded by ``lower`` and ``upper``.

    >>> logit(0.0, 1.0)(torch.tensor([0.5]))
    tensor([0.])
    """
    return Logit(lower, upper)


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
