"""Training batches of images with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.datasets import Dataset
from drl_density.density.fitting.table import Table
from drl_density.density.model_state import mirror
from drl_density.errors import DataError


def label_values(dataset: Dataset, num_classes: int) -> tuple[int, ...]:
    """The distinct labels of the training rows in ascending order; a network is told their places, counted from 1.

    Raises:
        DataError: data without labels, or with another number of them.
    """
    if dataset.labels is None:
        raise DataError(
            f"images.num_classes={num_classes} tells the network labels, and the data have none: give y_train beside "
            "x_train in the .npz file, or leave num_classes at 0"
        )
    values = tuple(dataset.labels[0].unique().tolist())
    if len(values) != num_classes:
        shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
        raise DataError(
            f"images.num_classes={num_classes}, and the data have {len(values)} labels ({shown}): say so many"
        )
    return values


@dataclass(frozen=True)
class LabelledBatches:
    """Training images in model space with the places of their labels, 1, 2, ...

    Attributes:
        table: with ``dataset.labels``.
        values: see :func:`label_values`.
        mirrored_shape: (channels, height, width) where images are mirrored with chance one half, else None.
    """

    table: Table
    values: tuple[int, ...]
    mirrored_shape: tuple[int, int, int] | None

    def __call__(self, num_rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``num_rows`` rows ``(n, d)`` and their places ``(n,)``."""
        chosen = self.table.choose(num_rows, generator)
        rows = self.table.to_model(self.table.dataset.train[chosen], generator)
        if self.mirrored_shape is not None:
            rows = mirror(rows, self.mirrored_shape, generator)
        told = torch.searchsorted(torch.tensor(self.values), self.table.dataset.labels[0][chosen]) + 1
        return rows, told.to(rows.device)
