"""The fixed base of a fitted sequence: a Gaussian mixture whose size, and the noise of level 0, validation chooses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.bases import Base, NoisedGaussianMixture, QuadraticBase
from drl_density.schedule import NoiseSchedule

SIGMAS = (0.1, 0.07, 0.05, 0.035, 0.025)
NUM_COMPONENTS = (2, 3, 5, 8, 12, 20)
KINDS = ("auto", "mixture", "gaussian", "independent", "quadratic")
QUADRATIC_SCALE = 10.0
"""Standard deviation of the small quadratic base, ten times the half range of rescaled pixels."""


@dataclass(frozen=True)
class ChosenBases:
    """The fixed parts of a fit's energies, one trained member each.

    Attributes:
        mixtures: by name, the simplest first.
        sigma_min: the widest noise of level 0 that costs the best of them next to nothing.
        scores: mean validation log density in model space of every candidate, by name, at its best noise.
    """

    mixtures: dict[str, Base]
    sigma_min: float
    scores: dict[str, float]

    @property
    def best(self) -> Base:
        """The base that scores best on validation."""
        return self.mixtures[max(self.mixtures, key=lambda name: self.scores[name])]

    @property
    def num_features(self) -> int:
        """d."""
        return next(iter(self.mixtures.values())).num_features


def choose_bases(train: Tensor, validation: Tensor, *, kind: str = "auto", seed: int = 0) -> ChosenBases:
    """Fit fixed bases to model-space rows: the Gaussian, and the Gaussian mixture that scores best on validation.

    A mixture is nearer to the data but has been fitted to the rows that training sees again, and which of the two ends
    better is known only after training: so by default both are trained. In up to 3 dimensions, or where no mixture
    beats the Gaussian on validation, the Gaussian stands alone.

    Args:
        train: rows ``(n, d)`` in model space, freshly dequantised copies welcome.
        validation: rows ``(m, d)`` in model space; of rows with NaN the observed coordinates are scored.
        kind: "auto", "mixture", "gaussian", "independent" (N(0, I)), or "quadratic" (N(0, 100 I), of which only
            integrability is asked).
        seed: of the fits.
    """
    from sklearn.covariance import ledoit_wolf

    if kind not in KINDS:
        raise ValueError(f"base must be one of {', '.join(KINDS)}, got {kind!r}")
    count, num_features = train.shape
    singles: dict[str, Base] = {}
    mixtures: dict[str, NoisedGaussianMixture] = {}
    if kind == "quadratic":
        singles["quadratic"] = QuadraticBase(num_features, QUADRATIC_SCALE)
    if kind == "independent":
        singles["independent"] = NoisedGaussianMixture.standard(num_features)
    if kind in ("auto", "gaussian"):
        shrunk, _ = ledoit_wolf(train.numpy())
        singles["gaussian"] = NoisedGaussianMixture(torch.ones(1), train.mean(0)[None], torch.as_tensor(shrunk)[None])
    if kind == "mixture" or (kind == "auto" and num_features > 3):
        mixtures = {
            f"{number} {shape}": _fit_mixture(train, number, shape, seed)
            for number in NUM_COMPONENTS
            for shape in ("full", "diag")
            if _is_affordable(number, shape, count, num_features)
        }
    noises = {name: _scores_by_noise(mixture, validation) for name, mixture in (singles | mixtures).items()}
    scores = {name: max(by_noise.values()) for name, by_noise in noises.items()}
    best = max(scores, key=scores.__getitem__)
    sigma_min = next(sigma for sigma in SIGMAS if noises[best][sigma] >= scores[best] - 0.02)
    chosen = singles | ({best: mixtures[best]} if best in mixtures else {})
    return ChosenBases(chosen, sigma_min, scores)


def _is_affordable(number: int, shape: str, count: int, num_features: int) -> bool:
    parameters = number * num_features * ((num_features + 3) / 2 if shape == "full" else 2)
    return parameters < 0.5 * count * num_features and parameters < 50_000


def _fit_mixture(train: Tensor, number: int, shape: str, seed: int) -> NoisedGaussianMixture:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(number, covariance_type=shape, reg_covar=1e-3, random_state=seed, max_iter=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(train.numpy())
    covariances = torch.as_tensor(model.covariances_)
    kept = torch.as_tensor(model.weights_) > 1e-6
    weights = torch.as_tensor(model.weights_)[kept]
    return NoisedGaussianMixture(weights / weights.sum(), torch.as_tensor(model.means_)[kept], covariances[kept])


def _scores_by_noise(mixture: Base, rows: Tensor) -> dict[float, float]:
    if bool(rows.isnan().any()):
        laws = {sigma: mixture.conditional(NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr[0]) for sigma in SIGMAS}
        seen = torch.where(rows.isnan(), 0.0, rows)
        return {sigma: float(law.observed_log_density(seen, rows.isnan()).mean()) for sigma, law in laws.items()}
    with torch.no_grad():
        return {
            sigma: float(mixture(rows, NoiseSchedule.log_spaced(1, sigma_min=sigma).log_snr[0]).mean())
            for sigma in SIGMAS
        }
