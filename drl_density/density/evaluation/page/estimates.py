"""log Z by every way of estimating it, and the paths and chains behind the estimates."""

from __future__ import annotations

import numpy as np

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.density.evaluation.page.checks import has_chains
from drl_density.density.evaluation.page.likelihoods import audit_table
from drl_density.plots import plot_chains, plot_overlap, plot_sandwich, plot_segments, plot_walks, plot_weights
from drl_density.records.html import ends_in_words
from drl_density.reports import ReportPanel, ReportSection, ReportTable

WHAT_IT_IS = (
    "The model gives every row a score. A score becomes a likelihood only when one number, log Z, is subtracted: the "
    "logarithm of the total over all conceivable rows. It cannot be computed exactly. It is estimated here in several "
    "ways that err in different directions. Where they meet is the answer, and how far they are apart is its error."
)


EXACT = (
    "The density reported is its reference, without a network. A reference is normalised by construction, so log Z is 0 "
    "exactly, and nothing has to be estimated."
)


def log_z_section(report: Likelihood) -> ReportSection:
    """log Z with its two sides, and which levels disagree in many dimensions; one sentence where it is 0 exactly."""
    if not has_chains(report):
        return ReportSection("log Z", (EXACT,))
    low, high = report.interval()
    alt = f"Estimates of log Z with 95 % bars; the band is the interval: {ends_in_words(low, high)}; " + ", ".join(
        f"{name.value} {found.log_z:.3f}" for name, found in report.estimates.items()
    )
    note = (
        "Each row is one way of estimating log Z. Points estimate log Z itself. Grey arrows are bounds: log Z lies on the "
        "side to which they point. Believe the number when the points lie in the band, and a bound lies on each side of it."
    )
    panels = [ReportPanel(plot_sandwich(report), f"{alt}.", "Both sides of log Z.", note)]
    if "segments" in report.tree.children:
        names = ("level", "noisier_level", "gap")
        gaps = list(zip(*(report.values("segments", name) for name in names), strict=True))
        alt = "Gap between both directions of paths by pairs of levels, nats: "
        alt += ", ".join(f"{lower:g} to {upper:g} {gap:.2f}" for lower, upper, gap in gaps)
        note = "A tall bar is a pair of levels that disagree. More steps lower the gap of levels that agree."
        panels.append(ReportPanel(plot_segments(report), f"{alt}.", "Gap by segment.", note))
    return ReportSection(
        "log Z from two sides", (WHAT_IT_IS,), panels=tuple(panels), tables=(_estimators(report), *_segments(report))
    )


def paths_section(report: Likelihood) -> ReportSection:
    """The paths and chains behind the estimates, where there are any, the steps to bits, and the settings."""
    tables = [audit_table(report), settings_table(report)]
    if not has_chains(report):
        return ReportSection("Behind the numbers", tables=tuple(tables))
    acceptance, ess = (report.values("ais", name) for name in ("acceptance_rate", "ess_fraction"))
    overlap = report.values("ais", "overlap")
    neighbours = float(np.diagonal(overlap, 1).min()) if len(overlap) > 1 else 1.0
    panels = [
        ReportPanel(
            plot_walks(report),
            f"Along the walks the effective sample size share is at least {ess.min():.2f} and the acceptance rate at least "
            f"{acceptance.min():.2f}.",
            "Along the walks.",
            "From noise or the reference (right) to the model (left). Where effective sample size is far below 1, or "
            "acceptance near 0, few walks carry the estimate.",
        ),
        ReportPanel(
            plot_weights(report),
            f"Histograms of the log weights of paths in both directions, with a dotted line at log Z {report.log_z:.3f}.",
            "Weights of paths.",
            "Both directions must overlap, and cross at log Z.",
        ),
        ReportPanel(
            plot_overlap(report),
            f"Overlap between {len(overlap)} densities of the path; neighbours share at least {neighbours:.2f}.",
            "Overlap of densities.",
            "An unbroken dark band along the diagonal is good. A gap would be a step that no walk can be trusted over.",
        ),
    ]
    panels.append(
        ReportPanel(
            plot_chains(report),
            "Log density along long chains that began at data and at noise.",
            "Long chains of the model.",
            "Good: all lines cover one range, whichever colour. Two colours at two heights, or a slope, mean that the "
            "chains have not forgotten where they began.",
        )
    )
    return ReportSection("Behind the numbers", panels=tuple(panels), tables=(chains_table(report), *tables))


