"""Training batches: rows of the table, mirrored or labelled images, and rows whose missing values are redrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from drl_density.datasets import Dataset
from drl_density.datasets.dataset import RowSample, choose_rows
from drl_density.datasets.large.prefetch import Prefetched
from drl_density.density.fitting.table import ROWS_AT_ONCE, TableWithBases, TableWithMissing
from drl_density.density.settings.networks import ImageNetwork, NetworkSettings
from drl_density.errors import DataError
from drl_density.inverse_problems import move_missing
from drl_density.training import TrainingState

ImageShape = tuple[int, int, int]


class StateBatches(Protocol):
    """Batches for the training of one state."""

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor | tuple[Tensor, Tensor]:
        """Rows ``(num_rows, d)`` in model space, or rows with the places of their labels."""
        ...

    def redraw(self, state: TrainingState) -> None:
        """Redraw what the batches hold in the state; called after every evaluation."""
        ...

    def close(self) -> None:
        """Free what the batches hold; called when training ends."""
        ...


BatchSource = Callable[[TrainingState], StateBatches]
"""Makes the batches of a training state."""


def batch_source(table: TableWithBases, network: NetworkSettings, *, batch_size: int) -> BatchSource:
    """The source of training batches for a network.

    Args:
        table: Table that the rows are drawn from.
        network: Resolved settings, which may ask for labels and mirrored images.
        batch_size: Rows of one training step.

    Raises:
        DataError: Labels that the data lack or number differently; missing values together with labels or mirroring.
    """
    shape = network.shape if isinstance(network, ImageNetwork) and network.flips else None
    if isinstance(table, TableWithMissing):
        if network.num_classes or shape is not None:
            raise DataError(
                'network.num_classes and network.flips cannot be combined with missing="draw" yet; leave them out, or drop '
                'the rows with missing="drop"'
            )
        if table.dataset.stream is not None:
            return lambda state: StreamedDrawnBatches(table, state, batch_size)
        return lambda state: DrawnBatches(table, state)
    if network.num_classes:
        labelled = LabelledBatches(table, label_values(table.dataset, network.num_classes), shape)
        return lambda state: labelled
    if table.dataset.stream is not None:
        return lambda state: StreamedBatches(table, state, batch_size)
    plain = RowBatches(table, shape)
    return lambda state: plain


def label_values(dataset: Dataset, num_classes: int) -> tuple[int, ...]:
    """Distinct labels of the training rows in ascending order; the network sees their places, counted from 1.

    Raises:
        DataError: Data without labels, or with another number of them.
    """
    if dataset.labels is None:
        raise DataError(
            f"network.num_classes={num_classes} needs labels, and the data have none: give y_train with x_train in the "
            ".npz file, or leave num_classes at 0"
        )
    values = tuple(dataset.labels[0].unique().tolist())
    if len(values) != num_classes:
        shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
        raise DataError(
            f"network.num_classes={num_classes}, and the data have {len(values)} labels ({shown}): give that number"
        )
    return values


@dataclass(frozen=True)
class RowBatches:
    """Training rows in model space.

    Attributes:
        table: Table that the rows are drawn from.
        mirrored_shape: Channels, height and width of images to mirror with probability one half, else None.
    """

    table: TableWithBases
    mirrored_shape: ImageShape | None = None

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows ``(num_rows, d)``."""
        rows = self.table.batches(num_rows, generator)
        return rows if self.mirrored_shape is None else mirror(rows, self.mirrored_shape, generator=generator)

    def redraw(self, state: TrainingState) -> None:
        """Nothing to do: these batches hold no draws."""

    def close(self) -> None:
        """Nothing to do: these batches hold nothing open."""


