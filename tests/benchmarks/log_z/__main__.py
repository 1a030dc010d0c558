"""log Z of targets where it is known.

    python -m tests.benchmarks.log_z --seeds 5 --jobs 2 --out runs/log-z
    python -m tests.benchmarks.log_z --families curved tails --methods sandwich dynesty --out runs/log-z
    python -m tests.benchmarks.log_z --names funnel_10d banana_2d --first-seed 3

Every run is a process of its own with a limit of processor time. Runs in ``runs.jsonl`` of the folder are not made again.
``table.md`` holds the summary and the table of every method, and methods side by side where there are several. A rival aims
at the processor time that the sandwich took on the same target with the same seed, and at five seconds at least.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from drl_density.testing import known_target_names
from drl_density.testing.targets.registry import FAMILIES
from tests.benchmarks.log_z.job import OURS
from tests.benchmarks.log_z.record import Run, read_runs
from tests.benchmarks.log_z.rivals import BOXES, RIVALS
from tests.benchmarks.log_z.run import Plan, make_runs, use_one_thread
from tests.benchmarks.log_z.table import comparison, page


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", choices=known_target_names(), metavar="NAME", help="targets by name")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), help="targets by family")
    parser.add_argument("--beside", action="store_true", help="targets and methods of the comparison with other packages")
    parser.add_argument("--methods", nargs="+", default=[OURS], choices=[OURS, *RIVALS])
    parser.add_argument("--seeds", type=int, default=1, help="runs per target, counted from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--particles", type=int, default=128, help="of the sandwich, per replicate")
    parser.add_argument("--limit", type=float, default=180.0, help="processor seconds of one run")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many minutes")
    parser.add_argument("--again", action="store_true", help="make runs again that the file holds")
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--out", type=Path, default=Path("runs/log-z"))
    return parser.parse_args()


def report(runs: list[Run], particles: int) -> str:
    """Every method's page, then methods side by side on the targets that all of them were given."""
    order = {name: place for place, name in enumerate(known_target_names())}
    runs = [run for run in runs if run.particles == particles and run.target in order]
    runs.sort(key=lambda run: (order[run.target], run.seed))
    methods = list(dict.fromkeys(run.method for run in runs))
    methods.sort(key=lambda method: method != OURS)
    commits = ", ".join(sorted({run.commit for run in runs}))
    parts = [f"commits {commits}; {particles} particles per replicate of the sandwich\n"]
    if len(methods) > 1:
        shared = set.intersection(*({run.target for run in runs if run.method == method} for method in methods))
        own = [run for method in methods for run in runs if run.method == method]
        parts.append(f"## Side by side, {len(shared)} targets\n\n{comparison(own, sorted(shared))}")
    parts += [f"## {method}\n\n{page(runs, method)}" for method in methods]
    return "\n".join(parts)


def main() -> None:
    """Make the runs that are missing and write the table."""
    args = arguments()
    use_one_thread()
    if args.beside:
        args.names, args.methods = args.names or list(BOXES), [OURS, *RIVALS]
    chosen = args.names or [name for family in args.families or FAMILIES for name in known_target_names(family)]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    if not args.report:
        methods = [OURS, *(method for method in args.methods if method != OURS)]
        make_runs(
            Plan(chosen, methods, seeds, args.particles, args.limit, args.jobs, args.minutes, args.out, again=args.again)
        )
    text = report(read_runs(args.out / "runs.jsonl"), args.particles)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
