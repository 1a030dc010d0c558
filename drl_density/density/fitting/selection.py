"""Selection of weights, level and member by the validation likelihood under an annealed log Z."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from drl_density.bases import Base
from drl_density.density.data_units import freeze
from drl_density.density.ensemble import join, join_on_base
from drl_density.density.fitting.completions import HeldOut, HeldOutMean
from drl_density.density.fitting.folds.choice import FoldScores, score_folds
from drl_density.density.fitting.folds.table import FoldedTable
from drl_density.density.fitting.plan import FitPlan
from drl_density.errors import NumericalError
from drl_density.mcmc import MALA
from drl_density.model import EnergySequence
from drl_density.networks import MeanNormalizers, NoTilt
from drl_density.partition_function import AISSettings, anneal, plan_annealing, sequence_path
from drl_density.partition_function.importance import base_draws, importance_efficiency, tilts
from drl_density.training import PathMatching, SelectionScore, TrainingState
from drl_density.weights import LEAST_USABLE_ESS_SHARE, log_mean_exp

MOST_ROWS = 4096
"""Rows in one pass of a base of many components."""


@dataclass(frozen=True)
class AnnealedLikelihood:
    """Scores a sequence by the mean validation log-likelihood of its best level in model space, in nats a row.

    One annealing run passes every level on its way down, so it yields log Z of all candidate levels at once. Annealing
    errs low, which flatters the likelihood, most of all where it never reaches a basin of the model. So the larger of the
    annealed log Z and the learned constant normalises each level.

    Attributes:
        rows: Clean validation rows in model space; missing values are completed and weighted.
        seed: Seed of the annealing noise, the same at every call so that calls are comparable.
        num_particles: Particles in each of two replicates.
        steps_per_level: Densities of the annealing path for each level; even, so that half levels are on the path.
        num_candidate_levels: Half levels from 0 upward that may be reported.
        has_learned_constants: Whether training learned the constants between levels.
    """

    rows: HeldOut
    seed: int = 0
    num_particles: int = 256
    steps_per_level: int = 4
    num_candidate_levels: int = 7
    has_learned_constants: bool = True

    def __call__(self, model: EnergySequence) -> SelectionScore:
        """The best candidate level with its score."""
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
                is_known = self.has_learned_constants and self.uses_constants(model)
                learned = float(model.log_normalizer(level)) if is_known else -math.inf
                log_z = max(annealed[level], learned)
                values[level] = mean - log_z
        return values


class ImportanceLikelihood:
    """Scores a sequence by the mean validation log-likelihood of level 0 in model space, in nats a row.

    A tilt whose log Z rests on few of the draws counts for no more than its base, so training keeps weights whose
    likelihood can be built on.

    log Z is that of importance sampling from the base, with the same draws at every call. The base's own density of the
    rows is evaluated once, so a score costs passes of the network alone. The untrained sequence has log Z = 0 exactly.

    Args:
        model: Sequence whose base all scored sequences share.
        rows: Clean validation rows in model space; missing values are completed and weighted.
        num_samples: Draws of the base.
        seed: Seed of the draws.
    """

    def __init__(self, model: EnergySequence, rows: HeldOut, *, num_samples: int, seed: int) -> None:
        self.rows = rows
        self.draws = base_draws(model, num_samples, 0.0, torch.Generator().manual_seed(seed))
        log_snr = model.schedule.log_snr_at(0.0)
        with torch.no_grad():
            parts = [
                model.base_at(part.to(model.device), log_snr.to(model.device)) for part in rows.rows.split(MOST_ROWS)
            ]
        self.base = torch.cat(parts).double().cpu()

    def __call__(self, model: EnergySequence) -> SelectionScore:
        """The score, with what it is made of."""
        weights = tilts(model, self.draws, 0.0)
        log_z = float(log_mean_exp(weights))
        tilted = float(self.rows.mean(self.base + tilts(model, self.rows.rows, 0.0))) - log_z
        base, efficiency = float(self.rows.mean(self.base)), importance_efficiency(weights)
        figures = {
            "validation_log_likelihood": tilted,
            "gain_over_base": tilted - base,
            "log_z": log_z,
            "importance_efficiency": efficiency,
        }
        is_usable = efficiency >= LEAST_USABLE_ESS_SHARE
        return SelectionScore(tilted if is_usable else min(base, tilted), 0.0, figures)

    def reference(self) -> HeldOutMean:
        """Mean validation log-likelihood of the base alone, with its standard error."""
        return self.rows.summarize(self.rows.by_row(self.base))

    def gain(self, model: EnergySequence, before: EnergySequence | None = None) -> HeldOutMean:
        """Paired gain in validation log-likelihood, with a standard error that counts rows and draws for log Z.

        Args:
            model: Sequence that gained.
            before: Sequence to compare with; the base alone when not given.
        """
        values, shares = self._values_and_shares(model)
        earlier, earlier_shares = self._values_and_shares(before)
        rows = self.rows.summarize(values - earlier)
        # A first-order difference of the logarithms of both means, over the same draws.
        spread = float((shares - earlier_shares).std()) / math.sqrt(len(shares))
        return HeldOutMean(rows.value, math.hypot(rows.standard_error, spread))

    def _values_and_shares(self, model: EnergySequence | None) -> tuple[Tensor, Tensor]:
        """Log-likelihood of every held-out row, and the weights of the draws over their mean."""
        if model is None:
            return self.rows.by_row(self.base), torch.ones(len(self.draws), dtype=torch.float64)
        weights = tilts(model, self.draws, 0.0)
        log_z = log_mean_exp(weights)
        return self.rows.by_row(self.base + tilts(model, self.rows.rows, 0.0)) - log_z, (weights - log_z).exp()


def training_score(
    plan: FitPlan, rows: HeldOut, state: TrainingState, *, seed: int
) -> Callable[[EnergySequence], SelectionScore]:
    """The score by which training selects weights.

    Args:
        plan: Plan of the fit.
        rows: Validation rows in model space.
        state: State being trained; its step is the score where the last weights are kept.
        seed: Seed of the annealing noise.
    """
    selection = plan.selection
    if selection.rule == "last":
        return lambda model: SelectionScore(float(state.step))
    if selection.num_samples is not None:
        # The draws of all folds together are as many as those of a fit without folds.
        num_samples = max(1, selection.num_samples // plan.num_folds)
        return ImportanceLikelihood(state.model, rows, num_samples=num_samples, seed=seed)
    return AnnealedLikelihood(
        rows,
        seed=seed,
        num_particles=selection.num_training_particles,
        has_learned_constants=selection.has_learned_constants,
    )


def stage_score(plan: FitPlan, model: EnergySequence) -> ImportanceLikelihood:
    """The score that compares the stages of a fit, with draws for log Z that no stage has been selected by.

    Args:
        plan: Plan of a fit by contrast.
        model: Sequence whose base all stages share.

    Raises:
        NumericalError: A plan whose log Z is annealed.
    """
    if plan.selection.num_samples is None:
        raise NumericalError("stages are compared by importance sampling from their base, and this fit anneals")
    held_out = plan.validation(seed=plan.seed)
    return ImportanceLikelihood(model, held_out, num_samples=plan.selection.num_samples, seed=plan.seed + 3)


class Selected(NamedTuple):
    """The sequence that a fit reports.

    Attributes:
        member: Name of the member, "average", or "reference" where no tilt of folds was kept.
        model: Frozen sequence, without the levels below the best one.
        rejection: Why the trained tilt gave way to the untouched reference; empty where it did not.
        left_out: Scores of all rows by the models of the folds that they are left out of; None without folds.
    """

    member: str
    model: EnergySequence
    rejection: str = ""
    left_out: FoldScores | None = None


def rejection(plan: FitPlan, model: EnergySequence, log_z: float, excess: float, rows: HeldOut) -> str:
    """Why a tilt must give way to its untouched reference, whose log Z is 0 exactly; empty where it need not.

    Args:
        plan: Plan of the fit; only one by contrast has a reference that is a candidate.
        model: Selected sequence.
        log_z: Its log Z by fresh draws of the reference.
        excess: Nats by which annealing finds more.
        rows: Validation rows in model space.
    """
    if plan.selection.num_samples is None or plan.selection.rule == "last" or model.is_base_alone:
        return ""
    if excess > 0:
        return f"annealing from the reference finds {excess:.2g} nats more than its draws do, mass that no row supports"
    if plan.num_folds > 1:  # the gain was that of left-out rows, by fresh draws
        return ""
    score = ImportanceLikelihood(model, rows, num_samples=1, seed=plan.seed)
    gain = float(rows.mean(score.base + tilts(model, rows.rows, 0.0)) - rows.mean(score.base)) - log_z
    return f"with fresh draws for log Z it gains {gain:.3g} nats a row on validation" if gain < 0 else ""


def reference_alone(plan: FitPlan, base: Base) -> EnergySequence:
    """The sequence of an untouched base, without a network: log Z is 0 exactly, and needs no draws."""
    return freeze(EnergySequence(plan.schedule, NoTilt(), (base.num_features,), base=copy.deepcopy(base)))


def untouched(plan: FitPlan, chosen: Selected, reason: str) -> Selected:
    """The reference beneath a selected sequence, without a network.

    Args:
        plan: Plan of a fit by contrast.
        chosen: Selected sequence.
        reason: Why it gives way.
    """
    device = chosen.model.device
    if chosen.left_out is not None:
        whole = next(iter(plan.table.bases.over_levels(plan.schedule).values()))
        return Selected("reference", reference_alone(plan, whole).to(device), reason, chosen.left_out)
    # All members of a fit by contrast lean on one base.
    member = {member.name: member for member in plan.members}.get(chosen.member, plan.members[0])
    return Selected(member.name, reference_alone(plan, member.base).to(device), reason)


def select_model(plan: FitPlan, states: Mapping[str, TrainingState], rows: HeldOut) -> Selected:
    """The member, or the average of all, that scores best on validation, without the levels below its best one.

    Args:
        plan: Plan of the fit.
        states: Trained state of each member.
        rows: Validation rows in model space.
    """
    models = {}
    for member in plan.members:
        state = states[member.name]
        models[member.name] = plan.new_model(member.base, seed=0).to(state.model.device)
        models[member.name].load_state_dict(state.best)
    if isinstance(plan.table, FoldedTable) and plan.selection.num_samples is not None:
        return _select_folds(plan, plan.table, list(models.values()), num_samples=plan.selection.num_samples)
    candidates = {name: freeze(model) for name, model in models.items()}
    if isinstance(plan.objective, PathMatching):  # validation losses of equal rows compare, likelihoods are not known yet
        best = max(models, key=lambda name: states[name].best_score)
        return Selected(best, candidates[best])
    if len(models) > 1:
        candidates["average"] = freeze(join(list(models.values())))
    if plan.selection.rule == "last":
        name = next(iter(candidates)) if len(models) == 1 else "average"
        return Selected(name, candidates[name])
    if plan.selection.num_samples is not None and len(models) == 1:
        # Its weights were selected while it was trained, and there is no other to compare them with.
        return Selected(*next(iter(candidates.items())))
    if plan.selection.num_samples is not None:
        # Members of one base were selected by this score already; several networks are compared by fresh draws of it.
        one = next(iter(models.values()))
        score = ImportanceLikelihood(one, rows, num_samples=plan.selection.num_samples, seed=plan.seed + 1)
        best = max(candidates, key=lambda name: score(candidates[name]).value)
        return Selected(best, candidates[best])
    score = AnnealedLikelihood(
        rows,
        seed=plan.seed,
        num_particles=plan.selection.num_particles,
        has_learned_constants=plan.selection.has_learned_constants,
    )
    scores = {name: score(model) for name, model in candidates.items()}
    best = max(scores, key=lambda name: scores[name].value)
    return Selected(best, candidates[best].truncate(scores[best].level))


def _select_folds(plan: FitPlan, table: FoldedTable, models: Sequence[EnergySequence], *, num_samples: int) -> Selected:
    """The reference of all rows with the mean tilt of all folds, or alone where the tilts gain too little."""
    held_out = plan.held_out
    scores = score_folds(
        table,
        [freeze(model) for model in models],
        num_samples=num_samples,
        least=held_out.least,
        most=held_out.most,
        seed=plan.seed + 1,
    )
    (base,) = table.bases.over_levels(plan.schedule).values()
    whole = plan.new_model(base, seed=0).to(models[0].device)
    if not scores.is_gain or whole.base is None:
        return Selected("reference", freeze(whole), left_out=scores)
    return Selected("average", freeze(join_on_base(models, whole.base)), left_out=scores)
