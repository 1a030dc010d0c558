"""The contract of every map from data to model space: bounds, column-wise Jacobian, tail scale and state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import Transform

from drl_density.errors import DataError
from drl_density.records.brief import brief
from drl_density.transforms.marginals import Histogram


@dataclass(frozen=True, eq=False)
class Bounds:
    """The part of data space outside which a density is zero: an open box, less the gaps between cells.

    Unpacking gives the lower and the upper ends.

    Attributes:
        lower: least value of every column, ``(d,)`` or one number for all; -inf where there is none.
        upper: greatest value of every column, likewise; inf where there is none.
        cells: histogram of every column with a closed support, by its index.

    >>> bounds = Bounds(torch.tensor([0.0, -math.inf]), torch.tensor([1.0, math.inf]))
    >>> bounds.contains(torch.tensor([[0.5, 9.0], [1.5, 9.0]])).tolist()
    [True, False]
    """

    lower: Tensor
    upper: Tensor
    cells: Mapping[int, Histogram] = field(default_factory=dict)

    __repr__ = brief

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.lower, self.upper))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bounds):
            return NotImplemented
        if self.cells.keys() != other.cells.keys():
            return False
        twins = [(own, other.cells[index]) for index, own in self.cells.items()]
        if any(own.width != twin.width for own, twin in twins):
            return False
        pairs = [*zip(self, other, strict=True), *((own.values, twin.values) for own, twin in twins)]
        return all(one.shape == two.shape and bool((one == two.to(one)).all()) for one, two in pairs)

    __hash__ = None  # pyright: ignore[reportAssignmentType] tensors have no hash by value

    @classmethod
    def unbounded(cls, like: Tensor) -> Bounds:
        """The whole space, with as many columns as ``like`` ``(d,)`` or ``()`` has entries.

        >>> Bounds.unbounded(torch.zeros(2)).upper
        tensor([inf, inf], dtype=torch.float64)
        """
        upper = torch.full(like.shape, math.inf, dtype=torch.float64)
        return cls(-upper, upper)

    def are_inside(self, x: Tensor) -> Tensor:
        """Whether each value of rows ``x`` ``(*, d)`` lies inside the bounds of its column, ``(*, d)``."""
        x = x.double()  # ends rounded to float32 would admit other values
        is_inside = (x > self.lower.to(x)) & (x < self.upper.to(x))
        if not self.cells:
            return is_inside
        parts = list(is_inside.unbind(-1))
        for index, histogram in self.cells.items():
            parts[index] = parts[index] & histogram.contains(x[..., index])
        return torch.stack(parts, -1)

    def nearest_inside(self, x: Tensor) -> Tensor:
        """Rows ``x`` ``(*, d)`` with every value moved to the nearest number of their type inside the bounds; NaN stays.

        Values keep a distance from an end at 0, and from infinity, at which derivatives do not overflow.

        >>> Bounds(torch.zeros(1), torch.ones(1)).nearest_inside(torch.tensor([[0.5], [1.0]])).tolist()
        [[0.5], [0.9999999403953552]]
        """
        lower, upper = (end.to(x.device, torch.float64).expand(x.shape) for end in self)
        finite = torch.finfo(x.dtype)
        least = finite.tiny / finite.eps
        low = torch.nextafter(lower, upper).maximum(lower + least).clamp(min=-finite.max / 4)
        high = torch.nextafter(upper, lower).minimum(upper - least).clamp(max=finite.max / 4)
        if self.cells:
            ends = [list(end.unbind(-1)) for end in (low, high)]
            for index, histogram in self.cells.items():
                cell = histogram.ends_around(x[..., index])
                for side, end in enumerate(cell):
                    ends[side][index] = end.clamp(low[..., index], high[..., index])
            low, high = (torch.stack(columns, -1) for columns in ends)
        return x.clamp(_rounded_up(low, x), -_rounded_up(-high, x))

    def contains(self, x: Tensor) -> Tensor:
        """Whether each row of ``x`` ``(*, d)`` lies strictly inside in every column, ``(*,)``."""
        return self.are_inside(x).all(-1)

    def select(self, columns: Tensor | int) -> Bounds:
        """The bounds of some columns, chosen by an index, a tensor of indices or a boolean mask in ``columns``.

        >>> Bounds(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0])).select(1).upper
        tensor(2.)
        """
        if not self.lower.ndim:
            return self
        chosen = torch.arange(len(self.lower))[columns].reshape(-1).tolist()
        cells = {place: self.cells[index] for place, index in enumerate(chosen) if index in self.cells}
        return Bounds(self.lower[columns], self.upper[columns], cells)

    def expand(self, num_features: int) -> Bounds:
        """The same bounds with one entry per column, ``(num_features,)`` each."""
        return Bounds(self.lower.expand(num_features), self.upper.expand(num_features), self.cells)


def _rounded_up(ends: Tensor, like: Tensor) -> Tensor:
    """The least numbers of the type of ``like`` that are not below the float64 numbers ``ends``."""
    rounded = ends.to(like)
    return torch.where(rounded.double() < ends, torch.nextafter(rounded, torch.full_like(rounded, math.inf)), rounded)


if TYPE_CHECKING:

    class Inverse(Transform):
        """The inverse of a transform, with the result's type, which torch leaves open."""

        def __call__(self, x: Tensor) -> Tensor: ...


