"""The page of a likelihood report: the verdict in words, what speaks for and against it, and everything behind it."""

from __future__ import annotations

from typing import Any

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.errors import Verdict
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import agreement, start_gaps
from drl_density.partition_function.two_sided.verdict import LEAST_ACCEPTANCE, LEAST_OVERLAP
from drl_density.plots import plot_chains, plot_log_likelihood, plot_overlap, plot_sandwich, plot_weights
from drl_density.reports import ReportPage, ReportTable

WHAT_IT_IS = (
    "The model gives every row a score. A score becomes a likelihood only when one number, log Z, is subtracted: the "
    "logarithm of the total over all conceivable rows, which nobody can compute exactly. This page estimates it in several "
    "ways that err in different directions; where they meet is the answer, and how far they are apart is its error."
)
IN_WORDS = {
    Verdict.RELIABLE: "In words: the ways agree within their errors. Quote the mean log-likelihood with its low end.",
    Verdict.DOUBTFUL: "In words: the number is usable with care. Not every check below holds; the interval was widened to "
    "hold what they found. Quote the low end of the likelihood, and claim no difference smaller than the interval.",
    Verdict.UNRELIABLE: "In words: do not quote this likelihood. The ways disagree by more than their errors, so at least "
    "one of them is wrong. The interval below is only the bracket between the bounds.",
    Verdict.UNKNOWN: "In words: log Z is not known, and therefore no likelihood either. Nothing below bounds it from both "
    "sides.",
}
NOTES = {
    "log Z": "One row per way of estimating log Z. Bounds (grey) err low or high as they point, the others aim at "
    "log Z itself. Believe the number when the points that aim at it lie in the band and the bounds on both sides of it.",
    "weights": "Left: walks from pure noise or the reference (right end) to the model (left end). Effective sample size far "
    "below 1, or "
    "acceptance near 0, at some level means that few walks carry the estimate there. Right: the weights of walks in both "
    "directions; they must overlap, and cross at log Z (dotted).",
    "overlap": "Each row: the draws of one density on the way to the model. A wide unbroken dark band along the "
    "diagonal means that neighbours explain each other's draws; a gap would be a step that no walk can be trusted over.",
    "log-likelihood of the rows": "Rows far on the left are the ones that the model finds strange.",
    "chains": "Long walks at the finished model. Good: all lines cover one range from beginning to end, whichever colour. "
    "Bad: two colours at two heights, or a slope, which means that the walks have not forgotten where they began.",
}

SLOW = "chains here are slow; the walks do not rely on them"


def likelihood_page(report: Likelihood) -> ReportPage:
    """The page of ``report``."""
    attributes = report.tree.attrs
    return ReportPage(
        title=f"Likelihood of {attributes['name']}",
        lead=f"{report.num_rows} rows: mean log-likelihood {report.mean_log_likelihood:.3f} nats per row, between "
        f"{report.mean_log_likelihood_lower:.3f} and {report.mean_log_likelihood_upper:.3f} as log Z is known, and "
        f"± {report.sampling_error:.3f} (standard error) because these are only {report.num_rows} rows.",
        verdict=report.verdict,
        advice=report.advice,
        words=likelihood_words(report),
        tables=likelihood_tables(report),
        figures=likelihood_figures(report),
        notes=NOTES,
        opening=1,
        appendix=report.summary() + f"\nsettings: {attributes['settings']}",
    )


def likelihood_words(report: Likelihood) -> tuple[str, ...]:
    """Paragraphs for a reader who is no expert: what log Z is, the verdict, remarks on the fit."""
    remarks = str(report.tree.attrs["remarks"])
    return (
        WHAT_IT_IS,
        IN_WORDS[report.verdict],
        *_slow_chains(report),
        *((f"About the fit: {remarks}.",) if remarks else ()),
    )


