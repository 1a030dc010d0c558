"""Processor time of one training step, with what depends on the noise level alone computed once per level and once per row.

    python tests/benchmarks/training_step.py

Both ways take turns in one run, on the same rows and the same random numbers; their losses are printed beside the times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from unittest import mock

import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture
from drl_density.networks import MLP, MLPSettings
from drl_density.training import RecoveryLikelihood


def sequence(num_features: int, num_components: int, width: int) -> drl.EnergySequence:
    """A network whose output depends on the level, over a random mixture."""
    generator = torch.Generator().manual_seed(0)
    network = MLP(MLPSettings(num_features, width=width), generator=generator)
    for part in (network.readout, network.modulate):
        torch.nn.init.normal_(part.weight, std=0.02, generator=generator)
    factors = torch.randn(num_components, num_features, num_features, generator=generator)
    covariances = factors @ factors.mT / num_features + 0.3 * torch.eye(num_features)
    means = torch.randn(num_components, num_features, generator=generator)
    base = NoisedGaussianMixture(torch.full((num_components,), 1 / num_components), means, covariances)
    return drl.EnergySequence(drl.NoiseSchedule.log_spaced(12), network, (num_features,), base=base)


def step(model: drl.EnergySequence, x: torch.Tensor, *, is_by_row: bool) -> tuple[float, float]:
    """(processor time in ms, loss) of one gradient."""
    modules = ("networks.mlp", "bases.gaussian_mixture") if is_by_row else ()
    patches = [mock.patch(f"drl_density.{name}.distinct_levels", lambda values: (values, None)) for name in modules]
    for patch in patches:
        patch.start()
    started = time.process_time()
    found = RecoveryLikelihood(num_steps=4)(model, x, torch.ones(12), generator=torch.Generator().manual_seed(1))
    model.zero_grad()
    found.loss.backward()
    elapsed = 1000 * (time.process_time() - started)
    for patch in patches:
        patch.stop()
    return elapsed, float(found.loss.detach())


def main() -> None:
    """Print one row per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| dimensions | components of the base | by row, ms | by level, ms | ratio | losses |\n|---|---|---|---|---|---|"
    )
    for num_features, num_components in ((2, 1), (11, 1), (11, 8), (64, 1), (64, 8)):
        model = sequence(num_features, num_components, args.width)
        x = torch.randn(args.batch, num_features, generator=torch.Generator().manual_seed(2))
        taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for _ in range(args.rounds):
            for is_by_row, found in taken.items():
                found.append(step(model, x, is_by_row=is_by_row))
        row, level = (statistics.median(t for t, _ in taken[is_by_row]) for is_by_row in (True, False))
        losses = " and ".join(f"{taken[is_by_row][0][1]:.6f}" for is_by_row in (True, False))
        print(
            f"| {num_features} | {num_components} | {row:.1f} | {level:.1f} | {level / row:.2f} | {losses} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
