r"""Few-step sampling with the denoisers of an energy sequence: DDIM, ancestral steps, inversion and interpolation.

From level t to a cleaner level s, with the denoised estimate :math:`\hat x_0` and
:math:`\hat\epsilon = (x_t - \alpha_t \hat x_0) / \sigma_t`,

.. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - c^2}\,\hat\epsilon + c z, \qquad
    c = \eta\,\frac{\sigma_s}{\sigma_t} \sqrt{1 - \alpha_t^2 / \alpha_s^2}.

:math:`\eta = 0` is deterministic (Euler's rule for the probability flow), :math:`\eta = 1` the ancestral step of the normal
approximation. None of these draws is exactly from the energy-based model; chains on it make them so.

Source: Song, Meng and Ermon 2021 (arXiv 2010.02502), equation 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.distributions import SampleResult
from drl_density.model import EnergySequence
from drl_density.samplers.progressive import StepRecord

Denoiser = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class DDIMSettings:
    """How the levels are walked.

    Attributes:
        num_steps: steps from level T to level 0, evenly over the levels.
        levels: the levels themselves, falling from T to 0, in place of ``num_steps``.
        eta: 0 deterministic to 1 ancestral.
        is_denoised: end with the denoised estimate in place of a state of level 0, whose noise is small.

    Raises:
        ValueError: an eta outside [0, 1], or no steps.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> DDIMSettings(num_steps=4).walk(model)
    (8.0, 6.0, 4.0, 2.0, 0.0)
    """

    num_steps: int = 50
    levels: tuple[float, ...] | None = None
    eta: float = 0.0
    is_denoised: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    def walk(self, model: EnergySequence) -> tuple[float, ...]:
        """The levels from T to 0.

        Args:
            model: whose levels are walked.

        Raises:
            ValueError: levels that do not fall from T to 0.
        """
        if self.levels is None:
            return tuple(torch.linspace(model.num_levels, 0, self.num_steps + 1, dtype=torch.float64).tolist())
        levels = tuple(float(level) for level in self.levels)
        is_falling = all(b < a for a, b in zip(levels, levels[1:], strict=False))
        if len(levels) < 2 or not is_falling or levels[0] != model.num_levels or levels[-1] != 0:
            raise ValueError(f"levels must fall from {model.num_levels} to 0, got {levels}")
        return levels


def sample_ddim(
    model: EnergySequence,
    num_samples: int,
    *,
    settings: DDIMSettings | None = None,
    denoiser: Denoiser | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SampleResult:
    """Draws by DDIM, ``(num_samples, *event)``.

    Args:
        model: the sequence.
        num_samples: draws.
        settings: walk and eta.
        denoiser: ``denoiser(x, level)``, an estimate of the clean point; the model's own when not given.
        noise: latent codes at level T ``(num_samples, *event)``; N(0, I) when not given.
        generator: source of randomness.
        on_step: told after each step.

    Raises:
        ValueError: a walk out of order, or codes of another shape.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> sample_ddim(model, 4, settings=DDIMSettings(num_steps=5)).draws.shape
    torch.Size([4, 2])
    """
    settings = settings or DDIMSettings()
    denoiser = model.denoise if denoiser is None else denoiser
    shape = (num_samples, *model.event_shape)
    if noise is not None and noise.shape != shape:
        raise ValueError(f"expected latent codes of shape {shape}, got {tuple(noise.shape)}")
    x = normal_draws(shape, model, generator) if noise is None else noise
    levels = settings.walk(model)
    for noisier, cleaner in zip(levels, levels[1:], strict=False):
        x = move(model, x, denoiser(x, noisier), (noisier, cleaner), settings.eta, generator)
        if on_step is not None:
            on_step(StepRecord(cleaner, x, math.nan))
    return SampleResult(denoiser(x, 0.0) if settings.is_denoised else x)


def invert_ddim(
    model: EnergySequence, x: Tensor, *, settings: DDIMSettings | None = None, denoiser: Denoiser | None = None
) -> Tensor:
    """Latent codes at level T of states ``x`` of level 0: the deterministic walk upward.

    Decoding them again gives ``x`` back up to an error that falls as 1 / steps.

    Args:
        model: the sequence.
        x: ``(n, *event)``.
        settings: steps or levels of the walk.
        denoiser: in place of the model's own.

    Raises:
        ValueError: eta above 0, which cannot be walked back.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> system = GaussianMixtureSequence.example()
    >>> x, settings = system.sample(2, 0, generator=torch.Generator().manual_seed(0)), DDIMSettings(num_steps=40)
    >>> codes = invert_ddim(system.model, x, settings=settings)
    >>> again = sample_ddim(system.model, 2, settings=settings, noise=codes).draws
    >>> bool((again - x).abs().max() < 0.2)
    True
    """
    settings = settings or DDIMSettings()
    if settings.eta:
        raise ValueError(f"only the deterministic walk (eta = 0) can be inverted, got eta = {settings.eta}")
    denoiser = model.denoise if denoiser is None else denoiser
    levels = settings.walk(model)[::-1]
    for cleaner, noisier in zip(levels, levels[1:], strict=False):
        x = move(model, x, denoiser(x, cleaner), (cleaner, noisier), 0.0, None)
    return x


def interpolate_codes(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation of two latent codes ``(*event)`` at ``shares`` ``(n,)`` in [0, 1]: ``(n, *event)``.

    Args:
        first: code at share 0.
        second: code at share 1.
        shares: of the way from the first to the second.

    >>> codes = interpolate_codes(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.5]))
    >>> bool(((codes.norm(dim=1) - 1).abs() < 1e-6).all())
    True
    """
    a, b = first.flatten(), second.flatten()
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).double())
    shares = shares.double()[:, None]
    if float(angle) < 1e-6:
        mixed = (1 - shares) * a.double() + shares * b.double()
    else:
        mixed = (torch.sin((1 - shares) * angle) * a.double() + torch.sin(shares * angle) * b.double()) / torch.sin(
            angle
        )
    return mixed.to(first).reshape(len(shares), *first.shape)


def move(
    model: EnergySequence,
    x: Tensor,
    clean: Tensor,
    where: tuple[float, float],
    eta: float,
    generator: torch.Generator | None,
) -> Tensor:
    """One step of the equation above from ``where[0]`` to ``where[1]``; upward too when eta is 0."""
    (alpha, sigma), (alpha_to, sigma_to) = (
        (float(model.schedule.alpha_at(level)), float(model.schedule.sigma_at(level))) for level in where
    )
    direction = (x - alpha * clean) / sigma
    spread = 0.0 if not eta else eta * sigma_to / sigma * math.sqrt(1 - (alpha / alpha_to) ** 2)
    moved = alpha_to * clean + math.sqrt(sigma_to**2 - spread**2) * direction
    if not spread:
        return moved
    return moved + spread * normal_draws(x.shape, x, generator)
