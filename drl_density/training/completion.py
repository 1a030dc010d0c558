"""Rows with holes as training batches: the model completes them itself as it learns (an EM-like recovery likelihood).

Only the measured entries are data. Every batch first moves its rows' missing entries by adjusted steps on the model's own
density at level 0 given the measured ones (the E-step, a chain per row that is kept from visit to visit), and is then a
batch of complete rows for any objective (the M-step). At the fixed point the completions are draws of the model's
conditionals, and the gradient is that of the likelihood of the measured entries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.errors import DataError
from drl_density.mcmc import MALA, Kernel
from drl_density.model import EnergySequence


@dataclass(frozen=True)
class CompletionSettings:
    """The E-step of every batch.

    Attributes:
        num_steps: kernel steps on the missing entries.
        step_size: in units of ``scale``.
        kernel: an adjusted kernel.
    """

    num_steps: int = 5
    step_size: float = 0.7
    kernel: Kernel = field(default_factory=MALA)

    def __post_init__(self) -> None:
        if not self.kernel.is_adjusted or self.num_steps < 1:
            raise ValueError(f"need an adjusted kernel and num_steps >= 1, got {self.kernel!r} and {self.num_steps}")


class CompletedBatches:
    """A source of batches (see :class:`~drl_density.training.Batches`) over rows of which only some entries are measured.

    Args:
        model: the sequence being trained, whose present weights complete the rows.
        rows: ``(n, d)`` in model space; what stands in unmeasured places plays no part.
        is_measured: ``(n, d)``, every column measured in some row, every row somewhere.
        scale: unit of the steps, ``(d,)``; the standard deviation of each column's measured entries when not given.
        settings: of the E-step.
        generator: of the first completions, drawn from each column's measured entries.

    Attributes:
        rows: the completed rows as they stand.
        acceptance_rate: of the last E-step.

    Raises:
        DataError: shapes that differ, rows or columns never measured.
    """

    def __init__(
        self,
        model: EnergySequence,
        rows: Tensor,
        is_measured: Tensor,
        *,
        scale: Tensor | None = None,
        settings: CompletionSettings | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if rows.shape != is_measured.shape or rows.shape[1:] != model.event_shape or rows.ndim != 2:
            raise DataError(
                f"expected rows and masks (n, {model.event_shape.numel()}), got {tuple(rows.shape)} and "
                f"{tuple(is_measured.shape)}"
            )
        if not bool(is_measured.any(0).all()) or not bool(is_measured.any(1).all()):
            raise DataError("every row must have a measured entry and every column must be measured in some row")
        self.model, self.is_measured = model, is_measured
        self.settings = settings or CompletionSettings()
        self.rows, found = rows.clone(), []
        for column, seen in enumerate(is_measured.T):
            values = rows[seen, column]
            found.append(values.std(correction=0))
            picked = torch.randint(len(values), (int((~seen).sum()),), generator=generator)
            self.rows[~seen, column] = values[picked]
        self.scale = torch.stack(found) if scale is None else scale
        if not bool((self.scale > 0).all()):
            raise DataError("a column has one measured value only, so its spread is unknown: give scale")
        self.acceptance_rate = float("nan")

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """``num_rows`` rows drawn with ``generator``, their missing entries moved once more."""
        chosen = torch.randint(len(self.rows), (num_rows,), generator=generator)
        return self.complete(chosen, generator)

    def complete(self, chosen: Tensor, generator: torch.Generator | None) -> Tensor:
        """One E-step on the rows ``chosen``, which are stored and returned."""
        given, measured = self.rows[chosen], self.is_measured[chosen]

        def log_density(state: Tensor) -> Tensor:
            return self.model.log_density(torch.where(measured, given, state), 0)

        kernel = dataclasses.replace(self.settings.kernel, scale=self.scale)
        state, rate = kernel.init(given, log_density), 0.0
        for _ in range(self.settings.num_steps):
            state, info = kernel.step(state, log_density, self.settings.step_size, generator)
            rate += float(info.acceptance_probability.mean()) / self.settings.num_steps
        self.acceptance_rate = rate
        completed = torch.where(measured, given, state.position.detach())
        self.rows[chosen] = completed
        return completed