def _slow_chains(report: Likelihood) -> tuple[str, ...]:
    """The meaning of a gap between draws from data and from elsewhere, and the run that would settle it."""
    attributes, estimates, origin = report.tree.attrs, report.estimates, report.tree.attrs["origin"]
    gaps = start_gaps(estimates, estimates[Estimator.BENNETT])
    far = [gap.above for gap in gaps if not gap.agreement.holds]
    gap = -min(far, default=0.0)
    if report.verdict is not Verdict.DOUBTFUL or gap <= 0:
        return ()
    needed, taken = float(attributes["autocorrelation_time"]), int(attributes["num_mixing_steps"])
    return (
        f"Why the doubt: walks that begin at data put log Z {gap:.2f} lower than those that begin at {origin}. Part of the "
        f"model's mass lies where no data are, and walks need some {needed:.0f} steps to forget their start; these took "
        f"{taken}. So the size of this gap depends on how long one walks, and on how close training has brought the model "
        f"to the data. To settle it, evaluate again with --mixing-steps {2 * max(needed, taken):.0f}: if the gap closes "
        f"towards the number from {origin}, that number was right.",
    )


def likelihood_tables(report: Likelihood) -> tuple[ReportTable, ...]:
    """Checks, likelihoods, estimators, audit trail, chains, settings."""
    return (
        _checks(report),
        _likelihoods(report),
        *_stages(report),
        _estimators(report),
        *_segments(report),
        _audit(report),
        _chains(report),
        _settings(report),
    )


def likelihood_figures(report: Likelihood) -> dict[str, Any]:
    """Figures by heading, the sandwich first."""
    return {
        "log Z": plot_sandwich(report.tree),
        "weights": plot_weights(report.tree),
        "overlap": plot_overlap(report.tree),
        "log-likelihood of the rows": plot_log_likelihood(report.tree),
        "chains": plot_chains(report.tree),
    }


