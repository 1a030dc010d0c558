r"""The papers' short chains: unadjusted Langevin steps of prescribed size on the recovery conditionals.

In y = a x, the variable of the papers, chains start at y = x_{t+1} and follow

.. math:: y \leftarrow y + \frac{s_t^2}{2}\Big[\nabla_y f(y) + \frac{x_{t+1} - y}{\sigma_{t+1}^2}\Big] + s_t\,\xi

In x this is the same kernel on the recovery conditional of F with step s_t / a. The topmost level is sampled as a marginal
density: its conditional has no quadratic term, and a is 1.

Source: Gao et al. 2021, algorithms 1 and 2, and release (``p_sample_langevin``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from drl_density.mcmc import ULA, Kernel
from drl_density.model import EnergySequence
from drl_density.records.fields import NonNegativeInt, PositiveFloat, check_fields
from drl_density.shapes import per_row
from drl_density.training.objectives.pairs import ChainEnds, short_chains


@dataclass(frozen=True)
class LangevinChains:
    r"""Length, step sizes and kernel of the papers' chains.

    Attributes:
        num_steps: K, the number of kernel steps; the paper's training diverges at K = 10 and converges at 30.
        factor: b^2 of the step sizes, see :meth:`~drl_density.NoiseSchedule.langevin_steps`.
        is_top_marginal: whether the topmost level is sampled as a marginal density.
        temperature: temperature of the target. The release scales the noise by 0.99 to draw pictures, which is a
            temperature of 0.9801. Any temperature but 1 samples another density than the model's; training refuses it.
        kernel: unadjusted as in the papers, or an adjusted one with the same steps.
        scaling: what a squared step is the ``factor`` of. "paper" takes the papers' rule, which grows with the noise of the
            level. "conditional" takes the variance of the conditional, :math:`1 / (a^2 / s^2 + 1 / \sigma^2)` in x, so that
            all levels accept alike; adjusted chains in 200 dimensions accept half of their moves at a factor of 0.4.
        weights: weights of the levels in training. "paper" is meant for networks that output s_t^2 F, as the papers' do;
            "nats" weighs all levels alike, for networks that output F itself. With the weights of the paper such networks
            hardly learn the cleaner levels, where s_t^2 is smallest.

    Raises:
        ValueError: a negative number of steps, or a factor or temperature that is not positive.

    >>> from drl_density.testing import GaussianMixtureSequence
    >>> model = GaussianMixtureSequence.example().model
    >>> chains = LangevinChains(num_steps=2)
    >>> ends = chains.run(model, torch.zeros(3, 2).double(), torch.ones(3, 2).double(), torch.tensor([0, 1, 2]))
    >>> ends.position.shape
    torch.Size([3, 2])
    """

    num_steps: NonNegativeInt = 30
    factor: PositiveFloat = 2e-4
    is_top_marginal: bool = True
    temperature: PositiveFloat = 1.0
    kernel: Kernel = field(default_factory=ULA)
    weights: Literal["paper", "nats"] = "paper"
    scaling: Literal["paper", "conditional"] = "paper"

    def __post_init__(self) -> None:
        check_fields(self)

    def check_trains(self) -> None:
        """Check that the chains sample the model's own density, as training needs.

        Raises:
            ValueError: a temperature other than 1.
        """
        if self.temperature != 1:
            raise ValueError(f"training chains must run at temperature 1, got {self.temperature}")

    def step_alpha(self, model: EnergySequence, levels: Tensor) -> Tensor:
        """Coefficient a of each row's level, which is 1 at a marginal top.

        Args:
            levels: integer level of each row ``(batch,)``.

        Raises:
            ValueError: levels that are no integers from 0 to T - 1; so do all functions of levels here.
        """
        _check_levels(levels, model.num_levels)
        return _at(self._steps(model)[0], levels)

    def loss_weight(self, model: EnergySequence, levels: Tensor) -> Tensor:
        r"""Weight of each row's contrast in the loss: :math:`(\sigma_1 / \sigma_{t+1})\, s_t^2`, or 1 for "nats".

        The papers weight the raw output of the network, s_t^2 F, by the ratio of the sigmas.

        Args:
            levels: integer level of each row ``(batch,)``.
        """
        _check_levels(levels, model.num_levels)
        if self.weights == "nats":
            return torch.ones(len(levels), dtype=torch.float64, device=levels.device)
        sigma = model.schedule.step_sigma
        return _at((sigma[0] / sigma) * self._steps(model)[1] ** 2, levels)

    def energy_scale(self, model: EnergySequence, levels: Tensor) -> Tensor:
        r"""Factor of the log density with which K unadjusted steps remove the noise of level t + 1: ``(batch,)``, float64.

        .. math:: c_t = \tau + \frac{\sigma_{t+1}^2}{K s_t^2}

        where tau is the temperature and sigma_{t+1} the noise of the step up.

        A few short steps do not reach the conditional, so they draw by energies that are steeper than log densities. A log
        density that score matching has learned becomes such an energy when it is multiplied by these factors. With the
        settings of the first paper they are 168 at level 0, then 6.1, 3.8, 3.1 and 2.9. At a marginal top, where a chain
        starts at N(0, I), the factor of 2.7 is a guess, and a larger one draws better on digits. Chains that are long
        enough to reach the conditional need no factor.

        Args:
            levels: integer level of each row ``(batch,)``.

        Raises:
            ValueError: chains without steps, or of another kernel than unadjusted Langevin.
        """
        if not self.num_steps or self.kernel.is_adjusted:
            raise ValueError(
                "the factor is derived for unadjusted chains of at least one step, got "
                f"num_steps={self.num_steps} and {type(self.kernel).__name__}"
            )
        _check_levels(levels, model.num_levels)
        variance = self.num_steps * self._steps(model)[1] ** 2
        return _at(self.temperature + model.schedule.step_sigma**2 / variance, levels)

    def run(
        self,
        model: EnergySequence,
        start: Tensor,
        x_noisier: Tensor,
        levels: Tensor,
        *,
        label: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> ChainEnds:
        """Make K steps on the conditionals given ``x_noisier``.

        Args:
            model: the sequence; the power iterations of its network pause meanwhile.
            start: first states ``(batch, *event)``, in x.
            x_noisier: states one level up ``(batch, *event)``.
            levels: integer level of each row ``(batch,)``.
            label: label of each row ``(batch,)``, for a network with labels.
        """
        _check_levels(levels, model.num_levels)
        if not self.num_steps:
            return ChainEnds(start.detach(), torch.ones(len(start), dtype=start.dtype, device=start.device))
        step_alpha, step_size = self._steps(model)
        precision = model.schedule.step_sigma**-2
        if self.is_top_marginal:
            precision[-1] = 0.0
        alpha, step, precision = (_at(table, levels).to(start) for table in (step_alpha, step_size, precision))
        log_snr = model.schedule.log_snr_at(levels).to(start)

        def log_density(x: Tensor) -> Tensor:
            distance = (x_noisier - per_row(alpha, x) * x).square().flatten(1).sum(1)
            return (model.log_density_at(x, log_snr, label) - 0.5 * precision * distance) / self.temperature

        # Steps longer by sqrt(temperature) keep the drift of temperature 1 and scale the noise alone, as in the release.
        step_size = step / alpha * self.temperature**0.5
        return short_chains(model, self.kernel, start, log_density, step_size, self.num_steps, generator=generator)

    def _steps(self, model: EnergySequence) -> tuple[Tensor, Tensor]:
        """Tables (a, s) of the levels ``(T,)``."""
        step_alpha, step = model.schedule.langevin_steps(self.factor, is_top_marginal=self.is_top_marginal)
        if self.scaling == "conditional":
            pull = (model.schedule.step_alpha / model.schedule.step_sigma) ** 2
            if self.is_top_marginal:
                pull[-1] = 0.0
            step = step_alpha * (self.factor / (pull + model.schedule.sigma[:-1] ** -2)).sqrt()
        return step_alpha, step


def _at(table: Tensor, levels: Tensor) -> Tensor:
    """Entries ``(batch,)`` of a table of the levels ``(T,)`` at levels that were checked."""
    return table.to(levels.device)[levels]


def _check_levels(levels: Tensor, num_levels: int) -> None:
    """Raise a ValueError for levels that are no integers from 0 to T - 1; of a device it waits for the answer once."""
    is_integer = not levels.is_floating_point() and levels.dtype != torch.bool
    if not is_integer or bool(((levels < 0) | (levels >= num_levels)).any()):
        raise ValueError(f"expected integer levels from 0 to {num_levels - 1}, one for each row, got {levels}")
