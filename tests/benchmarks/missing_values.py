"""Fits of tables with missing values: cells drawn by the model during the fit, against dropping incomplete rows.

    python tests/benchmarks/missing_values.py run tests/benchmarks/records/missing_values.jsonl --sets wine breast_cancer
    python tests/benchmarks/missing_values.py report tests/benchmarks/records/missing_values.jsonl

Protocol: ten folds with duplicate rows kept together; a share of the cells of the training and validation rows, removed at
random, leaves a third to a half of the rows complete; test rows stay whole. Three fits of the same settings: "draw" on all
rows, "drop" on the complete ones, "whole" on the rows before cells were removed. Figure: mean log density of the test
rows, dequantised once for all three. One JSON line per set and fold; a line that is there is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import drl_density as drl
from drl_density.datasets import Dataset, folds, notice_columns
from drl_density.density import FitSettings
from drl_density.density.fitted import dequantized_rows
from drl_density.errors import DataWarning

SHARES = {"wine": 0.08, "breast_cancer": 0.03, "diabetes": 0.1}
WAYS = ("draw", "drop", "whole")


def rows_of(name: str) -> np.ndarray:
    """All rows of a data set."""
    data = drl.load_dataset(name, seed=0)
    return torch.cat([data.train, data.validation, data.test]).numpy()


def tables(name: str, split: int) -> dict[str, Dataset]:
    """The data of each way, with the same test rows."""
    x = rows_of(name)
    train, validation, test = (torch.as_tensor(x[index]) for index in list(folds(x, 10, seed=0))[split])
    seen = torch.cat([train, validation]).numpy()
    columns = notice_columns(seen, [f"x{i}" for i in range(x.shape[1])])
    whole = Dataset(name, train, validation, test, columns, (x.shape[1],))
    generator = torch.Generator().manual_seed(split)

    def with_missing(rows: torch.Tensor) -> torch.Tensor:
        removed = torch.rand(rows.shape, generator=generator) < SHARES[name]
        removed[removed.all(1), 0] = False
        return torch.where(removed, torch.nan, rows)

    parts = {"train": with_missing(train), "validation": with_missing(validation)}
    complete = {part: rows[~rows.isnan().any(1)] for part, rows in parts.items()}
    return {
        "draw": dataclasses.replace(whole, **parts),
        "drop": dataclasses.replace(whole, **complete),
        "whole": whole,
    }


def run_split(name: str, split: int, steps: int) -> dict:
    """Mean log densities of one fold's test rows."""
    result = {"set": name, "split": split, "share": SHARES[name], "steps": steps, "rows": {}, "mean": {}, "verdict": {}}
    settings = FitSettings(training=drl.TrainingSettings(num_steps=steps))
    rows = None
    for way, data in tables(name, split).items():
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            density = drl.fit(data, seed=split, settings=settings, progress=False)
        if rows is None:
            rows = dequantized_rows(density, data.test, generator=torch.Generator().manual_seed(split))[0]
        values = density.log_prob(rows)
        result["rows"][way] = len(data.train)
        result["mean"][way] = float(values.mean())
        result["verdict"][way] = density.estimate.verdict
        result[f"{way}_seconds"] = round(time.process_time() - started, 1)
    return result


def report(path: Path) -> str:
    """The table in Markdown: means over folds; in brackets the difference from "draw" and its paired standard error."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    text = ["| set | cells removed | folds | rows, complete | draw | drop | whole |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(line["set"] for line in lines):
        own = [line for line in lines if line["set"] == name]
        values = {way: np.array([line["mean"][way] for line in own]) for way in WAYS}
        counts = [round(np.mean([line["rows"][way] for line in own])) for way in ("draw", "drop")]
        cells = [f"{values['draw'].mean():.3f}"]
        for way in WAYS[1:]:
            gap = values[way] - values["draw"]
            error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else float("nan")
            cells.append(f"{values[way].mean():.3f} ({gap.mean():+.3f}, {error:.3f})")
        text.append(f"| {name} | {own[0]['share']:.0%} | {len(own)} | {counts[0]}, {counts[1]} | {' | '.join(cells)} |")
    return "\n".join(text)


def main() -> None:
    """Run the folds asked for, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("path", type=Path, help="JSON lines")
    parser.add_argument("--sets", nargs="+", choices=tuple(SHARES), default=["wine", "breast_cancer"])
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--steps", type=int, default=400, help="training steps of every fit")
    args = parser.parse_args()
    if args.command == "report":
        print(report(args.path))
        return
    stored = args.path.read_text().splitlines() if args.path.exists() else []
    done = {(line["set"], line["split"]) for line in map(json.loads, stored)}
    for split in args.splits:
        for name in args.sets:
            if (name, split) in done:
                continue
            result = run_split(name, split, args.steps)
            with args.path.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            print(name, split, result["rows"], result["mean"], result["verdict"], flush=True)


if __name__ == "__main__":
    main()
