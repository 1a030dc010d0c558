"""The command ``sample``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from drl_density.cli.output import summary
from drl_density.cli.rows.command import WritesRows, run_identity
from drl_density.cli.rows.row_groups import Finished, RowGroup, group_seed, numbered_groups
from drl_density.cli.tables import load_run, say_remarks
from drl_density.datasets.tables.coding import decode_rows
from drl_density.datasets.tables.writing import check_target
from drl_density.density import DrawSettings, FittedModel, load_generator
from drl_density.errors import DataError
from drl_density.samplers import RefinementSettings
from drl_density.samplers.importance import IN_WORDS

ROWS_AT_ONCE = 16_384
"""Draws of a group, which bounds the memory of their chains."""

Method = Literal["progressive", "ancestral", "ddim", "predictor-corrector", "flow", "short-run", "generator"]
"""Samplers by the name that the option gives them."""

Draw = Callable[[int, int], tuple[torch.Tensor, Mapping[str, torch.Tensor]]]
"""Draws and statistics of their chains, of a number of draws and a seed."""


@dataclasses.dataclass
class Sample(WritesRows):
    """Draw rows from a fitted density, with the columns, labels and types of its table."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    num_samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1000
    """Number of rows to draw."""
    method: Method | None = None
    """Sampler. By default the density's own, which is printed. Of others, only progressive follows the density."""
    steps: int | None = None
    """Steps through the noise levels; for progressive and short-run, kernel steps per level. By default the method's own."""
    eta: float | None = None
    """Fresh noise of ddim and predictor-corrector: 0 is deterministic, 1 is ancestral. By default 0 for ddim, else 1."""
    chain_steps: int = 0
    """Number of adjusted chain steps after drawing. They correct the draws of any method."""
    seed: int | None = None
    """Seed of the draws. By default one is drawn and printed."""

    def run(self) -> None:
        """Draw and write."""
        if self.num_samples < 1:
            raise DataError(f"--num-samples must be at least 1, got {self.num_samples}")
        check_target(self.out)
        seed = self.chosen_seed(self.seed)
        density, draw = self._generator() if self.method == "generator" else self._sampler()

        def work(group: RowGroup) -> Finished:
            draws, stats = draw(group.num_rows, group_seed(seed, group.index))
            figures: dict[str, Any] = {"rows": group.num_rows}
            if "acceptance_rate" in stats:
                figures["acceptance"] = float(stats["acceptance_rate"].mean())
            if "efficiency" in stats:
                figures["efficiency"] = float(stats["efficiency"].mean())
            if "r_hat" in stats:
                figures["r_hat"] = float(stats["r_hat"].max())
            return Finished({"rows": decode_rows(draws.reshape(group.num_rows, -1), density.columns)}, figures)

        job = {name: getattr(self, name) for name in ("num_samples", "method", "steps", "eta", "chain_steps")}
        job["method"] = self.method or "the density's own"
        figures = self.written(
            numbered_groups(self.num_samples, ROWS_AT_ONCE),
            work,
            job={
                **run_identity(self.run_folder),
                "--seed": seed,
                **{f"--{name.replace('_', '-')}": value for name, value in job.items()},
            },
            total=self.num_samples,
        )
        text = f"{self.num_samples} draws{self._origin(density, figures)}"
        summary(text, {"rows": self.num_samples, "seed": seed, **_joined(figures), "out": self.out})

    def _sampler(self) -> tuple[FittedModel, Draw]:
        density = load_run(self.run_folder, self.device)
        settings = DrawSettings(self.method, self.steps, self.eta, self.chain_steps)  # pyright: ignore[reportArgumentType]

        def draw(number: int, seed: int) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            found = density.draw(number, settings=settings, seed=seed)
            return found.draws, found.stats

        return density, draw

    def _generator(self) -> tuple[FittedModel, Draw]:
        if self.steps is not None or self.eta is not None:
            raise DataError("the steps of a generator were chosen by distill: leave out --steps and --eta")
        made = load_generator(self.run_folder, device=self.device)
        say_remarks(made.density)

        def draw(number: int, seed: int) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            if not self.chain_steps:
                return made.sample(number, seed=seed), {}
            found = made.correct(number, settings=RefinementSettings(num_steps=self.chain_steps), seed=seed)
            return found.draws, found.stats

        return made.density, draw

    def _origin(self, density: FittedModel, figures: Sequence[Mapping[str, Any]]) -> str:
        """What a user should know about the draws."""
        joined = _joined(figures)
        said = "".join(
            f", {words} {joined[name]:.2g}"
            for name, words in (("efficiency", "efficiency"), ("acceptance", "mean acceptance"))
            if name in joined
        )
        if "largest_r_hat" in joined:
            said += f", largest R-hat of the chains {joined['largest_r_hat']:.2f}"
        if self.method in (None, "progressive"):
            return f"{said}; by {IN_WORDS[density.plan.method if self.method is None else 'progressive']}"
        if self.chain_steps:
            return said
        whose = "a generator, not the density" if self.method == "generator" else f"{self.method}, an approximation"
        return f"{said}; from {whose}"


def _joined(figures: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Figures of all row groups together: means over rows, and the largest R-hat; those that no group has are left out."""
    found = {}
    for name in ("efficiency", "acceptance"):
        values = [(each[name], each["rows"]) for each in figures if name in each]
        if values:
            found[name] = sum(value * rows for value, rows in values) / sum(rows for _, rows in values)
    largest = [each["r_hat"] for each in figures if "r_hat" in each]
    return found | ({"largest_r_hat": max(largest)} if largest else {})
