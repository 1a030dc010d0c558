"""Generators taught by a fitted density: one to a few network calls per draw, and plainly not draws of that density."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from drl_density.density.evaluation.evaluate import dequantized_rows
from drl_density.density.storage import load_density
from drl_density.distillation import (
    EMDistillationSettings,
    MMDSettings,
    OneStepGenerator,
    RollOut,
    TiltedGaussianNetwork,
    cubic_kernel,
    distill_by_em,
    finetune,
    rbf_kernel,
)
from drl_density.errors import DataError, RunFolderError
from drl_density.records.literals import check_literals
from drl_density.run_folder import RunFolder
from drl_density.samplers import DDIMSettings, RefinementSettings, sample_refined

if TYPE_CHECKING:
    from drl_density.density.fitted import Density


@dataclass(frozen=True)
class DistillSettings:
    """How a density is distilled.

    Attributes:
        method: "mmd" finetunes a DDIM walk of ``num_calls`` steps on data; "em" trains a one-step generator on the
            density's scores.
        num_calls: network calls per draw of "mmd".
        num_updates: gradient steps.
        batch_size: draws per gradient step.
        learning_rate: of Adam.
        kernel: of "mmd"; the width of "rbf" is the median distance of the rows.
        num_corrections: Langevin steps of the E-step of "em".
        width: hidden units of the one-step generator of "em".

    Raises:
        ValueError: an unknown method, counts that are not positive, or batches of one.
    """

    method: Literal["mmd", "em"] = "mmd"
    num_calls: int = 4
    num_updates: int = 300
    batch_size: int = 256
    learning_rate: float = 1e-3
    kernel: Literal["rbf", "cubic"] = "rbf"
    num_corrections: int = 8
    width: int = 128

    def __post_init__(self) -> None:
        check_literals(self)
        least = min(self.num_calls, self.num_updates, self.num_corrections, self.width)
        if self.method not in ("mmd", "em") or least < 1 or self.batch_size < 2:
            raise ValueError(f"expected method mmd or em and positive counts with batches of 2 or more, got {self}")


class Generator:
    """Draws in data units from a distilled network; it has no density, and its draws are not the fitted density's.

    :meth:`correct` runs adjusted chains of the density from its draws, which leads to the density itself.

    Args:
        density: the teacher.
        network: a :class:`RollOut` or :class:`OneStepGenerator` in model space.
        settings: how it was made.
        losses: of training, for the record.
    """

    def __init__(
        self, density: Density, network: RollOut | OneStepGenerator, settings: DistillSettings, losses: list[float]
    ) -> None:
        self.density, self.network, self.settings, self.losses = density, network, settings, losses

    @property
    def num_calls(self) -> int:
        """Network calls per draw."""
        return self.settings.num_calls if self.settings.method == "mmd" else 1

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws ``(num_samples, *event)``, not the density's own.

        Args:
            num_samples: draws.
            generator: source of randomness.
        """
        return self._to_data(self.network.sample(num_samples, generator=generator))

    def correct(
        self,
        num_samples: int,
        *,
        settings: RefinementSettings | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Ends ``(num_samples, *event)`` of adjusted chains of the density begun at draws, and their statistics.

        Args:
            num_samples: chains.
            settings: length and kernel of the chains.
            generator: source of randomness.
        """
        found = sample_refined(
            self.density.model,
            num_samples,
            initial=lambda count, source: self.network.sample(count, generator=source),
            settings=settings,
            generator=generator,
        )
        return self._to_data(found.draws), {name: values.cpu() for name, values in found.stats.items()}

    def save(self, path: str | Path) -> None:
        """Write into the density's run folder, in place of what was distilled before.

        Args:
            path: of the run folder.
        """
        tensors = {name: value for name, value in self.network.state_dict().items() if value.numel()}
        values = {
            "label": "a generator, not the density of this run",
            "settings": dataclasses.asdict(self.settings),
            "losses": self.losses,
        }
        folder = RunFolder.open(path)
        folder.write_tensors(folder.generator, tensors, values)

    def _to_data(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            return self.density.transform.inv(u.double().cpu()).reshape(-1, *self.density.event_shape)

    def __repr__(self) -> str:
        return f"Generator(method={self.settings.method!r}, {self.num_calls} calls per draw, not a density)"


def distill(
    density: Density, rows: Tensor | None = None, *, settings: DistillSettings | None = None, seed: int = 0
) -> Generator:
    """Distil a fitted density into a generator.

    Args:
        density: the teacher.
        rows: data ``(n, *event)`` in data units, which "mmd" matches; "em" needs none.
        settings: method and sizes.
        seed: of everything.

    Raises:
        DataError: "mmd" without rows, or rows of another shape.
        TrainingFailed: when a loss is not a finite number.
    """
    settings = settings or DistillSettings()
    generator = torch.Generator().manual_seed(seed)
    network = _fresh(density, settings, generator)
    if settings.method == "mmd":
        u = _model_rows(density, rows, generator)
        kernel = cubic_kernel if settings.kernel == "cubic" else rbf_kernel(_median_gamma(u))
        training = MMDSettings(settings.num_updates, settings.batch_size, settings.learning_rate)
        losses = finetune(network, u, kernel=kernel, settings=training, generator=generator)
    else:
        learner = copy.deepcopy(density.model)
        for parameter in (*learner.parameters(), *network.parameters()):
            parameter.requires_grad_(True)
        training = EMDistillationSettings(
            num_steps=settings.num_updates,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            num_corrections=settings.num_corrections,
            lowest_level=0.25 * density.model.num_levels,
        )
        losses = distill_by_em(density.model, network, score_network=learner, settings=training, generator=generator)
    network.eval()
    return Generator(density, network, settings, losses)


def load_generator(path: str | Path, *, device: str | torch.device | None = None) -> Generator:
    """Read the generator that stands in a run folder, with its density.

    Args:
        path: of the run folder.
        device: where both are to be, see :meth:`~drl_density.density.Density.to`.

    Raises:
        RunFolderError: no or an unfinished run, or none distilled.
    """
    folder = RunFolder.open(path)
    if not folder.generator.is_file():
        raise RunFolderError(f"{path} holds no generator: make one with drl-density distill {path} --method mmd")
    density = load_density(path).to(device)
    tensors, values = folder.read_tensors(folder.generator)
    try:
        settings = DistillSettings(**values["settings"])
        network = _fresh(density, settings, torch.Generator().manual_seed(0))
        network.load_state_dict(tensors, strict=False)
    except (KeyError, TypeError, RuntimeError) as error:
        raise RunFolderError(f"{path}: the generator is damaged or of another run ({error!r})") from error
    return Generator(density, network, settings, values["losses"])


def _fresh(density: Density, settings: DistillSettings, generator: torch.Generator) -> Any:
    """The untrained network: the walk of the density itself, or a Gaussian with the moments of its draws."""
    if settings.method == "mmd":
        return RollOut(density.model, DDIMSettings(num_steps=settings.num_calls))
    with torch.no_grad():
        draws = density.transform(density.pool.reshape(len(density.pool), -1).double()).float()
    count = draws.shape[1]
    spread = torch.linalg.cholesky(draws.T.cov().reshape(count, count) + 1e-4 * torch.eye(count))
    network = TiltedGaussianNetwork(draws.mean(0), spread, width=settings.width, generator=generator)
    return OneStepGenerator(network, count).to(density.model.device)


def _model_rows(density: Density, rows: Tensor | None, generator: torch.Generator) -> Tensor:
    if rows is None:
        raise DataError("finetuning by MMD needs rows to match: give the training rows, or use method em")
    flat = torch.as_tensor(rows, dtype=torch.float64, device="cpu").reshape(len(rows), -1)
    if flat.shape[1] != len(density.columns) or len(flat) < 2:
        raise DataError(f"expected at least two rows of {len(density.columns)} columns, got {tuple(flat.shape)}")
    flat = dequantized_rows(density, flat, generator)[0]
    with torch.no_grad():
        u = density.transform(flat).float().to(density.model.device)
    return density.model.schedule.diffuse(u, 0, generator=generator)


def _median_gamma(u: Tensor) -> float:
    distance = torch.cdist(u[:500], u[:500]).square()
    return math.log(2) / float(distance[distance > 0].median())
