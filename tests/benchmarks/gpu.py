"""Training steps/s and samples/s of the T6 CIFAR-10 setting beside a plain eager loop of the same algorithm, in one run.

    python tests/benchmarks/gpu.py --batch 256 32 8                       # the paper's setting on a CUDA device
    python tests/benchmarks/gpu.py --batch 256 --precision bfloat16 --channels-last --compile
    python tests/benchmarks/gpu.py --toy                                  # a toy size, on any machine

The baseline is tests/benchmarks/plain_recovery_likelihood.py with our own network. Rounds alternate between both; the
figures are medians. The achieved share is the network's floating-point operations per second, as counted by torch, over
the rate of one large convolution (forward and both backward passes) measured in the same run, in the same precision. The
sampler's overhead is K kernel steps over K + 1 bare passes (forward and input gradient). Prints one JSON line per batch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from drl_density import ULA, EnergySequence, NoiseSchedule, TrainingSettings
from drl_density.execution import chain_passes, precision
from drl_density.mcmc import value_and_gradient
from drl_density.networks import ResidualEnergy, ResidualSettings, StepCalibrated
from drl_density.parallel import Workers
from drl_density.samplers import ShortRunSettings, sample_short_run
from drl_density.training import LangevinChains, LangevinRecovery, TrainingState, new_state
from drl_density.training.gradient_step import gradient_step, prepare_network

sys.path.insert(0, str(Path(__file__).parent))
import plain_recovery_likelihood as plain

CIFAR = ResidualSettings((3, 32, 32), num_channels=128, multipliers=(1, 2, 2, 2), num_blocks=8)
TOY = ResidualSettings((3, 8, 8), num_channels=8, multipliers=(1, 2), num_blocks=1)


class LeveledNetwork(nn.Module):
    """f(y, t) of the plain loop: our raw network with the level as an index."""

    def __init__(self, network: ResidualEnergy, log_snr: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("log_snr", log_snr)

    def forward(self, y: Tensor, level: Tensor) -> Tensor:
        """Raw output of each row."""
        return self.network(y, self.log_snr[level])


def our_state(settings: ResidualSettings, device: str) -> TrainingState:
    """The T6 sequence of our own, ready to train on ``device``."""
    schedule = NoiseSchedule.linear_beta()
    raw = ResidualEnergy(settings, generator=torch.Generator().manual_seed(0))
    step_alpha, step_size = schedule.langevin_steps()
    network = StepCalibrated(raw, schedule.log_snr[:-1].float(), step_alpha.float(), step_size.float())
    model = EnergySequence(schedule, network, settings.image_shape).to(device)
    state = new_state(model, learning_rate=1e-4, weight_decay=0.0, average_decay=0.999, seed=0)
    state.generator = torch.Generator(device).manual_seed(0)
    state.step_sizes = state.step_sizes.to(device)
    return state


def seconds(call: Callable[[], object], device: str) -> float:
    """Wall time of one call with the device drained on both sides."""
    drain = torch.cuda.synchronize if device == "cuda" else lambda: None
    drain()
    started = time.perf_counter()
    call()
    drain()
    return time.perf_counter() - started


def alternate(calls: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """Median seconds of each call, taken in turns after one warm-up each."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    return {name: statistics.median(values) for name, values in times.items()}


def convolution_rate(args: argparse.Namespace, settings: ResidualSettings, batch: int) -> float:
    """Floating-point operations per second of one 3x3 convolution of the network's widest kind, forward and backward, in
    the faster of both memory formats."""
    channels = settings.num_channels * max(settings.multipliers)
    side = settings.image_shape[1] // 2

    def passes(memory_format: torch.memory_format) -> Callable[[], None]:
        weight, x = (
            torch.randn(shape, device=args.device).to(memory_format=memory_format).requires_grad_(True)
            for shape in ((channels, channels, 3, 3), (batch, channels, side, side))
        )

        def pass_once() -> None:
            with lowered(args):
                out = functional.conv2d(x, weight, padding=1)
            torch.autograd.grad(out.sum(), (x, weight))

        return pass_once

    formats = {"first": torch.contiguous_format, "last": torch.channels_last}
    taken = alternate({name: passes(value) for name, value in formats.items()}, args.device, 5 * args.rounds)
    return 3 * 2 * batch * channels**2 * 9 * side**2 / min(taken.values())


