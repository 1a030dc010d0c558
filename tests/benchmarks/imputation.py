"""Imputation of cells removed at random, beside scikit-learn's imputers, a Gaussian copula and a Gaussian mixture.

    python tests/benchmarks/imputation.py run imputation.jsonl --sets wine breast_cancer --splits 0 1 --steps 400
    python tests/benchmarks/imputation.py run imputation.jsonl --sets red_wine --npz uci_rnade.npz --splits 0
    python tests/benchmarks/imputation.py report imputation.jsonl

Protocol: ten folds with duplicate rows kept together, models fitted on complete training rows, 20 % of the cells of the
test rows removed at random, m = 50 draws. Figures are means over removed cells in units of the column's training standard
deviation: CRPS of the draws (unbiased in m), absolute error of their median. Draws of densities are put on the columns'
rounding grids. "log score" is the mean over rows of the log density of the dequantised removed cells given the others.
Coverage is of the central 90 % by randomised rank, exact for any m when the draws are right; its 99 % interval clusters
by row. One JSON line per data set and split; a line that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.datasets import Dataset, folds, notice_columns
from drl_density.density import FitSettings
from drl_density.density.fitting.table import Table, prepare_table

SHARE, NUM_DRAWS = 0.2, 50
DENSITIES = ("drl_density", "gaussian mixture", "gaussian copula")
METHODS = (*DENSITIES, "IterativeImputer", "KNNImputer")


def load(name: str, npz: Path | None) -> np.ndarray:
    """Rows of a data set."""
    if npz is not None and name in np.load(npz):
        return np.load(npz)[name].astype(np.float64)
    data = drl.load_dataset(name, seed=0)
    return torch.cat([data.train, data.validation, data.test]).numpy()


def split_of(x: np.ndarray, name: str, split: int) -> Dataset:
    """One fold in data units."""
    parts = [torch.as_tensor(x[index]) for index in list(folds(x, 10, seed=0))[split]]
    columns = notice_columns(x, [f"x{i}" for i in range(x.shape[1])])
    return Dataset(name, *parts, columns, (x.shape[1],))


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Unbiased continuous ranked probability score of draws ``(m, n)``, ``(n,)``."""
    count = len(draws)
    ordered = np.sort(draws, 0)
    places = 2 * np.arange(1, count + 1)[:, None] - count - 1
    spread = 2 * (places * ordered).sum(0) / (count * (count - 1))
    return np.abs(draws - truth).mean(0) - 0.5 * spread


