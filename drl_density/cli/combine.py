"""The command on several fits at once: ``combine``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from drl_density.cli.command import OnDevice, printed_seed, refuse_two_results
from drl_density.cli.output import note, summary
from drl_density.cli.tables import load_run
from drl_density.datasets.tables.coding import decode_rows
from drl_density.datasets.tables.writing import check_target, write_table
from drl_density.density import combine


@dataclasses.dataclass
class Combine(OnDevice):
    """Draw from a product, a power or a mixture of fitted densities and write the rows.

    Fits need the same columns, labels and bounds. They are combined in data units, so transforms and levels may differ.
    Combinations without a known finite integral are refused: the weights of a product, divided by the temperature, must sum
    to 1 or more.
    """

    run_folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of finished runs of the same columns."""
    how: Literal["product", "mixture"] = "product"
    """A product is high where all densities are, and a mixture is high where any of them is."""
    weights: tuple[float, ...] = ()
    """One weight for each run: powers of a product, or shares of a mixture. By default 1 each."""
    temperature: float = 1.0
    """Temperature T. The result is raised to the power 1 / T, which is sharper for T below 1."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Number of rows to draw."""
    seed: int | None = None
    """Seed of the draws. By default one is drawn and printed."""
    out: Path | None = None
    """File to write: .csv, .tsv, .csv.gz, .tsv.gz or .parquet. By default CSV on standard output."""

    def check(self) -> None:
        """Refuse impossible options, and ``--json`` without a file for the rows."""
        super().check()
        refuse_two_results(json=self.json, out=self.out)

    def run(self) -> None:
        """Draw, write, and print diagnostics."""
        check_target(self.out)
        seed = printed_seed(self.seed)
        densities = [load_run(folder, self.device) for folder in self.run_folders]
        found = combine(
            densities,
            how=self.how,
            weights=self.weights or None,
            temperature=self.temperature,
            num_samples=self.num_samples,
            seed=seed,
        )
        write_table(self.out, [decode_rows(found.draws.reshape(self.num_samples, -1), found.columns)])
        values = {"rows": self.num_samples, "how": self.how, "runs": self.run_folders, "seed": seed, "out": self.out}
        values |= {"is_doubtful": found.is_doubtful, "summary": found.summary()}
        summary(f"{self.num_samples} draws of a {self.how} of {len(densities)}\n{found.summary()}", values)
        if found.is_doubtful:
            note(
                "note: these draws are doubtful. Where R-hat alone is high, chains stay in their modes, whose shares "
                "rest on the weighted particles: see the error of the integral"
            )
