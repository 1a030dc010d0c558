"""The Markdown table, from the results of the sets."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from tests.benchmarks.tables.sets import PUBLISHED_GAUSSIAN, PUBLISHED_RBP, SETS, protocol_gaussian

OURS, REFERENCE = "drl_density", "reference"
ORDER = (OURS, REFERENCE, "gaussian", "gmm", "kde", "vine", "nsf", "maf", "trees", "circuit")
TITLES = {
    OURS: "**drl_density**", REFERENCE: "its reference alone", "gaussian": "Gaussian", "gmm": "Gaussian mixture",
    "kde": "kernels", "vine": "vine", "nsf": "spline flow", "maf": "MAF", "trees": "unmasking trees",
    "circuit": "circuit",
}  # fmt: skip
CLOCKS = {"processor": "processor time of one thread", "wall": "wall time"}
LEAST_SPLITS = 3
"""Splits from which on errors are those of means over splits; with fewer, test rows are what varies."""


@dataclass(frozen=True)
class Results:
    """Results by minutes, set, rival and split.

    Attributes:
        found: Every result with the name of its set.
    """

    found: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: Path) -> Results:
        """The results of all JSON files of a folder."""
        files = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        return cls(tuple({**result, "set": file["set"]} for file in files for result in file["results"]))

    def of(self, **key: Any) -> list[dict[str, Any]]:
        """Results with these values, by split."""
        chosen = [result for result in self.found if key.items() <= result.items()]
        return sorted(chosen, key=lambda result: result["split"])


@dataclass(frozen=True)
class Comparison:
    """All rivals on one set.

    Attributes:
        name: Name of the set.
        splits: Splits on which everything that was fitted has a result.
        rows: Test log-likelihoods of each rival on those splits, one array a split; None where one failed.
        sizes: Result that holds the numbers of rows and columns.
    """

    name: str
    splits: tuple[int, ...]
    rows: dict[str, list[np.ndarray] | None]
    sizes: dict[str, Any]

    def mean(self, rival: str) -> float:
        """Mean over splits of the mean over rows; minus infinity where the rival failed."""
        rows = self.rows[rival]
        return -math.inf if rows is None else float(np.mean([part.mean() for part in rows]))

    def gap(self, first: str, second: str) -> tuple[float, float]:
        """How far the first is above the second, with its paired standard error."""
        ours, theirs = self.rows[first], self.rows[second]
        if ours is None or theirs is None:
            return self.mean(first) - self.mean(second), math.nan
        parts = [a - b for a, b in zip(ours, theirs, strict=True)]
        values = np.array([part.mean() for part in parts]) if len(parts) >= LEAST_SPLITS else np.concatenate(parts)
        mean = float(np.mean([part.mean() for part in parts]))
        return mean, float(values.std(ddof=1) / len(values) ** 0.5)


def report(results: Results, folder: Path | None = None) -> str:
    """The whole report: one section for every wall time, and the control of R-BP's splits.

    Args:
        results: Results of the runs.
        folder: Data folder, for the control; None leaves it out.
    """
    lines: list[str] = []
    for minutes in sorted({result["minutes"] for result in results.found}):
        lines += _section(results, minutes) + [""]
    names = [name for name in PUBLISHED_GAUSSIAN if results.of(set=name)]
    if folder is not None and names:
        lines += [
            "Control of the R-BP splits: one Gaussian on raw standardised columns, mean of the ten splits, here and as "
            "published, then R-BP as published (raw rows).",
            "",
            "| set | here | published | R-BP |",
            "|---|---|---|---|",
        ]
        for name in names:
            here = protocol_gaussian(SETS[name], folder)
            lines.append(f"| {name} | {here:.2f} | {PUBLISHED_GAUSSIAN[name]:.2f} | {PUBLISHED_RBP[name]:.2f} |")
    return "\n".join(lines) if lines else "no results yet"


def _section(results: Results, minutes: float) -> list[str]:
    """Likelihoods, ranks and costs at one time of a fit."""
    ran = {result["rival"] for result in results.of(minutes=minutes, status="done")}
    rivals = [name for name in ORDER if name in ran]
    names = sorted({result["set"] for result in results.of(minutes=minutes)}, key=_place)
    compared = [found for name in names if (found := _compare(results, minutes, name, rivals)) is not None]
    commits = sorted({result["commit"] for result in results.of(minutes=minutes)})
    clocks = " or ".join(sorted({CLOCKS[result.get("clock", "wall")] for result in results.of(minutes=minutes)}))
    lines = [
        f"{minutes:g} minutes of {clocks} for a fit, commit {', '.join(commits)}. Test log-likelihood, nats a row "
        "in train-standardised units; in brackets ours less theirs with its paired standard error; the best in bold.",
        "",
        f"| set (training rows, columns; splits) | {' | '.join(TITLES[name] for name in rivals)} |",
        "|---" * (len(rivals) + 1) + "|",
    ]
    lines += [_line(found, rivals) for found in compared]
    mixed = [
        found.name for found in compared if len({r["commit"] for r in results.of(minutes=minutes, set=found.name)}) > 1
    ]
    if mixed:
        lines += ["", f"Models of different commits, and perhaps of different transforms: {', '.join(mixed)}."]
    incomplete = [name for name in names if name not in {found.name for found in compared}]
    if incomplete:
        lines += ["", f"Left out, because a rival has not been run on them yet: {', '.join(incomplete)}."]
    absent = sorted({result["rival"] for result in results.of(minutes=minutes, status="not installed")} - ran)
    if absent:
        lines += ["", f"Not installed, so not run: {', '.join(TITLES[name] for name in absent)}."]
    failed = [
        f"{TITLES[result['rival']]} on {result['set']}, split {result['split']}: {result['reason']}"
        for status in ("failed", "too slow")
        for result in results.of(minutes=minutes, status=status)
    ]
    lines += ["", *[f"Failed: {line}." for line in failed]] if failed else []
    if compared:
        lines += ["", *_ranks(results, minutes, compared, rivals), "", *_ours(results, minutes, compared)]
    return lines


def _place(name: str) -> tuple[int, str]:
    order = list(SETS)
    return (order.index(name) if name in order else len(order), name)


def _compare(results: Results, minutes: float, name: str, rivals: list[str]) -> Comparison | None:
    """All rivals on the splits that everybody has tried; None without such a split."""
    tried = [{result["split"]: result for result in results.of(minutes=minutes, set=name, rival=r)} for r in rivals]
    splits = tuple(sorted(set.intersection(*(set(by_split) for by_split in tried)))) if tried else ()
    if not splits:
        return None
    rows: dict[str, list[np.ndarray] | None] = {}
    for rival, by_split in zip(rivals, tried, strict=True):
        found = [by_split[split] for split in splits]
        is_done = all(result["status"] == "done" for result in found)
        rows[rival] = [np.array(result["rows"]) for result in found] if is_done else None
    sizes = next(result for by_split in tried for result in by_split.values() if "train" in result)
    return Comparison(name, splits, rows, sizes)


def _line(found: Comparison, rivals: list[str]) -> str:
    best = max(rivals, key=found.mean)
    cells = [f"{found.name} ({found.sizes['train']}, {found.sizes['columns']}; {len(found.splits)})"]
    for rival in rivals:
        value = f"{found.mean(rival):.2f}" if found.rows[rival] is not None else "failed"
        value = f"**{value}**" if rival == best else value
        if rival != OURS and OURS in rivals and found.rows[rival] is not None:
            gap, error = found.gap(OURS, rival)
            value += f" ({gap:+.2f} +- {error:.2f})"
        cells.append(value)
    return f"| {' | '.join(cells)} |"


def _ranks(results: Results, minutes: float, compared: list[Comparison], rivals: list[str]) -> list[str]:
    """Mean rank, sets on which a rival is first or within an error of the first, and what it costs.

    Our density and its reference are one model where no tilt is kept: neither is a rival of the other.
    """
    lines = [
        f"| over {len(compared)} sets | mean rank | first | first or within one paired error of it | fit, s (median, most) "
        "| processor, s (median, most) | memory, MiB (median, most) | normaliser |",
        "|---" * 8 + "|",
    ]
    for rival in rivals:
        firsts, near, ranks = 0, 0, []
        others = [other for other in rivals if {other, rival} != {OURS, REFERENCE}]
        for found in compared:
            best = max(others, key=found.mean)
            ranks.append(rankdata([-found.mean(other) for other in others])[others.index(rival)])
            gap, error = found.gap(best, rival)
            firsts += found.mean(rival) == found.mean(best)
            near += found.mean(rival) == found.mean(best) or gap <= error
        done = [result for found in compared for result in results.of(minutes=minutes, set=found.name, rival=rival)]
        done = [result for result in done if result["status"] == "done"]
        costs = [
            f"{np.median(values):.0f}, {max(values):.0f}"
            for values in (
                [result[name] for result in done] for name in ("fit_seconds", "processor_seconds", "memory_mib")
            )
        ]
        costs = ["with ours"] * 3 if rival == REFERENCE else costs
        lines.append(
            f"| {TITLES[rival]} | {np.mean(ranks):.2f} | {firsts} | {near} | {' | '.join(costs)} | "
            f"{done[0]['normalizer']} |"
        )
    return lines


def _ours(results: Results, minutes: float, compared: list[Comparison]) -> list[str]:
    """How well our normaliser is known, and what training gained over the reference."""
    lines = [
        "| set | log Z: largest error, verdicts | gain over the reference on test | seconds of the fit |",
        "|---|---|---|---|",
    ]
    for found in compared:
        done = results.of(minutes=minutes, set=found.name, rival=OURS, status="done")
        if not done or found.rows.get(REFERENCE) is None or found.rows.get(OURS) is None:
            continue
        verdicts = [result["detail"]["verdict"] for result in done]
        counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in sorted(set(verdicts)))
        error = max(result["detail"]["log_z_error"] for result in done)
        gap, gap_error = found.gap(OURS, REFERENCE)
        seconds = np.median([result["fit_seconds"] for result in done])
        lines.append(f"| {found.name} | {error:.3f}, {counts} | {gap:+.3f} +- {gap_error:.3f} | {seconds:.0f} |")
    return lines
