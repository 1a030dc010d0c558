"""Normal laws of the errors that a network makes where it estimates clean points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from drl_density.autograd import outside_inference_mode
from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.model import EnergySequence
from drl_density.records.brief import brief
from drl_density.samplers.walk import falling_levels


@dataclass(frozen=True, eq=False)
class DenoisingErrors:
    """Normal laws of the errors of a network's estimates, a few factors plus independent noise at each level of a walk.

    Attributes:
        levels: the levels, falling from T to 0.
        loadings: factor loadings W of each level, ``(d, r)``.
        noises: variances of the independent part at each level, ``(d,)``.
    """

    levels: tuple[float, ...]
    loadings: tuple[Tensor, ...]
    noises: tuple[Tensor, ...]

    __repr__ = brief

    @classmethod
    def of_base(cls, model: EnergySequence, *, num_steps: int = 30) -> Self:
        """The exact laws where the network is zero and the base is one factor analyser.

        Args:
            num_steps: number of steps from level T to level 0.

        Raises:
            ValueError: another base.

        >>> from drl_density.networks.contract import NoTilt
        >>> from drl_density import NoiseSchedule
        >>> base = FactorAnalysers(torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3, 1), torch.ones(1, 3))
        >>> model = EnergySequence(NoiseSchedule.log_spaced(4), NoTilt(), (3,), base=base)
        >>> len(DenoisingErrors.of_base(model, num_steps=6).levels)
        7
        """
        base = model.base
        if not isinstance(base, FactorAnalysers) or base.num_components > 1:
            raise ValueError(f"expected a base of one factor analyser, got {type(base).__name__}: fit the errors on rows")
        levels, loadings, noises = falling_levels(model.num_levels, num_steps, None), [], []
        wide, variances = base.loadings[0].double(), base.noises[0].double()
        for level in levels:
            ratio = torch.exp(model.schedule.log_snr_at(level).double())
            shrunk = wide / (1 + ratio * variances)[:, None]
            inner = torch.eye(wide.shape[1], dtype=torch.float64) + ratio * wide.T @ shrunk
            # W / (1 + ratio psi) M^-1 (...)^T with M = L L^T
            loadings.append(torch.linalg.solve_triangular(torch.linalg.cholesky(inner), shrunk.T, upper=False).T)
            noises.append(variances / (1 + ratio * variances))
        return cls(levels, tuple(loadings), tuple(noises))

    @classmethod
    @outside_inference_mode
    def fit(
        cls,
        model: EnergySequence,
        rows: Tensor,
        *,
        num_steps: int = 30,
        num_factors: tuple[int, ...] = (1, 8, 32),
        batch_size: int = 64,
        generator: torch.Generator | None = None,
    ) -> Self:
        """The laws of errors on rows, with the number of factors of each level chosen on a quarter of them.

        Args:
            rows: clean rows ``(n, *event)``; some hundred will do.
            num_steps: number of steps from level T to level 0.
            num_factors: numbers of factors to choose from.
            batch_size: rows in a pass of the network.

        >>> from drl_density.testing import GaussianMixtureSequence
        >>> model = GaussianMixtureSequence.example().model
        >>> len(DenoisingErrors.fit(model, torch.randn(32, 2).double(), num_steps=3, num_factors=(1,)).levels)
        4
        """
        levels, loadings, noises = falling_levels(model.num_levels, num_steps, None), [], []
        rows, held = rows.to(model.dtype), max(1, len(rows) // 4)
        for level in levels:
            x = model.schedule.diffuse(rows, torch.full((len(rows),), level, dtype=torch.float64), generator=generator)
            estimates = torch.cat([model.denoise(part, level) for part in x.split(batch_size)])
            errors = (rows - estimates).flatten(1).float()
            scale = errors.square().mean().sqrt()  # fitted in units of the error: the fit has a least variance
            errors = errors / scale
            law, best = None, -torch.inf
            for count in num_factors:
                found = fit_factor_analysers(errors[held:], FactorSize(1, count), num_passes=6, generator=generator)
                score = float(found.log_prob(errors[:held]).mean())
                law, best = (found, score) if score > best else (law, best)
            assert law is not None
            # Errors have mean zero under the model; the fitted mean is part of their spread.
            loadings.append(scale * torch.cat([law.loadings[0], law.means[0][:, None]], 1))
            noises.append(scale**2 * law.noises[0])
        return cls(levels, tuple(loadings), tuple(noises))