def covered(draws: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether the randomised rank of the truth among the draws lies in the central 90 %."""
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    rank = (below + rng.random(len(truth)) * (equal + 1)) / (len(draws) + 1)
    return (rank > 0.05) & (rank < 0.95)


def on_grid(draws: torch.Tensor, data: Dataset) -> np.ndarray:
    """Draws ``(m, n, d)`` rounded to the columns' grids."""
    widths = torch.tensor([column.width for column in data.columns], dtype=torch.float64)
    return torch.where(widths > 0, (draws / widths).round() * widths, draws).numpy()


def from_mixture(
    table: Table, base: NoisedGaussianMixture, holes: torch.Tensor, truth: torch.Tensor, seed: int
) -> tuple:
    """(draws ``(m, n, d)`` in data units, log density of the removed cells ``(n,)``) of a mixture in model space."""
    law, mask = base.conditional(), holes.isnan()
    middle = table.dataset.train.median(0).values
    u = table.transform(torch.where(mask, middle, holes))
    draws = law.sample(u, mask, NUM_DRAWS, generator=torch.Generator().manual_seed(seed)).transpose(0, 1)
    full = table.transform(truth)
    nothing = torch.zeros_like(mask)
    slope = (table.transform.column_log_jacobian(truth) * mask).sum(1)
    score = law.observed_log_density(full, nothing) - law.observed_log_density(full, mask) + slope
    return torch.where(mask, table.transform.inv(draws), holes), score


def run_split(name: str, x: np.ndarray, split: int, steps: int | None) -> dict:
    """All figures of one split."""
    data = split_of(x, name, split)
    rng = np.random.default_rng(1000 + split)
    mask = torch.as_tensor(rng.random(data.test.shape) < SHARE)
    mask[mask.all(1), 0] = False
    holes = torch.where(mask, torch.nan, data.test)
    cells = mask.numpy()
    mean, spread = data.train.mean(0).numpy(), data.train.std(0).numpy()
    table = prepare_table(data).with_bases("auto")
    truth = table.rows(data.test, generator=torch.Generator().manual_seed(split))
    training = drl.TrainingSettings() if steps is None else drl.TrainingSettings(num_steps=steps)
    started = time.process_time()
    density = drl.fit(data, seed=split, settings=FitSettings(training=training), progress=False)
    fitted = time.process_time()
    found = density.impute(holes, num_samples=NUM_DRAWS, seed=split)
    # The removed cells given the others as they stand in the dequantised rows, like the other densities.
    again = density.impute(torch.where(mask, torch.nan, truth), num_samples=2, seed=split)
    has_holes = mask.any(1)
    draws, scores = {}, {}
    draws["drl_density"] = on_grid(found.rows, data)
    scores["drl_density"] = (density.log_prob(truth) - again.log_density)[has_holes]
    bases = table.bases.mixtures
    best = max(bases, key=lambda key: table.bases.scores[key])
    copies = torch.cat([table.rows(data.train, generator=torch.Generator().manual_seed(i)) for i in range(5)])
    u = table.transform(copies)
    copula = NoisedGaussianMixture(torch.ones(1), u.mean(0)[None], u.T.cov()[None] + 1e-6 * torch.eye(u.shape[1]))
    for label, base in (("gaussian mixture", bases[best]), ("gaussian copula", copula)):
        values, score = from_mixture(table, base, holes, truth, split)
        draws[label], scores[label] = on_grid(values, data), score[has_holes]
    scaled = (data.train.numpy() - mean) / spread
    holed = (holes.numpy() - mean) / spread
    iterative = IterativeImputer(sample_posterior=True, random_state=split).fit(scaled)
    draws["IterativeImputer"] = np.stack([iterative.transform(holed) for _ in range(NUM_DRAWS)]) * spread + mean
    draws["KNNImputer"] = (KNNImputer().fit(scaled).transform(holed) * spread + mean)[None]
    row_of, column_of = np.nonzero(cells)
    result = {"set": name, "split": split, "rows": len(holes), "cells": int(cells.sum()), "steps": steps, "methods": {}}
    result |= {
        "member": density.provenance.selected_member,
        "verdict": density.estimate.verdict,
        "fit_seconds": fitted - started,
        "impute_seconds": time.process_time() - fitted,
        "doubtful_rows": int(found.is_doubtful.sum()),
    }
    for label, values in draws.items():
        picked, right = values[:, row_of, column_of], data.test.numpy()[row_of, column_of]
        unit = spread[column_of]
        figures = {"absolute": float((np.abs(np.median(picked, 0) - right) / unit).mean())}
        if len(picked) > 1:
            inside = covered(picked, right, rng)
            figures["crps"] = float((crps(picked, right) / unit).mean())
            figures["covered"] = np.bincount(row_of, inside, len(cells)).tolist()
            figures["counted"] = cells.sum(1).tolist()
        if label in scores:
            figures["log_score"] = float(scores[label].mean())
        result["methods"][label] = figures
    return result


def coverage(lines: list[dict], label: str) -> str:
    """Pooled coverage with its row-clustered 99 % interval."""
    inside = np.concatenate([line["methods"][label]["covered"] for line in lines])
    counts = np.concatenate([line["methods"][label]["counted"] for line in lines])
    share = inside.sum() / counts.sum()
    error = np.sqrt(((inside - share * counts) ** 2).sum() * len(counts) / (len(counts) - 1)) / counts.sum()
    return f"{share:.3f} ({share - 2.576 * error:.3f}, {share + 2.576 * error:.3f})"


def report(path: Path) -> str:
    """The table in Markdown: means over splits, in brackets theirs less ours with its paired standard error."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    text = [
        "| set | splits | method | CRPS | absolute error | log score | 90 % coverage |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(line["set"] for line in lines):
        own = [line for line in lines if line["set"] == name]
        for label in METHODS:
            cells = [_paired(own, label, key) for key in ("crps", "absolute", "log_score")]
            shares = coverage(own, label) if "covered" in own[0]["methods"][label] else "-"
            text.append(f"| {name} | {len(own)} | {label} | {' | '.join(cells)} | {shares} |")
    return "\n".join(text)


def _paired(lines: list[dict], label: str, key: str) -> str:
    if key not in lines[0]["methods"][label]:
        return "-"
    values, ours = (np.array([line["methods"][name][key] for line in lines]) for name in (label, "drl_density"))
    if label == "drl_density" or len(lines) < 2:
        return f"{values.mean():.3f}"
    gap = values - ours
    return f"{values.mean():.3f} ({gap.mean():+.3f}, {gap.std(ddof=1) / len(gap) ** 0.5:.3f})"


def main() -> None:
    """Run the splits asked for, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("path", type=Path, help="JSON lines")
    parser.add_argument("--sets", nargs="+", default=["wine", "breast_cancer"])
    parser.add_argument("--npz", type=Path, help="archive with further sets, such as red_wine")
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--steps", type=int, help="training steps; the default of a fit when not given")
    args = parser.parse_args()
    if args.command == "report":
        print(report(args.path))
        return
    done = set()
    if args.path.exists():
        done = {(line["set"], line["split"]) for line in map(json.loads, args.path.read_text().splitlines())}
    for split in args.splits:
        for name in args.sets:
            if (name, split) in done:
                continue
            result = run_split(name, load(name, args.npz), split, args.steps)
            with args.path.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            print(
                name, split, {label: v.get("crps", v["absolute"]) for label, v in result["methods"].items()}, flush=True
            )


if __name__ == "__main__":
    main()
