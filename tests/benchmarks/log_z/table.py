"""The table of runs and its summary lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tests.benchmarks.log_z.record import Run

HEAD = (
    "| target | family | dim | seed | truth | log Z | interval | error | in half-widths | verdict | s | remark |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def table_row(run: Run) -> str:
    """One run as a line; wrong ones are marked."""
    if run.status != "done":
        what = run.error or run.status
        return (
            f"| {run.target} | {run.family} | {run.dim} | {run.seed} | {run.truth:.4f} | - | - | - | - | **{what}** | "
            f"{run.seconds:.0f} | {_short(run.remark)} |"
        )
    mark = "**WRONG** " if run.is_wrong else ""
    error = "-" if math.isinf(run.truth) else f"{run.off:+.4f}"
    widths = abs(run.off) / run.half if math.isfinite(run.half) and run.half > 0 else math.nan
    return (
        f"| {run.target} | {run.family} | {run.dim} | {run.seed} | {run.truth:.4f} | {run.log_z:.4f} | "
        f"[{run.lower:.4f}, {run.upper:.4f}] | {error} | {widths:.1f} | {mark}{run.verdict} | {run.seconds:.0f} | "
        f"{_short(run.remark)} |"
    )


def _short(text: str, most: int = 110) -> str:
    text = text.replace("|", "/").replace("\n", " ")
    return text if len(text) <= most else text[: most - 3] + "..."


def summary(runs: Sequence[Run]) -> str:
    """Counts of one method over proper and improper targets."""
    proper = [run for run in runs if math.isfinite(run.truth)]
    reliable = [run for run in proper if run.is_reliable]
    covered = sum(run.covers for run in reliable)
    wrong = [run for run in runs if run.is_wrong]
    failed = [run for run in runs if run.status in ("error", "time")]
    verdicts = sorted({run.verdict for run in runs if run.status == "done"})
    counts = ", ".join(f"{verdict} {sum(run.verdict == verdict for run in runs)}" for verdict in verdicts)
    spent = sum(run.seconds for run in runs if math.isfinite(run.seconds))
    middle = sorted(run.seconds for run in runs if math.isfinite(run.seconds))
    lines = [
        f"- runs {len(runs)} on {len({run.target for run in runs})} targets: {counts}",
        f"- claimed and wrong (by more than 3 half-widths or 0.1 nats): {len(wrong)}" + _names(wrong),
        f"- reliable intervals that cover: {covered} of {len(reliable)} ({_share(covered, len(reliable))})",
        f"- share reliable, of runs on proper targets: {len(reliable)} of {len(proper)} "
        f"({_share(len(reliable), len(proper))})",
        f"- errors: {sum(run.status == 'error' for run in failed)}; past the time limit: "
        f"{sum(run.status == 'time' for run in failed)}" + _names(failed),
        f"- processor time: {spent:.0f} s in all, median {middle[len(middle) // 2] if middle else math.nan:.1f} s a run",
    ]
    return "\n".join(lines)


def _names(runs: Iterable[Run]) -> str:
    names = [f"{run.target} ({run.seed})" for run in runs]
    return f" - {', '.join(names)}" if names else ""


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"


def by_family(runs: Sequence[Run]) -> str:
    """Counts of one method family by family; errors are of reliable runs."""
    lines = [
        "| family | runs | reliable | doubtful | unreliable, unknown or improper | failed | claimed and wrong | "
        "reliable that cover | median and largest error of reliable | median s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for family in dict.fromkeys(run.family for run in runs):
        own = [run for run in runs if run.family == family]
        sure = [run for run in own if run.is_reliable and math.isfinite(run.truth)]
        errors = sorted(abs(run.off) for run in sure)
        middle = f"{errors[len(errors) // 2]:.3f}, {errors[-1]:.3f}" if errors else "-"
        seconds = sorted(run.seconds for run in own if math.isfinite(run.seconds))
        done = [run for run in own if run.status == "done"]
        doubtful = sum(run.verdict == "doubtful" for run in done)
        lines.append(
            f"| {family} | {len(own)} | {sum(run.is_reliable for run in own)} | {doubtful} | "
            f"{sum(not run.is_reliable for run in done) - doubtful} | {len(own) - len(done)} | "
            f"{sum(run.is_wrong for run in own)} | {sum(run.covers for run in sure)} of {len(sure)} | {middle} | "
            f"{seconds[len(seconds) // 2] if seconds else math.nan:.0f} |"
        )
    return "\n".join(lines)


def page(runs: Sequence[Run], method: str) -> str:
    """Summary and table of one method, targets in the order of the library."""
    chosen = [run for run in runs if run.method == method]
    return f"{summary(chosen)}\n\n{by_family(chosen)}\n\n{HEAD}\n" + "\n".join(table_row(run) for run in chosen) + "\n"


def comparison(runs: Sequence[Run], targets: Sequence[str]) -> str:
    """Methods side by side on the same targets: what each claims, and what is true.

    z is the error over the standard error that a method claims, a quarter of its 95 % interval's width. Nested samplers are
    counted a second time where they ended by themselves, and the sandwich where it is reliable.
    """
    lines = [
        "| method | runs with an estimate | intervals that cover | error: median, largest | off by more than 0.1 | "
        "share with abs(z) < 2 | median z^2 | median evaluations | median s | failed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method and run.target in targets and math.isfinite(run.truth)]
        if own and all(run.status == "absent" for run in own):
            lines.append(f"| {method} | not installed | - | - | - | - | - | - | - | - |")
            continue
        for label, part in _parts(method, own):
            lines.append(_comparison_row(label, part))
    return "\n".join(lines) + "\n"


def _parts(method: str, runs: list[Run]) -> list[tuple[str, list[Run]]]:
    if any(run.verdict != "-" for run in runs):
        return [(f"{method}, all", runs), (f"{method}, reliable alone", [run for run in runs if run.is_reliable])]
    ended = [run for run in runs if run.remark == "ended by itself"]
    return [(method, runs), (f"{method}, ended by itself", ended)] if ended else [(method, runs)]


def _comparison_row(label: str, runs: list[Run]) -> str:
    done = [run for run in runs if run.status == "done" and math.isfinite(run.log_z)]
    if not done:
        return f"| {label} | 0 | - | - | - | - | - | - | - | {len(runs)} |"
    errors = sorted(abs(run.off) for run in done)
    # An interval without ends claims no standard error.
    squares = sorted((run.off / (run.half / 1.96)) ** 2 for run in done if math.isfinite(run.half))
    shares = f"{sum(square < 4 for square in squares)} of {len(squares)} | {_middle(squares):.2g}" if squares else "- | -"
    return (
        f"| {label} | {len(done)} | {sum(run.covers for run in done)} of {len(done)} | {_middle(errors):.4f}, "
        f"{errors[-1]:.3g} | {sum(error > 0.1 for error in errors)} | {shares} | "
        f"{_middle(run.evaluations for run in done):,} | {_middle(run.seconds for run in done):.1f} | "
        f"{len(runs) - len(done)} |"
    )


def _middle(values: Iterable[Any]) -> Any:
    ranked = sorted(values)
    return ranked[len(ranked) // 2]
