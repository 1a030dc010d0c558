r"""The papers' short chains: unadjusted Langevin steps of prescribed size on the recovery conditionals.

In y = a x, as the papers write it, from y = x_{t+1}:

.. math:: y \leftarrow y + \frac{s_t^2}{2}\Big[\nabla_y f(y) + \frac{x_{t+1} - y}{\sigma_{t+1}^2}\Big] + s_t\,\xi

In x this is the same kernel on the recovery conditional of F with step s_t / a. The topmost level is sampled as a marginal
density: its conditional has no quadratic term, and a is 1.

Source: Gao et al. 2021, algorithms 1 and 2, and release (``p_sample_langevin``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.execution import chain_passes
from drl_density.mcmc import ULA, Kernel, take_steps
from drl_density.model import EnergySequence
from drl_density.shapes import per_row


@dataclass(frozen=True)
class LangevinChains:
    """How long and how far.

    Attributes:
        num_steps: K; at K = 10 the paper's training diverges, at 30 it does not.
        factor: b^2 of the step sizes, see :meth:`~drl_density.NoiseSchedule.langevin_steps`.
        is_top_marginal: whether the topmost level is a marginal density.
        temperature: of the density the chains run on; the release scales the noise by 0.99 to draw pictures, which is a
            temperature of 0.9801. Anything but 1 samples another density than the model's, so training refuses it and no
            estimator has it.
        kernel: unadjusted, as in the papers, or an adjusted one with the same steps.

    Raises:
        ValueError: a negative number of steps, or a factor or temperature that is not positive.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> chains = LangevinChains(num_steps=2)
    >>> ends, _ = chains.run(model, torch.zeros(3, 2).double(), torch.ones(3, 2).double(), torch.tensor([0, 1, 2]))
    >>> ends.shape
    torch.Size([3, 2])
    """

    num_steps: int = 30
    factor: float = 2e-4
    is_top_marginal: bool = True
    temperature: float = 1.0
    kernel: Kernel = field(default_factory=ULA)

    def __post_init__(self) -> None:
        if self.num_steps < 0 or not self.factor > 0 or not self.temperature > 0:
            raise ValueError(
                "need num_steps >= 0, factor > 0 and temperature > 0, "
                f"got {self.num_steps}, {self.factor}, {self.temperature}"
            )

    def step_alpha(self, model: EnergySequence, levels: Tensor) -> Tensor:
        """a of each row's level, with 1 at a marginal top.

        Args:
            model: whose schedule counts.
            levels: integers ``(batch,)``.
        """
        return model.schedule.langevin_steps(self.factor, is_top_marginal=self.is_top_marginal)[0].to(levels.device)[
            levels
        ]

    def loss_weight(self, model: EnergySequence, levels: Tensor) -> Tensor:
        """(sigma_1 / sigma_{t+1}) s_t^2: the papers weigh the raw output f~ = s^2 f by the ratio.

        Args:
            model: whose schedule counts.
            levels: integers ``(batch,)``.
        """
        _, step_size = model.schedule.langevin_steps(self.factor, is_top_marginal=self.is_top_marginal)
        sigma = model.schedule.step_sigma
        return ((sigma[0] / sigma) * step_size**2).to(levels.device)[levels]

    def run(
        self,
        model: EnergySequence,
        start: Tensor,
        x_noisier: Tensor,
        levels: Tensor,
        *,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """K steps from ``start`` (in x) on the conditionals given ``x_noisier``: (ends, mean acceptance per row).

        Args:
            model: the sequence; power iterations of its network stand still meanwhile.
            start: ``(batch, *event)``.
            x_noisier: states one level up.
            levels: integer level of each row, ``(batch,)``.
            label: of each row, for a network with labels.
            generator: source of randomness.
        """
        step_alpha, step_size = model.schedule.langevin_steps(self.factor, is_top_marginal=self.is_top_marginal)
        precision = model.schedule.step_sigma**-2
        if self.is_top_marginal:
            precision[-1] = 0.0
        alpha, step, precision = (
            table.to(levels.device)[levels].to(start) for table in (step_alpha, step_size, precision)
        )
        column = per_row(alpha, start)
        log_snr = model.schedule.log_snr_at(levels).to(start)

        def log_density(x: Tensor) -> Tensor:
            distance = (x_noisier - column * x).square().flatten(1).sum(1)
            return (model.log_density_at(x, log_snr, label) - 0.5 * precision * distance) / self.temperature

        if not self.num_steps:
            return start.detach(), torch.ones_like(alpha)
        with chain_passes(model, is_adjusted=self.kernel.is_adjusted):
            state, acceptance, _ = take_steps(
                self.kernel,
                self.kernel.init(start, log_density),
                log_density,
                num_steps=self.num_steps,
                step_size=step / alpha * self.temperature**0.5,
                generator=generator,
            )
        return state.position, acceptance.to(alpha)


SHARED_NOISE_REFUSAL = (
    "chains started at the data need Markov pairs: with one noise shared by x_t and x_{t+1}, x_t is no draw of "
    "p(x_t | x_{t+1}) and the truth is no stationary point. Use shares_noise=False, or start every chain at the noisier "
    "state or at an initialiser's proposal"
)


def draw_pairs(
    model: EnergySequence,
    x: Tensor,
    level: Tensor,
    noisier: Tensor,
    *,
    shares_noise: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""(x_level, x_noisier) of clean rows ``(batch, *event)``: the Markov pair, or both from one noise.

    One noise for both keeps both marginals, on which alone the gradient of recovery likelihood depends, and lowers its
    variance; it breaks the coupling that lets a chain start at x_level (Zhu et al. 2024, noise variance reduction).

    Args:
        model: whose schedule counts.
        x: clean rows.
        level: of each row, ``(batch,)``.
        noisier: level of the noisier state of each row, ``(batch,)``.
        shares_noise: both states from one noise.
        generator: source of randomness.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> levels = torch.tensor([0.0, 3.0])
    >>> clean, noisier = draw_pairs(model, torch.zeros(2, 2).double(), levels, levels + 1)
    >>> clean.shape, noisier.shape
    (torch.Size([2, 2]), torch.Size([2, 2]))
    """
    if not shares_noise:
        clean = model.schedule.diffuse(x, level, generator=generator)
        return clean, model.schedule.diffuse_step(clean, level, noisier, generator=generator)
    noise = normal_draws(x.shape, x, generator)

    def at(place: Tensor) -> Tensor:
        alpha, sigma = (per_row(value(place).to(x), x) for value in (model.schedule.alpha_at, model.schedule.sigma_at))
        return alpha * x + sigma * noise

    return at(level), at(noisier)
