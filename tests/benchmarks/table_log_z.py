"""Coverage of log Z as a fit of a table and its evaluation report it.

    python -m tests.benchmarks.table_log_z --splits 5 --minutes 0.1 --out runs/table-log-z.jsonl

Each split is a random part of a table, fitted in about ``--minutes``: a tilt on one Gaussian, kept whatever it gains,
because log Z of a usual fit of so few rows is mostly 0 exactly, without a tilt. The truth is the mean weight of half a
million draws of the fit's own reference, none of which the fit saw, with its standard error. A fit that ends without a tilt
is left out of the counts. Splits that the file holds are not fitted again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import torch
from sklearn import datasets

import drl_density as drl
from drl_density.partition_function import sequence_sandwich
from drl_density.partition_function.importance import base_draws, tilts
from drl_density.weights import assess_weights

SETS = {
    "wine": (lambda: datasets.load_wine().data, 120),
    "iris": (lambda: datasets.load_iris().data, 110),
    "diabetes": (lambda: datasets.load_diabetes().data, 200),
    "breast_cancer": (lambda: datasets.load_breast_cancer().data, 200),
    "checkerboard": (lambda: drl.load_dataset("checkerboard", seed=0, num_rows=4000).train, 1000),
    "banana": (lambda: drl.load_dataset("banana", seed=0, num_rows=4000).train, 1000),
}
"""Real tables that scikit-learn bundles and two toys, and the rows of each split."""
DRAWS, GROUPS = 500_000, 50
"""Draws of the reference that make the truth, and independent groups that give its error."""


def brute(model: drl.EnergySequence, number: int, generator: torch.Generator) -> tuple[float, float, float]:
    """log Z by draws of the reference, its standard error and the effective share of the draws."""
    parts = [tilts(model, base_draws(model, number // GROUPS, 0.0, generator), 0.0) for _ in range(GROUPS)]
    weights = torch.stack(parts).double()
    found = assess_weights(weights, bias="lower")
    shares = (weights - weights.max()).exp().flatten()
    efficiency = float(shares.sum().square() / shares.square().sum()) / len(shares)
    return float(found.log_z), float(found.larger_error), efficiency


def one(name: str, split: int, minutes: float, draws: int) -> dict:
    """Fit one split, and compare its two reports of log Z with the truth."""
    load, size = SETS[name]
    table = torch.as_tensor(load())
    rows = table[torch.randperm(len(table), generator=torch.Generator().manual_seed(split))[:size]]
    began = time.process_time()
    settings = drl.FitSettings(base="gaussian", selection="last")
    density = drl.fit(rows, seed=split, settings=settings, max_minutes=minutes, progress=False)
    fitted = time.process_time() - began
    record = {"set": name, "split": split, "fit_seconds": round(fitted, 1), "alone": bool(density.model.is_base_alone)}
    if record["alone"]:
        return record
    quick, generator = density.estimate, torch.Generator().manual_seed(1000 + split)
    truth, error, efficiency = brute(density.model, draws, generator)
    began = time.process_time()
    ends = sequence_sandwich(density.model, data=density.to_model(rows), generator=generator)
    return record | {
        "truth": truth,
        "truth_error": error,
        "efficiency": efficiency,
        "fit": [float(end) for end in (quick.log_z, *quick.interval())],
        "fit_verdict": str(quick.verdict),
        "evaluation": [float(ends.log_z), float(ends.lower), float(ends.upper)],
        "evaluation_verdict": str(ends.verdict),
        "evaluation_seconds": round(time.process_time() - began, 1),
    }


def report(runs: list[dict]) -> str:
    """Coverage of both intervals, the truth's own error allowed for, among reliable runs."""
    tilted = [run for run in runs if not run["alone"]]
    lines = [f"{len(runs)} fits, {len(tilted)} with a tilt, which the counts are of\n"]
    lines += ["| log Z of | reliable | cover | mean half width | largest error | rms z |", "|---|---|---|---|---|---|"]
    for kind in ("fit", "evaluation"):
        sure = [run for run in tilted if run[f"{kind}_verdict"] == "reliable"]
        if not sure:
            lines.append(f"| {kind} | 0 of {len(tilted)} | - | - | - | - |")
            continue
        off = [run[kind][0] - run["truth"] for run in sure]
        half = [0.5 * (run[kind][2] - run[kind][1]) for run in sure]
        wide = [math.hypot(own, 1.96 * run["truth_error"]) for own, run in zip(half, sure, strict=True)]
        middle = [0.5 * (run[kind][2] + run[kind][1]) - run["truth"] for run in sure]
        cover = sum(abs(error) <= width for error, width in zip(middle, wide, strict=True))
        z = math.sqrt(sum((1.96 * error / width) ** 2 for error, width in zip(off, wide, strict=True)) / len(off))
        lines.append(
            f"| {kind} | {len(sure)} of {len(tilted)} | {cover} of {len(sure)} | {sum(half) / len(half):.4f} | "
            f"{max(map(abs, off)):.4f} | {z:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fit the splits that the file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0.1)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--out", type=Path, default=Path("runs/table-log-z.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = args.out.read_text(encoding="utf-8").splitlines() if args.out.exists() else []
    runs = [json.loads(line) for line in lines]
    known = {(run["set"], run["split"]) for run in runs}
    for split in range(args.splits):
        for name in args.sets:
            if (name, split) in known:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                runs.append(one(name, split, args.minutes, args.draws))
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(json.dumps(runs[-1]), flush=True)
    print(report(runs))


if __name__ == "__main__":
    main()