class DataTransform(Transform, ABC):
    r"""An invertible map u = T(x) from data to model space over row vectors, with all that a density needs of it.

    A subclass defines the abstract members, and is read back by :func:`transform_from_state`. One that maps every
    column by itself also defines :meth:`column_log_jacobian` and :meth:`select`, which raise an error here.

    >>> from drl_density.transforms import Logit
    >>> isinstance(Logit(0.0, 1.0), DataTransform), Logit(0.0, 1.0).bounds.upper
    (True, tensor(1., dtype=torch.float64))
    """

    kind: ClassVar[str]
    """Name under which the transform is saved and described."""
    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    if TYPE_CHECKING:

        @property
        def inv(self) -> Inverse: ...

        def __call__(self, x: Tensor) -> Tensor: ...

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """The box of data space that maps to finite values."""

    @property
    @abstractmethod
    def tail_scale(self) -> Tensor:
        r"""Growth s of the Jacobian of each column, :math:`|du/dx| \approx \exp(s u^2 / 2)`, ``(d,)`` or ``()``.

        It is 0 where the Jacobian grows at most exponentially in u, and inf where no growth is known.
        """

    @abstractmethod
    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Plain values, among them ``kind``, and tensors from which ``transform_from_state`` builds the same map."""

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """log |du_i / dx_i| of every column of rows ``x`` ``(*, d)``; its sum is ``log_abs_det_jacobian``.

        Raises:
            DataError: for a transform that mixes columns, under which one column has no derivative of its own.
        """
        raise DataError(
            f"{type(self).__name__} mixes columns, so columns of the data cannot be conditioned on one by one; fit with "
            'transform "gaussianize" or "standardize"'
        )

    def single_column(self, index: int) -> DataTransform:
        """The map of column ``index`` alone, over vectors of length 1.

        Raises:
            DataError: for a transform that mixes columns.
        """
        return self.select(torch.tensor([index]))

    def select(self, columns: Tensor) -> DataTransform:
        """The map of some columns alone, over vectors of these.

        Args:
            columns: indices of the columns.

        Raises:
            DataError: for a transform that mixes columns.
        """
        shown = ", ".join(map(str, columns.tolist()))
        raise DataError(f"{type(self).__name__} mixes columns, so column {shown} has no map of its own")

    def marginal_log_density(self, x: Tensor) -> Tensor | None:
        """log density of each column of ``x`` ``(*, d)`` under the marginals that the transform holds, or None."""
        return None

    def pull_back(self, image: Bounds) -> Bounds:
        """The box of data space that the map takes into the box ``image`` of model space.

        The implementation here is for maps that increase in every column.

        Raises:
            DataError: an ``image`` with cells, which keep their widths under no other than an affine map.
        """
        if image.cells:
            raise DataError("a histogram of cells must be the first of several transforms, or follow affine ones")
        own = self.bounds
        return Bounds(self._end(own.lower, image.lower), self._end(own.upper, image.upper), own.cells)

    def _end(self, own: Tensor, end: Tensor) -> Tensor:
        """The value that maps to ``end``, and the map's ``own`` end where ``end`` is infinite."""
        own, end = torch.broadcast_tensors(own, end.double())
        return torch.where(end.isinf(), own, self.inv(end.masked_fill(end.isinf(), 0.0)))

    def carry_tail(self, scale: Tensor) -> Tensor:
        """Tail scale in this map's output of a Jacobian that has tail scale ``scale`` in its input.

        Only growth that is at most exponential is followed here: a Gaussian growth becomes inf, that is unknown.
        """
        return torch.where(scale > 0, math.inf, 0.0).double()

    @abstractmethod
    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log |det dT/dx| of rows ``x`` ``(*, d)`` with images ``y``, ``(*,)``."""

    def with_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image u ``(*, d)`` of rows ``x`` ``(*, d)`` and log |det dT/dx| ``(*,)``, at the cost of one evaluation.

        >>> from drl_density.transforms import Affine
        >>> Affine(1.0, 2.0).with_log_jacobian(torch.zeros(1, 3))
        (tensor([[1., 1., 1.]]), tensor([2.0794], dtype=torch.float64))
        """
        u = self(x)
        return u, self.log_abs_det_jacobian(x, u)

    def with_column_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image u of rows ``x`` and log |du_i / dx_i| of every column, each ``(*, d)``, at the cost of one evaluation.

        Raises:
            DataError: for a transform that mixes columns.
        """
        return self(x), self.column_log_jacobian(x)

    def describe(self) -> list[str]:
        """Lines for a reader that name what happens to the columns."""
        return [f"all columns: {self.kind}"]
