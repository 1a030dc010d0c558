"""A zuko flow on MNIST, given a time, before the classifier that judges our draws.

    python tests/benchmarks/mnist_classifier.py mnist.npz --out runs/mnist_classifier.safetensors
    python tests/benchmarks/mnist_flow.py mnist.npz --classifier runs/mnist_classifier.safetensors --minutes 40

Its transforms couple two halves of the pixels, as an autoregressive flow would draw in 784 passes each: affine ones, as
of real NVP, or rational-quadratic splines, whose steps cost more. Dequantised pixels, standardised all together; weights
of the best validation likelihood. Prints bits per dimension of test images and what the classifier says of as many draws,
as mnist_samples.py does of ours.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
import zuko
from mnist_samples import grey_levels, judged
from torch import Tensor

import drl_density as drl
from drl_density.plots import plot_data_against_samples
from drl_density.sample_quality import classifier_features

CENTER, SCALE = 33.3, 78.6
"""Mean and standard deviation of MNIST's grey levels."""


def main(arguments: list[str] | None = None) -> dict[str, object]:
    """Train, draw, judge, print; returns the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="MNIST, as for the classifier")
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=40.0, help="of processor time")
    parser.add_argument("--kind", choices=["affine", "spline"], default="affine", help="of the couplings")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--transforms", type=int, default=8)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="picture of draws")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    data = drl.load_dataset(args.source, seed=args.seed)

    def scaled(rows: Tensor) -> Tensor:
        return (rows.float() + torch.rand(rows.shape, generator=generator) - CENTER) / SCALE

    held_out, test = scaled(data.validation[:1000]), scaled(data.test[: args.samples])
    kind = zuko.flows.MAF if args.kind == "affine" else zuko.flows.NSF
    sizes = {"transforms": args.transforms, "hidden_features": (args.width, args.width)}
    flow = kind(test.shape[1], passes=2, randperm=True, **sizes)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=args.rate, weight_decay=1e-4)
    limit, step, started = 60 * args.minutes, 0, time.process_time()
    best, kept = math.inf, copy.deepcopy(flow.state_dict())
    while (gone := (time.process_time() - started) / limit) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * gone))
        rows = scaled(data.train[torch.randint(len(data.train), (args.batch,), generator=generator)])
        loss = -flow().log_prob(rows).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 100.0)
        optimizer.step()
        step += 1
        if step % 200 == 0 or (time.process_time() - started) >= limit:
            with torch.no_grad():
                value = -float(flow().log_prob(held_out).mean())
            if value < best:
                best, kept = value, copy.deepcopy(flow.state_dict())
    flow.load_state_dict(kept)
    with torch.no_grad():
        likelihood = flow().log_prob(test) - test.shape[1] * math.log(SCALE)
        drawn = flow().sample((args.samples,)).double() * SCALE + CENTER - 0.5
    grey, real = grey_levels(drawn), grey_levels(data.test[: args.samples])
    line = {
        "source": f"zuko {zuko.__version__}, {args.transforms} {args.kind} couplings of width {args.width}",
        **judged(classifier_features(args.classifier), grey, real),
        "bits_per_dimension": -float(likelihood.mean()) / (test.shape[1] * math.log(2)),
        "parameters": sum(parameter.numel() for parameter in flow.parameters()),
        "steps": step,
        "cpu_seconds": time.process_time() - started,
    }
    print(json.dumps(line), flush=True)
    if args.out is not None:
        axes = plot_data_against_samples(real[:64], grey[:64], image_shape=tuple(grey.shape[-2:]))
        axes[0].figure.savefig(args.out, dpi=90)
    return line


if __name__ == "__main__":
    main()
