"""Prints the tables of docs/results.md and of the records from what the other modules wrote.

python -m tests.benchmarks.neighbours.tables few_steps.jsonl cooperative.jsonl undersampled.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

COLUMNS = {
    "few_steps": ("sampler", "rule", "steps", "frechet", "distance", "precision", "recall", "confident", "spectrum"),
    "cooperative": ("sampler", "rule", "steps", "trained", "frechet", "distance", "precision", "recall", "confident"),
    "undersampled": ("R", "prior", "psnr", "psnr_error", "ssim", "coverage", "coverage_error", "spread_over_error"),
}


def cell(value: object) -> str:
    """A value in three digits behind the point, lists joined."""
    if isinstance(value, list):
        return ", ".join(cell(part) for part in value)
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


def table(path: Path) -> str:
    """The table of one record, with the columns of its kind, and below it what has other columns."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kind = next(name for name in COLUMNS if name in path.stem)
    names = COLUMNS[kind]
    rows = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    rest = [json.dumps(line) for line in lines if names[0] not in line]
    rows += [f"| {' | '.join(cell(line.get(name)) for name in names)} |" for line in lines if names[0] in line]
    return "\n".join([*rows, "", *rest, *([] if kind != "few_steps" else [wins(lines)])])


def wins(lines: list[dict]) -> str:
    """In how many cells of sampler and steps each rule is nearer to the data than the plain sampler, by both distances."""
    plain = {(line["sampler"], line["steps"]): line for line in lines if line.get("rule") == "plain"}
    found: dict[str, list[tuple[bool, bool]]] = {}
    for line in lines:
        if line.get("part") == "averages" and line["rule"] != "plain":
            beside = plain[line["sampler"], line["steps"]]
            better = tuple(line[key] < beside[key] for key in ("frechet", "distance"))
            found.setdefault(line["rule"], []).append(better)
    parts = [
        f"{rule}: Frechet distance smaller in {sum(a for a, _ in cells)}, sliced distance in {sum(b for _, b in cells)} "
        f"of {len(cells)} cells"
        for rule, cells in found.items()
    ]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Print the table of each record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+")
    for path in parser.parse_args(arguments).records:
        print(f"{path.stem}\n\n{table(path)}\n")


if __name__ == "__main__":
    main()
