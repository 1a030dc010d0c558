"""Expectation maximisation for many Gaussian mixtures at once, each with its own weights of the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drl_density.records.brief import brief

NUM_LLOYD_STEPS = 8
"""Steps of k-means from random rows that place the first components; more changes no fit that bags average over."""

MOST_PRODUCTS = 2**22
"""Products of pairs of columns that are kept for all rows: 32 megabytes."""

MOST_ROUNDING = 1e-6
"""Rounding of a log density, in nats, up to which it is computed from these products, whose terms cancel."""


@dataclass(frozen=True, eq=False)
class MixtureBatch:
    r"""A batch of B Gaussian mixtures of K components each, over vectors of length d.

    Attributes:
        log_weights: log weights of the components ``(B, K)``; -inf for a component that holds no row.
        means: means of the components ``(B, K, d)``.
        factors: Cholesky factors L of the covariances, lower triangular, ``(B, K, d, d)``.

    >>> batch = fit_mixtures(torch.randn(50, 2), torch.ones(3, 50), 2, ridge=1e-3)
    >>> batch.log_prob(torch.zeros(5, 2)).shape
    torch.Size([3, 5])
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    __repr__ = brief

    def __len__(self) -> int:
        return len(self.log_weights)

    @property
    def covariances(self) -> Tensor:
        """Covariances of the components, ``(B, K, d, d)``."""
        return self.factors @ self.factors.mT

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of rows ``x`` ``(n, d)`` under every mixture, in nats, ``(B, n)``, float64."""
        return torch.stack([joint.logsumexp(0) for joint in self._joint(x.double())])

    def joint_of_products(self, products: Tensor) -> Tensor:
        """Log of every component's weight times its density, ``(B, K, n)``, of rows given by their products.

        Each exponent is linear in the products of columns and in the columns. Its terms cancel: see :data:`MOST_ROUNDING`.

        Args:
            products: products of all pairs of columns, then the columns, ``(n, d (d + 1) / 2 + d)``.
        """
        inverse = _inverse(self.factors)
        precisions = inverse.mT @ inverse
        first, second = torch.triu_indices(self.means.shape[-1], self.means.shape[-1])
        # A product of two different columns stands for both entries of the symmetric matrix.
        squares = precisions[..., first, second] * torch.where(first == second, -0.5, -1.0).to(precisions)
        linear = (precisions @ self.means[..., None])[..., 0]
        log_scale = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constants = self.log_weights - log_scale - 0.5 * self.means.shape[-1] * math.log(2 * math.pi)
        constants = constants - 0.5 * (linear * self.means).sum(-1)
        return torch.cat([squares, linear], -1) @ products.T + constants[..., None]

    def _joint(self, x: Tensor) -> list[Tensor]:
        """log w_k + log N(x; mean_k, C_k) of every mixture, each ``(K, n)``; one at a time keeps the memory small."""
        inverse = _inverse(self.factors)
        log_scale = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constants = self.log_weights - log_scale - 0.5 * x.shape[1] * math.log(2 * math.pi)
        return [
            constant[:, None] - 0.5 * (x @ part - mean[:, None] @ part).square().sum(-1)
            for constant, mean, part in zip(constants, self.means, inverse.mT, strict=True)
        ]


def fit_mixtures(
    rows: Tensor,
    weights: Tensor,
    num_components: int,
    *,
    ridge: float,
    num_iterations: int = 60,
    tolerance: float = 1e-4,
    generator: torch.Generator | None = None,
) -> MixtureBatch:
    r"""Fit B Gaussian mixtures with full covariances by expectation maximisation, all at once.

    Mixture b maximises :math:`\sum_i w_{bi} \log p_b(x_i)`; bootstrap samples of one table are integer weights of its
    rows. Components start at rows drawn by weight, moved by a few steps of k-means.

    Args:
        rows: rows ``(n, d)`` without missing values.
        weights: weights of the rows in each mixture ``(B, n)``; at least ``num_components`` of each are positive.
        num_components: number K of components of every mixture.
        ridge: variance added to every column of every covariance.
        num_iterations: limit of the EM iterations, each of which raises the likelihood.
        tolerance: gain of the mean log density, in nats a row, below which the iterations of all mixtures end.
        generator: source of the first means.

    Raises:
        ValueError: fewer rows of positive weight than components.

    >>> rows = torch.cat([torch.randn(60, 1) - 4, torch.randn(60, 1) + 4])
    >>> fit_mixtures(rows, torch.ones(1, 120), 2, ridge=1e-3).means.flatten().abs().round()
    tensor([4., 4.], dtype=torch.float64)
    """
    x, weights = rows.double(), weights.double()
    if int((weights > 0).sum(1).min()) < num_components:
        raise ValueError(f"expected at least {num_components} rows of positive weight, one for each component")
    total = weights.sum(1)
    products = _products(x)
    # Precisions are at most 1 / ridge, and multiply squares of the rows.
    rounding = torch.finfo(x.dtype).eps * float(x.square().sum(1).max())
    linear = products if rounding <= MOST_ROUNDING * ridge else None
    shares = _first_shares(x, weights, num_components, generator)
    batch, score = _maximized(x, products, shares, total, ridge), torch.full_like(total, -math.inf)
    for _ in range(num_iterations):
        joint = torch.stack(batch._joint(x)) if linear is None else batch.joint_of_products(linear)
        log_density = joint.logsumexp(1)
        previous, score = score, (log_density * weights).sum(1) / total
        if bool((score - previous < tolerance).all()):
            break
        batch = _maximized(x, products, (joint - log_density[:, None]).exp() * weights[:, None], total, ridge)
    return batch


def _first_shares(x: Tensor, weights: Tensor, num_components: int, generator: torch.Generator | None) -> Tensor:
    """Weights of the rows in each component ``(B, K, n)``, each row wholly in the component of the nearest mean."""
    means = x[torch.multinomial(weights, num_components, generator=generator)]
    for _ in range(NUM_LLOYD_STEPS):
        shares = _nearest(x, means) * weights[:, None]
        held = shares.sum(-1)[..., None]
        means = torch.where(held > 0, shares @ x / torch.where(held > 0, held, 1.0), means)
    return _nearest(x, means) * weights[:, None]


def _nearest(x: Tensor, means: Tensor) -> Tensor:
    """Indicators ``(B, K, n)`` of the rows nearest to each mean."""
    nearest = (means.square().sum(-1)[..., None] - 2 * means @ x.T).argmin(1)
    return functional.one_hot(nearest, means.shape[1]).to(x).mT


def _products(x: Tensor) -> Tensor | None:
    """Products of all pairs of columns, then the columns, ``(n, d (d + 1) / 2 + d)``: one multiplication gives all moments.

    None if they are large.
    """
    first, second = torch.triu_indices(x.shape[1], x.shape[1])
    if len(x) * len(first) > MOST_PRODUCTS:
        return None
    return torch.cat([x[:, first] * x[:, second], x], 1)


def _maximized(x: Tensor, products: Tensor | None, shares: Tensor, total: Tensor, ridge: float) -> MixtureBatch:
    """The mixtures that maximise the expected log density, given the rows' shares in the components."""
    held = shares.sum(-1)
    scaled = shares / torch.where(held > 0, held, 1.0)[..., None]
    num_features = x.shape[1]
    if products is None:
        means = scaled @ x
        second = torch.stack([torch.stack([(x * part[:, None]).mT @ x for part in parts]) for parts in scaled])
    else:
        moments = scaled @ products
        means = moments[..., -num_features:]
        second = moments.new_empty(*held.shape, num_features, num_features)
        row, column = torch.triu_indices(num_features, num_features)
        second[..., row, column] = second[..., column, row] = moments[..., :-num_features]
    # The difference of second moments loses digits only where a column's mean is far beyond its spread: model space
    # has none.
    covariances = second - means[..., :, None] * means[..., None, :] + ridge * torch.eye(num_features).to(x)
    return MixtureBatch((held / total[:, None]).log(), means, torch.linalg.cholesky(covariances))


def _inverse(factors: Tensor) -> Tensor:
    identity = torch.eye(factors.shape[-1]).to(factors)
    return torch.linalg.solve_triangular(factors, identity.expand_as(factors), upper=False)
