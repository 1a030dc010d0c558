"""A Gaussian, mixtures and kernels, their sizes and widths chosen on validation."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from drl_density.density.fitting.baselines import gaussian_log_density
from tests.benchmarks.tables.contract import Budget, Fitted, Rows

SIZES = (1, 2, 3, 5, 8, 12, 20, 32, 50)
"""Numbers of components of the mixtures."""

RIDGES = (1e-3, 1e-2, 1e-1)
"""Variances added to every direction of a component, the usual one first."""

WIDTHS = tuple(np.geomspace(0.05, 1.5, 25))
"""Bandwidths of the kernels, in standard deviations of the Gaussianised columns."""

MOST_KERNELS, MOST_SCORED = 50_000, 2_000
"""Rows that carry a kernel, and validation rows that choose the bandwidth."""

CELLS = 2**25
"""Distances held at a time."""


def fit_gaussian(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """One Gaussian on Gaussianised columns, that is a Gaussian copula on the fitted marginals; nothing to choose."""
    everything = rows.everything.flatten(0, 1)
    return Fitted(lambda u: gaussian_log_density(everything, u))


@dataclass(frozen=True)
class _Mixture:
    """One fitted candidate.

    Attributes:
        model: The mixture.
        score: Mean log density of the validation rows.
        seconds: Seconds that its fit took.
    """

    model: GaussianMixture
    score: float
    seconds: float


def fit_mixture(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """scikit-learn's Gaussian mixture: size, shape and ridge on validation, then a refit to all rows with the choice.

    Candidates are fitted in the order of their cost, and none is begun that would probably not end within the budget.
    """
    train, validation = rows.train.flatten(0, 1).numpy(), rows.validation.numpy()
    candidates: list[_Mixture] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for ridge in RIDGES:
            previous: dict[str, float] = {}
            for size in SIZES:
                for shape in ("full", "diag"):
                    # A fit takes about as much longer than the last of its shape as its number of components has grown.
                    if size > len(train) // 2 or 2 * previous.get(shape, 0.0) > budget.left:
                        continue
                    started = time.monotonic()
                    model = GaussianMixture(
                        size, covariance_type=shape, reg_covar=ridge, random_state=seed, max_iter=200
                    ).fit(train)
                    previous[shape] = time.monotonic() - started
                    candidates.append(_Mixture(model, float(model.score(validation)), previous[shape]))
        best = max(candidates, key=lambda candidate: candidate.score)
        is_refitted = 1.5 * best.seconds < budget.left
        model = best.model
        if is_refitted:
            model = GaussianMixture(**best.model.get_params()).fit(rows.everything.flatten(0, 1).numpy())
    chosen = model.get_params()
    detail = {
        "size": chosen["n_components"],
        "shape": chosen["covariance_type"],
        "ridge": chosen["reg_covar"],
        "candidates": len(candidates),
        "refitted": is_refitted,
    }
    return Fitted(lambda u: torch.as_tensor(model.score_samples(u.numpy())), detail=detail)


def fit_kernels(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """Gaussian kernels, round or of the rows' own (shrunk) covariance, with the bandwidth that validation prefers."""
    generator = torch.Generator().manual_seed(seed)
    train, everything = (_thin(part.flatten(0, 1), MOST_KERNELS, generator) for part in (rows.train, rows.everything))
    validation = _thin(rows.validation, MOST_SCORED, generator)
    found = {}
    for shape in ("round", "covariance"):
        whiten = _whitening(train, shape)
        scores = _kernel_scores(validation @ whiten, train @ whiten, WIDTHS).mean(1) + whiten.logdet()
        place = int(scores.argmax())
        found[shape] = (float(scores[place]), WIDTHS[place])
    shape = max(found, key=lambda name: found[name][0])
    width, whiten = found[shape][1], _whitening(everything, shape)
    centres = everything @ whiten

    def log_density(u: Tensor) -> Tensor:
        return _kernel_scores(u @ whiten, centres, (width,))[0] + whiten.logdet()

    return Fitted(log_density, detail={"bandwidth": round(float(width), 3), "shape": shape})


def _thin(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    return x if len(x) <= most else x[torch.randperm(len(x), generator=generator)[:most]]


def _whitening(x: Tensor, shape: str) -> Tensor:
    """Matrix W of rows x W with unit covariance, or the identity."""
    if shape == "round":
        return torch.eye(x.shape[1], dtype=x.dtype)
    covariance = torch.as_tensor(ledoit_wolf(x.numpy())[0])
    return torch.linalg.inv(torch.linalg.cholesky(covariance)).T


def _kernel_scores(rows: Tensor, centres: Tensor, widths: tuple[float, ...]) -> Tensor:
    """Log density of rows under round kernels at ``centres``, for every width, ``(widths, n)``."""
    parts = []
    for part in rows.split(max(1, CELLS // len(centres))):
        squares = torch.cdist(part, centres).square()
        parts.append(torch.stack([torch.logsumexp(squares / (-2 * width**2), 1) for width in widths]))
    num_features = rows.shape[1]
    constants = [
        -math.log(len(centres)) - num_features * (math.log(width) + 0.5 * math.log(2 * math.pi)) for width in widths
    ]
    return torch.cat(parts, 1) + torch.tensor(constants, dtype=rows.dtype)[:, None]
