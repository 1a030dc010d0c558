"""Generators taught by a fitted density: one to a few network calls per draw, and plainly not draws of that density."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.density.fitted import FittedModel, dequantized_rows
from drl_density.density.seeds import random_generator
from drl_density.density.storage.finished import check_same_run
from drl_density.devices import global_generator_kept
from drl_density.distillation import (
    EMDistillationSettings,
    GapNetwork,
    MMDSettings,
    OneStepGenerator,
    RollOut,
    TiltedGaussianNetwork,
    WarmStartSettings,
    cubic_kernel,
    distill_by_em,
    energy_kernel,
    finetune,
    follow_flow,
    log_kernel,
    rbf_kernel,
    unbiased_mmd,
)
from drl_density.distillation.mmd import FeatureKernel
from drl_density.distributions import SampleResult
from drl_density.errors import DataError, RunFolderError
from drl_density.records.fields import (
    Interval,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
)
from drl_density.records.given import given_or_default
from drl_density.run_folder import RunFolder
from drl_density.samplers import DDIMSettings, RefinementSettings, sample_refined
from drl_density.shapes import check_num_samples

JITTER = 1e-4
"""Variance added to the draws' covariance, so that it has a Cholesky factor when draws are few."""
WIDTH_ROWS = 500
"""Rows whose pairwise distances give the kernel widths: 125,000 pairs, at a cost that does not matter."""
WIDTHS = (4.0, 1.0, 0.25)
"""Widths of "rbf" as factors of the squared median distance. One width sees no finer difference than itself."""
LOG_SCALE = 0.02
"""Scale of the "log" kernel, in median distances of the rows."""
USUAL_UPDATES = {"mmd": 300, "em": 100}
"""Updates where the settings name none."""
USUAL_RATE = {"mmd": 1e-3, "em": 2e-6}
"""Learning rates where the settings name none, "em" as in its paper: corrections must not outrun what learns the gap."""
FIELDS_OF_ONE_METHOD = {
    "mmd": ("num_calls", "rule", "kernel"),
    "em": ("num_corrections", "width", "num_blocks", "num_warm_updates"),
}
"""Settings that one of the methods has and the other has not."""


@dataclass(frozen=True)
class DistillSettings:
    """The method by which a generator is distilled from a density, and its sizes.

    Attributes:
        method: "mmd" finetunes a walk of ``num_calls`` steps on data; "em" trains a one-step generator on the density.
        num_calls: network calls per draw of "mmd".
        rule: rule of this walk. "multistep" extrapolates the estimates along it. On images its draws are nearer to the data
            in as many calls, before finetuning and after it. On tables they are nearer before it, and not always after it.
        num_updates: number of gradient steps; None takes 300 for "mmd" and 100 for "em". With 0, the walk (or
            the student after its start at the flow) is returned as it is.
        batch_size: draws in each gradient step.
        learning_rate: initial learning rate of Adam, which falls to zero; None takes 1e-3 for "mmd" and 2e-6 for "em".
        kernel: kernel of "mmd". The widths of "rbf" are multiples of the median distance of the rows, and the scale of "log"
            is a fiftieth of it. "energy" has none, and sees small differences badly.
        num_corrections: Langevin steps in the E-step of "em".
        width: hidden units of the one-step generator of "em".
        num_blocks: residual blocks of the one-step generator.
        num_warm_updates: updates towards the density's probability flow with which "em" begins.

    Raises:
        ValueError: an unknown method, rule or kernel, a setting of the other method, counts that are not positive, or
            batches of one.

    >>> DistillSettings("mmd", num_calls=5, rule="multistep").updates
    300
    """

    method: Literal["mmd", "em"] = "mmd"
    num_calls: PositiveInt = 4
    rule: Literal["ddim", "multistep"] = "ddim"
    num_updates: NonNegativeInt | None = None
    batch_size: Annotated[int, Interval(2)] = 256
    learning_rate: PositiveFloat | None = None
    kernel: Literal["rbf", "cubic", "energy", "log"] = "log"
    num_corrections: PositiveInt = 1
    width: PositiveInt = 128
    num_blocks: PositiveInt = 3
    num_warm_updates: NonNegativeInt = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        other = "em" if self.method == "mmd" else "mmd"
        for name in FIELDS_OF_ONE_METHOD[other]:
            value = getattr(self, name)
            if value != getattr(type(self), name):
                raise ValueError(
                    f'{name} is a setting of method "{other}", got {value!r} with method "{self.method}": leave it out'
                )

    @property
    def updates(self) -> int:
        """Number of gradient steps."""
        return USUAL_UPDATES[self.method] if self.num_updates is None else self.num_updates

    @property
    def rate(self) -> float:
        """First learning rate."""
        return USUAL_RATE[self.method] if self.learning_rate is None else self.learning_rate


