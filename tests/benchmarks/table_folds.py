"""Test log-likelihood on small real tables beside flows and classical estimators, every rival on two scalings.

    python tests/benchmarks/table_folds.py --npz uci_rnade.npz --name red_wine --models rivals --out rivals.json
    python tests/benchmarks/table_folds.py --npz uci_rnade.npz --name red_wine --merge rivals.json --models ours

Protocol: 10 folds with duplicate rows kept together; values dequantised by each column's rounding width (training rows
afresh in every batch or copy, held-out rows once); every rival on standardised columns and on the transform that our fit
uses; nats per row in train-standardised units; our density is normalised by annealed importance sampling.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import zuko
from scipy import stats
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import drl_density as drl
from drl_density import FitSettings
from drl_density.datasets import Dataset, folds, notice_columns
from drl_density.density.fitting.table import Table, prepare_table
from drl_density.transforms import standardize

OURS = "drl_density | gaussianized"


def fold_dataset(x: np.ndarray, indices: tuple, name: str) -> Dataset:
    """One fold as a Dataset in train-standardised units, so that all figures share a unit."""
    train, validation, test = (torch.as_tensor(x[index], dtype=torch.float64) for index in indices)
    mean, scale = train.mean(0), train.std(0)
    raw = notice_columns(x, [f"x{i}" for i in range(x.shape[1])])
    columns = tuple(
        dataclasses.replace(
            column,
            width=column.width / float(s),
            lower=(column.lower - float(m)) / float(s),
            upper=(column.upper - float(m)) / float(s),
            is_positive=False,
        )
        for column, m, s in zip(raw, mean, scale, strict=True)
    )
    parts = [(rows - mean) / scale for rows in (train, validation, test)]
    return Dataset(
        name=name,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        columns=columns,
        event_shape=(x.shape[1],),
        weights=None,
        source=name,
        known_log_density=None,
    )


def rivals(table: Table, scaling: str, seed: int) -> dict[str, np.ndarray]:
    """Per-row test log-likelihoods of every rival on one scaling, in the dataset's units."""
    data = table.dataset
    generator = torch.Generator().manual_seed(seed)
    transform = table.transform if scaling == "gaussianized" else standardize(data.train)
    copies = torch.cat([table.rows(data.train, generator=generator) for _ in range(10)])
    train = table.rows(data.train, generator=generator)
    held = {
        name: table.rows(rows, generator=torch.Generator().manual_seed(1))
        for name, rows in (("validation", data.validation), ("test", data.test))
    }
    u = {name: transform(rows) for name, rows in held.items()}
    jacobian = transform.log_abs_det_jacobian(held["test"], u["test"]).numpy()
    v, w = u["validation"].numpy(), u["test"].numpy()
    fitted, many = transform(train).numpy(), transform(copies).numpy()
    result = {}
    normal = stats.multivariate_normal(fitted.mean(0), np.cov(fitted.T) + 1e-9 * np.eye(fitted.shape[1]))
    result["gaussian copula" if scaling == "gaussianized" else "gaussian"] = normal.logpdf(w)
    if scaling == "gaussianized":
        result["independent"] = stats.norm.logpdf(w).sum(1)
    kdes = [KernelDensity(bandwidth=h).fit(fitted) for h in np.geomspace(0.05, 1.0, 20)]
    result["KDE"] = max(kdes, key=lambda m: m.score(v)).score_samples(w)
    mixtures = [
        GaussianMixture(k, covariance_type=kind, reg_covar=1e-3, random_state=seed, n_init=2).fit(many)
        for k in (1, 2, 3, 5, 8, 12, 20)
        for kind in ("full", "diag")
    ]
    result["GMM"] = max(mixtures, key=lambda m: m.score(v)).score_samples(w)
    source = _Batches(table, transform)
    for name, make in FLOWS.items():
        runs = [train_flow(make, source, u["validation"].float(), seed=seed, hidden=h) for h in (32, 128)]
        best = max(runs, key=lambda run: run[0])
        with torch.no_grad():
            result[name] = best[1]().log_prob(u["test"].float()).double().numpy()
    return {f"{name} | {scaling}": values + jacobian for name, values in result.items()}


