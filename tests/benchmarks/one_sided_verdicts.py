"""Verdicts of one-sided annealing on targets of known log Z, by the weights alone and with the other side.

    python tests/benchmarks/one_sided_verdicts.py --out FILE
    python tests/benchmarks/one_sided_verdicts.py --out FILE --table

Each target is annealed from N(0, s^2 I) along 100 geometric bridges with the settings' defaults (8 replicates of 256
particles). s is 4, and 1 where the target is that narrow, see ``SCALES``. A target without gradient has random-walk steps
and 2,048 particles, since its walls leave few of them alive. One line of JSON per target and seed is appended to FILE;
those already there are left out. A run is wrong if it is off by more than 0.1 nats or 3 half widths of its 95 %
interval, as for the sandwich. Evaluations are rows that the log density is computed for.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path

import pyro.distributions as dist
import torch
from torch import Tensor

import drl_density as drl
from drl_density.errors import UnreliableEstimateWarning
from drl_density.mcmc import RandomWalk
from drl_density.testing import known_target
from drl_density.weights import LogPartitionEstimate

NARROW = """
gaussian_2d gaussian_20d gaussian_narrow_5d gaussian_correlated_50d many_well_32d many_well_rotated_8d laplace_10d
flat_top_4d ising_3x3 spin_glass_4x4 field_ring_16 linear_regression_10d state_space_20d logistic_regression_20d
poisson_regression_2d horseshoe_11d horseshoe_centred_9d weibull_regression_3d eight_schools_10d
eight_schools_centred_10d groups_22d groups_centred_22d pumps_11d binomial_rates_7d spike_and_slab_1d
spike_and_slab_8d rosenbrock_3d rosenbrock_conditional_8d half_space_oblique_10d half_normal_2d
"""
WIDE = """
gaussian_wide_5d gaussian_mixed_scales_4d pair_at_30_1d two_modes_10d two_modes_near_5d two_modes_100_apart_2d
unequal_pair_5d minor_mode_6d narrow_and_wide_5d narrow_and_wide_10d needles_10d three_scales_3d ring_of_eight_2d
grid_of_25_2d correlated_mixture_8d skewed_pair_3d seven_narrow_1d twin_shells_2d twin_shells_10d banana_2d
bananas_mild_10d bananas_10d funnel_3d funnel_10d egg_box_2d cauchy_1d cauchy_10d student_3_product_5d
student_2_rotated_6d multivariate_t2_10d root_tails_3d logistic_5d barely_proper_1d label_switching_2
logistic_regression_2d robust_regression_2d frequency_1d change_point_16 walled_box_3d
"""
SCALES = dict.fromkeys(NARROW.split(), 1.0) | dict.fromkeys(WIDE.split(), 4.0)
WITHOUT_GRADIENT = {"walled_box_3d"}
WALLED = drl.AISSettings(kernel=RandomWalk(), num_particles=2048, num_pilot_particles=2048)
FAR_OFF, FAR_OFF_HALF_WIDTHS = 0.1, 3.0


class Counted:
    """A log density that counts the rows it is computed for."""

    def __init__(self, target) -> None:
        self.target, self.rows = target, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.target.unnormalized_log_prob(x)


def by_weights_alone(found: LogPartitionEstimate) -> str:
    """The verdict that the weights alone gave until November 2026."""
    share = min(found.weight_ess / found.log_weights.shape[1], found.path.least_ess_share)
    if found.larger_error > 0.5 or share < 0.05 or not math.isfinite(found.log_z):
        return "unreliable"
    is_doubtful = found.larger_error > 0.1 or share < 0.2 or found.pareto_k > 0.7
    return "doubtful" if is_doubtful else "reliable"


def study(name: str, seed: int) -> dict:
    """Anneal to one target."""
    known = known_target(name)
    log_density, scale = Counted(known.target), SCALES[name]
    place = torch.zeros(known.target.event_shape, dtype=torch.float64)
    base = dist.Normal(place, scale).to_event(1)
    path = drl.geometric_path(base, log_density, num_bridges=100)
    found = {"target": name, "seed": seed, "scale": scale, "truth": known.log_z}
    began = time.process_time()
    settings = WALLED if name in WITHOUT_GRADIENT else None
    try:
        estimate = drl.annealed_importance_sampling(path, settings=settings, generator=torch.Generator().manual_seed(seed))
    except (drl.errors.NumericalError, ValueError) as error:
        return found | {"error_of_run": str(error)[:200]}
    other = estimate.other_side
    low, high = estimate.interval()
    return found | {
        "log_z": estimate.log_z,
        "error": estimate.standard_error,
        "half": 0.5 * (high - low),
        "before": by_weights_alone(estimate),
        "after": estimate.verdict,
        "advice": estimate.advice,
        "bennett": None if other is None else other.log_z,
        "overlap": None if other is None else other.overlap,
        "seconds": time.process_time() - began,
        "evaluations": log_density.rows,
        "is_checked": other is not None,
    }


def is_wrong(line: dict) -> bool:
    """Whether the estimate is off."""
    off = abs(line["log_z"] - line["truth"])
    return not (off <= FAR_OFF and off <= FAR_OFF_HALF_WIDTHS * max(line["half"], 1e-6))


def table(lines: list[dict]) -> str:
    """The results as a table, and the counts of both verdicts."""
    rows = ["| target | off, nats | by weights alone | with the other side | overlap | evaluations |", "|---" * 6 + "|"]
    for line in sorted(lines, key=lambda line: (line["target"], line["seed"])):
        if "log_z" not in line:
            rows.append(f"| {line['target']} | | error: {line['error_of_run'][:60]} | | | |")
            continue
        mark = " (wrong)" if is_wrong(line) else ""
        overlap = "" if line["overlap"] is None else f"{line['overlap']:.2f}"
        off = f"{line['log_z'] - line['truth']:+.3f} +- {line['error']:.3f}"
        reason = "" if line["after"] == "reliable" else f": {line['advice'][:90]}"
        rows.append(
            f"| {line['target']} | {off}{mark} | {line['before']} | {line['after']}{reason} | {overlap} | "
            f"{line['evaluations']:,} |"
        )
    done = [line for line in lines if "log_z" in line]
    for name in ("before", "after"):
        reliable = [line for line in done if line[name] == "reliable"]
        wrong = sum(map(is_wrong, reliable))
        rows.append(f"\n{name}: {len(reliable)} of {len(done)} reliable, {wrong} of them wrong")
    return "\n".join(rows)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("one_sided_verdicts.jsonl"))
    parser.add_argument("--targets", nargs="*", default=list(SCALES), choices=list(SCALES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnreliableEstimateWarning)
    lines = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(line["target"], line["seed"]) for line in lines}
    for seed in args.seeds:
        for name in args.targets:
            if args.table or (name, seed) in done:
                continue
            lines.append(study(name, seed))
            with args.out.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print({key: lines[-1].get(key) for key in ("target", "log_z", "truth", "before", "after")}, flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
