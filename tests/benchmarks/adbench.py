"""One-class outlier detection on ADBench's classical sets: area under the ROC curve beside scikit-learn's detectors.

    python tests/benchmarks/adbench.py --data adbench --out adbench.jsonl --development
    python tests/benchmarks/adbench.py --data adbench --out adbench.jsonl --recipes standardize/mixture
    python tests/benchmarks/adbench.py --out adbench.jsonl --report

``--report`` names the recipe that the development sets choose; the second line gives it to the other sets.

Rows outside a column's bounds, as noticed on the training rows, are the strangest to every method on Gaussianised columns.

Protocol: train on half of the normal rows, test on the other half and all anomalies; columns constant on the training rows
are dropped for everybody; rivals see standardised columns, or the same columns through the transform that our fit would
take, whichever is better on the development sets. Everything of ours that could be chosen (score, transform, base) is
chosen on the eight development sets alone and kept for the others. One line of JSON a set and recipe; runs go on where
they stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.svm import OneClassSVM

import drl_density as drl
from drl_density.datasets import Dataset
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DRLDensityWarning

DEVELOPMENT = (
    "4_breastw", "6_cardio", "14_glass", "18_Ionosphere", "29_Pima", "38_thyroid", "40_vowels", "44_Wilt",
)  # fmt: skip
MOST_ROWS, POOL = 10_000, 200
TRANSFORMS = ("gaussianize", "standardize")
RECIPES = tuple(f"{transform}/{base}" for transform in TRANSFORMS for base in ("gaussian", "mixture"))
RIVALS = ("isolation forest", "nearest neighbours", "Gaussian mixture", "kernel density", "one-class SVM")


def load(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(training rows, test rows, labels of the test rows) of one set."""
    with np.load(path) as stored:
        x, y = stored["X"].astype(np.float64), stored["y"].astype(int)
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train, rest = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    test = np.concatenate([rest, np.flatnonzero(y == 1)])
    kept = x[train].std(0) > 0
    return x[train][:, kept], x[test][:, kept], y[test]


