"""Kernels around the rows of a small table, which join a stack of mixtures where left-out rows gain from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.bases import NoisedGaussianMixture
from drl_density.bases.fitting.stacking import stacking_weights
from drl_density.records.brief import brief

BANDWIDTHS = (0.1, 0.2, 0.3, 0.5, 0.8)
"""Standard deviations that are tried, in units of a column and of the covariance of all rows. These and the numbers that
follow are our own choice."""

MOST_KINDS = 2
"""Kinds of kernel that are kept, the heaviest ones: each has as many components as there are rows."""

MOST_ENTRIES = 1_500_000
"""Covariance entries of all kernels at most, as many as a stack may have."""

RIDGE = 1e-3
"""Variance added to every column of the rows' covariance, of columns whose variance is 1."""

LEAST_ERRORS = 2.0
"""Paired standard errors that the gain on left-out rows must exceed: smaller ones were losses on test rows."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """Kinds of kernel that join a stack.

    Attributes:
        weights: Weight of every kind, ``(m,)``, of which the stack has the rest.
        covariances: Covariance of the kernels of every kind, ``(m, d, d)``.
        gain: Mean gain of left-out rows over the stack alone, in nats a row.
        gain_error: Its paired standard error.
    """

    weights: Tensor
    covariances: Tensor
    gain: float
    gain_error: float

    __repr__ = brief

    def describe(self) -> str:
        """The share of the kernels and what they gain, in one line.

        >>> Kernels(torch.tensor([0.25]), torch.eye(2)[None], gain=0.1, gain_error=0.01).describe()
        'kernels around the rows have 25 % of the stack: left-out rows gain 0.100 +- 0.010 nats'
        """
        share, gain = 100 * float(self.weights.sum()), f"{self.gain:.3f} +- {self.gain_error:.3f} nats"
        return f"kernels around the rows have {share:.0f} % of the stack: left-out rows gain {gain}"

    def join(self, stack: NoisedGaussianMixture, rows: Tensor) -> NoisedGaussianMixture:
        """The average of a stack and of kernels around rows, as one mixture.

        Args:
            stack: Stack fitted to the rows.
            rows: Rows ``(n, d)`` in model space.

        >>> kernels = Kernels(torch.tensor([0.25]), 0.01 * torch.eye(2)[None], gain=0.1, gain_error=0.01)
        >>> kernels.join(NoisedGaussianMixture.standard(2), torch.zeros(5, 2)).num_components
        6
        """
        count, num_features = rows.shape
        inner = stack.covariances().double()
        weights = torch.cat(
            [
                stack.log_weights.double().exp() * (1 - self.weights.sum()),
                (self.weights / count).repeat_interleave(count),
            ]
        )
        means = torch.cat([stack.conditional().means, rows.double().repeat(len(self.weights), 1)])
        shapes = self.covariances.double().repeat_interleave(count, 0)
        return NoisedGaussianMixture(weights / weights.sum(), means, torch.cat([inner, shapes]))


def choose_kernels(rows: Tensor, groups: Tensor, log_densities: Tensor) -> Kernels | None:
    r"""Choose kinds of kernel that score left-out rows better together with a stack than it does alone.

    A row is scored by the kernels around all rows of other groups. Round kernels and those with the shape of the rows'
    covariance, each with several widths, get weights beside the stack (:func:`stacking_weights`).

    .. math:: p(x) = \Big(1 - \sum_m w_m\Big)\, p_{stack}(x) + \sum_m \frac{w_m}{n} \sum_i \mathcal{N}(x;\ x_i,\ C_m)

    Args:
        rows: Rows in model space ``(n, d)``.
        groups: Number of the group of each row ``(n,)``; rows of one group never score each other.
        log_densities: Log density of each row under the stack of the bags that it was left out of ``(n,)``, or NaN.

    Returns:
        The kernels, or None where they gain less than two standard errors or would be too large.

    Source: Smyth and Wolpert 1998, "Stacked density estimation", which stacks kernels and mixtures.

    >>> generator = torch.Generator().manual_seed(0)
    >>> rows = torch.randn(100, 2, generator=generator)
    >>> exact = -0.5 * rows.square().sum(1) - math.log(2 * math.pi)
    >>> choose_kernels(rows, torch.arange(100), exact) is None
    True
    """
    rows, num_features = rows.double(), rows.shape[1]
    most = min(MOST_KINDS, MOST_ENTRIES // (len(rows) * num_features**2))
    identity = torch.eye(num_features, dtype=torch.float64)
    shapes = (identity, rows.T.cov().reshape(identity.shape) + RIDGE * identity)
    is_one_group = groups[:, None] == groups[None]
    known = ~log_densities.isnan() & ~is_one_group.all(1)
    if not most or not bool(known.any()):
        return None
    scores = torch.cat([_left_out(rows, shape, is_one_group) for shape in shapes])
    covariances = torch.cat([torch.stack([width**2 * shape for width in BANDWIDTHS]) for shape in shapes])
    stack = log_densities.double()[known]
    weights = stacking_weights(torch.cat([stack[None], scores[:, known]]))
    kept = weights[1:].argsort(descending=True)[:most]
    table = torch.cat([stack[None], scores[kept][:, known]])
    weights = stacking_weights(table)
    gains = (table + weights.log()[:, None]).logsumexp(0) - stack
    gain, error = float(gains.mean()), float(gains.std(correction=0) / math.sqrt(len(gains)))
    if not gain > LEAST_ERRORS * error:
        return None
    has_weight = weights[1:] > 0
    return Kernels(weights[1:][has_weight], covariances[kept][has_weight], gain, error)


def _left_out(rows: Tensor, shape: Tensor, is_one_group: Tensor) -> Tensor:
    """Log density of every row under the kernels of each width around the rows of other groups, ``(widths, n)``."""
    factor = torch.linalg.cholesky(shape)
    whitened = torch.linalg.solve_triangular(factor, rows.T, upper=False).T
    halves = (-0.5 * torch.cdist(whitened, whitened).square()).masked_fill(is_one_group, -math.inf)
    heights = factor.diagonal().log().sum() + 0.5 * rows.shape[1] * math.log(2 * math.pi)
    counts = (~is_one_group).sum(1).double().log()
    return torch.stack(
        [(halves / h**2).logsumexp(1) - counts - heights - rows.shape[1] * math.log(h) for h in BANDWIDTHS]
    )
