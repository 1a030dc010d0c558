"""One short training of the network of ``pixels_tilt``: what it gains by level, how paths scatter, and whether it is silent.

    python -m tests.benchmarks.image_tilt_trial mnist.npz --size 14 --seconds 60 --rate 6e-4 --weight 0.3

Everything is over one base of factor analysers, given ``--reference`` seconds. Seconds are of the processor, training
alone. A line gives the gain of the score-matching sum over the base in nats, in all and by level, the scatter of
paths in all and by level, the median norm of gradients, and the root mean square of what the readout sees. Once there are
particles, a second line gives how far chains of level 0 raise the tilt above that of images, which a good tilt does not
allow.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import torch

import drl_density as drl
from drl_density import Split, load_dataset
from drl_density.density.data_units import freeze
from drl_density.density.fitting.bases import ReferenceTime
from drl_density.density.fitting.plan import plan_on_table
from drl_density.density.fitting.stages import paths
from drl_density.density.fitting.table import prepare_table
from drl_density.training import LevelParticles, PathMeter
from drl_density.training.objectives.paths.matching import SCATTER
from drl_density.training.objectives.paths.particles import PARTICLES, STEP
from tests.benchmarks.image_ladder import Rung, shrunk
from tests.benchmarks.image_tilt import bits, captured, in_parts, log_z_row


def plan_of(given):
    """The plan of the preset with the network and the objective of the command line."""
    data = load_dataset(shrunk(given.source, given.size, given.out), split=Split(seed=0))
    allowed = dataclasses.replace(ReferenceTime(), most_factors=4 * given.reference)  # of which a quarter is taken
    table = prepare_table(data, "histogram").with_bases("factors", allowed=allowed)
    settings = drl.FitSettings.preset("pixels_tilt")
    side = math.isqrt(data.train[0].numel())
    network = dataclasses.replace(
        settings.network,
        shape=(1, side, side),
        num_channels=given.channels,
        multipliers=tuple(given.multipliers),
        num_middle_blocks=given.blocks,
        patch_size=given.patch,
        has_linear_readout=not given.silu,
    )
    objective = dataclasses.replace(
        settings.objective,
        increment_weight=given.weight,
        increments_from=given.begin,
        particle_weight=given.particles,
        num_particles=given.kept,
        num_moved=given.moved,
        renewed_share=given.renewed,
    )
    return plan_on_table(table, dataclasses.replace(settings, network=network, objective=objective), seed=0)


def drift(model, rows, step, *, count, base_share, num_chains=32):
    """Mean tilt of chains after a number of steps, begun at rows or at draws of the base, less that of rows."""
    chains = LevelParticles(1.0, num_chains, num_chains, count, renewed_share=0.0, base_share=base_share)
    generator = torch.Generator().manual_seed(3)
    drawn = {PARTICLES: chains.begin(model, rows, num_chains, generator=generator), STEP: step}
    with torch.no_grad():
        return round(float(chains(model, rows[:512], drawn, generator=generator)), 1)


def show_log_z(plan, model):
    """Bits of 1,000 test images under the reference and under the tilt, with the estimate of log Z that ends a fit."""
    rung, found = Rung(plan.table, 0.0, 1000, 0), []
    captured(paths, "sequence_sandwich", found)
    exact = bits(rung, in_parts(model.base.log_prob, rung.u))
    base = in_parts(lambda part: model.base(part, model.schedule.log_snr_at(0)), rung.u)
    tilt = in_parts(lambda part: model.tilt(part, 0), rung.u)
    began = time.monotonic()
    paths.tilt_log_z(model, plan.validation(seed=0).rows[: paths.MOST_ROWS], seed=0)
    _, _, sandwich = found[0]
    print(json.dumps(log_z_row("tilted", sandwich, time.monotonic() - began)))
    ends = sandwich.log_z, sandwich.lower, sandwich.upper
    print("bits: reference", exact, "with the noise of level 0", bits(rung, base), "tilted", bits(rung, base + tilt, *ends))
    print("gain at log Z and its ends, nats:", [round(float(tilt.mean()) - end, 2) for end in ends])


def main() -> None:
    """Train, and print a line at the beginning, at every third, and at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images, as load_dataset takes them; .npz files can be shrunk")
    parser.add_argument("--size", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--reference", type=float, default=25.0, help="seconds of the factor analysers")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=100.0)
    parser.add_argument("--weight", type=float, default=0.5, help="weight of the squared increments")
    parser.add_argument("--begin", type=float, default=0.5, help="share of the training after which they join in")
    parser.add_argument("--particles", type=float, default=4.0, help="weight of the contrast with particles of level 0")
    parser.add_argument("--moved", type=int, default=32, help="particles that each step moves")
    parser.add_argument("--kept", type=int, default=256, help="particles that are kept")
    parser.add_argument("--renewed", type=float, default=0.02, help="share of the moved particles that start again")
    parser.add_argument("--base-share", type=float, default=0.5, help="share of these that begin at draws of the base")
    parser.add_argument("--chains", type=int, nargs="*", default=[60, 300], help="lengths of chains that are looked at")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--multipliers", type=int, nargs="*", default=[1])
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--patch", type=int, default=1)
    parser.add_argument("--silu", action="store_true", help="a SiLU before the readout")
    parser.add_argument("--log-z", action="store_true", help="log Z of the averaged network at the end, and test bits")
    parser.add_argument("--out", type=Path, default=Path("runs/image_tilt_trial"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    time.monotonic = time.process_time
    plan = plan_of(given)
    rows, state = plan.validation(seed=0).rows, plan.new_state(plan.members[0].base, seed=0)
    model, generator = state.model, torch.Generator().manual_seed(1)
    model.network.to(memory_format=torch.channels_last)
    done, seen = [0.0], [math.nan]
    particles = dataclasses.replace(plan.objective.particles, base_share=given.base_share)
    objective = dataclasses.replace(
        plan.objective, particles=particles, tables=lambda: state.drawn, progress=lambda: done[0]
    )
    meter = PathMeter(objective, most_rows=48)
    model.network.leave.register_forward_pre_hook(
        lambda _, features: seen.__setitem__(0, float(features[0].detach().square().mean().sqrt()))
    )
    size, first = objective.steps_per_level, []

    def show(step, norms):
        """One line about the averaged weights."""
        errors, tables = meter._measured(state.averaged_model, rows)
        meter._last = tables
        state.drawn.update(tables)
        first.append(errors)
        gains, scatter = first[0] - errors, tables[SCATTER]
        print(
            f"{done[0] * given.seconds:.0f} s, {step} steps: gain {float(gains.sum()):.2f}",
            [round(float(part.sum()), 1) for part in gains.split(size)],
            f"scatter {float(scatter.square().sum().sqrt()):.2f}",
            [round(float(part.square().sum().sqrt()), 1) for part in scatter.split(size)],
            f"norm {float(torch.tensor(norms).median()):.0f}, readout sees {seen[0]:.2g}",
            flush=True,
        )
        if STEP in state.drawn:
            ends = {
                f"{count} steps from {start}": drift(
                    state.averaged_model, rows, state.drawn[STEP], count=count, base_share=share
                )
                for count in given.chains
                for start, share in (("images", 0.0), ("the base", 1.0))
            }
            print("   tilt above that of images:", ends, flush=True)

    print(f"base: {plan.members[0].base.num_components} components, sigma {float(model.schedule.sigma_at(0)):g}")
    show(0, [0.0])
    spent, step, norms, shown = 0.0, 0, [], 0.0
    while done[0] < 1:
        began = time.monotonic()
        rate = given.rate * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done[0]))
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        model.train()
        state.optimizer.zero_grad()
        x = plan.table.batches(given.batch, generator)
        objective(model, x, state.step_sizes, generator=generator).loss.backward()
        norms.append(float(state.clip_gradients(given.clip)))
        state.optimizer.step()
        state.average.update_parameters(model)
        step, spent = step + 1, spent + time.monotonic() - began
        done[0] = spent / given.seconds
        if done[0] > shown + 1 / 3 or done[0] >= 1:
            shown = done[0]
            show(step, norms)
            norms = []
    if given.log_z:
        show_log_z(plan, freeze(state.averaged_model))


if __name__ == "__main__":
    main()
