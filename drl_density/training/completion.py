"""Rows with holes as training batches: the model completes them itself as it learns (an EM-like recovery likelihood).

Only the measured entries are data. Every batch first moves its rows' missing entries by adjusted steps on the model's own
density at level 0 given the measured ones (the E-step, a chain per row that is kept from visit to visit), and is then a
batch of complete rows for any objective (the M-step). At the fixed point the completions are draws of the model's
conditionals, and the gradient is that of the likelihood of the measured entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.execution import chain_passes
from drl_density.mcmc import MALA, Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.training.state import TrainingState

KEPT = "completions"


@dataclass(frozen=True)
class CompletionSettings:
    """The E-step of every batch.

    Attributes:
        num_steps: kernel steps on the missing entries.
        step_size: in units of ``scale``.
        kernel: an adjusted kernel.

    Raises:
        ValueError: an unadjusted kernel, or no steps.
    """

    num_steps: int = 5
    step_size: float = 0.7
    kernel: Kernel = field(default_factory=MALA)

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted or self.num_steps < 1:
            raise ValueError(f"need an adjusted kernel and num_steps >= 1, got {self.kernel!r} and {self.num_steps}")


class CompletedBatches:
    """A source of batches (see :class:`~drl_density.training.Batches`) over rows of which only some entries are measured.

    The completed rows are kept in ``state.drawn["completions"]``, so a run that goes on from a saved state has them and ends
    with the same bits. Each of several processes moves its own, and all go on from the first one's after an evaluation.

    Args:
        state: of the training, whose model as it stands completes the rows.
        rows: ``(n, d)`` in model space; what stands in unmeasured places plays no part.
        is_measured: ``(n, d)``, every column measured in some row, every row somewhere.
        scale: unit of the steps, ``(d,)``; the standard deviation of each column's measured entries when not given.
        settings: of the E-step.
        generator: of the first completions, drawn from each column's measured entries; unused where the state has some.

    Attributes:
        acceptance_rate: of the last E-step.

    Raises:
        DataError: shapes that differ, rows or columns never measured, or a state with the completions of other rows.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.training import new_state
    >>> model = EnergySequence(NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8, num_blocks=1)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> is_measured = torch.tensor([[True, True], [True, False], [False, True]])
    >>> batches = CompletedBatches(state, torch.tensor([[0.0, 1.0], [1.0, torch.nan], [torch.nan, 2.0]]), is_measured)
    >>> batches(4, state.generator).shape, sorted(state.drawn)
    (torch.Size([4, 2]), ['completions'])
    """

    def __init__(
        self,
        state: TrainingState,
        rows: Tensor,
        is_measured: Tensor,
        *,
        scale: Tensor | None = None,
        settings: CompletionSettings | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        event_shape = state.model.event_shape
        if rows.shape != is_measured.shape or rows.shape[1:] != event_shape or rows.ndim != 2:
            raise DataError(
                f"expected rows and masks (n, {event_shape.numel()}), got {tuple(rows.shape)} and "
                f"{tuple(is_measured.shape)}"
            )
        if not bool(is_measured.any(0).all()) or not bool(is_measured.any(1).all()):
            raise DataError("every row must have a measured entry and every column must be measured in some row")
        self.state, self.is_measured = state, is_measured
        self.settings = settings or CompletionSettings()
        spread = torch.stack([rows[seen, column].std(correction=0) for column, seen in enumerate(is_measured.T)])
        self.scale = spread if scale is None else scale
        if not bool((self.scale > 0).all()):
            raise DataError("a column has one measured value only, so its spread is unknown: give scale")
        if KEPT not in state.drawn:
            state.drawn = {**state.drawn, KEPT: _first_completions(rows, is_measured, generator)}
        elif self.rows.shape != rows.shape or not torch.equal(self.rows[is_measured], rows[is_measured]):
            raise DataError(
                f"the training state holds completions {tuple(self.rows.shape)} of other rows than these "
                f"{tuple(rows.shape)}; go on with the rows that the run began with, or from a fresh state"
            )
        self.acceptance_rate = float("nan")

    @property
    def rows(self) -> Tensor:
        """The completed rows as they stand, ``(n, d)``."""
        return self.state.drawn[KEPT].to(self.is_measured.device)

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """``num_rows`` rows drawn with ``generator``, their missing entries moved once more."""
        chosen = torch.randint(len(self.is_measured), (num_rows,), generator=generator)
        return self.complete(chosen, generator)

    def complete(self, chosen: Tensor, generator: torch.Generator | None) -> Tensor:
        """One E-step on the rows of indices ``chosen`` ``(k,)``, which are stored and returned, ``(k, d)``.

        Args:
            chosen: of a row that comes twice, the last move is stored.
            generator: source of randomness.
        """
        model, rows = self.state.model, self.rows
        given, measured = rows[chosen], self.is_measured[chosen]

        def log_density(state: Tensor) -> Tensor:
            return model.log_density(torch.where(measured, given, state), 0)

        kernel = self.settings.kernel.with_scale(self.scale)
        with _in_evaluation(model), chain_passes(model, is_adjusted=kernel.is_adjusted):
            state, acceptance, _ = take_steps(
                kernel,
                kernel.init(given, log_density),
                log_density,
                num_steps=self.settings.num_steps,
                step_size=self.settings.step_size,
                generator=generator,
            )
        self.acceptance_rate = float(acceptance.mean())
        completed = torch.where(measured, given, state.position)
        last = {row: place for place, row in enumerate(chosen.tolist())}
        rows[list(last)] = completed[list(last.values())]
        self.state.drawn[KEPT] = rows
        return completed


def _first_completions(rows: Tensor, is_measured: Tensor, generator: torch.Generator | None) -> Tensor:
    """Rows with values drawn from each column's measured entries in their holes."""
    completed = rows.clone()
    for column, seen in enumerate(is_measured.T):
        values = rows[seen, column]
        picked = torch.randint(len(values), (int((~seen).sum()),), generator=generator)
        completed[~seen, column] = values[picked]
    return completed


@contextmanager
def _in_evaluation(model: EnergySequence) -> Iterator[None]:
    """Inside, nothing is dropped out: a chain needs one density, and no noise but that of its generator."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