def _checks(report: Likelihood) -> ReportTable:
    """What a reader who doubts the number would ask, with what was found; the tolerances are the verdict's."""
    estimates, attributes = report.estimates, report.tree.attrs
    rows, origin = [], attributes["origin"]

    def ask(question: str, found: str, holds: Any, otherwise: str) -> None:
        rows.append((question, found, "yes" if holds else "no", "" if holds else otherwise))

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
        "Do draws of all densities on the way give it?": (
            Estimator.MULTISTATE,
            "walks mix slowly: more kernel steps or particles",
        ),
    }
    for question, (name, otherwise) in pairs.items():
        if name in estimates:
            gap = agreement(name, estimates[name], estimates[Estimator.BENNETT])
            found = f"{gap.distance:.3f} nats apart, {gap.num_errors:.1f} standard errors"
            ask(question, found, gap.holds, otherwise)
    for name in (Estimator.IMPORTANCE, Estimator.NOISE):
        if name in estimates:
            gap = agreement(name, estimates[name], estimates[Estimator.BENNETT])
            above = estimates[name].log_z - estimates[Estimator.BENNETT].log_z
            ask(
                f"Does {name.value} find no more mass?",
                f"{above:+.3f} nats, error {gap.standard_error:.3f}",
                gap.holds or above <= 0,
                "the model has mass that the walks miss: train more briefly or with more dropout",
            )
    starts = [gap.agreement for gap in start_gaps(estimates, estimates[Estimator.BENNETT])]
    if starts:
        widest = max(starts, key=lambda found: found.distance)
        ask(
            f"Does it not matter whether walks back begin at data or at draws from {origin}?",
            f"{widest.distance:.3f} nats apart, {widest.num_errors:.1f} standard errors",
            all(found.holds for found in starts),
            "data and model differ, and walks are slow to cross: see the chains",
        )
    low, high = estimates[Estimator.LOWER].log_z, estimates[Estimator.UPPER_NOISE].log_z
    ask(
        "Do the bounds lie on both sides?",
        f"{low:.3f} to {high:.3f}",
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
    return ReportTable(
        "Why believe it, or not",
        ("question", "found", "holds", "what to do"),
        tuple(rows),
        "The verdict rests on all but the last two and on the median of the walks. What no check can see: a part of the "
        f"model's mass that neither walks from {origin} nor the data ever visit.",
        is_text=True,
    )


def _likelihoods(report: Likelihood) -> ReportTable:
    names, means = (report.values("other_densities", name) for name in ("density", "mean_log_likelihood"))
    left_out = str(report.tree.children["other_densities"].attrs["left_out"])
    ends = (report.mean_log_likelihood, report.mean_log_likelihood_lower, report.mean_log_likelihood_upper)
    return ReportTable(
        "Likelihood of these rows",
        ("density", "nats per row", "low end", "high end", "error over rows"),
        (
            ("energy-based model", *(f"{value:.4f}" for value in (*ends, report.sampling_error))),
            *((str(name), f"{float(mean):.4f}", "-", "-", "-") for name, mean in zip(names, means, strict=True)),
        ),
        f"{report.bits_per_dim:.4f} bits per column. The other densities share the model's scores or constants but not its "
        "normaliser; they are printed next to the interval and never inside it." + (f" {left_out}" if left_out else ""),
    )


def _stages(report: Likelihood) -> tuple[ReportTable, ...]:
    """What each stage of the fit brought; nothing for a model without a reference."""
    gain, rows = report.gain_over_reference, []
    if "stages" in report.tree.children:
        names = ("stage", "validation", "gain", "gain_error", "is_kept")
        for name, value, gained, error, is_kept in zip(*(report.values("stages", each) for each in names), strict=True):
            is_first = name == "reference"
            found = ("-", "-") if is_first else (f"{gained:+.4f}", f"{error:.4f}")
            rows.append((f"{name}, on validation", f"{value:.4f}", *found, "kept" if is_kept else "not kept"))
    if gain is not None:
        mean, error = report.mean_log_likelihood, gain.standard_error
        better = "better than the reference" if gain.log_z > error else "within its error"
        judged = "worse than the reference" if gain.log_z < -error else better
        rows.append(("reference, on these rows", f"{mean - gain.log_z:.4f}", "-", "-", "-"))
        rows.append(("density, on these rows", f"{mean:.4f}", f"{gain.log_z:+.4f}", f"{error:.4f}", judged))
    if not rows:
        return ()
    return (
        ReportTable(
            "What each stage of the fit brought",
            ("stage", "nats per row", "gain over the stage before", "paired error", "verdict"),
            tuple(rows),
            "The reference is a density fitted without a network, and the density reported is never worse than it on "
            "validation rows. Their figures are in model space, and those of these rows in data units. A gain compares two "
            "densities row by row, so its error is far below that of either.",
        ),
    )


def _estimators(report: Likelihood) -> ReportTable:
    attributes = report.tree.attrs
    gap = float(attributes["learned_constant"]) - report.log_z
    return ReportTable(
        "log Z by every estimator",
        ("estimator", "value", "standard error"),
        tuple((name, f"{value:.4f}", f"{error:.4f}") for name, (value, error) in report.estimates.items()),
        "Annealing and forward paths err low, reverse paths err high; Bennett's ratio joins both and gives the interval. "
        "The upper side holds as far as the draws that start it are draws of the model. Certain, whatever the model: log Z "
        f"lies above {attributes['certificate']:.3f} with probability 0.95 (Markov's inequality). The constant learned in "
        f"training is {attributes['learned_constant']:.4f}, {gap:+.3f} from the estimate: right only where the model is.",
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


def _audit(report: Likelihood) -> ReportTable:
    steps = tuple((str(index + 1), text) for index, text in enumerate(report.audit_trail))
    note = "Only reports whose first lines are the same compare."
    return ReportTable("From rows to nats and bits", ("step", "what"), steps, note, is_text=True)


def _chains(report: Likelihood) -> ReportTable:
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


def _settings(report: Likelihood) -> ReportTable:
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
