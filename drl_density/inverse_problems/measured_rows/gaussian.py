r"""Posteriors of Gaussians with few factors under linear measurements, by blocks of A* A and one small matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from drl_density.bases import FactorAnalysers
from drl_density.bases.gaussian_mixture import draw_of_each
from drl_density.devices import normal_draws
from drl_density.inverse_problems.conditioned_base import check_noise
from drl_density.operators.gram import GramBlocks
from drl_density.records.brief import brief


@dataclass(frozen=True, eq=False)
class Measurements:
    """What posteriors need of measurements.

    Attributes:
        pulled: the adjoints A* y of the measurements, ``(n, d)``, float64.
        squares: their squared norms, ``(n,)``, float64.

    >>> from drl_density.operators import Mask
    >>> Measurements.of(GramBlocks(Mask(torch.tensor([True, False])), (2,)), torch.tensor([[2.0]])).pulled
    tensor([[2., 0.]], dtype=torch.float64)
    """

    pulled: Tensor
    squares: Tensor

    __repr__ = brief

    @classmethod
    def of(cls, gram: GramBlocks, y: Tensor) -> Self:
        """From measurements ``(n, *measured)``.

        Args:
            gram: blocks of the operator's A* A.
            y: measurements, one in a row.

        Raises:
            ValueError: measurements that are not finite.
        """
        if not bool(y.isfinite().all()):
            raise ValueError("expected finite measurements, got NaN or infinite entries: leave these out of the operator")
        return cls(gram.adjoint(y), y.abs().double().square().flatten(1).sum(1))

    def __len__(self) -> int:
        """Number n of measurements."""
        return len(self.pulled)

    def repeat(self, count: int) -> Measurements:
        """Each measurement ``count`` times in a row, ``(count n, d)``."""
        return Measurements(self.pulled.repeat_interleave(count, 0), self.squares.repeat_interleave(count, 0))


class MeasuredGaussian:
    r"""Posteriors of :math:`x \sim N(m, C)` given :math:`y = A x + s\,\varepsilon`, for any means and measurements.

    The covariance :math:`C = \mathrm{diag}\,\psi + W W^\top` and the operator are fixed. With :math:`G = A^* A`,

    .. math:: B = \mathrm{diag}\,\psi^{-1} + G / s^2, \qquad E = B^{-1} \mathrm{diag}\,\psi^{-1}\, W, \qquad
        H = I + E^\top G W / s^2,

    the posterior covariance is :math:`B^{-1} + E H^{-1} E^\top` by the Woodbury identity. B has the blocks of G, and H is of
    size r x r, so that no matrix is of size d x d unless G is. Everything is float64.

    Args:
        loadings: factor loadings W, ``(d, r)``.
        noises: variances psi of the independent part, positive, ``(d,)``.
        gram: blocks of G, the operator's A* A.
        noise: standard deviation s of the measurement noise; for a complex one, that of its real and imaginary parts.

    Raises:
        ValueError: noise or variances that are not positive, or shapes that do not fit.

    Source: Rasmussen and Williams 2006, appendix A.3 (the identities).

    >>> from drl_density.operators import Mask
    >>> gram = GramBlocks(Mask(torch.tensor([True, False])), (2,))
    >>> law = MeasuredGaussian(torch.zeros(2, 1), torch.ones(2), gram, noise=1.0)
    >>> [round(value, 9) for value in law.mean(torch.zeros(1, 2), Measurements.of(gram, torch.tensor([[2.0]])))[0].tolist()]
    [1.0, 0.0]
    """

    def __init__(self, loadings: Tensor, noises: Tensor, gram: GramBlocks, *, noise: float) -> None:
        check_noise(noise)
        if noises.shape != (gram.num_features,) or loadings.shape[:-1] != noises.shape:
            raise ValueError(
                f"expected loadings ({gram.num_features}, r) and noises ({gram.num_features},), got {tuple(loadings.shape)} "
                f"and {tuple(noises.shape)}"
            )
        if not bool((noises > 0).all()):
            raise ValueError(f"every noise variance must be positive, least one {float(noises.min()):.3g}")
        self.gram, self.noise = gram, noise
        wide, inverse = loadings.double(), 1 / noises.double()
        self.triangles = torch.linalg.cholesky(gram.blocks / noise**2 + torch.diag_embed(inverse[gram.groups]))
        self.spread = self._solved((wide * inverse[:, None]).T).T  # E
        inner = torch.eye(wide.shape[1], dtype=torch.float64) + self.spread.T @ gram(wide.T).T / noise**2
        self.inner = torch.linalg.cholesky(0.5 * (inner + inner.T))
        halves = (each.diagonal(dim1=-2, dim2=-1).log().sum() for each in (self.triangles, self.inner))
        self._log_determinant = 2 * sum(halves) - inverse.log().sum()

    def mean(self, means: Tensor, measured: Measurements) -> Tensor:
        """Posterior means ``(n, d)``.

        Args:
            means: means m before the measurement, ``(n, d)``, or ``(1, d)`` for all.
            measured: measurements ``(n, d)``, as the operator's adjoint gives them.
        """
        return means.double() + self._moved(self._residual(means, measured))

    def sample(self, means: Tensor, measured: Measurements, *, generator: torch.Generator | None = None) -> Tensor:
        """One posterior draw for each measurement, ``(n, d)``.

        Args:
            means: means m before the measurement, ``(n, d)``, or ``(1, d)`` for all.
            measured: measurements ``(n, d)``, as the operator's adjoint gives them.
        """
        white = self.gram.split(normal_draws(measured.pulled.shape, measured.pulled, generator))
        apart = self.gram.join(torch.linalg.solve_triangular(self.triangles.mT, white, upper=True))
        factors = normal_draws((self.inner.shape[0], len(measured)), measured.pulled, generator)
        together = self.spread @ torch.linalg.solve_triangular(self.inner.T, factors, upper=True)
        return self.mean(means, measured) + apart + together.T

    def observed_log_density(self, means: Tensor, measured: Measurements) -> Tensor:
        """Log density of the measurements, up to a constant of operator and noise, ``(n,)``.

        Args:
            means: means m before the measurement, ``(n, d)``, or ``(1, d)`` for all.
            measured: measurements ``(n, d)``, as the operator's adjoint gives them.
        """
        wide, residual = means.double(), self._residual(means, measured)
        length = measured.squares + (wide * (self.gram(wide) - 2 * measured.pulled)).sum(1)
        explained = (residual * self._moved(residual)).sum(1)
        return -0.5 * (length / self.noise**2 - explained + self._log_determinant)

    def _residual(self, means: Tensor, measured: Measurements) -> Tensor:
        return (measured.pulled - self.gram(means)) / self.noise**2

    def _moved(self, residual: Tensor) -> Tensor:
        factors = torch.cholesky_solve(self.spread.T @ residual.T, self.inner)
        return self._solved(residual) + (self.spread @ factors).T

    def _solved(self, x: Tensor) -> Tensor:
        return self.gram.join(torch.cholesky_solve(self.gram.split(x), self.triangles))


def sample_factor_posterior(
    base: FactorAnalysers,
    gram: GramBlocks,
    measured: Measurements,
    num_samples: int,
    *,
    noise: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Exact posterior draws of a mixture of factor analysers, ``(n, num_samples, d)``, float64.

    Args:
        base: the mixture, before the measurement.
        gram: blocks of the operator's A* A.
        measured: measurements, one law of the clean point for each.
        num_samples: number of draws for each measurement.
        noise: standard deviation of the measurement noise.

    >>> from drl_density.operators import Mask
    >>> gram = GramBlocks(Mask(torch.tensor([True, False])), (2,))
    >>> analysers = FactorAnalysers(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2, 1), torch.ones(1, 2))
    >>> measured = Measurements.of(gram, torch.tensor([[2.0]]))
    >>> sample_factor_posterior(analysers, gram, measured, 5, noise=0.1).shape
    torch.Size([1, 5, 2])
    """
    laws = [
        MeasuredGaussian(loadings, noises, gram, noise=noise)
        for loadings, noises in zip(base.loadings, base.noises, strict=True)
    ]
    means = base.means.double()[:, None]
    heights = torch.stack([law.observed_log_density(mean, measured) for law, mean in zip(laws, means, strict=True)], 1)
    heights = (heights + base.log_weights.double()).repeat_interleave(num_samples, 0)
    chosen, every = draw_of_each(heights, generator), measured.repeat(num_samples)
    found = torch.empty_like(every.pulled)
    for number in chosen.unique().tolist():
        own = chosen == number
        part = Measurements(every.pulled[own], every.squares[own])
        found[own] = laws[number].sample(means[number], part, generator=generator)
    return found.reshape(len(measured), num_samples, -1)
