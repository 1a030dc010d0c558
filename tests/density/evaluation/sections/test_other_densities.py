"""Likelihoods under other densities in a report."""

import warnings

import pytest

import drl_density as drl
from tests.density.evaluation.sizes import LEAST


def test_few_particles_bound_what_other_densities_cost(tiny_density, tiny_data, monkeypatch):
    """Annealing and diffusion samplers see as many rows as there are particles, beside the model on the same rows."""
    from drl_density.density.evaluation.sections import other_densities as evaluation

    pilots = []

    def watched(path, settings, *, generator):
        pilots.append(settings.num_pilot_particles)
        return plan(path, settings, generator=generator)

    plan = evaluation.plan_annealing
    monkeypatch.setattr(evaluation, "plan_annealing", watched)
    with warnings.catch_warnings():  # so few particles are not reliable
        warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
        found = tiny_density.evaluate(tiny_data.test, seed=0, settings=LEAST)
    others = found.tree["other_densities"]["mean_log_likelihood"]
    names = [str(name) for name in others["density"].values]
    assert pilots == [LEAST.num_particles]
    assert sum(name.endswith(f"first {LEAST.num_particles} rows") for name in names) == 4
    own = others.sel(density=f"energy-based model, first {LEAST.num_particles} rows")
    assert float(own) == pytest.approx(float(found.log_likelihood[: LEAST.num_particles].mean()))
