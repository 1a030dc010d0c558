"""The evidence of models with closed forms, from end to end."""

import dataclasses
import functools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import drl_density as drl
from drl_density.model_evidence import Decision, entry
from drl_density.testing import assert_z
from tests.model_evidence.made_up import Y, conjugate, evidence_of

SMALL = drl.SandwichSettings(num_particles=16, num_replicates=4, num_mixing_steps=10, most_batches=1)


def centred(y):
    """The mean is known to be zero; a latent site that plays no part keeps the model a density."""
    pyro.sample("idle", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)


def test_evidence_and_posterior_are_those_of_the_closed_form():
    settings = dataclasses.replace(SMALL, num_replicates=24)
    found = drl.evidence(conjugate, Y, seed=0, settings=settings)
    covariance = torch.eye(3, dtype=torch.float64) + 1.0
    exact = float(dist.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(Y))
    assert_z(found.log_z, exact, found.standard_error)
    assert (found.draws.ndim, found.draws.shape[-1]) == (3, 1)
    draws = torch.tensor(found.tree["posterior"]["mean"].values)
    replicates = draws.mean(1)  # draws of a replicate share ancestors, replicates are independent
    t = (float(replicates.mean()) - float(Y.sum()) / 4) / (float(replicates.std()) / len(replicates) ** 0.5)
    z = stats.norm.ppf(stats.t.cdf(t, len(replicates) - 1))  # so few replicates make their error uncertain too
    assert_z(z, 0.0, 1.0)


def test_models_are_estimated_with_seeds_of_their_own(monkeypatch):
    seeds = []

    def pretended(target, *, seed, tolerance, settings):
        seeds.append(seed)
        return evidence_of(-1.0).sandwich

    monkeypatch.setattr(entry, "sandwich", pretended)
    for _ in range(2):
        found = drl.compare_evidence([conjugate, centred], Y, seed=5)
    assert seeds[0] != seeds[1]
    assert seeds[:2] == seeds[2:]
    assert [model.evidence.seed for model in found.models] == seeds[:2]


def test_finished_records_are_compared_without_a_run():
    found = drl.compare_evidence([evidence_of(-3.0), evidence_of(-1.0)], prior=[1, 3])
    assert [model.name for model in found.models] == ["conjugate 2", "conjugate 1"]
    assert found["conjugate 1"].behind.decision is Decision.DECIDED
    odds = math.exp(-2.0) / 3
    assert found["conjugate 1"].probability == pytest.approx(odds / (1 + odds))
    named = drl.compare_evidence({"a": evidence_of(-3.0), "b": evidence_of(-1.0)}, prior={"b": 1, "a": 1})
    assert named.best.name == "b"


def other_rows(y):
    pyro.sample("z", dist.Normal(pyro.sample("mean", dist.Normal(0.0, 1.0)), 1.0), obs=y[0])


def by_factor(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    pyro.factor("likelihood", dist.Normal(mean, 1.0).log_prob(y).sum())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: drl.compare_evidence([conjugate], Y), "at least two models to compare, got 1"),
        (lambda: drl.compare_evidence([conjugate, other_rows], Y), r"different values \(3 and 1 numbers\)"),
        (lambda: drl.compare_evidence([conjugate, centred], Y, prior=[1.0]), "expected a prior for each of conjugate, cen"),
        (lambda: drl.compare_evidence([conjugate, centred], Y, prior=[1.0, 0.0]), "expected positive prior"),
        (lambda: drl.compare_evidence([conjugate, centred], Y, prior={"conjugate": 1.0}), "expected a prior for each"),
        (lambda: drl.evidence(lambda seed: None, seed=3), r"functools.partial\(model, seed=...\)"),
    ],
)
def test_calls_that_mean_nothing_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_bound_argument_of_the_model_is_its_own_and_a_factor_may_hold_the_data(monkeypatch):
    asked = []

    def pretended(target, **given):
        asked.append(given)
        return evidence_of(-1.0).sandwich

    def noisy(y, seed):
        conjugate(y + seed)

    monkeypatch.setattr(entry, "sandwich", pretended)
    drl.evidence(functools.partial(noisy, seed=1), Y, seed=3, tolerance=0.1, settings=SMALL)
    assert asked == [{"seed": 3, "tolerance": 0.1, "settings": SMALL}]
    found = drl.compare_evidence([conjugate, by_factor, lambda y: conjugate(y)], Y)
    assert [model.name for model in found.models] == ["conjugate", "by_factor", "model 3"]
