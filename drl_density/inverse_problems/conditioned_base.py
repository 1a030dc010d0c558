r"""The posterior of a whole sequence under a linear measurement, from the exact posterior of its base.

A mixture base has its posterior under a measurement :math:`y = A x + s\,\varepsilon` in closed form. It is again a mixture,
with noised forms :math:`b_t(x_t \mid y)` at every level. The sequence with that base and the same network,

.. math:: F_t(x_t \mid y) = \log b_t(x_t \mid y) + g(x_t, \lambda_t) = F_t(x_t) + \log b(y \mid x_t) - \log b(y),

is the model times the likelihood that the base gives the measurement at each level. Every sampler and estimator of a
sequence applies to it. The likelihood is exact where the network is zero. Elsewhere it takes from the base how clean rows
scatter around a noised state.

Source: ours. With a base N(0, I) the likelihood is the guidance of Song et al. 2023 (PiGDM) with their choice of variance.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import FactorAnalysers, NoisedGaussianMixture
from drl_density.errors import NumericalError
from drl_density.model import EnergySequence
from drl_density.operators import LinearOperator, check_operator

# Components of a smaller share of a posterior are left out. A thousand of them hold a ten-thousandth of it together.
LEAST_SHARE = 1e-7
# Fourier transforms in float32 are off by some 1e-6, and operators with steps of their own by more.
SAME_OPERATOR = 1e-3


class ConditionedBase:
    r"""Posteriors of a mixture base under measurements of one linear operator, whose matrices are factorised once.

    .. math:: b(x \mid y) = \sum_k w_k(y)\, N\big(x;\ \mu_k + G_k (y - A \mu_k),\ C_k - G_k A C_k\big), \qquad
        G_k = C_k A^\top (A C_k A^\top + s^2 I)^{-1}

    All matrices are float64, and of size d x d or m x m for each component.

    Args:
        base: a mixture of Gaussians or of factor analysers.
        operator: the linear operator A, real or complex, on points of ``event_shape``.
        event_shape: shape of one point.
        noise: standard deviation s of the measurement noise; for a complex measurement, that of real and imaginary parts.

    Raises:
        ValueError: noise that is not positive and finite, an object without the methods of an operator, or an operator that
            measures nothing or something that is not finite.
        NumericalError: noise so small that a posterior covariance is not positive definite.

    >>> from drl_density.operators import Mask
    >>> operator = Mask(torch.tensor([True, False]))
    >>> conditioned = ConditionedBase(NoisedGaussianMixture.standard(2), operator, (2,), noise=1.0)
    >>> conditioned(torch.tensor([2.0])).conditional().means
    tensor([[1., 0.]], dtype=torch.float64)
    """

    def __init__(
        self,
        base: FactorAnalysers | NoisedGaussianMixture,
        operator: LinearOperator,
        event_shape: tuple[int, ...],
        *,
        noise: float,
    ) -> None:
        check_noise(noise)
        check_operator(operator)
        self.base, self.noise = base, float(noise)
        law, covariances = base.conditional(), base.covariances().double()
        self.log_weights, self.means, self.covariances = law.log_weights, law.means, covariances
        device = covariances.device
        units = torch.eye(base.num_features, device=device).reshape(-1, *event_shape)
        measured = operator.forward(units)
        self.measured_shape, matrix = measured.shape[1:], _real(measured).double().T
        self.is_complex = measured.is_complex()
        if not bool(matrix.isfinite().all()):
            raise ValueError("expected an operator of finite entries, its measurements of unit vectors are NaN or infinite")
        self.is_measured = matrix.abs().sum(1) > 0
        self.matrix = matrix[self.is_measured]
        if not len(self.matrix):
            raise ValueError("the operator maps every point to zero: nothing is measured")
        crossed = self.matrix @ covariances
        self.triangles = torch.linalg.cholesky(
            crossed @ self.matrix.T + noise**2 * torch.eye(len(self.matrix), dtype=torch.float64, device=device)
        )
        self.gains = torch.cholesky_solve(crossed, self.triangles).mT
        left = covariances - self.gains @ crossed
        self.variances, self.axes = torch.linalg.eigh(0.5 * (left + left.mT))
        if not bool((self.variances > 0).all()):
            least = float(self.variances.min())
            raise NumericalError(f"a posterior covariance has the eigenvalue {least:.2g}: give more noise")

    @classmethod
    def of(cls, model: EnergySequence, operator: LinearOperator, *, noise: float) -> Self:
        """The matrices for the base of a sequence.

        Args:
            model: the prior, whose base is taken.
            operator: the linear operator A.
            noise: standard deviation of the measurement noise.

        Raises:
            ValueError: a sequence with no base or another one, and as for the class.
        """
        if not isinstance(model.base, FactorAnalysers | NoisedGaussianMixture):
            found = "none" if model.base is None else type(model.base).__name__
            raise ValueError(
                f"expected a base that is a mixture of Gaussians or of factor analysers, got {found}: use sample_posterior "
                "with gaussian_likelihood"
            )
        return cls(model.base, operator, tuple(model.event_shape), noise=noise)

    @torch.no_grad()
    def check_fits(self, model: EnergySequence, operator: LinearOperator, *, noise: float) -> None:
        """Refuse matrices that were made for something else, which would give draws of another posterior.

        Args:
            model: the sequence whose posterior is wanted.
            operator: the linear operator, compared by its measurements of one random point.
            noise: standard deviation of the measurement noise that the posterior is for.

        Raises:
            ValueError: matrices of another base, another operator or other noise.
        """
        advice = "make the matrices by ConditionedBase.of(model, operator, noise=noise)"
        if noise != self.noise:
            raise ValueError(f"conditioned was made for noise {self.noise:g}, got noise {noise:g}: {advice}")
        if model.base is not self.base:
            raise ValueError(f"conditioned was made for another base than that of the model: {advice}")
        point = torch.randn(1, *model.event_shape, generator=torch.Generator().manual_seed(0)).to(self.matrix.device)
        measured = operator.forward(point)
        expected = torch.zeros(len(self.is_measured), dtype=torch.float64, device=self.matrix.device)
        expected[self.is_measured] = self.matrix @ point.flatten().double()
        is_alike = measured.shape[1:] == self.measured_shape and measured.is_complex() == self.is_complex
        if not is_alike or float((_real(measured)[0] - expected).abs().max()) > SAME_OPERATOR * float(expected.abs().max()):
            raise ValueError(f"conditioned was made for an operator that measures something else: {advice}")

    @cached_property
    def prior(self) -> NoisedGaussianMixture:
        """The base itself, as a mixture of Gaussians with axes."""
        return NoisedGaussianMixture(self.log_weights.exp(), self.means, self.covariances)

    def __call__(self, y: Tensor) -> NoisedGaussianMixture:
        """The posterior given one measurement ``y``, without batch dimension.

        Raises:
            ValueError: a measurement of another shape, a complex one where the operator gives real ones or the reverse, or
                one that is not finite.
        """
        if not isinstance(y, Tensor):
            raise ValueError(f"expected a measurement as a tensor, got {type(y).__name__}: use torch.as_tensor(y)")
        if y.shape != self.measured_shape:
            raise ValueError(f"expected a measurement of shape {tuple(self.measured_shape)}, got {tuple(y.shape)}")
        if y.is_complex() != self.is_complex:
            kinds = ("real", "complex") if y.is_complex() else ("complex", "real")
            raise ValueError(f"the operator gives {kinds[0]} measurements, got a {kinds[1]} one")
        if not bool(y.isfinite().all()):
            raise ValueError("expected a finite measurement, got NaN or infinite entries: leave these out of the operator")
        gap = _real(y[None]).double()[:, self.is_measured] - self.means @ self.matrix.T
        scaled = torch.linalg.solve_triangular(self.triangles, gap[..., None], upper=False).squeeze(-1)
        heights = self.log_weights - self.triangles.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        shares = (heights - 0.5 * scaled.square().sum(-1)).softmax(0)
        kept = shares > LEAST_SHARE
        means = self.means[kept] + torch.einsum("kdm,km->kd", self.gains[kept], gap[kept])
        found = NoisedGaussianMixture.empty(int(kept.sum()), means.shape[1]).to(means.device)
        state = {
            "log_weights": (shares[kept] / shares[kept].sum()).log(),
            "variances": self.variances[kept],
            "axes": self.axes[kept],
            "centers": torch.einsum("kd,kde->ke", means, self.axes[kept]),
        }
        found.load_state_dict({name: value.float() for name, value in state.items()})
        return found


@outside_inference_mode
def condition_on_measurement(
    model: EnergySequence,
    operator: LinearOperator,
    y: Tensor,
    *,
    noise: float,
    conditioned: ConditionedBase | None = None,
) -> EnergySequence:
    """Build the sequence whose level 0 is the posterior given y = A x + noise; it shares the network of ``model``.

    Args:
        model: the prior, whose base is a mixture of Gaussians or of factor analysers.
        operator: the linear operator A, real or complex.
        y: one measurement, without batch dimension.
        noise: standard deviation of the measurement noise; for a complex measurement, that of its real and imaginary parts.
        conditioned: the factorised matrices, which all measurements of one operator share; made here if not given.

    Raises:
        ValueError: a sequence with no base or another one, noise that is not positive and finite, a measurement that does
            not fit the operator, or matrices for another base, operator or noise.

    >>> from drl_density import NoiseSchedule
    >>> from drl_density.networks import MLP, MLPSettings
    >>> from drl_density.operators import Mask
    >>> model = EnergySequence(NoiseSchedule.log_spaced(4), MLP(MLPSettings(2)), event_shape=(2,))
    >>> operator = Mask(torch.tensor([True, False]))
    >>> condition_on_measurement(model, operator, torch.tensor([2.0]), noise=0.1).level(0)
    EnergyDistribution(batch_shape=(), event_shape=(2,), normalization='none')
    """
    check_noise(noise)
    if conditioned is None:
        conditioned = ConditionedBase.of(model, operator, noise=noise)
    else:
        conditioned.check_fits(model, operator, noise=noise)
    base = conditioned(y).to(model.device)
    return EnergySequence(
        model.schedule, model.network, tuple(model.event_shape), base=base, is_integrable=model.is_integrable
    )


def check_noise(noise: float) -> None:
    """Refuses a standard deviation of measurement ``noise`` that is not positive and finite.

    Raises:
        ValueError: zero, a negative number, infinity or NaN.

    >>> check_noise(0.1)
    """
    if not 0 < noise < math.inf:
        raise ValueError(f"noise must be positive and finite, got {noise}")


def _real(y: Tensor) -> Tensor:
    return (torch.view_as_real(y.contiguous()) if y.is_complex() else y).flatten(1)