def lowered(args: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """The precision asked for, for the baseline too."""
    if args.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(args.device, torch.bfloat16)


def measure(args: argparse.Namespace, settings: ResidualSettings, batch: int) -> dict[str, object]:
    """All figures at one batch size."""
    state, chains = our_state(settings, args.device), LangevinChains(num_steps=args.steps)
    objective = LangevinRecovery(chains=chains)
    training = TrainingSettings(
        batch_size=batch,
        precision=args.precision,
        is_channels_last=args.channels_last,
        is_compiled=args.compile,
    )
    log_snr = state.model.schedule.log_snr[:-1].float()
    network = LeveledNetwork(ResidualEnergy(settings, generator=torch.Generator().manual_seed(0)), log_snr)
    network.to(args.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images = torch.rand(batch, *settings.image_shape, device=args.device) * 2 - 1
    values = plain.constants(args.device)
    prepare_network(state.model.network, training)
    state.model.execution.is_graphed = args.graphed

    def ours_step() -> None:
        gradient_step(state, objective, lambda count, generator: images[:count], training, Workers())

    def plain_step() -> None:
        with lowered(args):
            plain.training_step(network, optimizer, images, values, args.steps)

    def ours_sample() -> None:
        with precision(state.model, torch.bfloat16 if args.precision == "bfloat16" else torch.float32):
            sample_short_run(state.model, batch, settings=ShortRunSettings(chains=chains), generator=state.generator)

    def plain_sample() -> None:
        with lowered(args):
            plain.sample(network, (batch, *settings.image_shape), values, args.steps)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images, torch.zeros(batch, dtype=torch.long, device=args.device))
    # K passes forward and back to the input, then two rows of passes forward, back to the input and to the weights.
    operations = (2 * args.steps + 6) * counter.get_total_flops()
    trained = alternate({"ours": ours_step, "plain": plain_step}, args.device, args.rounds)
    rate = convolution_rate(args, settings, batch)
    figures = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "network": "CIFAR-10 T6" if settings is CIFAR else "toy",
        "batch": batch,
        "precision": args.precision,
        "channels_last": args.channels_last,
        "tf32": args.tf32,
        "compiled": args.compile,
        "graphed": args.graphed,
        "training_steps_per_second": 1 / trained["ours"],
        "training_over_plain": trained["plain"] / trained["ours"],
        "measured_convolution_tflops": rate / 1e12,
        "achieved_share_training": operations / trained["ours"] / rate,
        "plain_share_training": operations / trained["plain"] / rate,
    }
    if args.training_alone:
        return figures
    sampled = alternate({"ours": ours_sample, "plain": plain_sample}, args.device, args.rounds)
    return figures | {
        "samples_per_second": batch / sampled["ours"],
        "samples_over_plain": sampled["plain"] / sampled["ours"],
        "sampler_overhead": overhead(args, state, batch),
    }


def overhead(args: argparse.Namespace, state: TrainingState, batch: int) -> float:
    """K kernel steps over K + 1 bare passes of the same frozen density."""
    model = state.model.eval().requires_grad_(False)
    log_snr = model.schedule.log_snr_at(2).float().to(args.device)
    x = torch.randn(batch, *model.event_shape, device=args.device)

    def log_density(states: Tensor) -> Tensor:
        return model.log_density_at(states, log_snr)

    def steps() -> None:
        kernel = ULA()
        current = kernel.init(x, log_density)
        for _ in range(args.steps):
            current, _ = kernel.step(current, log_density, 0.01, state.generator)

    def bare() -> None:
        for _ in range(args.steps + 1):
            value_and_gradient(log_density, x)

    steps, bare = in_chain(args, model, steps), in_chain(args, model, bare)
    taken = alternate({"steps": steps, "bare": bare}, args.device, args.rounds)
    model.requires_grad_(True)
    return taken["steps"] / taken["bare"]


def in_chain(args: argparse.Namespace, model: EnergySequence, call: Callable[[], object]) -> Callable[[], object]:
    """The same call, its passes those of a chain."""

    def inside() -> object:
        dtype = torch.bfloat16 if args.precision == "bfloat16" else torch.float32
        with precision(model, dtype), chain_passes(model, is_adjusted=False):
            return call()

    return inside


def main(arguments: list[str] | None = None) -> list[dict[str, object]]:
    """Measure every batch size; prints and returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 32])
    parser.add_argument("--steps", type=int, default=30, help="K, Langevin steps per level")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--training-alone", action="store_true", help="leave out samples/s, which take minutes")
    parser.add_argument("--tf32", action="store_true", help="TF32 convolutions and products, for both alike")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graphed", action="store_true", help="our chains replay their passes from CUDA graphs")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args(arguments)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.tf32
    results = []
    for batch in args.batch:
        results.append(measure(args, TOY if args.toy else CIFAR, batch))
        print(json.dumps(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    main()
