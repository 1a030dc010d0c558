"""The selection score of training: validation log-likelihood normalised by annealed importance sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from drl_density.density.data_units import freeze
from drl_density.density.ensemble import join
from drl_density.density.fitting.build import (
    build_model,
)
from drl_density.density.fitting.completions import HeldOut
from drl_density.density.fitting.table import Table
from drl_density.density.settings.fit_settings import FitSettings
from drl_density.mcmc import MALA
from drl_density.model import EnergySequence, MeanNormalizers
from drl_density.partition_function import (
    AISSettings,
    anneal,
    plan_annealing,
    sequence_path,
)
from drl_density.training import SelectionScore, TrainingState


@dataclass(frozen=True)
class AnnealedLikelihood:
    """Scores a sequence by its best level's mean validation log-likelihood in model space, nats per row.

    One annealing run passes every level on its way down, so log Z of all candidate levels comes at once. Annealing
    errs low, which flatters the likelihood, most of all when a basin of the model is never reached; so the larger of
    the annealed log Z and the learned constant normalises each level.

    Attributes:
        rows: clean validation rows in model space, with holes completed and weighed.
        seed: of the annealing noise, the same at every call so that calls are comparable.
        num_particles: particles in each of two replicates.
        steps_per_level: densities per level, even, so that half levels are on the path.
        num_candidate_levels: half levels from 0 upward that may be reported.
        has_learned_constants: whether training fitted them.
    """

    rows: HeldOut
    seed: int = 0
    num_particles: int = 256
    steps_per_level: int = 4
    num_candidate_levels: int = 7
    has_learned_constants: bool = True

    def __call__(self, model: EnergySequence) -> SelectionScore:
        """The best candidate level and its score."""
        values = self.by_level(model)
        level = max(values, key=values.__getitem__)
        details = {"validation_log_likelihood": values[0.0], "selected_log_likelihood": values[level]}
        return SelectionScore(values[level], level, details)

    @staticmethod
    def uses_constants(model: EnergySequence) -> bool:
        """True for a trained member; the constants of an average are an upper bound of its log Z by construction."""
        return not isinstance(model.constants, MeanNormalizers)

    def by_level(self, model: EnergySequence) -> dict[float, float]:
        """Mean normalised log-likelihood of the rows at each candidate level."""
        generator = torch.Generator().manual_seed(self.seed)
        settings = AISSettings(
            num_particles=self.num_particles,
            num_replicates=2,
            num_transitions=2,
            num_pilot_particles=self.num_particles,
            kernel=MALA(),
        )
        path = sequence_path(model, steps_per_level=self.steps_per_level)
        run = anneal(path, plan_annealing(path, settings, generator=generator), settings, generator=generator)
        annealed = dict(zip(path.levels, run.log_z_by_density.mean(1).tolist(), strict=True))
        candidates = [
            0.5 * index for index in range(self.num_candidate_levels) if not index or 0.5 * index < model.num_levels - 1
        ]
        values = {}
        with torch.no_grad():
            for level in candidates:
                mean = float(self.rows.mean(model.log_density(self.rows.rows, level).double()))
                is_told = self.has_learned_constants and self.uses_constants(model)
                learned = float(model.log_normalizer(level)) if is_told else -math.inf
                log_z = max(annealed[level], learned)
                values[level] = mean - log_z
        return values


def validation_sizes(settings: FitSettings) -> dict[str, int]:
    """How many held-out rows to look at: fewer for networks over images, whose passes are dear."""
    if not settings.is_over_images:
        return {}
    return {"least": min(1024, settings.images.num_validation_rows), "most": settings.images.num_validation_rows}


def validation_rows(table: Table, settings: FitSettings, *, seed: int) -> HeldOut:
    """Held-out rows in model space."""
    return table.validation(seed=seed, **validation_sizes(settings))


def validation_score(
    settings: FitSettings, rows: HeldOut, state: TrainingState, *, seed: int
) -> Callable[[EnergySequence], SelectionScore]:
    """What selects weights: the annealed likelihood of held-out ``rows``, or simply the last step of ``state``."""
    if settings.selection == "last":
        return lambda model: SelectionScore(float(state.step))
    particles = {} if settings.network == "mlp" else {"num_particles": min(256, settings.num_particles)}
    return AnnealedLikelihood(rows, seed=seed, has_learned_constants=settings.has_learned_constants, **particles)


def select_model(
    table: Table, settings: FitSettings, runs: dict[str, TrainingState], rows: HeldOut, seed: int
) -> tuple[str, EnergySequence]:
    """The member, or the average of all, that scores best on validation, cut off below its best level."""
    models = {}
    for name, state in runs.items():
        fresh = build_model(settings, table.bases.mixtures[name.split("-")[0]], seed=0)
        models[name] = fresh.to(state.model.device)
        models[name].load_state_dict(state.best)
    candidates = {name: freeze(model) for name, model in models.items()}
    if len(models) > 1:
        candidates["average"] = freeze(join(list(models.values())))
    if settings.selection == "last":
        (name, model) = next(iter(candidates.items())) if len(models) == 1 else ("average", candidates["average"])
        return name, model
    score = AnnealedLikelihood(
        rows, seed=seed, num_particles=settings.num_particles, has_learned_constants=settings.has_learned_constants
    )
    scores = {name: score(model) for name, model in candidates.items()}
    best = max(scores, key=lambda name: scores[name].value)
    return best, candidates[best].truncate(scores[best].level)
