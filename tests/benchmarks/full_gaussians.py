"""Mixtures of full Gaussians for many columns, such as pixels: expectation maximisation in float32 with a chosen ridge.

A rival for the ladder of images. scikit-learn multiplies every row with every component in float64, which leaves no time for
a single pass over images of 28 by 28 pixels in minutes. In hundreds of columns nearly every row belongs to one component, so
shares below a thousandth are left out of the covariances.
"""

import math
import time

import torch

RIDGES = (0.3, 0.15, 0.08, 0.04, 0.02, 0.01)
"""Variances that may be added to every column; model space has columns of variance 1."""
LEAST_SHARE = 1e-3
NUM_LLOYD_STEPS = 10


class FullGaussians:
    """Gaussians of weights ``(K,)``, means ``(K, d)`` and covariances ``(K, d, d)`` with a ridge on their diagonals."""

    def __init__(self, weights, means, covariances, ridge):
        self.weights, self.means, self.covariances, self.ridge = weights, means, covariances, ridge
        identity = torch.eye(means.shape[1], dtype=means.dtype)
        lowers = [torch.linalg.cholesky(each + ridge * identity) for each in covariances]
        self.log_scales = torch.stack([each.diagonal().log().sum() for each in lowers])
        self.whiteners = [torch.linalg.solve_triangular(each, identity, upper=False).T.contiguous() for each in lowers]

    def joint(self, x):
        """log w_k + log N(x; mean_k, C_k) of rows ``(n, d)``, ``(n, K)``."""
        found = x.new_empty(len(x), len(self.means))
        for place, (mean, whitener) in enumerate(zip(self.means, self.whiteners, strict=True)):
            found[:, place] = -0.5 * ((x - mean) @ whitener).square().sum(1)
        return found + self.weights.log() - self.log_scales - 0.5 * x.shape[1] * math.log(2 * math.pi)

    def log_prob(self, x):
        """Log densities of rows ``(n, d)``, float64."""
        return torch.cat([self.joint(part).double().logsumexp(1) for part in x.float().split(2048)])

    def shares(self, x):
        """Shares of rows ``(n, d)`` in the components, ``(n, K)``."""
        return torch.cat([self.joint(part).softmax(1) for part in x.split(2048)])

    def with_ridge(self, ridge):
        """The same with another ridge."""
        return FullGaussians(self.weights, self.means, self.covariances, ridge)


def maximised(x, shares, ridge):
    """The Gaussians that maximise the expected log density, given the rows' shares ``(n, K)``."""
    held = shares.sum(0).clamp_min(1e-3)  # a component that lost its rows keeps a negligible weight
    means, covariances = x.new_empty(shares.shape[1], x.shape[1]), []
    for place in range(shares.shape[1]):
        chosen = shares[:, place] > LEAST_SHARE
        share, rows = shares[chosen, place], x[chosen]
        means[place] = share @ rows / held[place]
        centred = rows - means[place]
        covariances.append((centred * share[:, None]).T @ centred / held[place])
    return FullGaussians(held / held.sum(), means, covariances, ridge)


def nearest_means(x, number, generator):
    """Indicators of the nearest of ``number`` means by k-means, ``(n, number)``."""
    means = x[torch.randperm(len(x), generator=generator)[:number]]
    for _ in range(NUM_LLOYD_STEPS):
        nearest = torch.cat([torch.cdist(part, means).argmin(1) for part in x.split(4096)])
        shares = torch.nn.functional.one_hot(nearest, number).to(x)
        held = shares.sum(0)[:, None]
        means = torch.where(held > 0, shares.T @ x / held.clamp_min(1.0), means)
    return shares


def with_best_ridge(model, held_out):
    """The model with the ridge that scores best on held-out rows, and that mean log density."""
    scores = {}
    for ridge in RIDGES:
        scores[ridge] = float(model.with_ridge(ridge).log_prob(held_out).mean())
        if scores[ridge] < max(scores.values()):
            break
    best = max(scores, key=scores.__getitem__)
    return model.with_ridge(best), scores[best]


def fit_full_gaussians(x, held_out, number, *, seconds, generator):
    """Gaussians after as many passes as the seconds allow, of the ridge and the pass that score best on held-out rows.

    Args:
        x: rows ``(n, d)`` in model space, float32.
        held_out: rows that choose ridge and pass.
        number: components.
        seconds: time in all.
        generator: source of the first means.

    Returns:
        The mixture, its mean log density on ``held_out``, and the number of passes.
    """
    began = time.monotonic()
    shares = nearest_means(x, number, generator)
    model, best = with_best_ridge(maximised(x, shares, RIDGES[0]), held_out)
    kept, passes, ridge = model, 0, model.ridge
    longest = 0.0
    while time.monotonic() - began + 1.2 * longest < seconds:
        before = time.monotonic()
        model, score = with_best_ridge(maximised(x, model.shares(x), ridge), held_out)
        passes, longest = passes + 1, max(longest, time.monotonic() - before)
        if score <= best:
            break
        kept, best = model, score
    return kept, best, passes
