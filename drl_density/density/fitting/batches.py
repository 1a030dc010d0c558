"""Training batches of images with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.datasets import Dataset
from drl_density.density.fitting.table import Table
from drl_density.errors import DataError
from drl_density.inverse_problems import move_missing
from drl_density.model import EnergySequence
from drl_density.training import TrainingState


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


_Draw = Callable[[int, torch.Generator], Tensor]


def mirrored(draw: _Draw, shape: tuple[int, int, int]) -> _Draw:
    """Rows of ``draw`` with each image mirrored left to right with chance one half."""

    def batches(num_rows: int, generator: torch.Generator) -> Tensor:
        return mirror(draw(num_rows, generator), shape, generator)

    return batches


def mirror(rows: Tensor, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Flat images ``(n, d)`` mirrored left to right with chance one half."""
    chosen = torch.rand(len(rows), generator=generator, device=generator.device).to(rows.device) < 0.5
    flipped = rows.reshape(len(rows), *shape).flip(-1).reshape(rows.shape)
    return torch.where(chosen[:, None], flipped, rows)


@dataclass(frozen=True)
class DrawnBatches:
    """Training batches of a table with holes, and the renewal of the draws that stand in them.

    The draws are kept in ``state.drawn["cells"]``, so a run that goes on from a saved state has them.
    """

    table: Table
    state: TrainingState

    def __post_init__(self) -> None:
        if "cells" not in self.state.drawn:
            self.state.drawn = {"cells": self.table.drawn}

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows with the present draws in their holes."""
        return self.table.batches(num_rows, generator, self.state.drawn["cells"])

    def redraw(self, state: TrainingState) -> None:
        """Move every draw on, under the averaged model."""
        table, train = self.table, self.table.dataset.train
        has_holes = train.isnan().any(1)
        rows = train[has_holes]
        model: EnergySequence = state.averaged_model
        model.eval()
        law = table.bases.best.conditional(model.schedule.log_snr_at(0))
        cells = state.drawn["cells"].clone()
        for copy in cells:
            u = table.with_holes(rows, copy[has_holes], state.generator)
            copy[has_holes] = move_missing(model, law, u, rows.isnan(), generator=state.generator)
        state.drawn = {"cells": cells}
