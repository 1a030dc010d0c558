"""What was checked about a likelihood, and what was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.density.evaluation.sections.report_chains import BASE_START
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import agreement, start_gaps
from drl_density.partition_function.two_sided.verdict import LEAST_ACCEPTANCE, LEAST_OVERLAP
from drl_density.reports import ReportTable

SLOW = "chains here are slow; the walks do not rely on them"


def checks_table(report: Likelihood) -> ReportTable:
    """What a reader who doubts the number would ask, with what was found; the tolerances are the verdict's."""
    attributes, rows = report.tree.attrs, []

    def ask(question: str, found: str, holds: Any, otherwise: str) -> None:
        rows.append((question, found, "yes" if holds else "no", "" if holds else otherwise))

    if has_chains(report):
        _ask_about_walks(report, ask)
        worst = max(row["r_hat"] for row in report.chain_diagnostics().values())
        found = f"largest R-hat {worst:.2f}, some {attributes['autocorrelation_time']:.0f} steps to forget"
        ask("Do long chains forget where they began?", found, worst < 1.05, SLOW)
    model, floor = (float(attributes[f"validation_{name}"]) for name in ("model", "gaussian"))
    ask(
        "Is the model better than one Gaussian?",
        f"{model:.2f} against {floor:.2f} nats",
        model >= floor,
        "train longer",
    )
    note = "The verdict rests on all but the last two, and on the median of the walks."
    return ReportTable(
        "",
        ("question", "found", "holds", "what to do"),
        tuple(rows),
        note if has_chains(report) else "log Z is 0 exactly, so the verdict needs no check.",
        is_text=True,
    )


def _ask_about_walks(report: Likelihood, ask: Callable[[str, str, Any, str], None]) -> None:
    """Pass on the questions about walks and their estimates."""
    estimates, attributes = report.estimates, report.tree.attrs
    origin = attributes["origin"]
    overlap = float(attributes["overlap"])
    ask(
        f"Do walks from {origin} to the model and back overlap?",
        f"overlap {overlap:.2f} of 1",
        overlap >= LEAST_OVERLAP,
        "more levels",
    )
    pairs = {
        "Does weighting walks (annealing) give the same number?": (
            Estimator.ANNEALING,
            "more particles or kernel steps",
        ),
        "Do draws of all densities on the way give the same number?": (
            Estimator.MULTISTATE,
            "walks mix slowly: more kernel steps or particles",
        ),
    }
    for question, (name, otherwise) in pairs.items():
        if name in estimates:
            gap = agreement(name, estimates[name], estimates[Estimator.BENNETT])
            found = f"{gap.distance:z.3f} nats apart, {gap.num_errors:.1f} standard errors"
            ask(question, found, gap.holds, otherwise)
    for name in (Estimator.IMPORTANCE, Estimator.NOISE):
        if name in estimates:
            gap = agreement(name, estimates[name], estimates[Estimator.BENNETT])
            above = estimates[name].log_z - estimates[Estimator.BENNETT].log_z
            ask(
                f"Does {name.value} find no more mass?",
                f"{above:+z.3f} nats, error {gap.standard_error:.3f}",
                gap.holds or above <= 0,
                "the model has mass that the walks miss: train more briefly or with more dropout",
            )
    starts = [gap.agreement for gap in start_gaps(estimates, estimates[Estimator.BENNETT])]
    if starts:
        widest = max(starts, key=lambda found: found.distance)
        ask(
            f"Do walks back that begin at data and at draws from {origin} give the same number?",
            f"{widest.distance:.3f} nats apart, {widest.num_errors:.1f} standard errors",
            all(found.holds for found in starts),
            "data and model differ, and walks are slow to cross: see the chains",
        )
    low, high = estimates[Estimator.LOWER].log_z, estimates[Estimator.UPPER_NOISE].log_z
    ask(
        "Does log Z lie between its bounds?",
        f"{low:z.3f} to {high:z.3f}",
        low <= report.log_z <= high,
        "an error: report it",
    )
    accepted = float(report.values("ais", "acceptance_rate").min())
    ask(
        "Do walks move at every level?",
        f"least acceptance {accepted:.2f}",
        accepted >= LEAST_ACCEPTANCE,
        "smaller steps",
    )


def has_chains(report: Likelihood) -> bool:
    """Whether a report holds chains; a density without a network has independent draws in their place.

    Args:
        report: likelihood report.
    """
    return BASE_START not in report.values("sample_stats", "start").tolist()


def not_checked(report: Likelihood, *, has_long_chains: bool = False) -> tuple[str, ...]:
    """What nothing on the page can show, one sentence or two for each.

    Args:
        report: likelihood report.
        has_long_chains: whether a diagnosis of long chains is on the same page.
    """
    attributes = report.tree.attrs
    steps = report.tree.children["sample_stats"].sizes["draw"]
    unseen = (
        f"Mass of the model that neither walks from {attributes['origin']} nor the data ever visit. No estimate sees it, so "
        "log Z could be larger than the interval says."
    )
    found = [
        *([unseen] if has_chains(report) else []),
        "Whether future rows resemble these. The error over rows covers chance alone.",
        "Whether draws repeat training rows. `drl-density fit` prints their distance to the nearest training row.",
    ]
    if not has_long_chains and has_chains(report):
        found.append(
            f"Chains longer than those shown here, of which {steps} draws are kept. `drl-density diagnose` runs longer ones."
        )
    if "dequantised" in report.scheme:
        found.append("Other draws of the noise that dequantised the rows: there was one for each row.")
    if attributes["level_noise"] > 0:
        found.append(
            "A density without noise. The reported level holds noise of "
            f"{attributes['level_noise']:.3g} in transformed units."
        )
    left_out = str(report.tree.children["other_densities"].attrs["left_out"])
    return (*found, left_out) if left_out and has_chains(report) else tuple(found)
