"""One-step students and finetuned walks beside the densities that taught them.

    python -m tests.benchmarks.distillation fit runs/distillation
    python -m tests.benchmarks.distillation em runs/distillation --out distillation.jsonl
    python -m tests.benchmarks.distillation em runs/distillation --sets two_rings --variants "flow alone" "EM alone"
    python -m tests.benchmarks.distillation mmd runs/distillation --out distillation.jsonl
    python -m tests.benchmarks.distillation report distillation.jsonl

``fit`` makes short fits: mixtures in closed form of three toys and of digits, mixtures with a tilt for checkerboard and
the tables. All comparisons are in model space, with 1,000 draws in each set.

``em`` compares a student with draws of its density by ``density.sample``. "sliced" is the mean sliced Wasserstein-1 distance
(200 directions) of 32 sets of the student to 32 of the density, in units of that between two sets of the density.
The distance of a single set varies by a fifth, so "error" is the standard error of the mean over sets of both kinds.
"told" is the accuracy of gradient boosting in five folds, 0.5 where nothing is learned. "outside" is the share of draws
whose log density is below that of 99 % of the density's own: 0.01 for perfect draws, more where bridges join the modes.
"inner" is the share of draws that lie nearer to the density's mean than half of its own, 0.5 for perfect draws.
"EM alone" begins at a Gaussian with the moments of the density, and so far away.

``mmd`` compares a walk of five calls, before and after finetuning on the training rows, with validation and test rows: the
unbiased squared discrepancy by the kernel that was trained with and by two others, and precision and recall. "spacing" is
the median distance of a draw to the nearest other one over that of held-out rows, below 1 where draws lie in filaments.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from torch import Tensor

import drl_density as drl
from drl_density.density import Density, DistillSettings
from drl_density.distillation import (
    EMDistillationSettings,
    GapNetwork,
    OneStepGenerator,
    cubic_kernel,
    distill_by_em,
    energy_kernel,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.sample_quality import precision_and_recall

NUM_DRAWS, NUM_SETS, NUM_TOLD = 1000, 32, 4
DIRECTIONS = 200
CLOSED = drl.FitSettings(base="mixture", network=drl.NoNetwork(), num_pool_draws=1000)
TILTED = drl.FitSettings(
    base="mixture",
    network=drl.ColumnNetwork(width=64),
    training=drl.TrainingSettings(num_steps=60, evaluate_every=60),
    num_folds=1,
    num_pool_draws=1000,
)
FITS = {
    "eight_gaussians": CLOSED,
    "two_rings": CLOSED,
    "banana": CLOSED,
    "checkerboard": TILTED,
    "wine": TILTED,
    "diabetes": TILTED,
    "digits": CLOSED,
}
FLOW = DistillSettings("em", num_updates=0)
COLD = dataclasses.replace(FLOW, num_warm_updates=0)
ALONE = EMDistillationSettings(
    num_steps=300, learning_rate=5e-4, score_steps=1, score_learning_rate=1e-3, first_score_steps=100
)
CORRECTED = dataclasses.replace(ALONE, num_corrections=4)
# How a student begins, and the updates by EM after that; None for the updates of ``density.distill(method="em")``.
VARIANTS: dict[str, tuple[DistillSettings, EMDistillationSettings | None]] = {
    "default": (DistillSettings("em"), None),
    "flow alone": (FLOW, None),
    "flow, fast EM": (FLOW, ALONE),
    "Gaussian start": (COLD, None),
    "EM alone": (COLD, ALONE),
    "EM alone, 5 score updates": (COLD, dataclasses.replace(ALONE, score_steps=5, first_score_steps=300)),
    "EM alone, 5 score updates, 100 at first": (COLD, dataclasses.replace(ALONE, score_steps=5)),
    "EM alone, 750 updates": (COLD, dataclasses.replace(ALONE, num_steps=750)),
    "EM alone, first noise left": (COLD, dataclasses.replace(ALONE, cancellation="accumulated")),
    "EM alone, no cancellation": (COLD, dataclasses.replace(ALONE, cancellation="none")),
    "EM alone, 4 corrections": (COLD, CORRECTED),
    "EM alone, 4 with latents": (COLD, dataclasses.replace(CORRECTED, step_latent=1e-4)),
    "EM alone, 4, no cancellation": (COLD, dataclasses.replace(CORRECTED, cancellation="none")),
    "EM alone, last weights": (COLD, dataclasses.replace(ALONE, averaging=0.0)),
    "EM alone, equal weights": (COLD, dataclasses.replace(ALONE, noise_power=0.0)),
}
WALK = DistillSettings("mmd", num_calls=5)
KERNELS = {
    "log, the default": WALK,
    "multistep, no training": dataclasses.replace(WALK, rule="multistep", num_updates=0),
    "log, multistep": dataclasses.replace(WALK, rule="multistep"),
    "energy": dataclasses.replace(WALK, kernel="energy"),
    "energy, 1024 draws": dataclasses.replace(WALK, kernel="energy", batch_size=1024),
    "rbf": dataclasses.replace(WALK, kernel="rbf"),
    "cubic": dataclasses.replace(WALK, kernel="cubic"),
}


def projected(x: Tensor) -> Tensor:
    """Projections of states on fixed directions, each in rising order, ``(n, directions)``."""
    directions = torch.randn(x.shape[1], DIRECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x @ (directions / directions.norm(dim=0))).sort(0).values


def distances(x: list[Tensor], y: list[Tensor]) -> Tensor:
    """Sliced Wasserstein-1 distances of all pairs of equally large sets."""
    second = [projected(states) for states in y]
    return torch.stack([torch.stack([(a - b).abs().mean() for b in second]) for a in map(projected, x)])


def told_apart(x: Tensor, y: Tensor) -> float:
    """Accuracy of gradient boosting that tells ``x`` from ``y``, in five folds."""
    rows, labels = torch.cat([x, y]).numpy(), np.repeat([0, 1], [len(x), len(y)])
    model = HistGradientBoostingClassifier(max_iter=60, early_stopping=False, random_state=0)
    return float(cross_val_score(model, rows, labels, cv=StratifiedKFold(5, shuffle=True, random_state=0)).mean())


def nearest(x: Tensor) -> float:
    """Median distance of a row to the nearest other one."""
    return float(torch.cdist(x, x).kthvalue(2, 1).values.median())


class Reference:
    """Draws of a density, and how far apart they lie among themselves."""

    def __init__(self, density: Density) -> None:
        self.density = density
        self.sets = self.draw(100)
        among = distances(self.sets, self.sets)
        self.sliced = float(among.sum() / (NUM_SETS * (NUM_SETS - 1)))
        rows = torch.cat(self.sets)
        self.floor, self.mean = float(self.heights(rows).quantile(0.01)), rows.mean(0)
        self.radius = float((rows - self.mean).norm(dim=1).median())

    def draw(self, seed: int) -> list[Tensor]:
        """Independent sets of draws."""
        return list(self.states(self.density.sample(NUM_DRAWS * NUM_SETS, seed=seed)).split(NUM_DRAWS))

    def states(self, rows: Tensor) -> Tensor:
        """Rows in data units as states, flat."""
        return self.density.to_model(rows.reshape(len(rows), -1).double())

    def heights(self, states: Tensor) -> Tensor:
        """Log density of states in model space."""
        with torch.no_grad():
            return self.density.model.log_density(states.float(), 0).double()

    def compare(self, draws: list[Tensor]) -> dict[str, float]:
        """Distances of sets of states in units of the density's own, and what a classifier and the density say."""
        found = distances(draws, self.sets) / self.sliced
        error = sum(float(found.mean(axis).var()) / found.shape[1 - axis] for axis in (0, 1)) ** 0.5
        told = np.mean([told_apart(x, y) for x, y in zip(draws[:NUM_TOLD], self.sets, strict=False)])
        outside = torch.cat([self.heights(x) < self.floor for x in draws]).double().mean()
        inner = float(((torch.cat(draws) - self.mean).norm(dim=1) < self.radius).double().mean())
        values = {"sliced": float(found.mean()), "error": error, "told": float(told)}
        return {**values, "outside": float(outside), "inner": inner}


