"""Quality of draws against network evaluations, for every sampler and generator on one fitted density.

    drl-density fit eight_gaussians --out runs/toy --max-minutes 2
    python tests/benchmarks/sample_quality.py --run runs/toy --out toy.json --figure docs/images/quality_toy.png

and the same with digits. Draws and held-out rows are compared in model space: sliced Wasserstein-1 distance (200 directions)
and the accuracy of a random forest that tells them apart (out of bag; 0.5 is as good as it gets). The first line compares
held-out rows with training rows, which is what perfect draws would show. An evaluation is one gradient of the energy for
one draw, with its forward pass; a student's is one pass of its own network.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from drl_density.datasets import load_again
from drl_density.density import Density, DistillSettings
from drl_density.density.fitted import dequantized_rows
from drl_density.samplers import (
    AncestralSettings,
    DDIMSettings,
    FlowSettings,
    FrequencyAverage,
    PredictorCorrectorSettings,
    cosine_axes,
    plan_progressive,
    sample_ancestral,
    sample_averaged,
    sample_ddim,
    sample_flow,
    sample_predictor_corrector,
    sample_progressive,
)


def sliced_wasserstein(x: Tensor, y: Tensor) -> float:
    """Mean Wasserstein-1 distance over 200 fixed directions, equally many rows."""
    directions = torch.randn(x.shape[1], 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    return float(((x.double() @ directions).sort(0).values - (y.double() @ directions).sort(0).values).abs().mean())


def forest_accuracy(x: Tensor, y: Tensor) -> float:
    """Out-of-bag accuracy of 100 trees that tell ``x`` from ``y``."""
    rows, labels = torch.cat([x, y]).numpy(), [0] * len(x) + [1] * len(y)
    forest = RandomForestClassifier(100, oob_score=True, min_samples_leaf=3, random_state=0)
    return float(forest.fit(rows, labels).oob_score_)


def methods(density: Density, rows: Tensor, seed: int, updates: int):
    """(name, evaluations per draw, function of a count and a generator) of everything compared."""
    model, dim = density.model, density.model.event_shape.numel()
    axes, frequency = cosine_axes((dim,))
    average = FrequencyAverage(axes, 0.95 - 0.25 * frequency, 0.7 + 0.25 * frequency)

    def plain(sampler, settings):
        return lambda n, g: sampler(model, n, settings=settings, generator=g).draws

    for steps in (2, 3, 5, 10, 20, 50):
        yield f"DDIM, {steps}", steps, plain(sample_ddim, DDIMSettings(steps))
    for steps in (5, 10, 20):
        settings = DDIMSettings(steps)
        yield (
            f"DDIM averaged, {steps}",
            steps,
            lambda n, g, s=settings: sample_averaged(model, n, average=average, settings=s, generator=g).draws,
        )
    for steps in (5, 10):
        yield f"flow, {steps}", 2 * steps, plain(sample_flow, FlowSettings(steps))
    yield "ancestral, 50", 50, plain(sample_ancestral, AncestralSettings(50))
    for steps in (10, 20):
        settings = PredictorCorrectorSettings(DDIMSettings(steps, eta=1.0))
        yield f"predictor-corrector, {steps}", 4 * steps, plain(sample_predictor_corrector, settings)
    for calls in (2, 3, 5):
        settings = DistillSettings("mmd", num_calls=calls, num_updates=updates, batch_size=128)
        made = density.distill(rows, settings=settings, seed=seed)
        yield f"MMD-finetuned, {calls}", calls, lambda n, g, made=made: made.network.sample(n, generator=g)
    settings = DistillSettings("em", num_updates=3 * updates, batch_size=128, num_corrections=4)
    made = density.distill(settings=settings, seed=seed)
    yield "one-step student (EM)", 1, lambda n, g: made.network.sample(n, generator=g)
    plan = density.plan.progressive or plan_progressive(model, generator=torch.Generator().manual_seed(seed))
    count = 11 * len(plan.step_sizes) + 41
    yield (
        "progressive, adjusted chains",
        count,
        lambda n, g: sample_progressive(model, n, plan=plan, generator=g).draws,
    )


def main() -> None:
    """Compare, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("sample_quality.json"))
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    density = Density.load(args.run)
    data = load_again(density.provenance.source, density.provenance.loading)
    generator = torch.Generator().manual_seed(args.seed)

    def noised(rows: Tensor) -> Tensor:
        u = density.to_model(dequantized_rows(density, rows, generator=generator)[0])
        return density.model.schedule.diffuse(u.float(), 0, generator=generator)

    held = noised(torch.cat([data.validation, data.test]))[: args.rows]
    table = []

    def compare(name: str, evaluations: int, draws: Tensor, seconds: float) -> None:
        row = {"method": name, "evaluations": evaluations, "seconds": seconds}
        row |= {"wasserstein": sliced_wasserstein(draws, held), "accuracy": forest_accuracy(draws, held)}
        table.append(row)
        print(
            f"| {name} | {evaluations} | {row['wasserstein']:.4f} | {row['accuracy']:.3f} | {seconds:.2f} |", flush=True
        )

    print("| draws | evaluations | sliced Wasserstein | forest accuracy | s of processor time |\n|---|---|---|---|---|")
    order = torch.randperm(len(data.train), generator=generator)[: len(held)]
    compare("training rows", 0, noised(data.train[order]), 0.0)
    for name, evaluations, call in methods(density, data.train, args.seed, args.updates):
        started = time.process_time()
        draws = call(len(held), torch.Generator().manual_seed(args.seed + 1)).flatten(1).float()
        compare(name, evaluations, draws, time.process_time() - started)
    args.out.write_text(json.dumps(table, indent=1))
    if args.figure:
        draw_figure(args.figure, table)


def draw_figure(path: Path, table: list[dict]) -> None:
    """Both measures against evaluations, a line per family of methods."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axis, key in zip(figure.subplots(1, 2), ("wasserstein", "accuracy"), strict=True):
        axis.axhline(table[0][key], color="#8d99a6", linestyle=":", label="training rows")
        families: dict[str, list[dict]] = {}
        for row in table[1:]:
            families.setdefault(row["method"].rsplit(",", 1)[0], []).append(row)
        for name, rows in families.items():
            axis.plot([r["evaluations"] for r in rows], [r[key] for r in rows], "o-", markersize=4, label=name)
        axis.set_xscale("log")
        axis.set_xlabel("evaluations per draw")
        axis.set_ylabel("sliced Wasserstein" if key == "wasserstein" else "accuracy of a random forest")
    axis.legend(fontsize=6, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
