"""Scalar networks over a point and its log signal-to-noise ratio.

The contract: ``network(x, log_snr) -> (batch,)`` for ``x`` of shape ``(batch, *event)`` and ``log_snr`` of shape
``(batch,)``, or ``()`` when all rows share one level (the cheap case of sampling). A network
knows nothing of levels, steps or temperature, and has an attribute ``has_bounded_growth`` that
says whether its output grows at most linearly in |x|, which is what makes exp(quadratic base + network) integrable.
"""

from drl_density.networks.mlp import MLP, Ensemble, MLPSettings
from drl_density.networks.noised_mixture import NoisedGaussianMixture, Tilted

__all__ = ["MLP", "Ensemble", "MLPSettings", "NoisedGaussianMixture", "Tilted"]
