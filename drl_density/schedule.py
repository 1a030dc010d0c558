"""The noise schedule: how much signal and noise each level holds.

A variance-preserving sequence of levels 0..T. A clean row x becomes

    x_t = alpha_t x + sigma_t eps,    alpha_t^2 + sigma_t^2 = 1,    eps ~ N(0, I),

and everything follows from the log signal-to-noise ratio lambda_t = log(alpha_t^2 / sigma_t^2), which falls from level
to level. Levels 0..T-1 carry energy-based models; level T is the known base N(0, I).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from drl_density.devices import normal_draws
from drl_density.shapes import per_row

Level = int | float | Tensor


class NoiseSchedule:
    r"""Variance-preserving noise levels 0..T given by their log signal-to-noise ratios.

    .. math:: \alpha_t^2 = \mathrm{sigmoid}(\lambda_t), \quad \sigma_t^2 = \mathrm{sigmoid}(-\lambda_t)

    The step from level t to t+1 is x_{t+1} = a x_t + s eps with a = alpha_{t+1} / alpha_t and s^2 = 1 - a^2. Levels are
    continuous: between integers, lambda is interpolated linearly. All values are float64.

    Args:
        log_snr: falling values lambda_0 > ... > lambda_T, shape ``(T + 1,)``.

    Raises:
        ValueError: values that are not finite and strictly falling, or fewer than two.

    Source: Gao et al. 2021 (arXiv 2012.08125), section 3.1; Kingma et al. 2021 for the log-SNR form.

    >>> schedule = NoiseSchedule.log_spaced(4, sigma_min=0.1)
    >>> schedule.num_levels
    4
    >>> bool(torch.allclose(schedule.alpha**2 + schedule.sigma**2, torch.ones(5).double()))
    True
    """

    def __init__(self, log_snr: Tensor | Sequence[float]) -> None:
        values = torch.as_tensor(log_snr, dtype=torch.float64).detach().clone()
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(f"log_snr must be a vector of at least 2 values, got shape {tuple(values.shape)}")
        if not bool(torch.isfinite(values).all()) or not bool((values.diff() < 0).all()):
            raise ValueError(f"log_snr must be finite and strictly falling from level 0 to T, got {values.tolist()}")
        self._log_snr = values
        self._entries: list[float] = values.tolist()

    @classmethod
    def log_spaced(cls, num_levels: int, *, sigma_min: float = 0.05, sigma_max: float = 0.995) -> NoiseSchedule:
        """Space levels evenly in log-SNR, so that sigma/alpha grows by one factor per level.

        Args:
            num_levels: number T of energy-based models.
            sigma_min: noise standard deviation of level 0, in (0, 1).
            sigma_max: noise standard deviation of level T, in (sigma_min, 1).

        Raises:
            ValueError: no levels, or ends that do not rise.
        """
        if num_levels < 1 or not 0 < sigma_min < sigma_max < 1:
            raise ValueError(
                "need num_levels >= 1 and 0 < sigma_min < sigma_max < 1, "
                f"got num_levels={num_levels}, sigma_min={sigma_min}, sigma_max={sigma_max}"
            )
        first, last = (math.log1p(-(s**2)) - 2 * math.log(s) for s in (sigma_min, sigma_max))
        return cls(torch.linspace(first, last, num_levels + 1, dtype=torch.float64))

    @classmethod
    def linear_beta(
        cls,
        base_steps: Sequence[int] = (0, 100, 200, 300, 400, 500, 999),
        *,
        beta_first: float = 1e-4,
        beta_last: float = 0.02,
        num_base_steps: int = 1000,
    ) -> NoiseSchedule:
        """Take levels from a chain of steps whose variance beta rises linearly; the default is the paper's T6.

        Args:
            base_steps: rising indices of the chain's steps that become levels 0 to T.
            beta_first: variance of the chain's first step.
            beta_last: variance of the chain's last step.
            num_base_steps: number of steps of the chain.

        Raises:
            ValueError: base_steps that do not rise, or lie outside the chain.

        Source: Gao et al. 2021, section 4 and its released settings (level 0 is step 0, noise 0.01).
        """
        steps = torch.as_tensor(list(base_steps))
        if len(steps) < 2 or not bool((steps.diff() > 0).all()) or steps[0] < 0 or steps[-1] >= num_base_steps:
            raise ValueError(f"base_steps must rise within 0..{num_base_steps - 1}, got {list(base_steps)}")
        beta = torch.linspace(beta_first, beta_last, num_base_steps, dtype=torch.float64)
        log_alpha_squared = torch.log1p(-beta).cumsum(0)[steps]
        return cls(log_alpha_squared - torch.log(-torch.expm1(log_alpha_squared)))

    @classmethod
    def cosine(cls, num_levels: int, *, log_snr_max: float = 9.8, log_snr_min: float = -5.1) -> NoiseSchedule:
        """Build the cosine schedule lambda(u) = -2 log tan(a u + b), with levels even in u from 0 to 1.

        Args:
            num_levels: number T of energy-based models.
            log_snr_max: log-SNR of level 0.
            log_snr_min: log-SNR of level T.

        Raises:
            ValueError: no levels, or ends that do not fall.

        Source: Zhu et al. 2024 (CDRL, arXiv 2309.05153); Nichol and Dhariwal 2021.
        """
        if num_levels < 1 or log_snr_min >= log_snr_max:
            raise ValueError(
                f"need num_levels >= 1 and log_snr_min < log_snr_max, got {num_levels}, {log_snr_min}, {log_snr_max}"
            )
        start, end = (math.atan(math.exp(-0.5 * value)) for value in (log_snr_max, log_snr_min))
        position = torch.linspace(0, 1, num_levels + 1, dtype=torch.float64)
        return cls(-2 * torch.log(torch.tan(start + (end - start) * position)))

    @property
    def num_levels(self) -> int:
        """Number T of levels below the top."""
        return len(self._entries) - 1

    @property
    def log_snr(self) -> Tensor:
        """Log-SNRs lambda_0..lambda_T, shape ``(T + 1,)``."""
        return self._log_snr.clone()

    @property
    def alpha(self) -> Tensor:
        """Signal scale of each level, shape ``(T + 1,)``."""
        return torch.sigmoid(self._log_snr).sqrt()

    @property
    def sigma(self) -> Tensor:
        """Noise standard deviation of each level, shape ``(T + 1,)``."""
        return torch.sigmoid(-self._log_snr).sqrt()

    @property
    def step_alpha(self) -> Tensor:
        """Scale a of each step t -> t+1, shape ``(T,)``."""
        alpha = self.alpha
        return alpha[1:] / alpha[:-1]

    @property
    def step_sigma(self) -> Tensor:
        """Noise s of each step t -> t+1, shape ``(T,)``."""
        levels = torch.arange(self.num_levels + 1)
        return self.step_between(levels[:-1], levels[1:])[1]

    def log_snr_at(self, level: Level) -> Tensor:
        """Interpolate lambda at continuous levels of any shape, which the result keeps.

        Raises:
            ValueError: a level outside [0, T].
        """
        if isinstance(level, int | float) and 0 <= level <= self.num_levels:
            # A chain asks for one level at every gradient; the same float64 operations on numbers take a tenth of the time.
            start = min(int(level), self.num_levels - 1)
            share = float(level) - start
            value = self._entries[start] * (1 - share) + self._entries[start + 1] * share
            return torch.tensor(value, dtype=torch.float64)
        position = torch.as_tensor(level)
        position = position.to(torch.float64)
        table = self._log_snr.to(position.device)
        if position.numel() and not bool(((position >= 0) & (position <= self.num_levels)).all()):
            raise ValueError(f"level must lie in [0, {self.num_levels}], got {level}")
        below = position.floor().long().minimum(torch.tensor(self.num_levels - 1, device=position.device))
        share = position - below
        return table[below] * (1 - share) + table[below + 1] * share

    def alpha_at(self, level: Level) -> Tensor:
        """Compute the signal scale alpha at continuous levels of any shape."""
        return torch.sigmoid(self.log_snr_at(level)).sqrt()

    def sigma_at(self, level: Level) -> Tensor:
        """Compute the noise standard deviation sigma at continuous levels of any shape."""
        return torch.sigmoid(-self.log_snr_at(level)).sqrt()

    def step_between(self, cleaner: Level, noisier: Level) -> tuple[Tensor, Tensor]:
        """Compute (a, s) in x_noisier = a x_cleaner + s eps, for any two levels.

        It evaluates s^2 as sigma_n^2 (1 - exp(lambda_n - lambda_c)), which keeps its digits for close levels.

        Raises:
            ValueError: a level ``noisier`` that is not above ``cleaner``.
        """
        clean, noisy = self.log_snr_at(cleaner), self.log_snr_at(noisier)
        if not bool((noisy < clean).all()):
            raise ValueError(f"the noisier level must lie above the cleaner one, got {cleaner} -> {noisier}")
        step_alpha = (torch.sigmoid(noisy) / torch.sigmoid(clean)).sqrt()
        step_sigma = (torch.sigmoid(-noisy) * -torch.expm1(noisy - clean)).sqrt()
        return step_alpha, step_sigma

    def langevin_steps(self, factor: float = 2e-4, *, is_top_marginal: bool = True) -> tuple[Tensor, Tensor]:
        r"""Compute (a, s) of levels 0..T-1 for Langevin chains on y = a x, with the papers' step sizes.

        .. math:: s_t^2 = b^2\, \frac{\sigma_t}{\sigma_0}\, s_{t+1}^2

        On the right, s_{t+1} is the noise of the step from t to t+1 and sigma_t the noise of level t.

        Args:
            factor: the factor b^2 of all step sizes.
            is_top_marginal: whether level T-1 is sampled as a marginal density, for which a is 1.

        Raises:
            ValueError: a factor that is not positive.

        Source: Gao et al. 2021's release (``p_sample_langevin``; a set to 1 at the top); Zhu et al. 2024 has b^2 = 4e-4.

        >>> step_alpha, step_size = NoiseSchedule.linear_beta().langevin_steps()
        >>> round(float(step_size[0]), 5), float(step_alpha[-1])
        (0.00458, 1.0)
        """
        if not factor > 0:
            raise ValueError(f"the factor b^2 of the step sizes must be positive, got {factor}")
        sigma, step_alpha = self.sigma[:-1], self.step_alpha
        if is_top_marginal:
            step_alpha = torch.cat([step_alpha[:-1], torch.ones_like(step_alpha[-1:])])
        return step_alpha, (factor * sigma / sigma[0]).sqrt() * self.step_sigma

    def diffuse(self, x: Tensor, level: Level, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x_t = alpha_t x + sigma_t eps, in the shape of ``x``.

        Args:
            x: clean rows ``(batch, *event)``.
            level: one level for all rows, or one per row ``(batch,)``.
        """
        return _noised(x, self.alpha_at(level), self.sigma_at(level), generator)

    def diffuse_step(
        self, x: Tensor, cleaner: Level, noisier: Level, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw x_noisier given rows of a cleaner level, in the shape of ``x``.

        Args:
            x: rows ``(batch, *event)`` of level ``cleaner``.
            cleaner: present level, one for all rows or one per row ``(batch,)``.
            noisier: level to draw at, one for all rows or one per row.
        """
        return _noised(x, *self.step_between(cleaner, noisier), generator)

    def diffuse_pair(
        self, x: Tensor, level: Level, *, jump: float = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw the Markov pair (x_t, x_{t+jump}), in which the noisier state is made from the cleaner one.

        This makes x_t an exact draw of p(x_t | x_{t+jump}), which allows chains to start at the data.

        Args:
            x: clean rows ``(batch, *event)``.
            level: level t, one for all rows or one per row ``(batch,)``.
            jump: distance of the two levels.
        """
        cleaner = self.diffuse(x, level, generator=generator)
        noisier_level = torch.as_tensor(level, dtype=torch.float64) + jump
        return cleaner, self.diffuse_step(cleaner, level, noisier_level, generator=generator)

    def truncate(self, level: float) -> NoiseSchedule:
        """Build the schedule without the levels below ``level``, which becomes level 0."""
        kept = torch.arange(math.floor(level) + 1, self.num_levels + 1)
        return NoiseSchedule(torch.cat([self.log_snr_at(level)[None], self._log_snr[kept]]))

    def refine(self, num_steps: int) -> NoiseSchedule:
        """Build the same path from level 0 to T in ``num_steps`` even steps of the continuous level."""
        return NoiseSchedule(self.log_snr_at(torch.linspace(0, self.num_levels, num_steps + 1, dtype=torch.float64)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and torch.equal(self._log_snr, other._log_snr)

    def __hash__(self) -> int:
        return hash(tuple(self._log_snr.tolist()))

    def __repr__(self) -> str:
        sigma = self.sigma
        return f"NoiseSchedule({self.num_levels} levels, sigma {sigma[0]:.3g}..{sigma[-1]:.3g})"


def _noised(x: Tensor, alpha: Tensor, sigma: Tensor, generator: torch.Generator | None) -> Tensor:
    """Compute alpha x + sigma eps with scales ``()`` or ``(batch,)``, rounded to the dtype of ``x``."""
    noise = normal_draws(x.shape, x, generator)
    if alpha.ndim:
        alpha, sigma = per_row(alpha, x), per_row(sigma, x)
    alpha, sigma = alpha.to(x), sigma.to(x)
    return alpha * x + sigma * noise