def _estimators(report: Likelihood) -> ReportTable:
    attributes = report.tree.attrs
    gap = float(attributes["learned_constant"]) - report.log_z
    return ReportTable(
        "log Z by every estimator",
        ("estimator", "value", "standard error"),
        tuple((name, f"{value:z.4f}", f"{error:.4f}") for name, (value, error) in report.estimates.items()),
        "Annealing and forward paths err low, reverse paths err high; Bennett's ratio joins both and gives the interval. "
        "The upper side holds as far as the draws that start it are draws of the model. For any model, log Z lies "
        f"above {attributes['certificate']:.3f} with probability 0.95 (Markov's inequality). The constant learned in "
        f"training is {attributes['learned_constant']:.4f}, {gap:+.3f} from the estimate. It is right only as far "
        "as the model is.",
    )


def _segments(report: Likelihood) -> tuple[ReportTable, ...]:
    """The gap between both directions of paths by pairs of levels; nothing in few dimensions."""
    if "segments" not in report.tree.children:
        return ()
    names = ("level", "noisier_level", "gap", "standard_error", "scatter")
    columns = [report.values("segments", name) for name in names]
    rows = [
        (f"{low:g} to {high:g}", f"{gap:.3f}", f"{error:.3f}", f"{scatter:.3f}")
        for low, high, gap, error, scatter in zip(*columns, strict=True)
    ]
    return (
        ReportTable(
            "Which levels disagree",
            ("levels", "gap, nats", "standard error", "scatter"),
            tuple(rows),
            "Mean log weight of paths back from rows less that of paths from noise, by the levels they cross. More steps "
            "lower the gap of levels that agree. What stays is a disagreement of the network's neighbouring levels.",
        ),
    )


def chains_table(report: Likelihood) -> ReportTable:
    """R-hat and effective sample size of the features that mix worst."""
    table = sorted(report.chain_diagnostics().items(), key=lambda item: -item[1]["r_hat"])
    names = report.values("posterior", "feature").tolist()
    return ReportTable(
        "Long chains",
        ("feature", "R-hat", "bulk ESS", "tail ESS"),
        tuple(
            (_feature(name, names), f"{row['r_hat']:.3f}", f"{row['ess_bulk']:.0f}", f"{row['ess_tail']:.0f}")
            for name, row in table[:8]
        ),
        f"The {min(8, len(table))} of {len(table)} features with the largest R-hat. Half of the chains began at data, half "
        "at draws of the sampler; R-hat above 1.05 means that they have not forgotten where they began, and whether "
        "all of the model was reached is then judged by the paths alone.",
    )


def _feature(name: str, names: list[str]) -> str:
    inside = name.partition("[")[2].rstrip("]")
    return names[int(inside)] if inside.isdigit() else name


def settings_table(report: Likelihood) -> ReportTable:
    """Settings of the evaluation."""
    a = report.tree.attrs
    rows = (
        ("seed", f"{a['seed']}"),
        ("particles x replicates", f"{a['num_particles']:.0f} x {a['num_replicates']:.0f}"),
        ("densities on the way to the model", f"{a['num_densities']:.0f}"),
        ("kernel steps on each", f"{a['num_transitions']:.0f}"),
        ("steps of draws before they walk back up", f"{a['num_mixing_steps']:.0f}"),
        ("drl_density", str(a["inference_library_version"])),
    )
    return ReportTable("Settings", ("what", "value"), rows, "The same seed and settings give the same page.")
