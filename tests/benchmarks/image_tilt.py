"""The preset ``pixels_tilt``: what a network over factor analysers gains on images, and what is known about its log Z.

python -m tests.benchmarks.image_tilt mnist.npz --size 14 --minutes 27 --clock processor

The first row is the reference alone, which is normalised exactly, and the second the tilted density, kept or not, with the
interval that the fit's own estimate of log Z gives. The part of the estimator is measured by the same estimator, with the
same numbers of paths and steps, on the reference with a network that is zero, whose log Z is 0.
"""

import argparse
import dataclasses
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import torch

import drl_density as drl
from drl_density import Split, load_dataset
from drl_density.density.fitting.stages import paths
from drl_density.density.fitting.table import prepare_table
from drl_density.partition_function import SandwichSettings
from tests.benchmarks.image_ladder import Rung, shrunk


def captured(module, name, found):
    """Replace a function of a module by one that also keeps its arguments and its result."""
    inner = getattr(module, name)

    def watched(*arguments, **named):
        value = inner(*arguments, **named)
        found.append((arguments, named, value))
        return value

    setattr(module, name, watched)


class Nothing(torch.nn.Module):
    """A network that is zero everywhere, so that log Z is 0."""

    has_bounded_growth = True

    def forward(self, x, log_snr, label=None):
        return 0.0 * x.flatten(1).sum(1)


def bits(rung, log_density, *ends):
    """Bits per dimension of the test images, with those at further values of log Z, and the error over images."""
    nats, scale = -(log_density.double() + rung.log_jacobian), rung.u.shape[1] * math.log(2)
    error = float(nats.std()) / math.sqrt(len(nats)) / scale
    return [round(float(nats.mean() + end) / scale, 4) for end in (0.0, *ends)], round(error, 4)


def in_parts(function, rows):
    """Values of a function of rows, a few at a time."""
    with torch.no_grad():
        return torch.cat([function(part.float()).double() for part in rows.split(128)])


def log_z_row(name, sandwich, seconds):
    """Everything about one estimate of log Z."""
    gaps = sandwich.segments
    return {
        "row": name,
        "log_z": round(sandwich.log_z, 3),
        "interval": [round(sandwich.lower, 3), round(sandwich.upper, 3)],
        "bracket": [round(end, 3) for end in sandwich.bracket],
        "overlap": round(sandwich.overlap, 4),
        "verdict": str(sandwich.verdict),
        "advice": sandwich.advice,
        "estimates": {str(key): [round(value, 3) for value in each] for key, each in sandwich.estimates.items()},
        "segments": [
            [*(round(end, 2) for end in levels), round(gap, 2), round(error, 2), round(scatter, 2)]
            for levels, gap, error, scatter in zip(
                gaps.levels, gaps.gaps, gaps.standard_errors, gaps.scatters, strict=True
            )
        ],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Print every row as soon as it is known, and write them as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images, as load_dataset takes them; .npz files can be shrunk")
    parser.add_argument("--size", type=int, help="side in pixels to which the images of an .npz file are averaged")
    parser.add_argument("--minutes", type=float, default=27.0, help="max_minutes of the fit")
    parser.add_argument("--most-test", type=int, default=1000, help="test images that are scored")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what a minute is counted by")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toy", action="store_true", help="a tiny network on 3 levels, to try this script")
    parser.add_argument("--save", action="store_true", help="keep the run in the folder density of --out")
    parser.add_argument("--progress", action="store_true", help="print the messages and the bar of the fit")
    parser.add_argument("--out", type=Path, default=Path("runs/image_tilt"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.clock == "processor":
        time.monotonic = time.process_time  # as in the ladder of images
    given.out.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {"source": Path(given.source).name, "size": given.size, "minutes": given.minutes}
    about |= {"clock": given.clock, "commit": commit.stdout.strip(), "seed": given.seed}

    def say(row):
        print(json.dumps(row), flush=True)
        with (given.out / "rows.jsonl").open("a") as lines:
            lines.write(json.dumps({**about, **row}) + "\n")

    data = load_dataset(shrunk(given.source, given.size, given.out), split=Split(seed=given.seed))
    settings = drl.FitSettings.preset("pixels_tilt")
    if len(data.event_shape) == 1:  # flat rows of square images, as scikit-learn's digits are
        side = math.isqrt(data.event_shape[0])
        settings = dataclasses.replace(settings, network=dataclasses.replace(settings.network, shape=(1, side, side)))
    if given.toy:
        settings = dataclasses.replace(
            settings,
            network=dataclasses.replace(settings.network, num_channels=4, num_middle_blocks=1),
            schedule=dataclasses.replace(settings.schedule, num_levels=3),
            training=dataclasses.replace(settings.training, num_steps=40, evaluate_every=20),
            num_particles=16,
            num_pool_draws=2,
        )
    judged, sandwiches = [], []
    captured(sys.modules["drl_density.density.fitting.fit"], "judged", judged)
    captured(paths, "sequence_sandwich", sandwiches)
    began = time.monotonic()
    folder = given.out / "density" if given.save else None
    density = drl.fit(
        data, seed=given.seed, settings=settings, max_minutes=given.minutes, progress=given.progress, out=folder
    )
    seconds = time.monotonic() - began
    rung = Rung(prepare_table(data, "histogram"), 0.0, given.most_test, given.seed)
    base = density.model.base
    (exact,), error = bits(rung, in_parts(base.log_prob, rung.u))
    say({"row": "reference", "bits": exact, "error": error, "components": base.num_components})
    if not judged or not density.provenance.steps_done:
        raise SystemExit("no tilt was trained: allow more minutes")
    (_, chosen, _), _, (_, _) = judged[0]
    model, history = chosen.model, density.history
    kept = {name: round(float(history[name][-1]), 3) for name in ("validation_score_matching", "validation_scatter")}
    facts = {"steps": density.provenance.steps_done, "best": density.provenance.best_step, "last": kept}
    say({"row": "fit", "rejection": density.provenance.rejection, "seconds": round(seconds, 1), **facts})
    at_zero = in_parts(lambda part: model.base(part, model.schedule.log_snr_at(0)), rung.u)
    (noised,), _ = bits(rung, at_zero)
    say({"row": "reference at the noise of level 0", "bits": noised, "sigma": float(model.schedule.sigma_at(0))})
    tilt = in_parts(lambda part: model.tilt(part, 0), rung.u)
    say({"row": "tilt", "mean": round(float(tilt.mean()), 2), "error": round(float(tilt.std()) / len(tilt) ** 0.5, 2)})
    if not sandwiches:
        return
    arguments, named, sandwich = sandwiches[0]
    say(log_z_row("tilted", sandwich, sandwich.precision.seconds))
    at, low, high = sandwich.log_z, sandwich.lower, sandwich.upper
    (unnormalised, *ends), error = bits(rung, at_zero + tilt, at, low, high)
    say({"row": "tilted", "bits": ends, "at_log_z_0": unnormalised, "error": error, "verdict": str(sandwich.verdict)})
    began, generator = time.monotonic(), torch.Generator().manual_seed(given.seed)
    sizes: SandwichSettings = named["settings"]
    still = model.with_network(Nothing())
    found = drl.partition_function.sequence_sandwich(still, data=named["data"], settings=sizes, generator=generator)
    say(log_z_row("the estimator alone: a tilt of zero", found, time.monotonic() - began))


if __name__ == "__main__":
    main()
