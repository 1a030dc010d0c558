"""Gaussianisation: maps every column to N(0, 1) by the distribution function of its fitted marginal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from drl_density.transforms.data_transform import Bounds, DataTransform
from drl_density.transforms.marginals import Marginals, true_places

FARTHEST_SCORE = 1e150
"""Greatest standard normal score whose quantile is solved for: its square is still finite."""
_FAR_TAIL = -600.0
"""Log probability below which exp underflows soon (at -745) and the asymptotic series takes over."""


def log_probability_to_normal(log_lower: Tensor, log_upper: Tensor) -> Tensor:
    """Phi^{-1} of a probability whose log is ``log_lower`` and whose complement has log ``log_upper``.

    It keeps its accuracy far beyond the range of floating-point probabilities.

    >>> tails = torch.tensor([-5000.0, -0.6931471805599453], dtype=torch.float64)
    >>> log_probability_to_normal(tails, torch.log(-torch.expm1(tails)))[0] < -99
    tensor(True)
    """
    is_lower = log_lower < log_upper
    tail = torch.where(is_lower, log_lower, log_upper)
    is_far = tail < _FAR_TAIL
    value = torch.special.ndtri(tail.masked_fill(is_far, -1.0).exp())
    places = true_places(is_far)
    if places is None:
        value = torch.where(is_far, -_far_root(tail.masked_fill(~is_far, 2 * _FAR_TAIL)), value)
    elif len(places[0]):
        value = value.index_put(places, -_far_root(tail[places]))
    return torch.where(is_lower, value, -value)


def _far_root(log_tail: Tensor) -> Tensor:
    """|u| with log Phi(-|u|) = ``log_tail``: the fixed point of u^2 = v - log u^2 + 2 log(1 - 1/u^2 + 3/u^4 - ...).

    Source of the series: Abramowitz and Stegun 1964, 26.2.12.
    """
    v = -2 * log_tail - math.log(2 * math.pi)
    square = v - v.log()
    # Each round shrinks the error by 1 / u^2, which is below 1e-3 here: five leave nothing of it.
    for _ in range(5):
        series = -1 / square + 3 / square**2 - 15 / square**3 + 105 / square**4
        square = v - square.log() + 2 * torch.log1p(series)
    return square.sqrt()


class Law(Protocol):
    """Independent densities of columns, with their quantiles."""

    def quantiles(self, u: Tensor) -> Tensor:
        """The values x with F(x) = Phi(u) of standard normal scores ``u`` ``(*, d)``, float64."""
        ...

    def log_density(self, x: Tensor) -> Tensor:
        """log density of each column at values ``x`` ``(*, d)``, nats, ``(*, d)``."""
        ...


class Quantiles(torch.autograd.Function):
    """Quantiles x of standard normal scores u, whose derivative phi(u) / f(x) needs no graph of the steps to them.

    It may be differentiated any number of times, in both modes, and under vmap.
    """

    @staticmethod
    def forward(u: Tensor, law: Law, bounds: Bounds) -> Tensor:
        return bounds.nearest_inside(law.quantiles(u))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Law, Bounds], output: Tensor) -> None:
        u, ctx.law, _ = inputs
        ctx.save_for_backward(u, output)
        ctx.save_for_forward(u, output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        return grad_outputs[0] * _slope(ctx.saved_tensors, ctx.law), None, None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        return grad_inputs[0] * _slope(ctx.saved_tensors, ctx.law)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, ...], *args: Any) -> tuple[Any, int]:
        u, law, bounds = args
        return Quantiles.apply(u.movedim(in_dims[0], 0), law, bounds), 0


def _slope(pair: tuple[Tensor, Tensor], law: Law) -> Tensor:
    """dx/du = phi(u) / f(x) of a ``pair`` of standard normal scores u and their quantiles x."""
    u, x = pair
    return (log_normal(u) - law.log_density(x)).exp()


class MarginalGaussianization(DataTransform):
    r"""u_i = Phi^{-1}(F_i(x_i)) with the CDF F_i of each column's fitted marginal.

    The log-Jacobian is :math:`\sum_i \log f_i(x_i) - \log\phi(u_i)`, so N(0, I) in u is exactly the model of
    independent columns.

    Args:
        marginals: the fitted density of every column.
        names: names of the columns, used in messages; their indices when not given.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> logistic = Marginals(("linear",), zero, one, zero, one, zero[None], zero[None], one[None])
    >>> MarginalGaussianization(logistic, ["x"])(torch.tensor([[1.0]]))
    tensor([[0.6160]])
    """

    kind = "gaussianization"

    def __init__(self, marginals: Marginals, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.marginals = marginals
        self._bounds = self._declared_bounds()
        self.names = tuple(names) if names is not None else tuple(str(i) for i in range(len(marginals.coordinates)))

    @property
    def bounds(self) -> Bounds:
        """The declared ends of the columns, and their cells, outside which their marginals are zero."""
        return self._bounds

    def _declared_bounds(self) -> Bounds:
        kinds = self.marginals.coordinates
        has_lower = torch.tensor([kind in ("above", "between", "cells") for kind in kinds])
        has_upper = torch.tensor([kind in ("below", "between", "cells") for kind in kinds])
        lower = torch.where(has_lower, self.marginals.lower, -math.inf)
        return Bounds(lower, torch.where(has_upper, self.marginals.upper, math.inf), self.marginals.histograms)

    @property
    def tail_scale(self) -> Tensor:
        """Scale of the widest logistic component of each column near a bound; 0 for columns without bounds.

        Near a bound the distance to it is a power of the tail probability, whose exponent is that scale: 1 in a cell.
        """
        marginals = self.marginals
        widest = torch.where(marginals.log_weights > -math.inf, marginals.scales, 0.0).amax(1)
        for index in marginals.spikes:  # a cell may touch the bound
            widest[index] = widest[index].clamp(min=1.0)
        is_bounded = torch.tensor([kind in ("above", "below", "between", "cells") for kind in marginals.coordinates])
        return torch.where(is_bounded, widest, 0.0).double()

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The coordinates and names of the columns, and the tensors of the marginals."""
        settings = {"kind": self.kind, "coordinates": list(self.marginals.coordinates), "names": list(self.names)}
        return settings, self.marginals.tensors()

    @classmethod
    def from_state(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """The map with the coordinates and names in ``settings`` and the marginals in ``tensors``."""
        return cls(Marginals(coordinates=tuple(settings["coordinates"]), **tensors), settings["names"])

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log f_i(x_i) - log phi(u_i) of every column of ``x`` ``(*, d)``."""
        return self.with_column_log_jacobian(x)[1]

    def with_column_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and log f_i(x_i) - log phi(u_i), from one evaluation of the marginals."""
        density, below, above = self.marginals.log_parts_of(x.double())
        u = log_probability_to_normal(below, above)
        return u.to(x.dtype).contiguous(), (density - log_normal(u)).to(x.dtype)

    def with_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and the sum over the columns of log f_i(x_i) - log phi(u_i)."""
        u, slopes = self.with_column_log_jacobian(x)
        return u, slopes.sum(-1)

    def select(self, columns: Tensor) -> MarginalGaussianization:
        """The map through the marginals of some columns, given by their indices."""
        return MarginalGaussianization(self.marginals.select(columns), [self.names[i] for i in columns.tolist()])

    def marginal_log_density(self, x: Tensor) -> Tensor:
        """log density of each column of ``x`` ``(*, d)`` under its fitted marginal, nats, float64."""
        return self.marginals.log_density(x.double())

    def carry_tail(self, scale: Tensor) -> Tensor:
        """Inf for any ``scale``: growth before a quantile map is not followed."""
        return torch.full(scale.shape, math.inf, dtype=torch.float64)

    def describe(self) -> list[str]:
        """One line per column: its name, number of components and coordinate, and its frequent single values."""
        lines = []
        for index, (name, kind) in enumerate(zip(self.names, self.marginals.coordinates, strict=True)):
            if kind == "cells":
                lines.append(f"{name}: histogram of {len(self.marginals.histograms[index].values)} values")
                continue
            count = int((self.marginals.log_weights[index] > -math.inf).sum())
            line = f"{name}: {count} logistic component{'s' * (count > 1)}, {kind} coordinate"
            if index in self.marginals.spikes:
                log_shares = self.marginals.spikes[index].log_shares
                many = f"{len(log_shares)} single value{'s' * (len(log_shares) > 1)}"
                line = f"{line}, beside {many} with {100 * float(log_shares.exp().sum()):.1f} % of the rows"
            lines.append(line)
        return lines

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the columns of log f_i(x_i) - log phi(u_i)."""
        return (self.marginal_log_density(x) - log_normal(y)).sum(-1).to(x.dtype)

    def _call(self, x: Tensor) -> Tensor:
        _, below, above = self.marginals.log_parts_of(x.double())
        return log_probability_to_normal(below, above).to(x.dtype).contiguous()

    def _inverse(self, y: Tensor) -> Tensor:
        x: Any = Quantiles.apply(y.double().clamp(-FARTHEST_SCORE, FARTHEST_SCORE), self.marginals, self._bounds)
        return x if y.dtype == x.dtype else self._bounds.nearest_inside(x.to(y.dtype))


def log_normal(u: Tensor) -> Tensor:
    """log phi(u), float64."""
    return -0.5 * u.double().square() - 0.5 * math.log(2 * math.pi)
