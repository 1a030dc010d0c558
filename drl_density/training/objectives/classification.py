"""Noise-level classification, which learns the normalising constants of the levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.devices import normal_draws
from drl_density.model import EnergySequence
from drl_density.shapes import per_row
from drl_density.training.objectives.objective import stratified_levels


def classification_loss(
    model: EnergySequence,
    x: Tensor,
    *,
    shift: Tensor | float = 0.0,
    share: float = 1.0,
    has_clean_rows: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Cross-entropy in nats of guessing the noise level of each row, among T levels and the base N(0, I).

    The logits are :math:`F_t(x) - c_t` for the levels t and :math:`\log N(x; 0, I)` for the base, so that the loss fixes
    the constants c_t. Rows of the base are drawn from N(0, I) itself: noised data would tilt every level by
    :math:`\log N(x; 0, I) - \log q_T(x)`.

    Args:
        model: the sequence, whose constants are learned here.
        x: clean rows ``(batch, *event)``.
        shift: shift of the whole grid of levels, in [0, 1).
        share: share of the rows that is classified, counted from the first; a row costs T passes.
        has_clean_rows: whether rows of level 0 are without the noise of that level.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> bool(classification_loss(model, torch.randn(16, 2).double()) > 0)
    True
    """
    x = x[: math.ceil(share * len(x))]
    num_levels = model.num_levels
    classes = stratified_levels(len(x), num_levels + 1, generator=generator).to(x.device)
    grid = torch.arange(num_levels, device=x.device, dtype=torch.float64) + shift
    # Rows of the last class get any position: their points are drawn from the base below.
    positions = grid[classes.clamp(max=num_levels - 1)]
    noised = model.schedule.diffuse(x, positions, generator=generator)
    if has_clean_rows:
        noised = torch.where(per_row(positions == 0, x), x, noised)
    base_rows = normal_draws(x.shape, x, generator)
    rows = torch.where(per_row(classes == num_levels, x), base_rows, noised)
    return functional.cross_entropy(level_logits(model, rows, grid), classes)


def level_logits(model: EnergySequence, rows: Tensor, grid: Tensor) -> Tensor:
    """Logits F_s(x) - c_s for every level s of ``grid`` and log N(x; 0, I) last, shape ``(rows, len(grid) + 1)``."""
    num_rows, num_levels = len(rows), len(grid)
    log_snr = model.schedule.log_snr_at(grid).to(rows)
    repeated = rows.repeat_interleave(num_levels, 0)
    values = model.log_density_at(repeated, log_snr.repeat(num_rows)).reshape(num_rows, num_levels)
    values = values - model.constants(log_snr).to(values)
    return torch.cat([values, model.top.log_prob(rows).to(values)[:, None]], 1)
