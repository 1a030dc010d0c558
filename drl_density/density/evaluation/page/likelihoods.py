"""The likelihood of the rows: beside rivals, over the reference, and step by step from rows to bits."""

from __future__ import annotations

import math

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.density.evaluation.page.checks import has_chains
from drl_density.plots import plot_rivals
from drl_density.records.html import ends_in_words
from drl_density.reports import ReportPanel, ReportSection, ReportTable

OURS = "this density"
NOTHING = 5e-5
"""Nats below which a gain prints as 0: networks compute in float32."""


def rivals_section(report: Likelihood) -> ReportSection:
    """Likelihood beside simple densities: on validation rows as the fit saw them, and on the rows of the report."""
    attributes = report.tree.attrs
    names = {"model": OURS, "gaussian": "one Gaussian", "independent": "independent columns"}
    validation = {text: float(attributes[f"validation_{name}"]) for name, text in names.items()}
    best = max((value, name) for name, value in validation.items() if name != OURS)
    ahead = validation[OURS] - best[0]
    words = f"On validation rows this density is {abs(ahead):.2f} nats {'above' if ahead >= 0 else 'BELOW'} {best[1]}."
    panel = ReportPanel(
        plot_rivals({name: (value, math.nan) for name, value in validation.items()}),
        "Mean log-likelihood on validation rows: "
        + ", ".join(f"{name} {value:.2f}" for name, value in validation.items())
        + " nats per row.",
        "Mean log-likelihood on validation rows.",
        "Further right is better.",
    )
    return ReportSection(
        "Likelihood beside rivals",
        (words,),
        panels=(panel,),
        tables=(*_whole_numbers(report), _likelihoods(report)),
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not known"


def _whole_numbers(report: Likelihood) -> tuple[ReportTable, ...]:
    """Bits per dimension with every term, for whole numbers of one range such as pixels; nothing for other rows."""
    if not report.tree.attrs["declared_range"]:
        return ()
    bits = report.bits()
    lower, upper = bits.interval()
    rows = [(name, f"{value:+.4f}") for name, value in bits.terms]
    rows.append(("bits per dimension", f"{bits.value:.4f}"))
    rows.append(("its interval by log Z", ends_in_words(lower, upper, digits=4)))
    rows.append(("its standard error over rows", f"{bits.sampling_error:.4f}"))
    low, high = bits.value_range
    note = f"A code for these {bits.num_features} numbers from {low} to {high} needs at most so many bits for each of them."
    return (ReportTable("Bits per dimension", ("term", "bits"), tuple(rows), note),)


def _likelihoods(report: Likelihood) -> ReportTable:
    names, means = (report.values("other_densities", name) for name in ("density", "mean_log_likelihood"))
    left_out = str(report.tree.children["other_densities"].attrs["left_out"])
    others = (
        " The other densities share the model's scores or constants but not its normaliser; they are printed next to the "
        "interval and never inside it."
    )
    own = "energy-based model" if has_chains(report) else "this density"
    ends = (report.mean_log_likelihood, report.mean_log_likelihood_lower, report.mean_log_likelihood_upper)
    return ReportTable(
        "Likelihood of these rows",
        ("density", "nats per row", "low end", "high end", "error over rows"),
        (
            (own, *(_number(value) for value in (*ends, report.sampling_error))),
            *((str(name), f"{float(mean):.4f}", "-", "-", "-") for name, mean in zip(names, means, strict=True)),
        ),
        f"{report.bits_per_dim:.4f} bits per column.{others if len(names) else ''}"
        + (f" {left_out}" if left_out else ""),
    )


def gain_section(report: Likelihood) -> tuple[ReportSection, ...]:
    """What the density gains over its own reference, and what each stage of the fit brought; nothing without a reference."""
    tables = _stages(report)
    if not tables:
        return ()
    words, gain = [], report.gain_over_reference
    if gain is None and "reference" in report.tree.children:
        words.append("log Z is unknown, so the gain of the density on these rows is not known either.")
    if gain is not None:
        low, high = gain.interval()
        words.append(
            "The density is its own reference here: the gain is 0."
            if max(abs(gain.log_z), gain.standard_error) < NOTHING
            else f"On these rows the density scores {abs(gain.log_z):.3f} nats per row "
            f"{'more' if gain.log_z > 0 else 'less'} than its own untouched reference: {gain.log_z:+.3f}, between "
            f"{low:+.3f} and {high:+.3f} (95 %, paired)."
        )
    return (ReportSection("Gain over the reference", tuple(words), tables=tables),)


def _stages(report: Likelihood) -> tuple[ReportTable, ...]:
    """What each stage of the fit brought; nothing for a model without a reference."""
    gain, rows = report.gain_over_reference, []
    if "stages" in report.tree.children:
        names = ("stage", "validation", "gain", "gain_error", "is_kept")
        for name, value, gained, error, is_kept in zip(*(report.values("stages", each) for each in names), strict=True):
            is_first = name == "reference"
            found = ("-", "-") if is_first else (f"{gained:+z.4f}", f"{error:.4f}")
            rows.append((f"{name}, on validation", f"{value:.4f}", *found, "kept" if is_kept else "not kept"))
    if gain is not None:
        mean, error = report.mean_log_likelihood, gain.standard_error
        better = "better than the reference" if gain.log_z > max(error, NOTHING) else "within its error"
        judged = "worse than the reference" if gain.log_z < -max(error, NOTHING) else better
        rows.append(("reference, on these rows", f"{mean - gain.log_z:.4f}", "-", "-", "-"))
        rows.append(("density, on these rows", f"{mean:.4f}", f"{gain.log_z:+z.4f}", f"{error:.4f}", judged))
    if not rows:
        return ()
    return (
        ReportTable(
            "",
            ("stage", "nats per row", "gain over the stage before", "paired error", "verdict"),
            tuple(rows),
            "The reference is a density fitted without a network, and the density reported is never worse than it on "
            "validation rows. Their figures are in model space, and those of these rows in data units. A gain compares two "
            "densities row by row, so its error is far below that of either.",
        ),
    )


def audit_table(report: Likelihood) -> ReportTable:
    """The steps from rows to nats and bits."""
    steps = tuple((str(index + 1), text) for index, text in enumerate(report.audit_trail))
    note = "Compare reports only where their first lines are the same."
    return ReportTable("From rows to nats and bits", ("step", "what"), steps, note, is_text=True)
