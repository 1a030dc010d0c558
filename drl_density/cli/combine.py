"""The command on several fits at once: ``combine``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from drl_density.cli.command import OnDevice
from drl_density.cli.tables import as_written, load_run, write_csv
from drl_density.density import combine


@dataclasses.dataclass
class Combine(OnDevice):
    """Draw from a product, a power or a mixture of fitted densities and write the rows as CSV.

    Fits need the same columns, labels and bounds; they are combined in data units, so transforms and levels may differ. What
    is not known to have a finite integral is refused: weights of a product over temperature must sum to 1 or more.
    """

    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of finished runs of the same columns."""
    how: Literal["product", "mixture"] = "product"
    """Product: all agree. Mixture: any of them, by its weight."""
    weights: tuple[float, ...] = ()
    """One per run: powers of a product, shares of a mixture; 1 each when not given."""
    temperature: float = 1.0
    """The result to the power of 1 / temperature: below 1 sharper, above 1 flatter."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Rows to draw."""
    seed: int = 0
    """Of the draws."""
    out: Path | None = None
    """CSV file; standard output when not given."""

    def run(self) -> None:
        """Draw, write, and say how far the draws are to be believed."""
        densities = [load_run(folder, self.device) for folder in self.run_folders]
        found = combine(
            densities,
            how=self.how,
            weights=self.weights or None,
            temperature=self.temperature,
            num_samples=self.n,
            seed=self.seed,
        )
        rows = as_written(found.draws.reshape(self.n, -1).numpy(), found.columns)
        write_csv(self.out, [column.name for column in found.columns], rows)
        print(f"{self.n} draws of a {self.how} of {len(densities)}\n{found.summary()}", file=sys.stderr)
        if found.is_doubtful:
            print(
                "note: these draws are doubtful. Where R-hat alone is high, chains stay in their modes, whose shares "
                "rest on the weighted particles: see the error of the integral",
                file=sys.stderr,
            )
