"""Several transforms applied one after the other, as one transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from drl_density.transforms.data_transform import Bounds, DataTransform


class Composed(DataTransform):
    """Transforms applied in order, with the bounds, Jacobian and tail scale of the whole.

    Args:
        parts: at least one transform, the first of which acts on the data.

    Raises:
        ValueError: no parts at all.
        TypeError: a part that is no :class:`DataTransform`.

    >>> from drl_density.transforms import Affine, Logit
    >>> transform = Composed([Logit(0.0, 2.0), Affine(0.0, 3.0)])
    >>> transform.bounds.upper, transform.column_log_jacobian(torch.ones(1, 1)).exp()
    (tensor(2., dtype=torch.float64), tensor([[6.]]))
    """

    kind = "composed"

    def __init__(self, parts: Sequence[DataTransform]) -> None:
        super().__init__()
        if not parts:
            raise ValueError("expected at least one transform to compose")
        for part in parts:
            if not isinstance(part, DataTransform):
                raise TypeError(f"expected transforms of this package (DataTransform), got {type(part).__name__}")
        self.parts = tuple(parts)
        self.domain = self.parts[0].domain

    @property
    def bounds(self) -> Bounds:
        """The box of data space that every part maps to finite values."""
        box = self.parts[-1].bounds
        for part in reversed(self.parts[:-1]):
            box = part.pull_back(box)
        return box

    @property
    def tail_scale(self) -> Tensor:
        """Sum of the parts' tail scales, each carried through the parts after it."""
        total = self.parts[0].tail_scale
        for part in self.parts[1:]:
            total = part.carry_tail(total) + part.tail_scale
        return total

    def to_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The states of the parts, whose tensors carry the index of their part as a prefix."""
        settings: list[dict[str, Any]] = []
        tensors: dict[str, Tensor] = {}
        for index, part in enumerate(self.parts):
            values, own = part.to_state()
            settings.append(values)
            tensors |= {f"{index}.{name}": value for name, value in own.items()}
        return {"kind": self.kind, "parts": settings}, tensors

    def column_log_jacobian(self, x: Tensor) -> Tensor:
        """Sum over the parts of the logs for rows ``x`` ``(*, d)``, each at the values that reach the part."""
        return self.with_column_log_jacobian(x)[1]

    def with_column_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and the sum over the parts of the logs, from one evaluation of every part."""
        total = torch.zeros_like(x)
        for part in self.parts:
            x, slopes = part.with_column_log_jacobian(x)
            total = total + slopes
        return x, total

    def with_log_jacobian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image of ``x`` ``(*, d)`` and the sum over the parts, ``(*,)``, from one evaluation of every part."""
        x, total = self.parts[0].with_log_jacobian(x)
        for part in self.parts[1:]:
            x, value = part.with_log_jacobian(x)
            total = total + value
        return x, total

    def select(self, columns: Tensor) -> Composed:
        """The parts' maps of some columns, given by their indices, composed."""
        return Composed([part.select(columns) for part in self.parts])

    def pull_back(self, image: Bounds) -> Bounds:
        """The box ``image`` pulled back through every part, the last one first."""
        for part in reversed(self.parts):
            image = part.pull_back(image)
        return image

    def carry_tail(self, scale: Tensor) -> Tensor:
        """The tail ``scale`` carried through every part, the first one first."""
        for part in self.parts:
            scale = part.carry_tail(scale)
        return scale

    def describe(self) -> list[str]:
        """One line with the kinds of the parts in order."""
        return [f"all columns: {', then '.join(part.kind for part in self.parts)}"]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum over the parts, ``(*,)``."""
        total: Tensor | None = None
        for index, part in enumerate(self.parts):
            after = y if index == len(self.parts) - 1 else part(x)
            value = part.log_abs_det_jacobian(x, after)
            total, x = value if total is None else total + value, after
        assert total is not None  # there is at least one part
        return total

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part.inv(y)
        return self.bounds.nearest_inside(y)
