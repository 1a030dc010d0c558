"""Kill a fit by SIGKILL at random moments, 20 times over, and compare its bits with those of an undisturbed fit.

    python tests/benchmarks/kill.py [--kills 20] [--seed 0]

Each kill falls uniformly within the time that the undisturbed fit took, start-up included; the fit is then started again
with --resume. A fit that ends before its kill is compared and begun anew, until all kills are spent. The exit status is 1
when a single bit of weights, log Z or draws differs.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from drl_density.run_folder import RunFolder

FIT = [
    "-m",
    "drl_density.cli",
    "fit",
    "banana",
    "--settings.schedule.num-levels",
    "5",
    "--settings.network.width",
    "24",
]
FIT += ["--settings.training.num-steps", "600", "--settings.training.evaluate-every", "20"]
FIT += ["--settings.num-pool-draws", "50"]


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start the fit, or go on with it."""
    how = "--resume" if RunFolder(folder).settings.is_file() else "--force"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *FIT, "--out", str(folder), how]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def differences(one: Path, other: Path) -> list[str]:
    """Names of tensors that differ in a bit."""
    first, second = (RunFolder.open(path).read_tensors("weights.safetensors")[0] for path in (one, other))
    return [name for name in first.keys() | second.keys() if not torch.equal(first[name], second[name])]


def main() -> int:
    """Fit undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    moments, kills, fits, is_finished = random.Random(args.seed), 0, 0, False
    moments_of_kills: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        undisturbed = Path(place) / "undisturbed"
        started = time.monotonic()
        if start(undisturbed).wait():
            raise SystemExit("the undisturbed fit failed")
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        while kills < args.kills or fits == 0 or not is_finished:
            folder = Path(place) / f"killed_{fits}"
            process = start(folder)
            moment = moments.uniform(0, seconds) if kills < args.kills else None
            try:
                status = process.wait(moment)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills, is_finished = kills + 1, False
                moments_of_kills.append(round(moment, 2))
                continue
            if status:
                print(f"after {kills} kills the fit ended with status {status}")
                return 1
            fits, is_finished = fits + 1, True
            found = differences(undisturbed, folder)
            print(f"{kills} kills so far; fit {fits}: {len(found)} tensors differ {found[:3]}", flush=True)
            if found:
                return 1
    print(f"{kills} kills at {moments_of_kills} s after a start, {fits} whole fits: the same bits every time")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
