"""log Z of sequences in many dimensions against known truths.

    python -m tests.benchmarks.many_dimensions exact
    python -m tests.benchmarks.many_dimensions hidden --runs 20

``exact`` is a mixture of factor analysers in 784 dimensions, whose log Z is 0, with every estimator. ``hidden`` are
normalised models in 64 dimensions whose constant nothing knows: a mixture of factor analysers, and a volume-preserving
coupling flow over one, each tilted by a bounded function. Their log Z is the log mean of the tilt's exponential over a
million exact draws. Their levels agree only roughly, as a network's do. Rows of data are weighted draws of the tilted model
without the noise of level 0.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import torch
from torch import Tensor, nn

from drl_density.bases import FactorAnalysers
from drl_density.errors import UnreliableEstimateWarning, Verdict
from drl_density.model import EnergySequence
from drl_density.partition_function import SandwichSettings, sequence_sandwich
from drl_density.schedule import NoiseSchedule
from drl_density.weights import log_mean_exp, resample, standard_error_of_log_mean

LOG_SNRS = torch.linspace(5.3, -9.0, 11)
NUM_ROWS, NUM_BRUTE, MIXING_STEPS = 600, 1_000_000, 10


def analysers(dim: int, num_components: int, num_factors: int, generator: torch.Generator) -> FactorAnalysers:
    """Factor analysers whose components lie apart and whose noise differs by a factor of ten."""
    shape = (num_components, dim)
    loadings = torch.randn(*shape, num_factors, generator=generator) * (0.6 / num_factors) ** 0.5
    noises = 0.03 + 0.3 * torch.rand(shape, generator=generator)
    means = 0.6 * torch.randn(shape, generator=generator)
    return FactorAnalysers(torch.full((num_components,), 1 / num_components), means, loadings, noises)


class Hidden(nn.Module):
    """The log density of a base, bent by a coupling flow and tilted, as a network of which nothing else is known."""

    has_bounded_growth = False

    def __init__(self, base: FactorAnalysers, *, tilt: float, bend: float, generator: torch.Generator) -> None:
        super().__init__()
        dim = base.num_features
        self.base, self.tilt, self.bend = base, tilt, bend
        self.parameter = nn.Parameter(torch.zeros(1))
        self.register_buffer("waves", torch.randn(dim, 2, generator=generator) * 1.5 / dim**0.5)
        self.register_buffer("coupling", torch.randn(dim // 2, dim - dim // 2, generator=generator) / dim**0.5)

    def height(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """The bounded tilt of a level."""
        first, second = (x @ self.waves).unbind(1)
        return self.tilt * torch.sigmoid(log_snr).to(x) * (first.sin() + second.tanh())

    def shift(self, first: Tensor, log_snr: Tensor) -> Tensor:
        """By how much the flow moves the second half of the coordinates."""
        alpha = torch.sigmoid(log_snr).to(first).sqrt()
        return alpha * self.bend * (first @ self.coupling / alpha).tanh()

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Log density of rows."""
        half = x.shape[1] // 2
        straight = torch.cat([x[:, :half], x[:, half:] - self.shift(x[:, :half], log_snr)], 1)
        return self.base(straight, log_snr) + self.height(x, log_snr)

    def draw(self, num_rows: int, log_snr: Tensor, generator: torch.Generator) -> Tensor:
        """Exact draws of the flow at one level, without the tilt."""
        z = self.base.noised(log_snr).sample(num_rows, generator=generator)
        half = z.shape[1] // 2
        return torch.cat([z[:, :half], z[:, half:] + self.shift(z[:, :half], log_snr)], 1)

    def brute_log_z(self, log_snr: Tensor, generator: torch.Generator) -> tuple[float, float]:
        """Log mean exponential of the tilt over a million draws, with its standard error."""
        parts = [self.height(self.draw(50_000, log_snr, generator), log_snr) for _ in range(NUM_BRUTE // 50_000)]
        heights = torch.cat(parts).double()
        return float(log_mean_exp(heights)), float(standard_error_of_log_mean(heights))

    def rows(self, num_rows: int, generator: torch.Generator) -> Tensor:
        """Clean rows of the tilted model, by resampling."""
        clean = torch.tensor(math.inf)
        pool = self.draw(50 * num_rows, clean, generator)
        return pool[resample(self.height(pool, clean), num_rows, generator=generator)]


def sequence(network: nn.Module, dim: int) -> EnergySequence:
    """A sequence of ten levels without a base of its own."""
    return EnergySequence(NoiseSchedule(LOG_SNRS), network, (dim,), has_base=False, is_integrable=True)


def exact(args: argparse.Namespace) -> None:
    """The exact mixture: every estimator, the gap by segment, and the time."""
    print(f"exact mixture, {args.dim}-D, {args.components} components of rank {args.factors}: log Z = 0")
    sizes = {"num_particles": args.particles, "path_steps_per_level": args.steps, "num_mixing_steps": MIXING_STEPS}
    settings = SandwichSettings(**sizes)
    for seed in range(args.first_seed, args.first_seed + args.runs):
        generator = torch.Generator().manual_seed(seed)
        base = analysers(args.dim, args.components, args.factors, generator)
        network = Hidden(base, tilt=0.0, bend=0.0, generator=generator)
        rows = base.sample(NUM_ROWS, generator=generator)
        start = time.process_time()
        found = sequence_sandwich(sequence(network, args.dim), data=rows, settings=settings, generator=generator)
        print(f"seed {seed}, {time.process_time() - start:.0f} processor seconds: {found}")
        for name, (value, error) in found.estimates.items():
            print(f"    {name.value:55s} {value:9.3f} +- {error:.3f}", flush=True)


def hidden(args: argparse.Namespace) -> None:
    """Coverage of models whose constant is hidden."""
    sizes = {"num_particles": args.particles, "path_steps_per_level": args.steps, "num_mixing_steps": MIXING_STEPS}
    settings = SandwichSettings(**sizes)
    print(
        "| model | runs | interval covers | reliable | doubtful | unreliable or unknown | mean width | mean error | "
        "worst of the reliable | s/run |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, bend in (("mixture", 0.0), ("flow", 0.2)):
        if name not in args.models:
            continue
        errors, covers, widths, verdicts, seconds = [], [], [], [], 0.0
        for seed in range(args.first_seed, args.first_seed + args.runs):
            generator = torch.Generator().manual_seed(1000 + seed)
            base = analysers(args.dim, args.components, args.factors, generator)
            network = Hidden(base, tilt=1.0, bend=bend, generator=generator)
            truth, truth_error = network.brute_log_z(LOG_SNRS[0], generator)
            rows = network.rows(NUM_ROWS, generator)
            start = time.process_time()
            found = sequence_sandwich(sequence(network, args.dim), data=rows, settings=settings, generator=generator)
            seconds += time.process_time() - start
            errors.append(found.log_z - truth)
            covers.append(found.lower < truth < found.upper)
            widths.append(found.upper - found.lower)
            verdicts.append(found.verdict)
            if args.verbose:
                print(f"{name} {seed}: {errors[-1]:+.3f} (truth {truth:.3f} +- {truth_error:.4f}) {found}", flush=True)
        finite = [width for width in widths if math.isfinite(width)]
        width = sum(finite) / len(finite) if finite else math.inf
        reliable = [verdict is Verdict.RELIABLE for verdict in verdicts]
        doubtful = sum(verdict is Verdict.DOUBTFUL for verdict in verdicts)
        flagged = sum(verdict in (Verdict.UNRELIABLE, Verdict.UNKNOWN) for verdict in verdicts)
        worst = max(
            (abs(error) for error, is_reliable in zip(errors, reliable, strict=True) if is_reliable), default=0.0
        )
        every = torch.tensor(errors)
        print(
            f"| {name}, {args.dim}-D | {args.runs} | {sum(covers)} | {sum(reliable)} | {doubtful} | {flagged} | "
            f"{width:.3f} | "
            f"{every.mean():+.3f} +- {every.std() / math.sqrt(len(every)):.3f} | {worst:.3f} | {seconds / args.runs:.1f} |",
            flush=True,
        )


def main() -> None:
    """Run one of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["exact", "hidden"])
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--components", type=int)
    parser.add_argument("--factors", type=int)
    parser.add_argument("--particles", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--models", nargs="+", default=["mixture", "flow"])
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    sizes = {"exact": (784, 32, 16, 256, 30), "hidden": (64, 4, 3, 256, 10)}[args.what]
    for name, value in zip(("dim", "components", "factors", "particles", "steps"), sizes, strict=True):
        if getattr(args, name) is None:
            setattr(args, name, value)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnreliableEstimateWarning)
    {"exact": exact, "hidden": hidden}[args.what](args)


if __name__ == "__main__":
    main()
