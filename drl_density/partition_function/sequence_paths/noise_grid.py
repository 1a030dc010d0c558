"""A grid of noise levels, even or as dense as paths need it, with the constants of its Gaussian steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from drl_density.schedule import NoiseSchedule

EVEN_SHARE = 0.5
"""Share of the steps that stay even in log-SNR, so that no part of the path is left without any."""


@dataclass(frozen=True, eq=False)
class NoiseGrid:
    r"""Log-SNRs from level 0 to level T, and the Gaussian step between any two neighbours.

    Between the cleaner state x and the noisier state y of one step, :math:`y = a x + s \varepsilon`. Given y and the clean
    row :math:`x_0`, the cleaner state is normal with mean :math:`c_y y + c_0 x_0` and variance v (the small variance).

    Attributes:
        log_snrs: falling log-SNRs of the N + 1 grid points, ``(N + 1,)``, float64.
        levels: their continuous levels, ``(N + 1,)``, float64.

    >>> grid = even_grid(NoiseSchedule.log_spaced(4), 8)
    >>> grid.num_steps, grid.levels[:3].tolist()
    (8, [0.0, 0.5, 1.0])
    """

    log_snrs: Tensor
    levels: Tensor

    @property
    def num_steps(self) -> int:
        """Number N of steps."""
        return len(self.log_snrs) - 1

    @cached_property
    def alphas(self) -> Tensor:
        """Signal scale of the grid points, ``(N + 1,)``."""
        return torch.sigmoid(self.log_snrs).sqrt()

    @cached_property
    def noises(self) -> Tensor:
        """Noise variance of the grid points, ``(N + 1,)``."""
        return torch.sigmoid(-self.log_snrs)

    @cached_property
    def step_alphas(self) -> Tensor:
        """Scale a of every step, ``(N,)``."""
        return self.alphas[1:] / self.alphas[:-1]

    @cached_property
    def step_variances(self) -> Tensor:
        """Noise s^2 of every step, ``(N,)``; the form keeps its digits for close neighbours."""
        return self.noises[1:] * -torch.expm1(self.log_snrs.diff())

    @cached_property
    def noisy_factors(self) -> Tensor:
        """Factor of the noisier state in the mean of the cleaner one, ``(N,)``."""
        return self.step_alphas * self.noises[:-1] / self.noises[1:]

    @cached_property
    def clean_factors(self) -> Tensor:
        """Factor of the clean row in that mean, ``(N,)``."""
        return self.alphas[:-1] * self.step_variances / self.noises[1:]

    @cached_property
    def small_variances(self) -> Tensor:
        """Variance of the cleaner state given the noisier one and the clean row, ``(N,)``."""
        return self.step_variances * self.noises[:-1] / self.noises[1:]


def grid_at(schedule: NoiseSchedule, log_snrs: Tensor) -> NoiseGrid:
    """The grid of falling log-SNRs ``(N + 1,)``, whose ends are those of the schedule.

    Raises:
        ValueError: log-SNRs that do not fall strictly.
    """
    if not bool((log_snrs.diff() < 0).all()):
        raise ValueError("the log-SNRs of a grid must fall strictly")
    known = schedule.log_snr
    # The number of inner levels whose log-SNR is at least that of the point; the levels' own log-SNRs fall.
    below = torch.searchsorted(-known[1:-1], -log_snrs, right=True)
    shares = (known[below] - log_snrs) / (known[below] - known[below + 1])
    return NoiseGrid(log_snrs, below + shares)


def even_grid(schedule: NoiseSchedule, num_steps: int) -> NoiseGrid:
    """The grid of a number of steps, even in log-SNR."""
    first, last = float(schedule.log_snr[0]), float(schedule.log_snr[-1])
    return grid_at(schedule, torch.linspace(first, last, num_steps + 1, dtype=torch.float64))


def placed_grid(schedule: NoiseSchedule, pilot: NoiseGrid, variances: Tensor, num_steps: int) -> NoiseGrid:
    r"""The grid that spreads the variance of the paths' increments evenly, from a coarser pilot grid.

    An increment over a step of h in log-SNR has a variance of about :math:`\kappa h^2`, so n steps per unit of log-SNR leave
    the variance :math:`\int \kappa / n`. For a given number of steps it is least for n in proportion to
    :math:`\sqrt\kappa`. Half of the steps stay even, since the pilot knows the variances roughly.

    Args:
        schedule: noise levels.
        pilot: grid on which the variances were measured.
        variances: variance of the increment over each step of the pilot, nats squared, ``(pilot.num_steps,)``.
        num_steps: number of steps of the new grid.

    >>> schedule = NoiseSchedule.log_spaced(4)
    >>> pilot = even_grid(schedule, 4)
    >>> placed = placed_grid(schedule, pilot, torch.tensor([9.0, 1.0, 1.0, 1.0]), 12)
    >>> int((placed.levels < 1).sum()), int(((placed.levels >= 1) & (placed.levels < 2)).sum())
    (5, 2)
    """
    even = -pilot.log_snrs.diff() / (pilot.log_snrs[0] - pilot.log_snrs[-1])
    needed = variances.double().sqrt()  # the root of kappa times the length of the step
    total = needed.sum()
    shares = EVEN_SHARE * even + (1 - EVEN_SHARE) * needed / total if float(total) > 0 else even
    done = torch.cat([torch.zeros(1, dtype=torch.float64), shares.cumsum(0)])
    done = done / done[-1]
    wanted = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    segment = torch.searchsorted(done[1:-1], wanted, right=True)
    part = (wanted - done[segment]) / (done[segment + 1] - done[segment])
    log_snrs = pilot.log_snrs[segment] + part * pilot.log_snrs.diff()[segment]
    log_snrs[0], log_snrs[-1] = pilot.log_snrs[0], pilot.log_snrs[-1]
    return grid_at(schedule, log_snrs)
