"""The page of a likelihood report: the verdict in words, what speaks for and against it, and everything behind it."""

from __future__ import annotations

from collections.abc import Sequence

from drl_density.density.evaluation.likelihood import Likelihood
from drl_density.density.evaluation.page.checks import checks_table, has_chains, not_checked
from drl_density.density.evaluation.page.estimates import log_z_section, paths_section
from drl_density.density.evaluation.page.likelihoods import gain_section, rivals_section
from drl_density.density.evaluation.page.rows import outliers_section, samples_section
from drl_density.errors import Verdict
from drl_density.partition_function.two_sided.estimates import Estimator
from drl_density.partition_function.two_sided.evidence import start_gaps
from drl_density.records.html import ends_in_words
from drl_density.reports import KeyFigure, ReportPage, ReportSection

IN_WORDS = {
    Verdict.RELIABLE: "In words: the ways of estimating log Z agree within their errors. Quote the mean log-likelihood with "
    "its low end.",
    Verdict.DOUBTFUL: "In words: the number is usable with care. Not every check below holds; the interval was widened to "
    "hold what they found. Quote the low end of the likelihood, and claim no difference smaller than the interval.",
    Verdict.UNRELIABLE: "In words: do not quote this likelihood. The ways of estimating log Z disagree by more than their "
    "errors, so at least one of them is wrong. The interval below is only the bracket between the bounds.",
    Verdict.UNKNOWN: "In words: log Z is not known, so the likelihood is not known either. Nothing below bounds it from "
    "both sides.",
}
EXACT_IN_WORDS = "In words: log Z is known without an error. The mean log-likelihood depends on the choice of rows alone."


def likelihood_page(
    report: Likelihood,
    *,
    title: str | None = None,
    lead: str | None = None,
    rivals: ReportSection | None = None,
    image_shape: Sequence[int] | None = None,
    further: Sequence[ReportSection] = (),
    appendix: str = "",
    has_long_chains: bool = False,
) -> ReportPage:
    """The page of a report: verdict, rivals, gain, log Z, what was checked and what not, samples, outliers, all behind it.

    Args:
        report: likelihood report.
        title: title of the page; the name of the data when not given.
        lead: sentence below it; what was scored when not given.
        rivals: section that compares the density with others; that of the fit's validation rows when not given.
        image_shape: shape of a row as an image; that of the fit's data points when not given.
        further: sections at the end.
        appendix: text before the summary and the settings of the report.
        has_long_chains: whether a diagnosis of long chains is on the same page.
    """
    attributes = report.tree.attrs
    summary = f"{report.summary()}\nsettings: {attributes['settings']}"
    return ReportPage(
        title=title or f"Likelihood of {attributes['name']}",
        lead=lead or f"{report.num_rows} {_kind_of_rows(report)}. Seed {attributes['seed']}.",
        verdict=report.verdict,
        advice=report.advice,
        words=_words(report),
        key_figures=key_figures(report),
        sections=(
            rivals or rivals_section(report),
            *gain_section(report),
            log_z_section(report),
            ReportSection("What was checked", tables=(checks_table(report),)),
            ReportSection("What was not checked", items=not_checked(report, has_long_chains=has_long_chains)),
            samples_section(report, image_shape=image_shape),
            outliers_section(report, image_shape=image_shape),
            paths_section(report),
            *further,
        ),
        appendix=f"{appendix}\n\n{summary}" if appendix else summary,
    )


def _kind_of_rows(report: Likelihood) -> str:
    """What the rows are, such as "images of 28 x 28 pixels"."""
    shape = report.image_shape
    if shape is None:
        return f"rows with {report.tree.attrs['num_features']:.0f} columns"
    kind = "colour images" if len(shape) == 3 and shape[0] == 3 else "images"
    return f"{kind} of {shape[-2]} x {shape[-1]} pixels"


def _words(report: Likelihood) -> tuple[str, ...]:
    """Paragraphs for a reader who is no expert: the verdict, a doubt that longer walks settle, remarks on the fit."""
    remarks = str(report.tree.attrs["remarks"])
    words = IN_WORDS if has_chains(report) else IN_WORDS | {Verdict.RELIABLE: EXACT_IN_WORDS}
    return (
        *((words[report.verdict],) if report.verdict in words else ()),
        *_slow_chains(report),
        *((f"About the fit: {remarks}.",) if remarks else ()),
    )


def key_figures(report: Likelihood) -> tuple[KeyFigure, ...]:
    """The numbers that a reader looks for first, each with its error.

    Args:
        report: likelihood report.
    """
    low, high = report.mean_log_likelihood_lower, report.mean_log_likelihood_upper
    lower, upper = report.interval()
    found = [
        KeyFigure(
            "mean log-likelihood, nats per row",
            f"{report.mean_log_likelihood:.3f}",
            f"by log Z: {ends_in_words(low, high)}; \u00b1 {report.sampling_error:.3f} by choice of {report.num_rows} rows",
        ),
        KeyFigure("log Z, nats", f"{report.log_z:z.3f}", f"95 % interval: {ends_in_words(lower, upper)}"),
    ]
    gain = report.gain_over_reference
    if gain is not None:
        found.append(
            KeyFigure(
                "gain over the reference, nats", f"{gain.log_z:+z.3f}", f"\u00b1 {gain.standard_error:.3f}, paired"
            )
        )
    if report.tree.attrs["declared_range"]:
        bits = report.bits()
        lower, upper = bits.interval()
        detail = f"by log Z: {ends_in_words(lower, upper)}; \u00b1 {bits.sampling_error:.3f} by rows"
        found.append(KeyFigure("bits per dimension", f"{bits.value:.3f}", detail))
    return tuple(found)


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