def fit(folder: Path, names: list[str]) -> None:
    """Fit what is not there yet."""
    for name in names:
        if not (folder / name).exists():
            started = time.process_time()
            density = drl.fit(name, seed=0, settings=FITS[name], progress=False)
            density.save(folder / name)
            print(f"{name}: {density}, {time.process_time() - started:.0f} s", flush=True)


def student_of(density: Density, start: DistillSettings, em: EMDistillationSettings | None, seed: int) -> OneStepGenerator:
    """A one-step student of the density."""
    student = density.distill(settings=start, seed=seed).network
    assert isinstance(student, OneStepGenerator)
    if em is not None:
        source = torch.Generator().manual_seed(seed)
        gap = GapNetwork(student.num_latents, generator=source)
        distill_by_em(density.model, student, gap_network=gap, settings=em, generator=source)
    return student


def study_students(folder: Path, name: str, chosen: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """Distil in several ways, and compare each student and further draws of the density with the density's draws."""
    density = Density.load(folder / name)
    reference = Reference(density)
    rows = [{"set": name, "variant": "the density", "seed": seed, "seconds": 0.0, **reference.compare(reference.draw(200))}]
    print(line(rows[0]), flush=True)
    for variant, (start, em) in chosen.items():
        started = time.process_time()
        student = student_of(density, start, em, seed)
        seconds = time.process_time() - started
        sources = [torch.Generator().manual_seed(number) for number in range(NUM_SETS)]
        # In data units, as a user has them: there the columns of tables are rounded.
        points = [density.to_points(student.sample(NUM_DRAWS, generator=source)) for source in sources]
        found = reference.compare([reference.states(x) for x in points])
        rows.append({"set": name, "variant": variant, "seed": seed, "seconds": seconds, **found})
        print(line(rows[-1]), flush=True)
    return rows


def study_walks(folder: Path, name: str, chosen: dict[str, DistillSettings], seed: int) -> list[dict[str, Any]]:
    """Finetune a walk by several kernels, and judge each on held-out rows by all of them."""
    density, data = Density.load(folder / name), drl.load_dataset(name, seed=0)
    held = density.to_model(torch.cat([data.validation, data.test]).double())[:2000]
    train = density.to_model(data.train.double())[:2000]
    median = float(torch.cdist(held[:500], held[:500]).median())
    judges = {"energy": energy_kernel, "rbf": rbf_kernel(0.5 / median**2), "cubic": cubic_kernel}

    def judge(states: Tensor) -> dict[str, float]:
        found = {kernel: float(unbiased_mmd(states, held, judges[kernel])) for kernel in judges}
        precision, recall = precision_and_recall(states, held)
        count = min(len(states), len(held))
        spacing = nearest(states[:count]) / nearest(held[:count])
        return {**found, "precision": precision, "recall": recall, "spacing": spacing}

    walk = density.draw(2000, settings=drl.DrawSettings("ddim", num_steps=WALK.num_calls), seed=seed).draws
    states = {"training rows": (train, 0.0), "DDIM": (density.to_model(walk.reshape(len(walk), -1)), 0.0)}
    for kernel, settings in chosen.items():
        started = time.process_time()
        made = density.distill(data.train, settings=settings, seed=seed)
        seconds = time.process_time() - started
        drawn = density.to_model(made.sample(2000, seed=seed).reshape(2000, -1))
        states[kernel if not settings.updates else f"finetuned, {kernel}"] = (drawn, seconds)
    rows = []
    for variant, (x, seconds) in states.items():
        rows.append({"set": name, "variant": variant, "seed": seed, "seconds": seconds, **judge(x)})
        print(line(rows[-1]), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """One row of a table."""
    parts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
    return f"| {' | '.join(parts)} |"


def main() -> None:
    """Fit, study or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["fit", "em", "mmd", "report"])
    parser.add_argument("place", type=Path, help="folder of the fits; the file of records for report")
    parser.add_argument("--sets", nargs="+", default=list(FITS), choices=list(FITS))
    parser.add_argument("--variants", nargs="+", help="ways of distilling, or kernels; the default alone if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file that records are added to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if args.action == "report":
        for text in args.place.read_text().splitlines():
            print(line(json.loads(text)))
        return
    if args.action == "fit":
        fit(args.place, args.sets)
        return
    study, ways = (study_students, VARIANTS) if args.action == "em" else (study_walks, KERNELS)
    chosen = {name: ways[name] for name in args.variants or [next(iter(ways))]}
    for name in args.sets:
        rows = study(args.place, name, chosen, args.seed)
        if args.out:
            with args.out.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