@dataclass(frozen=True)
class LabelledBatches:
    """Training images in model space with the places of their labels, 1, 2, ...

    Attributes:
        table: Table whose data set has labels.
        values: Distinct labels in ascending order, see :func:`label_values`.
        mirrored_shape: Channels, height and width of images to mirror with probability one half, else None.
    """

    table: TableWithBases
    values: tuple[int, ...]
    mirrored_shape: ImageShape | None = None

    def __call__(self, num_rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows ``(num_rows, d)`` and the places of their labels ``(num_rows,)``.

        Raises:
            DataError: Data without labels.
        """
        data = self.table.dataset
        if data.labels is None:
            raise DataError("these batches carry labels, and the data have none")
        chosen = self.table.choose(num_rows, generator=generator)
        rows = self.table.to_model(data.train[chosen], generator=generator)
        if self.mirrored_shape is not None:
            rows = mirror(rows, self.mirrored_shape, generator=generator)
        places = torch.searchsorted(torch.tensor(self.values), data.labels[0][chosen]) + 1
        return rows, places.to(rows.device)

    def redraw(self, state: TrainingState) -> None:
        """Nothing to do: these batches hold no draws."""

    def close(self) -> None:
        """Nothing to do: these batches hold nothing open."""


@dataclass(frozen=True)
class DrawnBatches:
    """Training rows of a table with missing values, completed from draws that move with the model.

    The draws are kept in ``state.drawn["cells"]``, so that a resumed run has them.

    Attributes:
        table: Table with the first draws.
        state: Training state that holds the current draws.
    """

    table: TableWithMissing
    state: TrainingState

    def __post_init__(self) -> None:
        if "cells" not in self.state.drawn:
            self.state.drawn = {"cells": self.table.drawn}

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows ``(num_rows, d)`` completed from the current draws."""
        return self.table.completed_batches(num_rows, self.state.drawn["cells"], generator=generator)

    def redraw(self, state: TrainingState) -> None:
        """Move every draw by transitions that leave the averaged model's conditional invariant."""
        cells = state.drawn["cells"]
        state.drawn = {"cells": moved(self.table, state, self.table.dataset.train, cells, generator=state.generator)}

    def close(self) -> None:
        """Nothing to do: these batches hold nothing open."""


def moved(
    table: TableWithMissing, state: TrainingState, rows: Tensor, cells: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Draws of missing values after transitions that leave the averaged model's conditional invariant.

    Args:
        table: Table with its bases.
        state: State with the averaged model.
        rows: Rows ``(n, d)`` in data units, with NaN for missing values.
        cells: Draws ``(copies, n, d)`` in model space.
        generator: Source of the transitions.
    """
    model = state.averaged_model
    model.eval()
    law = table.bases.best.conditional(model.schedule.log_snr_at(0))
    cells = cells.clone()
    for copy in cells:
        for some in rows.isnan().any(1).nonzero().flatten().split(ROWS_AT_ONCE):
            u = table.fill(rows[some], copy[some], generator=generator)
            copy[some] = move_missing(model, law, u, rows[some].isnan(), generator=generator)
    return cells


class StreamedBatches:
    """Training rows of a table larger than memory, from samples of the table that follow one another.

    Each sample is uniform without replacement, or has weights. Batches are drawn from it with replacement, as from a table
    in memory, until they have taken as many rows as it has; the next sample is then used. So every batch is a draw of the
    training rows, uniform or by weight, in whatever order the file has them. Which sample a step uses follows from the
    number of the step alone, so a resumed run and every process of a run use the same.

    Args:
        table: Table whose data set has a stream.
        state: Training state, whose step decides the sample.
        batch_size: Rows of one step, over all processes.

    Raises:
        DataError: A data set without a stream.
    """

    def __init__(self, table: TableWithBases, state: TrainingState, batch_size: int) -> None:
        stream = table.dataset.stream
        if stream is None:
            raise DataError("these batches follow a stream, and all rows of the data are in memory")
        self.table, self.state, self.batch_size = table, state, batch_size
        self.sample_size = stream.sample_size
        self._samples = Prefetched(stream, RowSample(table.dataset.train, table.dataset.weights))

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows ``(num_rows, d)``."""
        _, (rows, weights) = self.current()
        chosen = choose_rows(len(rows), num_rows, weights, generator=generator)
        return self.table.to_model(rows[chosen], generator=generator)

    def current(self) -> tuple[int, RowSample]:
        """Number of the sample of the present step, and the sample."""
        number, used = divmod(self.state.step * self.batch_size, self.sample_size)
        sample = self._samples.sample(number)
        if used >= self.sample_size // 2:
            self._samples.prepare(number + 1)
        return number, sample

    def redraw(self, state: TrainingState) -> None:
        """Nothing to do: the sample follows from the step."""

    def close(self) -> None:
        """Stop reading in the background."""
        self._samples.close()


class StreamedDrawnBatches(StreamedBatches):
    """Training rows of a larger table with missing values: those of the current sample, completed by draws.

    The draws belong to the sample. Where a sample begins, they come from the best base and are moved once by the averaged
    model; each evaluation moves them again. They are kept in ``state.drawn`` with the number of the sample. A run that is
    resumed within it has them, and one that begins a sample again makes the same ones, since their seed is its number.

    Args:
        table: Table with missing values whose data set has a stream.
        state: Training state, whose step decides the sample.
        batch_size: Rows of one step, over all processes.
    """

    def __init__(self, table: TableWithMissing, state: TrainingState, batch_size: int) -> None:
        super().__init__(table, state, batch_size)
        self.completing = table
        if "sample" not in state.drawn:
            state.drawn = {"cells": table.drawn[:1], "sample": torch.tensor(0)}

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Rows ``(num_rows, d)`` completed from the current draws."""
        number, sample = self.current()
        cells = self._cells(number, sample.rows)
        chosen = choose_rows(len(sample.rows), num_rows, sample.weights, generator=generator)
        return self.completing.completed(sample.rows, cells, chosen, generator=generator)

    def _cells(self, number: int, rows: Tensor) -> Tensor:
        state, table = self.state, self.completing
        if int(state.drawn["sample"]) != number:
            generator = torch.Generator().manual_seed(number)
            cells = table.first_draws(table.bases.best, rows, generator=generator)[None]
            state.drawn = {
                "cells": moved(table, state, rows, cells, generator=generator),
                "sample": torch.tensor(number),
            }
        return state.drawn["cells"]

    def redraw(self, state: TrainingState) -> None:
        """Move every draw of the sample in use by transitions that leave the averaged model's conditional invariant."""
        number = int(state.drawn["sample"])
        rows = self._samples.sample(number).rows
        cells = moved(self.completing, state, rows, state.drawn["cells"], generator=state.generator)
        state.drawn = {"cells": cells, "sample": torch.tensor(number)}


def mirror(rows: Tensor, shape: ImageShape, *, generator: torch.Generator) -> Tensor:
    """Flat images ``(n, d)`` of ``shape``, each mirrored left to right with probability one half."""
    is_mirrored = torch.rand(len(rows), generator=generator, device=generator.device).to(rows.device) < 0.5
    flipped = rows.reshape(len(rows), *shape).flip(-1).reshape(rows.shape)
    return torch.where(is_mirrored[:, None], flipped, rows)
