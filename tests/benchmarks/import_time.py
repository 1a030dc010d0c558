"""Processor time of importing the package and of ``drl-density --help`` beside ``import torch, pyro``.

Every round starts one fresh interpreter per command, in turn, so that a busy machine slows all of them alike. Times are
user plus system seconds of the subprocess; the closing table has medians, and medians of the ratios within a round.

    python tests/benchmarks/import_time.py [--rounds 11]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

TOUCH = "import drl_density as drl; [getattr(drl, name) for name in drl.__all__ if name != 'DRLDensity']"
COMMANDS = {
    "import torch, pyro": ["-c", "import torch, pyro"],
    "import drl_density": ["-c", "import drl_density"],
    "every public name": ["-c", TOUCH],
    "drl-density --help": ["-c", "from drl_density.cli import main; raise SystemExit(main(['--help']))"],
}


def processor_time(arguments):
    """User plus system seconds of a new interpreter, which must succeed."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args(words)
    for arguments in COMMANDS.values():
        processor_time(arguments)  # fills the caches of files and bytecode
    rounds = [{name: processor_time(each) for name, each in COMMANDS.items()} for _ in range(options.rounds)]
    found = []
    for name in COMMANDS:
        seconds = statistics.median(times[name] for times in rounds)
        ratio = statistics.median(times[name] / times["import torch, pyro"] for times in rounds)
        found.append({"command": name, "seconds": round(seconds, 2), "ratio": round(ratio, 2)})
        print(json.dumps(found[-1]))
    return found


if __name__ == "__main__":
    main()
