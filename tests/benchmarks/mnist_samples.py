"""Drawn MNIST digits before a fixed classifier: of ancestral steps, and of long adjusted chains from data and from noise.

    python tests/benchmarks/mnist_classifier.py mnist.npz --out runs/mnist_classifier.safetensors
    drl-density fit mnist.npz --preset mnist_denoising --max-minutes 40 --out runs/mnist
    python tests/benchmarks/mnist_samples.py runs/mnist mnist.npz --classifier runs/mnist_classifier.safetensors
    python tests/benchmarks/mnist_samples.py ... --guidance 0.5                        # a fit that was told labels
    python tests/benchmarks/mnist_samples.py ... --chain-steps 10000 --device cuda     # or --chains 20 on a CPU

Draws are denoised at level 0, as pictures are looked at. "confident" is the share whose top probability is at least 0.9, the
entropy that of the mean class probabilities in nats; precision and recall are in the classifier's features beside as many
test images. Of a fit that was told labels, equally many draws and chains are made of each label's own density, sharper by
--guidance; chains from data begin at test images of that label. Prints a line per source and writes a sheet of each.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.density.derived.guided import guided_model
from drl_density.execution import chain_passes
from drl_density.mcmc import MALA, DualAveraging, Recording, run_chain
from drl_density.plots import plot_data_against_samples
from drl_density.sample_quality import (
    FeatureExtractor,
    class_entropy,
    classifier_features,
    confident_share,
    precision_and_recall,
)
from drl_density.samplers import DDIMSettings, sample_ddim


def main(arguments: list[str] | None = None) -> list[dict[str, object]]:
    """Draw, judge, print; returns the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the fit")
    parser.add_argument("source", help="MNIST, as for the classifier")
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100, help="ancestral steps from level T to 0")
    parser.add_argument(
        "--chain-steps", type=int, default=0, help="adjusted steps at level 0, from data and from noise"
    )
    parser.add_argument("--chains", type=int, help="how many chains; as many as samples when not given")
    parser.add_argument("--guidance", type=float, default=0.0, help="w of the densities of labels, see density.guided")
    parser.add_argument("--device", help="such as cuda, where passes of chains are replayed from graphs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    density = drl.Density.load(args.run, device=args.device)
    density.model.execution.is_graphed = True
    data = drl.load_dataset(args.source, seed=args.seed)
    parts = split_by_label(density, data, args.samples, args.guidance)
    look, real = classifier_features(args.classifier), grey_levels(data.test[: args.samples])
    lines = []
    for name, draws, details in sources(density, parts, args):
        with torch.no_grad():
            clean = torch.cat([part.model.denoise(x, 0) for part, x in zip(parts, draws, strict=True)])
        grey = grey_levels(density.transform.inv(clean.double().cpu()))
        lines.append({"source": name} | judged(look, grey, real) | details)
        print(json.dumps(lines[-1]), flush=True)
        mixed = torch.randperm(len(grey), generator=torch.Generator().manual_seed(args.seed))[:64]
        axes = plot_data_against_samples(real[:64], grey[mixed], image_shape=tuple(grey.shape[-2:]))
        axes[0].figure.savefig(args.run / f"{name.replace(' ', '_')}.png", dpi=90)
    return lines


def grey_levels(rows: Tensor) -> Tensor:
    """Square pictures of rows in grey levels, ``(n, 1, side, side)``, uint8."""
    side = math.isqrt(rows[0].numel())
    return rows.round().clamp(0, 255).to(torch.uint8).reshape(-1, 1, side, side)


def judged(look: FeatureExtractor, grey: Tensor, real: Tensor) -> dict[str, object]:
    """What the classifier says of pictures beside as many real ones."""
    drawn = look.apply(grey)
    features, log_classes = drawn.values, drawn.log_probabilities
    precision, recall = precision_and_recall(features, look.apply(real[: len(grey)]).values)
    return {
        "samples": len(grey),
        "confident": confident_share(log_classes.exp()),
        "class_entropy": class_entropy(log_classes.exp()),
        "precision": precision,
        "recall": recall,
    }


@dataclass(frozen=True)
class Part:
    """The density of one label, or of all rows, and the test rows that are its own."""

    model: drl.EnergySequence
    rows: Tensor


def split_by_label(density: drl.Density, data: drl.Dataset, count: int, guidance: float) -> list[Part]:
    """A part per label of a fit that was told some, else one; ``count`` test rows in all."""
    values = density.provenance.labels
    if not values:
        if guidance:
            raise SystemExit("--guidance is for fits that were told labels (--settings.network.num-classes 10)")
        return [Part(density.model, data.test[:count])]
    models = [guided_model(density, value, weight=guidance) for value in values]
    rows = [data.test[data.labels[2] == value][: count // len(values)] for value in values]
    return [Part(model, part) for model, part in zip(models, rows, strict=True)]


def sources(
    density: drl.Density, parts: list[Part], args: argparse.Namespace
) -> Iterator[tuple[str, list[Tensor], dict[str, object]]]:
    """(name, states of level 0 in model space by part, details)."""
    generator = torch.Generator().manual_seed(args.seed)
    schedule, device, count = density.model.schedule, density.model.device, args.samples // len(parts)
    noised = []
    for part in parts:
        grey = part.rows.double() + torch.rand(part.rows.shape, generator=generator, dtype=torch.float64)
        noised.append(schedule.diffuse(density.transform(grey).float(), 0, generator=generator).to(device))
    yield "test images at level 0", noised, {}
    started = time.process_time()
    settings = DDIMSettings(num_steps=args.steps, eta=1.0)
    drawn = [sample_ddim(part.model, count, settings=settings, generator=generator).draws for part in parts]
    seconds = {"cpu_seconds": time.process_time() - started}
    details = {"steps": args.steps, "guidance": args.guidance, "labels": len(density.provenance.labels)}
    yield f"{args.steps} ancestral steps", drawn, details | seconds
    if not args.chain_steps:
        return
    chains = (args.chains or args.samples) // len(parts)
    if not chains:
        raise SystemExit(f"--chains {args.chains} makes none for some of {len(parts)} labels: ask for at least so many")
    between = torch.cat(noised)[torch.randperm(sum(map(len, noised)), generator=generator)]
    between = float((between[:-1] - between[1:]).square().mean())
    for name, starts in (("data", noised), ("noise", drawn)):
        started = time.process_time()
        found = [
            long_chain(part, start[:chains], args.chain_steps, generator)
            for part, start in zip(parts, starts, strict=True)
        ]
        moved = torch.cat([end - start[:chains] for (end, _), start in zip(found, starts, strict=True)])
        yield (
            f"chains from {name}",
            [end for end, _ in found],
            {
                "steps": args.chain_steps,
                "acceptance": sum(rate for _, rate in found) / len(found),
                "moved_over_random_pair": float(moved.square().mean()) / between,
                "cpu_seconds": time.process_time() - started,
            },
        )


def long_chain(part: Part, start: Tensor, num_steps: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Where adjusted chains of level 0 end, and their mean acceptance after the warm-up."""
    model = part.model
    with chain_passes(model, is_adjusted=True):
        chain = run_chain(
            MALA(),
            lambda x: model.log_density(x, 0),
            start,
            num_steps=num_steps,
            step_size=0.3 * float(model.schedule.sigma_at(0)),
            num_warmup=max(1, num_steps // 10),
            adaptation=DualAveraging(MALA.target_acceptance),
            recording=Recording(keep_draws=False),
            generator=generator,
        )
    return chain.final_state.position, float(chain.stats["acceptance_rate"].mean())


if __name__ == "__main__":
    main()
