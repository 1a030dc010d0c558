"""Training objectives: recovery likelihood by adjusted chains, and noise-level classification."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.devices import generator_device, normal_draws
from drl_density.execution import chain_passes
from drl_density.mcmc import MALA, Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.shapes import per_row
from drl_density.training.langevin_chains import SHARED_NOISE_REFUSAL, draw_pairs


@dataclass(frozen=True)
class LevelStatistics:
    """What one objective evaluation saw, per level, shape ``(T,)``; NaN where a level had no rows.

    Attributes:
        energy_gap: mean F(data) - F(chain end); near 0 when chains stay where the data are.
        acceptance_rate: mean acceptance of the chains.
        relative_jump: mean squared distance from start to end over the conditional variance; near 0 means frozen chains.
    """

    energy_gap: Tensor
    acceptance_rate: Tensor
    relative_jump: Tensor


@dataclass(frozen=True)
class ObjectiveValue:
    """The loss to minimise, its parts (floats, detached) and per-level statistics."""

    loss: Tensor
    parts: dict[str, Tensor]
    statistics: LevelStatistics


class Objective(Protocol):
    """What the trainer minimises."""

    @property
    def kernel(self) -> Kernel:
        """Of its chains; the trainer adapts step sizes of adjusted ones."""

    def __call__(
        self, model: EnergySequence, x: Tensor, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate on clean rows ``x`` ``(batch, *event)``."""


