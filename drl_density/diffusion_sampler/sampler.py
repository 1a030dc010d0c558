r"""Denoising diffusion samplers: a controlled walk from N(0, s^2 I) to an unnormalised target, with its log Z.

With shares :math:`\alpha_k` and :math:`\lambda_k = 1 - \sqrt{1 - \alpha_k}` the walk and its log weight are

.. math:: y_{k+1} = \sqrt{1 - \alpha_k}\, y_k + 2 s^2 \lambda_k f(y_k, k) + s \sqrt{\alpha_k}\, \epsilon_k, \qquad
    \log w = \log\gamma(y_K) - \log N(y_K; 0, s^2 I)
    - \sum_k \Bigl( \tfrac{2 s^2 \lambda_k^2}{\alpha_k} \lVert f \rVert^2
    + \tfrac{2 s \lambda_k}{\sqrt{\alpha_k}}\, f \cdot \epsilon_k \Bigr),

and E[w] = Z for any control f. An energy sequence has a control without training, score + x; for any other target
:func:`~drl_density.diffusion_sampler.train_diffusion_sampler` learns one.

Source: Vargas, Grathwohl and Doucet 2023 (arXiv 2302.13834).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.autograd import methods_outside_inference_mode
from drl_density.diffusion_sampler.backwards import walks_backwards
from drl_density.diffusion_sampler.settings import Whitening
from drl_density.mcmc import LogDensity
from drl_density.model import EnergySequence
from drl_density.partition_function.one_sided.other_side import OtherSideSettings
from drl_density.records.brief import brief
from drl_density.shapes import as_event_shape, check_num_samples, is_integer
from drl_density.weights import LogPartitionEstimate, PathSummary, assess_weights, judge_estimate

Control = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Frame:
    """Coordinates z of a walk, with x = mean + L z for flattened points x of the target; the target's own by default.

    Attributes:
        mean: the point at z = 0, ``(d,)``.
        factor: L, lower triangular, ``(d, d)``, or the diagonal of a diagonal one, ``(d,)``.

    Raises:
        ValueError: one of the two without the other, shapes that do not fit, a factor that is not lower triangular, or a
            diagonal that is not positive and finite.

    >>> frame = Frame.whitening(torch.tensor([[1.0, 0.0], [3.0, 4.0]]).double(), "diagonal")
    >>> frame.to_target(torch.zeros(1, 2).double())
    tensor([[2., 2.]], dtype=torch.float64)
    """

    mean: Tensor | None = None
    factor: Tensor | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        if self.mean is None and self.factor is None:
            return
        if self.mean is None or self.factor is None:
            raise ValueError(f"expected mean and factor together, got {'mean' if self.factor is None else 'factor'} alone")
        count = len(self.mean) if self.mean.ndim else 0
        if self.mean.shape != (count,) or self.factor.shape not in ((count,), (count, count)):
            shapes = f"{tuple(self.mean.shape)} and {tuple(self.factor.shape)}"
            raise ValueError(f"expected mean (d,) and factor (d,) or (d, d), got {shapes}")
        diagonal = self.factor if self.factor.ndim == 1 else self.factor.diagonal()
        if not bool(((diagonal > 0) & diagonal.isfinite()).all() and self.mean.isfinite().all()):
            raise ValueError(f"expected a finite mean and a positive diagonal of the factor, got {diagonal.tolist()}")
        if self.factor.ndim == 2 and bool(self.factor.triu(1).any()):
            raise ValueError("expected a lower triangular factor, such as a Cholesky factor, got entries above the diagonal")

    @classmethod
    def whitening(cls, draws: Tensor, kind: Whitening) -> Frame:
        """Coordinates in which draws have mean 0 and variance 1, and no correlations if ``kind`` is "full".

        Args:
            draws: draws of the target, ``(n, *event)``.
            kind: the kind, "diagonal" or "full".

        Raises:
            ValueError: another kind, fewer than two draws, draws that are equal in a coordinate, or a covariance that is
                singular: take more chains, or "diagonal".
        """
        if kind not in ("diagonal", "full") or len(draws) < 2:
            raise ValueError(f"expected kind 'diagonal' or 'full' and two draws at least, got {kind!r}, {len(draws)} draws")
        flat = draws.reshape(len(draws), -1)
        if kind == "diagonal":
            return cls(flat.mean(0), flat.std(0))
        factor, failed = torch.linalg.cholesky_ex(flat.T.cov().reshape(flat.shape[1], -1))
        if int(failed):
            raise ValueError(
                f"the covariance of {len(flat)} draws of chains is singular in {flat.shape[1]} dimensions: take more "
                "num_chains, or whitening='diagonal'"
            )
        return cls(flat.mean(0), factor)

    @property
    def log_volume(self) -> float:
        """log |L|, by which log densities of z exceed those of x."""
        if self.factor is None:
            return 0.0
        return float((self.factor if self.factor.ndim == 1 else self.factor.diagonal()).log().sum())

    def to_target(self, z: Tensor) -> Tensor:
        """Points of the target, ``(n, *event)``.

        Args:
            z: states of the walk, ``(n, *event)``.
        """
        if self.mean is None or self.factor is None:
            return z
        flat, mean, factor = z.reshape(len(z), -1), self.mean.to(z), self.factor.to(z)
        return (mean + (factor * flat if factor.ndim == 1 else flat @ factor.T)).reshape(z.shape)

    def to_walk(self, x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """States z of the walk and gradients with respect to them, both ``(n, *event)``.

        Args:
            x: points of the target, ``(n, *event)``.
            gradient: gradients with respect to the points.
        """
        if self.mean is None or self.factor is None:
            return x, gradient
        factor, slope = self.factor.to(x), gradient.reshape(len(x), -1)
        centered = x.reshape(len(x), -1) - self.mean.to(x)
        if factor.ndim == 1:
            z, slope = centered / factor, slope * factor
        else:
            z, slope = torch.linalg.solve_triangular(factor, centered.T, upper=False).T, slope @ factor
        return z.reshape(x.shape), slope.reshape(x.shape)


@methods_outside_inference_mode
class DiffusionSampler:
    """A walk from noise to the target under a control; draws and log Z are available for any control, trained or not.

    Args:
        log_density: unnormalised log density of the target over rows ``(n, *event)``.
        shares: alpha_k of each step, ``(K,)``, each in (0, 1).
        scale: s, the standard deviation of the reference.
        control: f(y, k), the drift towards the target; zero by default.
        frame: coordinates of the walk; the target's own by default.
        is_sequence: whether the walk follows the noise levels of an energy sequence, along which modes join before they
            part; no modes are then searched for.

    Raises:
        ValueError: shares outside (0, 1).

    >>> from drl_density.diffusion_sampler import DiffusionSamplerSettings
    >>> sampler = DiffusionSampler(lambda x: 1.5 - 0.5 * (x**2).sum(-1), (2,), DiffusionSamplerSettings().shares())
    >>> bool((sampler.walk(4)[1] - 1.5 - math.log(2 * math.pi)).abs().max() < 1e-9)
    True
    """

    def __init__(
        self,
        log_density: LogDensity,
        event_shape: tuple[int, ...],
        shares: Tensor,
        *,
        scale: float = 1.0,
        control: Control | None = None,
        frame: Frame | None = None,
        is_sequence: bool = False,
    ) -> None:
        if not bool(((shares > 0) & (shares < 1)).all()):
            raise ValueError(f"shares must lie in (0, 1), got {shares.tolist()}")
        self._unchecked, self.event_shape = log_density, as_event_shape(event_shape)
        self.shares, self.scale, self.control = shares.double(), scale, control
        self.frame, self.is_sequence = frame or Frame(), is_sequence

    def log_density(self, y: Tensor) -> Tensor:
        """Unnormalised log density of the target, ``(n,)``.

        Args:
            y: points of the target's space, ``(n, *event)``.

        Raises:
            ValueError: a target that does not give one number per row.
        """
        values = self._unchecked(y)
        if values.shape != (len(y),):
            raise ValueError(
                f"expected one log density per row, ({len(y)},) for rows {tuple(y.shape)}, got {tuple(values.shape)}; sum "
                "over the dimensions of a point"
            )
        return values

    def log_density_at(self, y: Tensor) -> Tensor:
        """Unnormalised log density of the walk's end in its own coordinates, ``(n,)``; Z is that of the target.

        Args:
            y: states of the walk, ``(n, *event)``.
        """
        return self.log_density(self.frame.to_target(y)) + self.frame.log_volume

    def walk(
        self,
        num_samples: int,
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        with_held: Callable[[Tensor, int], tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Ends ``(num_samples, *event)`` of walks and their log weights ``(num_samples,)``, both with their graph.

        Args:
            dtype: floating-point type of the states.
            with_held: returns the control, and the control with its parameters detached. The term f . epsilon uses the
                second: its gradient in the parameters is zero on average, so the gradient of the mean log weight keeps its
                mean, and loses its variance as the control becomes exact ("sticking the landing", Roeder, Wu and Duvenaud
                2017).

        Raises:
            ValueError: a ``num_samples`` that is not a positive integer.
        """
        check_num_samples(num_samples)
        shape = (num_samples, *self.event_shape)
        y = self.scale * torch.randn(shape, generator=generator, dtype=dtype)
        cost = torch.zeros(num_samples, dtype=torch.float64)
        for step, share in enumerate(self.shares.tolist()):
            noise = torch.randn(shape, generator=generator, dtype=dtype)
            keep, pull = math.sqrt(1 - share), 1 - math.sqrt(1 - share)
            moved = keep * y + self.scale * math.sqrt(share) * noise
            if self.control is not None:
                f, held = (self.control(y, step),) * 2 if with_held is None else with_held(y, step)
                moved = moved + 2 * self.scale**2 * pull * f
                cost = cost + self._cost(f, noise, share, held)
            y = moved
        return self.frame.to_target(y), self.log_density_at(y).double() - self.log_reference(y) - cost

    def reverse(self, draws: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Log weights ``(n,)`` of walks noised backward from draws of the target; their mean is an upper bound (EUBO).

        Args:
            draws: exact or approximate draws of the target, ``(n, *event)``, one at least.

        Raises:
            ValueError: draws of another shape, or that are not finite.
        """
        if draws.shape[1:] != self.event_shape or not len(draws):
            raise ValueError(f"expected draws (n, {', '.join(map(str, self.event_shape))}), got {tuple(draws.shape)}")
        if not bool(draws.isfinite().all()):
            raise ValueError("draws of the target must be finite, and some are not: leave these rows out")
        y, cost = self.frame.to_walk(draws, draws)[0], torch.zeros(len(draws), dtype=torch.float64)
        weights = self.log_density(draws).double() + self.frame.log_volume - self.log_reference(y)
        for step in reversed(range(len(self.shares))):
            share = float(self.shares[step])
            keep, pull = math.sqrt(1 - share), 1 - math.sqrt(1 - share)
            noise = torch.randn(y.shape, generator=generator, dtype=y.dtype)
            before = keep * y + self.scale * math.sqrt(share) * noise
            if self.control is not None:
                f = self.control(before, step)
                forward = (y - keep * before - 2 * self.scale**2 * pull * f) / (self.scale * math.sqrt(share))
                cost = cost + self._cost(f, forward, share, f)
            y = before
        return weights - cost

    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Ends of walks, ``(num_samples, *event)``; they are draws of the target only if their weights are equal."""
        with torch.no_grad():
            return self.walk(num_samples, generator=generator)[0]

    def log_partition(
        self,
        *,
        num_samples: int = 2000,
        num_replicates: int = 8,
        other_side: OtherSideSettings | None = OtherSideSettings(),  # noqa: B008 - frozen
        generator: torch.Generator | None = None,
    ) -> LogPartitionEstimate:
        """log Z with its error and verdict; ``mean_log_weight`` is the evidence lower bound (ELBO).

        Where the weights are even, chains move walks' ends on and walks back from them check the estimate. Modes and tails
        that no walk has reached are looked for as well. Without this check the verdict is ``DOUBTFUL`` at best.

        Args:
            num_samples: number of walks in each replicate.
            num_replicates: number of independent replicates, whose spread gives the standard error.
            other_side: sizes of the check from the other side; ``None`` leaves it out.

        Raises:
            ValueError: fewer than two replicates, or a ``num_samples`` that is not a positive integer.
        """
        if not is_integer(num_replicates) or num_replicates < 2:
            raise ValueError(f"a standard error needs at least 2 replicates, got {num_replicates!r}")
        with torch.no_grad():
            walks = [self.walk(num_samples, generator=generator) for _ in range(num_replicates)]
        ends, weights = (torch.stack(parts) for parts in zip(*walks, strict=True))
        path = PathSummary(num_densities=len(self.shares))
        found = assess_weights(weights, bias="lower", path=path)
        seen = None
        if found.is_one_sided and other_side is not None:
            seen = walks_backwards(self, ends, found, other_side, generator=generator)
        return judge_estimate(weights, bias="lower", path=path, other_side=seen)

    def _cost(self, f: Tensor, noise: Tensor, share: float, held: Tensor) -> Tensor:
        """One step's term of the log weight's sum, ``(n,)``."""
        pull = 1 - math.sqrt(1 - share)
        square, cross = (v.double().reshape(len(f), -1).sum(1) for v in (f.square(), held * noise))
        return 2 * self.scale**2 * pull**2 / share * square + 2 * self.scale * pull / math.sqrt(share) * cross

    def log_reference(self, y: Tensor) -> Tensor:
        """Log density log N(y; 0, s^2 I) of the reference, ``(n,)``.

        Args:
            y: states of the walk, ``(n, *event)``.
        """
        scaled = y.double().reshape(len(y), -1) / self.scale
        return -0.5 * (scaled.square() + math.log(2 * math.pi * self.scale**2)).sum(1)

    def log_reference_at(self, x: Tensor) -> Tensor:
        """Log density of the reference at points of the target's space, ``(n,)``.

        Args:
            x: points of the target's space, ``(n, *event)``.
        """
        return self.log_reference(self.frame.to_walk(x, x)[0]) - self.frame.log_volume

    def sample_reference(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the reference, where walks start, as points of the target's space ``(num_samples, *event)``."""
        shape = (num_samples, *self.event_shape)
        return self.frame.to_target(self.scale * torch.randn(shape, generator=generator, dtype=torch.float64))


def sequence_sampler(model: EnergySequence, *, num_steps: int = 100) -> DiffusionSampler:
    """The sampler of level 0 whose control is the sequence's own score; it needs no training.

    Errors of the noisier levels increase the variance of the weights, and leave them unbiased.

    Args:
        num_steps: K, the number of steps, evenly spaced in level.

    Raises:
        ValueError: no steps.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sequence_sampler(model, num_steps=20).sample(4).shape
    torch.Size([4, 2])
    """
    if not is_integer(num_steps) or num_steps < 1:
        raise ValueError(f"num_steps must be a positive integer, got {num_steps!r}")
    levels = torch.linspace(model.num_levels, 0, num_steps + 1, dtype=torch.float64).tolist()
    pairs = list(zip(levels, levels[1:], strict=False))
    kept = [float(model.schedule.step_between(cleaner, noisier)[0]) for noisier, cleaner in pairs]
    shares = 1 - torch.tensor(kept, dtype=torch.float64).square()

    def control(y: Tensor, step: int) -> Tensor:
        return model.score(y.to(model.dtype), levels[step]).to(y) + y

    def log_density(x: Tensor) -> Tensor:
        return model.log_density(x.to(model.dtype), 0)

    return DiffusionSampler(log_density, tuple(model.event_shape), shares, control=control, is_sequence=True)
