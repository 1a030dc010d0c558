"""Blends of fitted densities, with weights that held-out rows choose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.bases.blend import BlendedBase
from drl_density.bases.contract import Base
from drl_density.bases.fitting.stacking import stacking_weights
from drl_density.records.brief import brief

LEAST_LOSS = 0.001
"""Nats a row that a member must be worth on the held-out rows: each costs its time whenever the density is evaluated."""


@dataclass(frozen=True, eq=False)
class FittedBlend:
    """A blend of densities that scores better on held-out rows than the best of its candidates.

    Attributes:
        base: the weighted average of the members.
        weights: weight of every member by name.
        log_densities: log density of every held-out row, ``(m,)``, float64.
        gain: gain over the best single candidate, in nats a row.
        gain_error: standard error of the gain, in pairs of rows.
    """

    base: BlendedBase
    weights: dict[str, float]
    log_densities: Tensor
    gain: float
    gain_error: float

    __repr__ = brief

    @property
    def log_likelihood(self) -> float:
        """Mean log density of the held-out rows, in nats a row."""
        return float(self.log_densities.mean())

    def describe(self) -> str:
        """Members with their weights, and the gain with its error."""
        members = ", ".join(f"{weight:.3f} {name}" for name, weight in self.weights.items())
        return f"blend of {members}: {self.gain:+.3f} +- {self.gain_error:.3f} nats a row over the best of them"


def fit_blend(
    candidates: Mapping[str, Base], log_densities: Mapping[str, Tensor], *, source: Tensor | None = None
) -> FittedBlend | None:
    """Blend densities by the weights that maximise the likelihood of held-out rows, where that is better than the best one.

    Weights and choice share the held-out rows. A few weights on hundreds of rows fit little of their chance, and a gain
    counts where it exceeds its paired error. A candidate is left out if the others lose less than 0.001 nats a row without
    it.

    Args:
        candidates: densities that may become members, by name.
        log_densities: their log densities ``(m,)`` of rows that none of them was fitted to.
        source: index ``(m,)`` of the row that each held-out row is a copy of; None where all are distinct.

    Returns:
        The blend, or None where no blend gains more than its error.

    >>> from drl_density.bases import NoisedGaussianMixture
    >>> x = torch.cat([torch.randn(200, 1) - 3, torch.randn(200, 1) + 3])
    >>> sides = {name: NoisedGaussianMixture(torch.ones(1), torch.tensor([[at]]), torch.ones(1, 1))
    ...          for name, at in (("left", -3.0), ("right", 3.0))}
    >>> blend = fit_blend(sides, {name: side.log_prob(x) for name, side in sides.items()})
    >>> {name: round(weight, 1) for name, weight in blend.weights.items()}
    {'left': 0.5, 'right': 0.5}
    """
    values = {name: values.double() for name, values in log_densities.items()}
    best = max(values, key=lambda name: float(values[name].mean()))
    names = list(values)
    weights, mixed = _mixed(values, names)
    for name in sorted(names, key=dict(zip(names, weights.tolist(), strict=True)).__getitem__):
        others = [other for other in names if other != name]
        if not others:
            break
        without = _mixed(values, others)
        if float(mixed.mean() - without[1].mean()) < LEAST_LOSS:
            names, (weights, mixed) = others, without
    gains = mixed - values[best]
    gain, error = float(gains.mean()), error_of_mean(gains, source)
    if len(names) == 1 or gain <= error:
        return None
    base = BlendedBase([candidates[name] for name in names], weights)
    return FittedBlend(base, dict(zip(names, weights.tolist(), strict=True)), mixed, gain, error)


def _mixed(values: Mapping[str, Tensor], names: list[str]) -> tuple[Tensor, Tensor]:
    """Weights of the named densities, and the log density of their blend ``(m,)``."""
    stacked = torch.stack([values[name] for name in names])
    weights = stacking_weights(stacked)
    return weights, (stacked + weights.log()[:, None]).logsumexp(0)


def error_of_mean(values: Tensor, source: Tensor | None = None) -> float:
    r"""Standard error of the mean of held-out rows, of which several may be copies of one row.

    Copies of a row depend on each other, so the error is that of sums over the copies of each row:
    :math:`\tfrac1n \sqrt{\tfrac{G}{G-1} \sum_g \big(\sum_{i \in g} (v_i - \bar v)\big)^2}` for G distinct rows.

    Args:
        values: one value for each held-out row ``(n,)``.
        source: index ``(n,)`` of the row that each of them is a copy of; None where all are distinct.

    Returns:
        The error; infinite for fewer than two distinct rows.

    >>> error_of_mean(torch.tensor([0.0, 2.0, 0.0, 2.0]), torch.tensor([0, 1, 0, 1]))
    1.0
    """
    sums = values.double() - values.double().mean()
    if source is not None:
        _, group = source.unique(return_inverse=True)
        sums = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add(0, group, sums)
    count = len(sums)
    return math.inf if count < 2 else float((sums.square().sum() * count / (count - 1)).sqrt()) / len(values)