@dataclass(frozen=True)
class RecoveryLikelihood:
    r"""Recovery likelihood with adjusted chains, joined with noise-level classification.

    For a Markov pair (x_t, x_{t+1}) and a chain end x_t^- of p(x_t | x_{t+1}) the recovery part is the contrast
    :math:`F_t(x_t^-) - F_t(x_t)`, whose gradient is that of the recovery likelihood when the chain has converged, and
    that of contrastive divergence when it started at x_t. The classification part is the cross-entropy of guessing the
    level of a row from the logits :math:`F_t(x) - c_t` and :math:`\log N(x; 0, I)` for level T, whose rows are drawn
    from N(0, I) itself; it fixes the constants and the weights of separated modes.

    Attributes:
        num_steps: K, kernel steps per pair.
        kernel: MALA by default; ``ULA()`` is the paper's unadjusted choice.
        noisier_share: share of chains started at x_{t+1} in place of x_t.
        jump: how many levels up the conditioning state stands.
        recovery_weight: factor of the recovery part.
        classification_weight: factor of the classification part.
        classification_share: share of the batch that is classified, which costs T passes a row.
        shares_noise: build x_t and x_{t+1} from one noise; refused unless every chain starts at x_{t+1}, see
            :func:`~drl_density.training.draw_pairs`.

    Raises:
        ValueError: shared noise with chains that start at the data, no steps, no jump, or a share outside its range.

    Source: Gao et al. 2021, algorithm 1 and equation 8; the constants as in classification of noise levels.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> value = RecoveryLikelihood(num_steps=2)(model, torch.randn(16, 2).double(), torch.full((8,), 0.8))
    >>> sorted(value.parts), value.statistics.acceptance_rate.shape
    (['classification', 'recovery'], torch.Size([8]))
    """

    num_steps: int = 8
    kernel: Kernel = field(default_factory=MALA)
    noisier_share: float = 0.0
    jump: int = 1
    recovery_weight: float = 1.0
    classification_weight: float = 1.0
    classification_share: float = 1.0
    shares_noise: bool = False

    def __post_init__(self) -> None:
        if self.shares_noise and self.noisier_share < 1:
            raise ValueError(SHARED_NOISE_REFUSAL)
        if self.num_steps < 1 or self.jump < 1 or not 0 <= self.noisier_share <= 1:
            raise ValueError(
                "need num_steps >= 1, jump >= 1 and noisier_share in [0, 1], "
                f"got {self.num_steps}, {self.jump}, {self.noisier_share}"
            )
        check_share(self.classification_share)

    def __call__(
        self, model: EnergySequence, x: Tensor, step_sizes: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Evaluate on clean rows ``x`` ``(batch, *event)``; ``step_sizes`` ``(T,)`` are in units of the conditional."""
        shift = level_shift(generator).to(x.device)
        parts: dict[str, Tensor] = {}
        levels = stratified_levels(len(x), model.num_levels, generator).to(x.device)
        recovery, statistics = self.contrast(model, x, (levels, shift, step_sizes), generator)
        parts["recovery"] = recovery.detach()
        loss = self.recovery_weight * recovery
        if self.classification_weight:
            classification = classified(model, x, self.classification_share, shift=shift, generator=generator)
            parts["classification"] = classification.detach()
            loss = loss + self.classification_weight * classification
        return ObjectiveValue(loss, parts, statistics)

    def contrast(
        self,
        model: EnergySequence,
        x: Tensor,
        where: tuple[Tensor, Tensor, Tensor],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, LevelStatistics]:
        """Recovery part alone at ``where`` = (level of each row, shift of the grid, step sizes), with its statistics.

        Args:
            model: the sequence.
            x: clean rows ``(batch, *event)``.
            where: three tensors, ``(batch,)``, ``()`` and ``(T,)``.
            generator: source of randomness.
        """
        levels, shift, step_sizes = where
        position = levels + shift
        noisier = (position + self.jump).minimum(torch.tensor(float(model.num_levels), device=x.device).double())
        clean, x_noisier = draw_pairs(model, x, position, noisier, shares_noise=self.shares_noise, generator=generator)
        log_snr = model.schedule.log_snr_at(position).to(x)
        end, acceptance, scale = self._chain(
            model, (clean, x_noisier), (position, noisier, step_sizes[levels]), generator
        )
        both = model.log_density_at(torch.cat([clean, end]), torch.cat([log_snr, log_snr]))
        gap = both[: len(x)] - both[len(x) :]
        jumped = (end - clean).square().flatten(1).mean(1) / scale**2
        means = [level_means(values, levels, model.num_levels) for values in (gap.detach(), acceptance, jumped)]
        return -gap.mean(), LevelStatistics(*means)

    def _chain(
        self,
        model: EnergySequence,
        states: tuple[Tensor, Tensor],
        where: tuple[Tensor, Tensor, Tensor],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """K kernel steps on the recovery conditionals: chain ends, mean acceptance, conditional scale, per row."""
        (clean, x_noisier), (position, noisier, multiplier) = states, where
        step_alpha, step_sigma = (value.to(clean) for value in model.schedule.step_between(position, noisier))
        scale = ((step_alpha / step_sigma) ** 2 + model.schedule.sigma_at(position).to(clean) ** -2) ** -0.5
        log_snr = model.schedule.log_snr_at(position).to(clean)
        alpha_column, precision = per_row(step_alpha, clean), 1 / step_sigma**2

        def log_density(state: Tensor) -> Tensor:
            distance = (x_noisier - alpha_column * state).square().flatten(1).sum(1)
            return model.log_density_at(state, log_snr) - 0.5 * precision * distance

        start = clean
        if self.noisier_share:
            chosen = (
                torch.rand(len(clean), generator=generator, device=generator_device(generator)) < self.noisier_share
            )
            start = torch.where(per_row(chosen.to(clean.device), clean), x_noisier, clean)
        step_size = multiplier.to(clean) * scale
        with chain_passes(model, is_adjusted=self.kernel.is_adjusted):
            state, acceptance, _ = take_steps(
                self.kernel,
                self.kernel.init(start, log_density),
                log_density,
                num_steps=self.num_steps,
                step_size=step_size,
                generator=generator,
            )
        return state.position, acceptance.to(scale), scale


def level_shift(generator: torch.Generator | None) -> Tensor:
    """A shift of the whole level grid: 0 with probability 1/2, else uniform in (0, 1), so all log-SNRs are visited."""
    draw = torch.rand(2, generator=generator, dtype=torch.float64, device=generator_device(generator))
    return torch.where(draw[0] < 0.5, torch.zeros_like(draw[0]), draw[1])


def stratified_levels(num_rows: int, num_levels: int, generator: torch.Generator | None) -> Tensor:
    """One level in 0..T-1 per row, every level equally often (up to one), in random order."""
    device = generator_device(generator)
    start = torch.randint(num_levels, (), generator=generator, device=device)
    levels = (torch.arange(num_rows, device=device) + start) % num_levels
    return levels[torch.randperm(num_rows, generator=generator, device=device)]


def classification_loss(
    model: EnergySequence,
    x: Tensor,
    *,
    shift: Tensor | float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Cross-entropy of guessing the level of each row among the shifted levels 0..T-1 and the base, in nats.

    Rows of class T are drawn from N(0, I), never by noising data: noising would tilt every level by
    log N(x; 0, I) - log q_T(x).

    Args:
        model: the sequence, whose constants are learned here.
        x: clean rows ``(batch, *event)``.
        shift: of the whole grid of levels, in [0, 1).
        generator: source of randomness.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> bool(classification_loss(model, torch.randn(16, 2).double()) > 0)
    True
    """
    num_levels = model.num_levels
    classes = stratified_levels(len(x), num_levels + 1, generator).to(x.device)
    grid = torch.arange(num_levels, device=x.device, dtype=torch.float64) + shift
    is_base = classes == num_levels
    positions = grid[classes.minimum(torch.tensor(num_levels - 1, device=x.device))]
    noised = model.schedule.diffuse(x, positions, generator=generator)
    base_rows = normal_draws(x.shape, x, generator)
    rows = torch.where(per_row(is_base, x), base_rows, noised)
    return functional.cross_entropy(level_logits(model, rows, grid), classes)


def check_share(share: float) -> None:
    """Raise a ValueError for a ``classification_share`` outside (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"classification_share must lie in (0, 1], got {share}")


def drop_labels(label: Tensor | None, chance: float, *, generator: torch.Generator | None) -> Tensor | None:
    """Labels ``(batch,)``, each turned with a ``chance`` into 0, "not told"; nothing is drawn where there are none."""
    if label is None:
        return None
    is_told = torch.rand(len(label), generator=generator, device=generator_device(generator)).to(label.device) >= chance
    return torch.where(is_told, label, torch.zeros_like(label))


def check_chance(chance: float) -> None:
    """Raise a ValueError for a ``label_dropout`` outside [0, 1]."""
    if not 0 <= chance <= 1:
        raise ValueError(f"label_dropout is a chance, got {chance}")


def classified(
    model: EnergySequence, x: Tensor, share: float, *, shift: Tensor | float, generator: torch.Generator | None
) -> Tensor:
    """:func:`classification_loss` of the first rows of a batch, as many as their ``share`` of it."""
    return classification_loss(model, x[: math.ceil(share * len(x))], shift=shift, generator=generator)


def level_logits(model: EnergySequence, rows: Tensor, grid: Tensor) -> Tensor:
    """Logits F_s(x) - c_s for every level of ``grid`` and log N(x; 0, I) last, shape ``(rows, len(grid) + 1)``."""
    num_rows, num_levels = len(rows), len(grid)
    log_snr = model.schedule.log_snr_at(grid).to(rows)
    repeated = rows.repeat_interleave(num_levels, 0)
    values = model.log_density_at(repeated, log_snr.repeat(num_rows)).reshape(num_rows, num_levels)
    values = values - model.constants(log_snr.to(model.constants.readout.weight)).to(values)
    return torch.cat([values, model.top.log_prob(rows).to(values)[:, None]], 1)


def level_means(values: Tensor, levels: Tensor, num_levels: int) -> Tensor:
    """Mean of ``values`` over the rows of each level, NaN for a level without rows."""
    total = values.new_zeros(num_levels).index_add_(0, levels, values)
    return total / values.new_zeros(num_levels).index_add_(0, levels, torch.ones_like(values))


class Batches(Protocol):
    """Source of clean training rows in model space, with labels where the objective takes them."""

    def __call__(self, num_rows: int, generator: torch.Generator) -> Tensor | tuple[Tensor, Tensor]:
        """``num_rows`` rows drawn with ``generator``, or rows and their labels 1, 2, ... ``(num_rows,)``."""
