"""Everything training needs to go on from where it stood, and its way to disk and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.networks import settle_power_iteration
from drl_density.parallel.whole_tensors import whole, whole_tensors


@dataclass
class TrainingState:
    """The mutable state of one training run.

    Attributes:
        model: the sequence being trained.
        average: its exponential moving average, the model that is evaluated and kept.
        optimizer: AdamW.
        step_sizes: chain step size per level in units of the conditional, shape ``(T,)``.
        generator: source of every random number of training.
        step: gradient steps done.
        rate_factor: what the doctor multiplied the learning rate by.
        num_rollbacks: how often the doctor rolled back.
        best_score: best selection score so far (higher is better), its step and level.
        best: tensors of the averaged model at that step.
        history: one dict of numbers and per-level lists per evaluation.
        drawn: tensors that the source of batches draws anew as training goes on, such as cells missing in the data.
        best_step: where that was.
        best_level: the level that scored best there.
        whole_model: where weights are cut over processes, a model with whole weights for evaluations; else None.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> tensors, scalars = state.to_tensors()
    >>> state.load_tensors(tensors, scalars)
    """

    model: EnergySequence
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    step_sizes: Tensor
    generator: torch.Generator
    step: int = 0
    rate_factor: float = 1.0
    num_rollbacks: int = 0
    best_score: float = -float("inf")
    best_step: int = 0
    best_level: float = 0.0
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    whole_model: EnergySequence | None = None

    SCALARS = ("step", "rate_factor", "num_rollbacks", "best_score", "best_step", "best_level", "history")

    @property
    def averaged_model(self) -> EnergySequence:
        """The averaged sequence; averaged weights come with other weights' spectral norms, iterated anew here.

        Where weights are cut over processes, all of them must ask.
        """
        if self.whole_model is None:
            settle_power_iteration(self.average.module)
            return self.average.module
        self.whole_model.load_state_dict(whole_tensors(self.average.module.state_dict()))
        settle_power_iteration(self.whole_model)
        for mine, settled in zip(self.average.module.buffers(), self.whole_model.buffers(), strict=True):
            mine.copy_(settled)
        return self.whole_model

    def set_rates(self, rate: float) -> None:
        """Give every group of parameters its learning rate: ``rate`` times the doctor's factor and the group's own share."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.rate_factor * group.get("rate_share", 1.0)

    def clip_gradients(self, largest: float) -> Tensor:
        """Scale the gradient of each group of parameters down to norm ``largest``; the norm of all before that."""
        groups = [group["params"] for group in self.optimizer.param_groups]
        norms = [whole(torch.nn.utils.clip_grad_norm_(parameters, largest)) for parameters in groups]
        return norms[0] if len(norms) == 1 else torch.stack(norms).norm()

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, scalars) that hold the whole state; safetensors and JSON carry them exactly."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"drawn.{name}": value for name, value in self.drawn.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        tensors["step_sizes"] = self.step_sizes
        tensors["generator"] = self.generator.get_state()
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        return tensors, {name: copy.deepcopy(getattr(self, name)) for name in self.SCALARS}

    def load_tensors(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Put back what :meth:`to_tensors` gave.

        Args:
            tensors: copied.
            scalars: copied.

        Raises:
            RunFolderError: if the tensors belong to another model.
        """
        try:
            self.model.load_state_dict(_under(tensors, "model."))
            self.average.load_state_dict(_under(tensors, "average."))
            self.step_sizes = tensors["step_sizes"].to(self.model.device).clone()
            self.generator.set_state(tensors["generator"].clone())
        except (RuntimeError, KeyError) as error:
            raise RunFolderError(f"the saved training state does not fit this model: {error}") from error
        self.best = _under(tensors, "best.")
        # Sources of batches may write in place, and what was saved must stay as it was.
        self.drawn = {name: value.clone() for name, value in _under(tensors, "drawn.").items()}
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer.").items():
            index, slot = name.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        for name in self.SCALARS:
            setattr(self, name, copy.deepcopy(scalars[name]))


def new_state(
    model: EnergySequence,
    *,
    learning_rate: float,
    weight_decay: float,
    average_decay: float,
    seed: int,
    step_size: float = 0.8,
    moment_decays: tuple[float, float] = (0.9, 0.99),
    initializer_rate: float = 1.0,
) -> TrainingState:
    """A fresh state: nothing trained, chains' step sizes at a guess, generator seeded.

    An initialiser's parameters are a group of their own, at ``initializer_rate`` times the learning rate.

    Args:
        model: to be trained.
        learning_rate: of AdamW, until the trainer sets it.
        weight_decay: of AdamW.
        average_decay: of the exponential moving average of weights.
        seed: of every random number of training.
        step_size: of the chains at first, in units of the conditional.
        moment_decays: (beta_1, beta_2) of AdamW.
        initializer_rate: 1 for the same rate as the rest.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> model = EnergySequence(NoiseSchedule.log_spaced(3), MLP(MLPSettings(2, width=8)), (2,))
    >>> state = new_state(model, learning_rate=1e-3, weight_decay=0.0, average_decay=0.9, seed=0)
    >>> state.step, state.step_sizes.shape
    (0, torch.Size([3]))
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if model.initializer is not None:
        own = list(model.initializer.parameters())
        rest = [part for name, part in model.named_parameters() if not name.startswith("initializer.")]
        groups = [{"params": rest}, {"params": own, "rate_share": initializer_rate}]
    optimizer = torch.optim.AdamW(
        groups, lr=learning_rate, weight_decay=weight_decay, betas=moment_decays, foreach=True
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=False)
    return TrainingState(
        model=model,
        average=average,
        optimizer=optimizer,
        step_sizes=torch.full((model.num_levels,), step_size, dtype=torch.float64, device=model.device),
        generator=torch.Generator().manual_seed(seed),
    )


SaveState = Callable[[dict[str, Tensor], dict[str, Any]], None]
"""Called with what :meth:`TrainingState.to_tensors` gives, whole, which it may keep but not change."""


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
