"""Drawn MNIST digits before a fixed classifier: of ancestral steps, and of long adjusted chains from data and from noise.

    python tests/benchmarks/mnist_classifier.py mnist.npz --out runs/mnist_classifier.safetensors
    drl-density fit mnist.npz --preset mnist_denoising --max-minutes 40 --out runs/mnist
    python tests/benchmarks/mnist_samples.py runs/mnist mnist.npz --classifier runs/mnist_classifier.safetensors
    python tests/benchmarks/mnist_samples.py ... --chain-steps 10000 --device cuda     # or --chains 32 on a CPU

Draws are denoised at level 0, as pictures are looked at. "confident" is the share whose top probability is at least 0.9, the
entropy that of the mean class probabilities in nats; precision and recall are in the classifier's features beside as many
test images. Prints a line per source and writes a sheet of draws of each.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import drl_density as drl
from drl_density.mcmc import MALA, DualAveraging, Recording, run_chain
from drl_density.plots import plot_data_against_samples
from drl_density.sample_quality import (
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
    parser.add_argument("--device", help="such as cuda, where passes of chains are replayed from graphs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    density = drl.Density.load(args.run, device=args.device)
    density.model.is_graphed = True
    test = drl.load_dataset(args.source, seed=args.seed).test[: args.samples]
    look = classifier_features(args.classifier)
    shape = density.event_shape
    _, height, width = shape if len(shape) == 3 else (1, *shape)
    real = test.round().clamp(0, 255).to(torch.uint8).reshape(-1, 1, height, width)
    lines = []
    for name, draws, details in sources(density, test, args):
        with torch.no_grad():
            pictures = density.transform.inv(density.model.denoise(draws, 0).double().cpu())
        grey = pictures.round().clamp(0, 255).to(torch.uint8).reshape(-1, 1, height, width)
        features, log_classes = look.apply(grey)
        real_features, _ = look.apply(real)
        precision, recall = precision_and_recall(features, real_features)
        line = {
            "source": name,
            "samples": len(grey),
            "confident": confident_share(log_classes.exp()),
            "class_entropy": class_entropy(log_classes.exp()),
            "precision": precision,
            "recall": recall,
        } | details
        lines.append(line)
        print(json.dumps(line), flush=True)
        figure = plot_data_against_samples(real[:64], grey[:64], image_shape=(height, width))
        figure.savefig(args.run / f"{name.replace(' ', '_')}.png", dpi=90)
    return lines


def sources(
    density: drl.Density, test: Tensor, args: argparse.Namespace
) -> Iterator[tuple[str, Tensor, dict[str, object]]]:
    """(name, states of level 0 in model space, details)."""
    model, generator = density.model, torch.Generator().manual_seed(args.seed)
    clean = density.transform(test.double() + torch.rand(test.shape, generator=generator, dtype=torch.float64)).float()
    noised = model.schedule.diffuse(clean, 0, generator=generator).to(model.device)
    yield "test images at level 0", noised, {}
    started = time.process_time()
    settings = DDIMSettings(num_steps=args.steps, eta=1.0)
    drawn = sample_ddim(model, args.samples, settings=settings, generator=generator).draws
    seconds = {"cpu_seconds": time.process_time() - started}
    yield f"{args.steps} ancestral steps", drawn, {"steps": args.steps} | seconds
    if not args.chain_steps:
        return
    between = float((noised[:-1] - noised[1:]).square().mean())
    for name, start in (("data", noised[: args.chains]), ("noise", drawn[: args.chains])):
        started = time.process_time()
        with model.chain_passes(is_adjusted=True):
            chain = run_chain(
                MALA(),
                lambda x: model.log_density(x, 0),
                start,
                num_steps=args.chain_steps,
                step_size=0.3 * float(model.schedule.sigma_at(0)),
                num_warmup=max(1, args.chain_steps // 10),
                adaptation=DualAveraging(MALA.target_acceptance),
                recording=Recording(keep_draws=False),
                generator=generator,
            )
        end = chain.final_state.position
        yield (
            f"chains from {name}",
            end,
            {
                "steps": args.chain_steps,
                "acceptance": float(chain.stats["acceptance_rate"].mean()),
                "moved_over_random_pair": float((end - start).square().mean()) / between,
                "cpu_seconds": time.process_time() - started,
            },
        )


if __name__ == "__main__":
    main()
