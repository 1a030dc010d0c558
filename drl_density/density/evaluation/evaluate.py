"""``Density.evaluate``: test likelihoods with the interval of log Z, as one labelled tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from drl_density import __version__
from drl_density.datasets.column import MOST_SHOWN
from drl_density.density.evaluation.likelihood import FORMAT
from drl_density.density.evaluation.likelihood_report import LikelihoodReport
from drl_density.density.evaluation.sections.draws import ReportDraws
from drl_density.density.evaluation.sections.fit_facts import FitFacts
from drl_density.density.evaluation.sections.live_line import LiveLine
from drl_density.density.evaluation.sections.log_z import LogZ
from drl_density.density.evaluation.sections.other_densities import score_other_densities
from drl_density.density.evaluation.sections.reference_gain import ReferenceGain
from drl_density.density.evaluation.sections.report_chains import run_report_chains
from drl_density.density.evaluation.sections.scored_rows import ScoredRows
from drl_density.density.fitted import FittedModel, dequantized_rows
from drl_density.density.seeds import random_generator
from drl_density.errors import DataError
from drl_density.partition_function import Progress, SandwichSettings, sequence_sandwich
from drl_density.records.given import given_or_default

if TYPE_CHECKING:
    import xarray as xr

NUM_CHAIN_STEPS = 1000
"""Steps of the long chains, enough to see autocorrelation times of up to 100 steps."""


class Section(Protocol):
    """One part of a report."""

    def groups(self) -> dict[str, xr.Dataset]:
        """Its groups of the tree, by name."""
        ...

    def attributes(self) -> dict[str, str | float]:
        """Its scalars, by name."""
        ...


def _check_inside(density: FittedModel, rows: Tensor) -> None:
    """Raise a DataError for the first row that has density 0, where no chain can start."""
    bad = (~density.bounds.are_inside(rows)).nonzero()
    if len(bad):
        row, index = bad[0].tolist()
        column = density.columns[index]
        lower, upper = (float(end[index]) for end in density.bounds)
        fault = f"lies outside the bounds of the density ({lower:g} to {upper:g})"
        if column.is_closed:
            fault = (
                f"is none of the permitted values ({', '.join(f'{value:g}' for value in column.values[:MOST_SHOWN])})"
            )
        raise DataError(
            f"row {row}: {float(rows[row, index]):g} of column {column.name!r} {fault}, so its density is 0 and the mean "
            "log likelihood minus infinity: leave such rows out, or fit with wider bounds or more values"
        )


def evaluate(
    density: FittedModel,
    x: Any,
    *,
    settings: SandwichSettings | None = None,
    start_rows: Any = None,
    num_chain_steps: int = NUM_CHAIN_STEPS,
    generator: torch.Generator | None = None,
    seed: int | None = None,
    progress: bool = False,
) -> LikelihoodReport:
    """See :meth:`drl_density.density.Density.evaluate`; ``seed`` makes the generator when none is given, and is recorded."""
    import xarray as xr

    settings = given_or_default(settings, SandwichSettings)
    generator = random_generator(seed) if generator is None else generator
    rows, widths = dequantized_rows(density, x, generator=generator)
    source = rows if start_rows is None else dequantized_rows(density, start_rows, generator=generator)[0]
    _check_inside(density, rows)
    _check_inside(density, source)
    u_start = density.to_states(source)
    line = LiveLine(is_shown=progress)
    result = sequence_sandwich(density.model, data=u_start, settings=settings, generator=generator, watch=line)
    line(Progress("long chains", 0, 1, result.log_z, result.standard_error, line.ess))
    chains = run_report_chains(density, u_start, num_steps=num_chain_steps, generator=generator)
    line(Progress("other densities", 0, 1, result.log_z, result.standard_error, line.ess))
    log_likelihood = density.log_density_of(rows) + density.estimate.log_z - result.log_z
    scored = ScoredRows(density, rows, widths, log_likelihood, result.log_z)
    others = score_other_densities(scored, num_particles=settings.num_particles, generator=generator)
    line.close()
    gain = ReferenceGain(density, rows, log_likelihood if density.model.is_base_alone else None)
    sections: tuple[Section, ...] = (scored, chains, LogZ(result, settings), others, gain, FitFacts(density))
    sections = (*sections, ReportDraws(density))
    tree = xr.DataTree.from_dict({name: group for section in sections for name, group in section.groups().items()})
    for section in sections:
        tree.attrs |= section.attributes()
    tree.attrs |= {
        "format": FORMAT,
        "seed": "fresh" if seed is None else seed,
        "units": "nats",
        "inference_library": "drl_density",
        "inference_library_version": __version__,
    }
    return LikelihoodReport(tree)