def rival_scores(train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Outlier scores of the test rows, higher is stranger; settings are common defaults, sizes chosen on training rows."""
    order = np.random.default_rng(seed).permutation(len(train))
    held, rest = train[order[: max(5, len(train) // 7)]], train[order[max(5, len(train) // 7) :]]
    sizes = [k for k in (1, 2, 4, 8, 16) if 5 * k <= len(rest)]
    mixtures = [GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(rest) for k in sizes]
    mixture = max(mixtures, key=lambda fitted: fitted.score(held))
    widths = [float(rest.std()) * len(rest) ** (-1 / (rest.shape[1] + 4)) * f for f in (0.25, 0.5, 1.0, 2.0)]
    kernels = [KernelDensity(bandwidth=width).fit(rest) for width in widths]
    kernel = max(kernels, key=lambda fitted: fitted.score(held))
    neighbours = NearestNeighbors(n_neighbors=min(5, len(train))).fit(train)
    return {
        "isolation forest": -IsolationForest(random_state=seed).fit(train).score_samples(test),
        "nearest neighbours": neighbours.kneighbors(test)[0][:, -1],
        "Gaussian mixture": -GaussianMixture(mixture.n_components, reg_covar=1e-3, random_state=seed)
        .fit(train)
        .score_samples(test),
        "kernel density": -KernelDensity(bandwidth=kernel.bandwidth).fit(train).score_samples(test),
        "one-class SVM": -OneClassSVM(gamma="scale", nu=0.1).fit(train).score_samples(test),
    }


def our_scores(density: drl.Density, test: np.ndarray) -> dict[str, np.ndarray]:
    """Every score that a fit offers, higher is stranger."""
    found = density.outlier_scores(torch.as_tensor(test))
    profile = found.profile.numpy()
    scores = {
        "log density": -found.log_density.numpy(),
        "profile, mean": -profile.mean(1),
        "profile, least": -profile.min(1),
    }
    scores["profile, first half"] = -profile[:, : profile.shape[1] // 2].mean(1)
    scores["strangeness"] = found.strangeness.numpy()  # minus the profile's level 0 and minus its mean
    for share in (0.25, 0.5, 0.75):
        scores[f"profile at {share:.0%} of the levels"] = -profile[:, int(share * (profile.shape[1] - 1))]
    return scores


def rival_areas(data: Dataset, test: np.ndarray, labels: np.ndarray, transform: str, seed: int) -> dict[str, float]:
    """Areas of the rivals on the columns through one transform; rows outside a column's bounds are the strangest."""
    through = prepare_table(data, transform).transform
    train = torch.cat([data.train, data.validation])
    rows = tuple(through(torch.as_tensor(x)).numpy() for x in (train, test))
    inside = np.isfinite(rows[1]).all(1)
    rivals = {name: np.full(len(test), np.inf) for name in RIVALS}
    for name, scores in rival_scores(rows[0], rows[1][inside], seed).items():
        rivals[name][inside] = scores
    return {name: float(roc_auc_score(labels, rankdata(score))) for name, score in rivals.items()}


def run_set(path: Path, recipe: str, args: argparse.Namespace) -> dict:
    """All areas on one set; the recipe is transform/base."""
    train, test, labels = load(path, args.seed)
    transform, base = recipe.split("/")
    started = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        data = drl.load_dataset(train, split=drl.Split(validation=0.15, test=0.0, seed=args.seed))
        training = drl.TrainingSettings(evaluate_every=100)
        settings = drl.FitSettings(transform=transform, base=base, num_pool_draws=POOL, training=training)
        density = drl.fit(data, seed=args.seed, settings=settings, max_minutes=args.max_minutes, progress=False)
        ours = our_scores(density, test)
    seconds = time.monotonic() - started
    areas = {name: float(roc_auc_score(labels, rankdata(score))) for name, score in ours.items()}
    return {
        "set": path.stem,
        "recipe": recipe,
        "rows": len(train),
        "columns": train.shape[1],
        "anomalies": int(labels.sum()),
        "areas": areas,
        "rivals": {way: rival_areas(data, test, labels, way, args.seed) for way in TRANSFORMS},
        "seconds": seconds,
        "steps": density.provenance.steps_done,
        "verdict": density.estimate.verdict,
        "max_minutes": args.max_minutes,
    }


def choose(results: list[dict]) -> tuple[tuple[str, str], dict[str, str]]:
    """(our score and recipe, each rival's transform), by mean area on the development sets; rivals as they stand beside the
    recipe chosen.
    """
    lines = [line for line in results if line["set"] in DEVELOPMENT]
    ours, rivals = defaultdict(dict), defaultdict(dict)
    for line in lines:
        for score, area in line["areas"].items():
            ours[score, line["recipe"]][line["set"]] = area
    means = _means(ours)
    best = max(means, key=means.get)
    for line in lines:
        for way, areas in line["rivals"].items() if line["recipe"] == best[1] else ():
            for rival, area in areas.items():
                rivals[rival, way][line["set"]] = area
    against = _means(rivals)
    for key, mean in sorted((means | against).items(), key=lambda item: -item[1]):
        print(f"  development sets: {mean:.4f} {' | '.join(key)}")
    return best, {rival: max(TRANSFORMS, key=lambda way: against[rival, way]) for rival in RIVALS}


def _means(found: dict[tuple[str, str], dict[str, float]]) -> dict[tuple[str, str], float]:
    """Mean area of whatever is known of every development set."""
    return {key: float(np.mean(list(x.values()))) for key, x in found.items() if len(x) == len(DEVELOPMENT)}


def report(results: list[dict], *, num_resamples: int = 4000) -> str:
    """Areas on the sets that chose nothing, mean ranks with bootstrap intervals over sets, and paired differences."""
    (score, recipe), ways = choose(results)
    lines = [f"ours: {score} of {recipe}; rivals: {ways}"]
    found = [line for line in results if line["recipe"] == recipe and line["set"] not in DEVELOPMENT]
    found.sort(key=lambda line: int(line["set"].split("_")[0]))
    if not found:
        return "\n".join([*lines, "no other set has been run with this recipe"])
    methods = ["drl_density", *RIVALS]
    lines += ["| set | rows, columns | " + " | ".join(methods) + " |", "|---" * (len(methods) + 2) + "|"]
    table = np.array(
        [[line["areas"][score], *(line["rivals"][way][rival] for rival, way in ways.items())] for line in found]
    )
    for line, row in zip(found, table, strict=True):
        areas = " | ".join(f"{value:.3f}" for value in row)
        lines.append(f"| {line['set']} | {line['rows']}, {line['columns']} | {areas} |")
    ranks = (
        (table[:, None, :] > table[:, :, None]).sum(-1) + 0.5 * (table[:, None, :] == table[:, :, None]).sum(-1) + 0.5
    )
    draws = np.random.default_rng(0).integers(len(found), size=(num_resamples, len(found)))
    lines += ["", "| method | mean area | mean rank | ours less its area |", "|---|---|---|---|"]
    for index, method in enumerate(methods):
        rank_low, rank_high = np.quantile(ranks[draws, index].mean(1), (0.025, 0.975))
        gap = table[:, 0] - table[:, index]
        gap_low, gap_high = np.quantile(gap[draws].mean(1), (0.025, 0.975))
        lines.append(
            f"| {method} | {table[:, index].mean():.4f} | {ranks[:, index].mean():.2f} [{rank_low:.2f}, {rank_high:.2f}] | "
            f"{gap.mean():+.4f} [{gap_low:+.4f}, {gap_high:+.4f}] |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the sets that are not in the file yet, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--development", action="store_true", help="the development sets, on both transforms")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--sets", nargs="+", help="names such as 45_wine")
    parser.add_argument("--max-minutes", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="begin no set after so many minutes")
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(result["set"], result["recipe"]) for result in results}
    if args.report:
        print(report(results))
        return
    started = time.monotonic()
    paths = sorted(args.data.glob("*.npz"), key=lambda path: int(path.stem.split("_")[0]))
    for path in paths:
        if (path.stem in DEVELOPMENT) != args.development or (args.sets and path.stem not in args.sets):
            continue
        with np.load(path) as stored:
            too_large = len(stored["X"]) >= MOST_ROWS
        for recipe in args.recipes:
            if too_large or (path.stem, recipe) in done or time.monotonic() - started > 60 * args.stop_after:
                continue
            result = run_set(path, recipe, args)
            with args.out.open("a") as stream:
                stream.write(json.dumps(result) + "\n")
            areas = {name: round(area, 3) for name, area in result["areas"].items()}
            print(path.stem, recipe, f"{result['seconds']:.0f} s, {result['steps']} steps", areas, flush=True)


if __name__ == "__main__":
    sys.exit(main())