@methods_outside_inference_mode
class Generator:
    """Draws in data units from a distilled network. It has no density, and its draws are not the fitted density's.

    :meth:`correct` runs adjusted chains of the density from its draws, which leads to the density itself.

    Args:
        density: the density that taught it.
        network: a :class:`~drl_density.distillation.RollOut` or ``OneStepGenerator`` in model space.
        settings: method and sizes of the training.
        losses: loss of every training step, for the record.
    """

    def __init__(
        self, density: FittedModel, network: RollOut | OneStepGenerator, settings: DistillSettings, losses: list[float]
    ) -> None:
        self.density, self.network, self.settings, self.losses = density, network, settings, losses

    @property
    def num_calls(self) -> int:
        """Network calls per draw."""
        return self.settings.num_calls if self.settings.method == "mmd" else 1

    def sample(self, num_samples: int, *, seed: int | None = None) -> Tensor:
        """Draws ``(num_samples, *event)`` in data units, which are not the density's own.

        Raises:
            ValueError: a number of draws that is not a positive integer.
        """
        check_num_samples(num_samples)
        return self.density.to_points(self.network.sample(num_samples, generator=random_generator(seed)))

    def correct(
        self, num_samples: int, *, settings: RefinementSettings | None = None, seed: int | None = None
    ) -> SampleResult:
        """Ends ``(num_samples, *event)`` of adjusted chains of the density that start at draws, with their statistics.

        Returns:
            Draws in data units, with ``acceptance_rate`` ``(step, chain)`` and ``r_hat`` ``(d,)`` of the chains.
        """
        found = sample_refined(
            self.density.model,
            num_samples,
            initial=lambda count, source: self.network.sample(count, generator=source),
            settings=settings,
            generator=random_generator(seed),
        )
        stats = {name: values.cpu() for name, values in found.stats.items()}
        return SampleResult(self.density.to_points(found.draws), stats)

    def save(self, path: str | Path) -> None:
        """Write into the density's run folder, in place of an earlier generator.

        Args:
            path: folder of the run.

        Raises:
            RunFolderError: a folder of another density, another writer, or a full disk.
        """
        tensors = {name: value for name, value in self.network.state_dict().items() if value.numel()}
        values = {
            "label": "a generator, not the density of this run",
            "settings": dataclasses.asdict(self.settings),
            "losses": self.losses,
        }
        with RunFolder.writing(path) as folder:
            check_same_run(folder, self.density)
            folder.write_tensors(folder.generator, tensors, values)

    def __repr__(self) -> str:
        calls = "1 call" if self.num_calls == 1 else f"{self.num_calls} calls"
        return f"Generator(method={self.settings.method!r}, {calls} per draw, not a density)"


def distill(
    density: FittedModel,
    rows: Any = None,
    *,
    settings: DistillSettings | None = None,
    generator: torch.Generator | None = None,
) -> Generator:
    """See :meth:`drl_density.density.Density.distill`."""
    settings = given_or_default(settings, DistillSettings)
    generator = random_generator(None) if generator is None else generator
    if settings.method == "mmd":
        walk = _untrained_walk(density, settings)
        losses = _match_rows(density, walk, rows, settings, generator)
        return Generator(density, walk.eval(), settings, losses)
    if rows is not None:
        raise DataError('method "em" learns from the density alone: leave out the rows, or use method "mmd"')
    student = _untrained_student(density, settings, generator)
    losses = _follow_density(density, student, settings, generator)
    return Generator(density, student.eval(), settings, losses)


