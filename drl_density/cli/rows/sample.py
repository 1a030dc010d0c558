"""The command ``sample``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from drl_density.cli.command import OnDevice, printed_seed
from drl_density.cli.tables import as_written, load_run, say_remarks, write_csv
from drl_density.density import DrawSettings, FittedModel, load_generator
from drl_density.errors import DataError
from drl_density.samplers import RefinementSettings


@dataclasses.dataclass
class Sample(OnDevice):
    """Draw rows from a fitted density and write them as CSV."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """Folder of a finished run."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Number of rows to draw."""
    method: Literal["progressive", "ancestral", "ddim", "predictor-corrector", "flow", "generator"] = "progressive"
    """Sampler. All but progressive are approximate; generator draws from the network that distill trained."""
    steps: int | None = None
    """Number of steps through the noise levels; for progressive, kernel steps on each conditional."""
    eta: float | None = None
    """Share of fresh noise in ddim and predictor-corrector, from 0 (deterministic) to 1 (ancestral)."""
    chain_steps: int = 0
    """Number of adjusted steps on the density itself after drawing, which correct the draws of any method."""
    seed: int | None = None
    """Seed of the draws; drawn and printed when not given."""
    out: Path | None = None
    """CSV file to write; standard output when not given."""

    def run(self) -> None:
        """Draw and write."""
        if self.num_samples < 1:
            raise DataError(f"--num-samples must be at least 1, got {self.num_samples}")
        seed = printed_seed(self.seed)
        if self.method == "generator":
            density, draws, stats = self._generated(seed)
        else:
            density = load_run(self.run_folder, self.device)
            settings = DrawSettings(self.method, self.steps, self.eta, self.chain_steps)
            found = density.draw(self.num_samples, settings=settings, seed=seed)
            draws, stats = found.draws, found.stats
        rows = as_written(draws.reshape(self.num_samples, -1).numpy(), density.columns)
        write_csv(self.out, [column.name for column in density.columns], rows)
        print(f"{self.num_samples} draws{self._origin(stats)}", file=sys.stderr)

    def _generated(self, seed: int) -> tuple[FittedModel, torch.Tensor, dict[str, torch.Tensor]]:
        if self.steps is not None or self.eta is not None:
            raise DataError("the steps of a generator were chosen by distill: leave out --steps and --eta")
        made = load_generator(self.run_folder, device=self.device)
        say_remarks(made.density)
        if not self.chain_steps:
            return made.density, made.sample(self.num_samples, seed=seed), {}
        settings = RefinementSettings(num_steps=self.chain_steps)
        found = made.correct(self.num_samples, settings=settings, seed=seed)
        return made.density, found.draws, found.stats

    def _origin(self, stats: dict[str, torch.Tensor]) -> str:
        """What a user should know about the draws."""
        said = ""
        if "acceptance_rate" in stats:
            said += f", mean acceptance {float(stats['acceptance_rate'].mean()):.2f}"
        if "r_hat" in stats:
            said += f", largest R-hat of the chains {float(stats['r_hat'].max()):.2f}"
        if self.method == "progressive" or self.chain_steps:
            return said
        whose = "a generator, not the density" if self.method == "generator" else f"{self.method}, an approximation"
        return f"{said}; from {whose}"