class _Batches:
    def __init__(self, table: Table, transform: torch.distributions.Transform) -> None:
        self.table, self.transform = table, transform
        self.num_features = table.dataset.train.shape[1]

    def __call__(self, generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(self.table.dataset.train), (256,), generator=generator)
        return self.transform(self.table.rows(self.table.dataset.train[chosen], generator=generator)).float()


FLOWS = {
    "MAF": lambda d, h: zuko.flows.MAF(d, transforms=5, hidden_features=(h, h)),
    "NSF": lambda d, h: zuko.flows.NSF(d, transforms=3, bins=8, hidden_features=(h, h)),
}


def train_flow(make, source: _Batches, validation: torch.Tensor, *, seed: int, hidden: int) -> tuple:
    """Adam with a cosine rate, weight decay and early stopping on validation; the best state by validation."""
    torch.manual_seed(seed)
    flow = make(source.num_features, hidden)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=2e-3, weight_decay=1e-4)
    num_steps = 3000
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    generator = torch.Generator().manual_seed(seed)
    best, kept, since = -np.inf, None, 0
    for step in range(num_steps):
        loss = -flow().log_prob(source(generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        rate.step()
        if step % 50 == 49:
            with torch.no_grad():
                value = float(flow().log_prob(validation).mean())
            if value > best:
                best, kept, since = value, {k: t.clone() for k, t in flow.state_dict().items()}, 0
            else:
                since += 1
            if since >= 12:
                break
    flow.load_state_dict(kept)
    return best, flow


def run_fold(x: np.ndarray, fold: int, name: str, args: argparse.Namespace) -> dict:
    """All figures of one fold."""
    indices = list(folds(x, 10, seed=0))[fold]
    dataset = fold_dataset(x, indices, name)
    table = prepare_table(dataset)
    test = table.rows(dataset.test, generator=torch.Generator().manual_seed(1))
    result = {"fold": fold, "rows": len(test), "means": {}}
    if "ours" in args.models:
        started = time.time()
        density = drl.fit(dataset, seed=fold, settings=FitSettings(), progress=args.progress)
        result |= {
            "seconds": time.time() - started,
            "member": density.provenance.selected_member,
            "sigma": density.provenance.selected_sigma,
            "log_z": [density.estimate.log_z, density.estimate.standard_error],
            "verdict": density.estimate.verdict,
        }
        result["means"][OURS] = float(density.log_prob(test).mean())
    if "rivals" in args.models:
        for scaling in ("standardized", "gaussianized"):
            figures = rivals(table, scaling, fold)
            result["means"] |= {key: float(values.mean()) for key, values in figures.items()}
    return result


def merge(parts: list[list[dict]]) -> list[dict]:
    """Results of several runs over the same folds as one list; later runs win."""
    joined: dict[int, dict] = {}
    for result in (result for part in parts for result in part):
        before = joined.get(result["fold"], {"means": {}})
        joined[result["fold"]] = {**before, **result, "means": before["means"] | result["means"]}
    return [joined[fold] for fold in sorted(joined)]


def report(results: list[dict]) -> str:
    """Mean over folds, and the paired difference to ours with its standard error."""
    results = [result for result in results if OURS in result["means"]] or results
    ours = np.array([result["means"].get(OURS, float("nan")) for result in results])
    lines = [f"{'model':34s} {'nats/row':>9s} {'ours - it':>10s} {'s.e.':>7s}"]
    for key in results[0]["means"]:
        values = np.array([result["means"][key] for result in results])
        difference = ours - values
        error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else float("nan")
        lines.append(f"{key:34s} {values.mean():9.3f} {difference.mean():10.3f} {error:7.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run the folds asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", nargs="+", choices=("ours", "rivals"), default=["ours", "rivals"])
    parser.add_argument("--merge", type=Path, nargs="*", default=[], help="earlier --out files to report together with")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    x = np.load(args.npz)[args.name]
    earlier = [json.loads(path.read_text()) for path in args.merge]
    results: list[dict] = []
    for fold in args.folds:
        results.append(run_fold(x, fold, args.name, args))
        print(f"fold {fold}:\n{report(merge([*earlier, results]))}", flush=True)
        if args.out is not None:
            args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    sys.exit(main())
