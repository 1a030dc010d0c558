"""Outcomes of fits at default settings over many seeds: does training ever diverge?

    python tests/benchmarks/divergence.py --npz uci_rnade.npz --seeds 20 --out divergence.jsonl
    python tests/benchmarks/divergence.py --out divergence.jsonl --only-report

Every run appends one line to ``--out``; runs already there are not repeated, so the study can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import drl_density as drl
from drl_density.errors import TrainingFailed

NAMES = ("eight_gaussians", "red_wine", "digits")


def outcome(name: str, seed: int, npz: Path) -> dict:
    """One fit: how it ended, what the doctor did, and how it compares with its floor."""
    data = np.load(npz)["red_wine"] if name == "red_wine" else drl.load_dataset(name, seed=seed)
    started = time.monotonic()
    record = {"name": name, "seed": seed}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            density = drl.fit(data, seed=seed, progress=False)
    except TrainingFailed as error:
        return record | {"outcome": "stopped by the doctor", "reason": str(error)}
    floor = max(density.baselines.gaussian, density.baselines.independent)
    return record | {
        "outcome": "finished",
        "rollbacks": sum(density.provenance.num_rollbacks.values()),
        "validation": density.baselines.model,
        "floor": floor,
        "member": density.provenance.selected_member,
        "verdict": density.estimate.verdict,
        "seconds": time.monotonic() - started,
    }


def report(records: list[dict]) -> str:
    """One row per data set."""
    head = f"{'data':16s} {'runs':>4s} {'stopped':>7s} {'rolled back':>11s} {'below floor':>11s} "
    lines = [head + f"{'validation':>20s} {'floor':>8s} {'s':>5s}"]
    for name in NAMES:
        own = [record for record in records if record["name"] == name]
        done = [record for record in own if record["outcome"] == "finished"]
        if not done:
            continue
        values = np.array([record["validation"] for record in done])
        floors = np.array([record["floor"] for record in done])
        spread = f"{values.mean():.3f} ({values.min():.3f}..{values.max():.3f})"
        lines.append(
            f"{name:16s} {len(own):4d} {len(own) - len(done):7d} {sum(r['rollbacks'] > 0 for r in done):11d} "
            f"{int((values < floors).sum()):11d} {spread:>20s} {floors.mean():8.3f} "
            f"{np.mean([r['seconds'] for r in done]):5.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path, help="archive with red_wine")
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only-report", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    known = {(record["name"], record["seed"]) for record in records}
    seeds = range(args.first_seed, args.seeds)
    wanted = [] if args.only_report else [(name, seed) for seed in seeds for name in args.names]
    for name, seed in wanted:
        if (name, seed) not in known:
            records.append(outcome(name, seed, args.npz))
            with args.out.open("a") as out:
                out.write(json.dumps(records[-1]) + "\n")
    print(report(records))


if __name__ == "__main__":
    main()
