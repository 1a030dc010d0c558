"""The state of a training run: everything that is needed to resume it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from drl_density.descent import AdamW
from drl_density.errors import RunFolderError
from drl_density.model import EnergySequence
from drl_density.networks import settle_power_iteration
from drl_density.parallel.whole_tensors import whole, whole_tensors
from drl_density.records.brief import brief

Record: TypeAlias = dict[str, Any]
"""Numbers and lists of one number per level that one evaluation recorded, by name."""


class SavedState(NamedTuple):
    """A training state as tensors and plain values, which safetensors and JSON hold exactly.

    Attributes:
        tensors: tensors by name; sharded where the state is sharded.
        scalars: plain values by name, the history among them.
    """

    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


SaveState: TypeAlias = Callable[[dict[str, Tensor], dict[str, Any]], object]
"""Called with the tensors and scalars of a :class:`SavedState`, unsharded; it may keep but not change them."""


@dataclass(eq=False)
class TrainingState:
    """The mutable state of one training run.

    Attributes:
        model: the sequence being trained.
        average: exponential moving average of the model, which is evaluated and kept.
        optimizer: AdamW over the model's parameters.
        step_sizes: chain step size per level in units of the conditional ``(T,)``.
        generator: source of every random number of training.
        step: number of gradient steps done.
        rate_factor: product of the doctor's reductions of the learning rate.
        num_rollbacks: number of times the doctor has rolled back.
        best_score: best selection score so far; higher is better.
        best_step: step at which the best score was reached.
        best_level: noise level that scored best there.
        best: tensors of the averaged model at the best step.
        history: one record per evaluation.
        drawn: tensors that the source of batches redraws during training, such as the missing values of a table.
        whole_model: a model with whole weights for evaluations, when the weights are sharded; else None.

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
    history: list[Record] = field(default_factory=list)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    whole_model: EnergySequence | None = None

    SCALARS = ("step", "rate_factor", "num_rollbacks", "best_score", "best_step", "best_level", "history")

    __repr__ = brief

    @property
    def is_sharded(self) -> bool:
        """Whether the weights are sharded over processes."""
        return self.whole_model is not None

    @property
    def averaged_model(self) -> EnergySequence:
        """The averaged sequence, in evaluation form.

        Averages of weights do not have the averages of their spectral norms, so the power iterations are run again. If the
        weights are sharded, all processes must read this together.
        """
        average = cast(EnergySequence, self.average.module)
        if self.whole_model is None:
            settle_power_iteration(average)
            return average
        self.whole_model.load_state_dict(whole_tensors(average.state_dict()))
        settle_power_iteration(self.whole_model)
        for mine, settled in zip(average.buffers(), self.whole_model.buffers(), strict=True):
            mine.copy_(settled)
        return self.whole_model

    def keep_best(self, score: float, level: float) -> None:
        """Keep the averaged weights if their score is the best so far.

        Args:
            score: selection score of the averaged model; higher is better.
            level: noise level that scored best.
        """
        if score > self.best_score:
            self.best_score, self.best_step, self.best_level = score, self.step, level
            self.best = {name: tensor.detach().clone() for name, tensor in self.average.module.state_dict().items()}

    def set_rates(self, rate: float) -> None:
        """Set the learning rate of every group of parameters: ``rate`` times the doctor's factor and the group's share.

        Args:
            rate: learning rate of the schedule at this step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.rate_factor * group.get("rate_share", 1.0)

    def clip_gradients(self, largest: float) -> Tensor:
        """Scale the gradient of each group of parameters down to a norm; returns the norm of all gradients before that.

        Args:
            largest: norm that no group's gradient exceeds afterwards.
        """
        groups = [group["params"] for group in self.optimizer.param_groups]
        norms = [whole(torch.nn.utils.clip_grad_norm_(parameters, largest)) for parameters in groups]
        return norms[0] if len(norms) == 1 else torch.stack(norms).norm()

    def to_tensors(self) -> SavedState:
        """The whole state as tensors and plain values; later training leaves the copy unchanged."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"drawn.{name}": value for name, value in self.drawn.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        tensors["step_sizes"] = self.step_sizes
        tensors["generator"] = self.generator.get_state()
        tensors = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
        return SavedState(tensors, {name: copy.deepcopy(getattr(self, name)) for name in self.SCALARS})

    def load_tensors(self, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
        """Restore a state that :meth:`to_tensors` returned.

        Args:
            tensors: tensors by name, which are copied.
            scalars: plain values by name, which are copied.

        Raises:
            RunFolderError: the tensors belong to another model.
        """
        try:
            self.model.load_state_dict(_under(tensors, "model."))
            self.average.load_state_dict(_under(tensors, "average."))
            self.step_sizes = tensors["step_sizes"].to(self.model.device).clone()
            self.generator.set_state(tensors["generator"].clone())
        except (RuntimeError, KeyError) as error:
            raise RunFolderError(f"the saved training state does not fit this model: {error}") from error
        self.best = _under(tensors, "best.")
        # Sources of batches may write in place, and a saved state must stay as it was.
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
    """Make the state of an untrained model.

    The parameters of an initialiser form their own group, with ``initializer_rate`` times the learning rate.

    Args:
        model: the sequence to be trained.
        learning_rate: learning rate of AdamW until training sets it.
        weight_decay: decoupled weight decay of AdamW.
        average_decay: decay per step of the exponential moving average of the weights.
        step_size: first step size of the chains at every level, in units of the conditional.
        moment_decays: decays (beta_1, beta_2) of AdamW.
        initializer_rate: learning rate of the initialiser over that of the energy.

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
    optimizer = AdamW(groups, lr=learning_rate, weight_decay=weight_decay, betas=moment_decays, foreach=True)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average_decay), use_buffers=False)
    return TrainingState(
        model=model,
        average=average,
        optimizer=optimizer,
        step_sizes=torch.full((model.num_levels,), step_size, dtype=torch.float64, device=model.device),
        generator=torch.Generator().manual_seed(seed),
    )


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names start with ``prefix``, by the rest of their names."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