def read_generator(density: FittedModel, path: str | Path) -> Generator:
    """Read the generator in a density's run folder.

    Raises:
        RunFolderError: no generator there, or a damaged one.
    """
    folder = RunFolder.open(path)
    if not folder.generator.is_file():
        raise RunFolderError(f"{path} holds no generator: make one with drl-density distill {path} --method mmd")
    tensors, values = folder.read_tensors(folder.generator)
    try:
        settings = DistillSettings(**values["settings"])
        if settings.method == "mmd":
            network: RollOut | OneStepGenerator = _untrained_walk(density, settings)
        else:
            # Its weights are about to be overwritten, so the seed does not matter.
            network = _untrained_student(density, settings, torch.Generator().manual_seed(0))
        network.load_state_dict(tensors, strict=False)
        return Generator(density, network, settings, values["losses"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the generator is damaged or of another run ({error!r})") from error


def _untrained_walk(density: FittedModel, settings: DistillSettings) -> RollOut:
    """The walk of the density itself."""
    return RollOut(
        density.model, DDIMSettings(num_steps=settings.num_calls), is_multistep=settings.rule == "multistep"
    )


def _untrained_student(density: FittedModel, settings: DistillSettings, generator: torch.Generator) -> OneStepGenerator:
    """A one-step generator that starts as a Gaussian with the moments of the stored draws."""
    draws = density.to_model(density.pool.double()).float()
    count = draws.shape[1]
    spread = torch.linalg.cholesky(draws.T.cov().reshape(count, count) + JITTER * torch.eye(count))
    with global_generator_kept():
        network = TiltedGaussianNetwork(
            draws.mean(0), spread, width=settings.width, num_blocks=settings.num_blocks, generator=generator
        )
    return OneStepGenerator(network, count).to(density.model.device)


def _match_rows(
    density: FittedModel, walk: RollOut, rows: Any, settings: DistillSettings, generator: torch.Generator
) -> list[float]:
    """Finetune a walk by the maximum mean discrepancy to data; returns the losses."""
    if rows is None:
        raise DataError("finetuning by MMD needs rows to match: give the training rows, or use method em")
    flat, _ = dequantized_rows(density, rows, generator=generator)
    if len(flat) < 2:
        raise DataError(f"expected at least two rows to match, got {len(flat)}")
    if not any(True for _ in density.model.network.parameters()):
        raise DataError("finetuning by MMD changes the network of the density, and this one has none: use method em")
    u = density.to_states(flat)
    squared = _median_square(u)
    sizes = MMDSettings(settings.updates, settings.batch_size, settings.rate)
    return finetune(walk, u, kernel=_kernel(settings.kernel, squared), settings=sizes, generator=generator)


def _kernel(name: str, squared: float) -> FeatureKernel:
    """The kernel of that name, with widths for rows of this median squared distance."""
    if name == "cubic":
        return cubic_kernel
    if name == "energy":
        return lambda x, y: energy_kernel(x, y) / math.sqrt(squared)
    if name == "log":
        return log_kernel(LOG_SCALE * math.sqrt(squared))
    return rbf_kernel(*(math.log(2) / squared / width for width in WIDTHS))


def _follow_density(
    density: FittedModel, student: OneStepGenerator, settings: DistillSettings, generator: torch.Generator
) -> list[float]:
    """Train a one-step generator by EM, from the density's probability flow on; returns the losses.

    Corrections follow a learned gap, whose errors can outweigh it where little is left to correct. So the student of the
    start is kept unless that of the end lies nearer to the stored draws, for the same latent codes.
    """
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    sizes = WarmStartSettings(settings.num_warm_updates)
    losses = follow_flow(density.model, student, settings=sizes, generator=generator)
    sizes = EMDistillationSettings(
        num_steps=settings.updates,
        batch_size=settings.batch_size,
        learning_rate=settings.rate,
        num_corrections=settings.num_corrections,
        score_steps=1,
        first_score_steps=100,
    )
    if not sizes.num_steps:
        return losses
    draws = density.to_states(density.pool)
    codes = student.latents(len(draws), generator=generator)
    start, before = copy.deepcopy(student.state_dict()), _energy_discrepancy(student, codes, draws)
    with global_generator_kept():
        network = GapNetwork(student.num_latents, width=settings.width, generator=generator).to(density.model.device)
    losses = distill_by_em(density.model, student, gap_network=network, settings=sizes, generator=generator)
    if not _energy_discrepancy(student, codes, draws) < before:
        student.load_state_dict(start)
    return losses


def _energy_discrepancy(student: OneStepGenerator, codes: Tensor, draws: Tensor) -> float:
    """Squared energy distance between the student's points of ``codes`` and draws of the density; it may be negative."""
    with torch.no_grad():
        return float(unbiased_mmd(student(codes).double(), draws.double(), energy_kernel))


def _median_square(u: Tensor) -> float:
    """Median squared distance of the rows, without copies."""
    distance = torch.cdist(u[:WIDTH_ROWS], u[:WIDTH_ROWS]).square()
    return float(distance[distance > 0].median())
