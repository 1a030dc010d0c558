"""Fits by contrast with a stack of bagged mixtures: score, final log Z, files, and settings that do not go together."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import drl_density as drl
from drl_density.bases import LayeredBase, NoisedGaussianMixture, StackSettings, fit_stacked_mixture
from drl_density.bases.fitting import Affordability, FlowPlan
from drl_density.density import normalizing
from drl_density.density.evaluation.sections.reference_gain import reference_log_density
from drl_density.density.fitting import bases as bases_module
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.fitting.selection import ImportanceLikelihood, rejection
from drl_density.partition_function.importance import checked_importance_sampling
from drl_density.testing import seeded_generator

NETWORK = drl.ColumnNetwork(width=16, num_blocks=1, num_sigmoids=8, column_width=4)
SETTINGS = drl.FitSettings(
    objective=drl.ContrastObjective(num_samples=4000),
    network=NETWORK,
    base="stack",
    schedule=drl.LogSpacedSchedule(num_levels=4),
    num_pool_draws=50,
    training=drl.TrainingSettings(num_steps=60, batch_size=128, evaluate_every=20, learning_rate=3e-3, warmup_steps=5),
)


def ring(count):
    """Rows near a ring, which a few Gaussians fit poorly."""
    generator = seeded_generator(0)
    angle = 6.283 * torch.rand(count, generator=generator, dtype=torch.float64)
    radius = 2 + 0.1 * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


SMALL = StackSettings((1, 5, 12), (1e-3, 1e-2, 1e-1), num_bags=8, num_final_bags=20)


@pytest.fixture(scope="module", autouse=True)
def _small_stacks():
    """The usual search tries 63 kinds of mixtures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases_module, "fit_stacked_mixture", partial(fit_stacked_mixture, settings=SMALL))
        yield


@pytest.fixture(scope="module")
def density(_small_stacks):
    return drl.fit(drl.load_dataset(ring(300), seed=0), settings=SETTINGS, seed=0, progress=False)


def test_the_untrained_sequence_is_the_base_with_log_z_zero():
    plan = plan_fit(drl.load_dataset(ring(300), seed=0), SETTINGS, seed=0)
    model = plan.new_model(plan.members[0].base, seed=0)
    rows = plan.validation(seed=0)
    score = ImportanceLikelihood(model, rows, num_samples=500, seed=0)(model.eval())
    assert score.figures["log_z"] == 0
    assert score.figures["gain_over_base"] == 0
    assert score.figures["importance_efficiency"] == pytest.approx(1)
    with torch.no_grad():
        assert score.value == pytest.approx(float(model.log_density(rows.rows, 0).double().mean()))


def test_the_kept_weights_are_never_below_the_base(density):
    gains = density.history["gain_over_base"].values
    kept = max(density.provenance.best_score.values()) - base_score(density)
    assert kept == pytest.approx(max(0.0, gains.max()), abs=1e-9)


def base_score(density):
    """Validation score of the untouched base, from any evaluation."""
    history = density.history
    return float((history["validation_log_likelihood"] - history["gain_over_base"]).values[0])


def test_log_z_is_that_of_importance_sampling_and_small(density):
    assert abs(density.estimate.log_z) < 0.2
    assert density.estimate.standard_error < 0.02
    assert density.estimate.log_weights.shape == (10, 400)
    assert density.estimate.verdict is drl.Verdict.RELIABLE


def test_a_saved_fit_comes_back(density, tmp_path):
    rows = ring(20)
    density.save(tmp_path / "run")
    again = drl.Density.load(tmp_path / "run")
    assert torch.equal(again.log_prob(rows), density.log_prob(rows))
    assert again.settings == density.settings


def test_a_fit_on_a_flow_is_normalised_and_comes_back(monkeypatch, tmp_path):
    """Level 0 leans on a flow that is fitted briefly: the integral over the plane is 1 by quadrature."""
    sizes = drl.AutoregressiveFlowSettings(2, num_transforms=2, width=16)
    monkeypatch.setattr(bases_module, "affordable_flow", lambda *_, **__: Affordability(FlowPlan(sizes, num_steps=150), ""))
    monkeypatch.setattr("drl_density.bases.fitting.flow.MOST_OF_A_KIND", 1)
    monkeypatch.setattr(bases_module, "fit_stacked_mixture", lambda copies, **_: SimpleNamespace(base=standard(copies)))
    settings = dataclasses.replace(SETTINGS, base="auto", num_folds=1, transform="standardize")
    density = drl.fit(drl.load_dataset(ring(600), seed=0), settings=settings, seed=0, progress=False)
    assert isinstance(density.model.base, LayeredBase)
    points = torch.linspace(-6, 6, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(points, points)
    integral = float(density.log_prob(grid).exp().sum()) * 0.1**2
    assert integral == pytest.approx(1, abs=0.05)  # the error of log Z and of the grid
    assert density.estimate.is_reliable
    density.save(tmp_path / "run")
    assert torch.equal(drl.Density.load(tmp_path / "run").log_prob(grid), density.log_prob(grid))
    partial = density.condition({"x0": 0.0}).sample((50,))  # the annealed way, as a flow has no conditional
    assert float(partial.abs().median()) > 1


def standard(copies):
    return NoisedGaussianMixture.standard(copies.shape[2])


def test_draws_follow_the_ring(density):
    radius = density.sample(200, seed=1).norm(dim=1)
    assert 1.8 < float(radius.median()) < 2.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"network": drl.MLPNetwork()}, "needs a bounded network"), ({"base": "quadratic"}, "a base fitted to the data")],
)
def test_settings_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **changes)


def test_a_tilt_with_mass_that_annealing_alone_finds_gives_way_to_the_reference(density, monkeypatch):
    """The reference is reported with log Z = 0 exactly, and the fit says why."""

    def finds_more(model, **options):
        found = checked_importance_sampling(model, **options)
        is_untouched = bool((found.estimate.log_weights == 0).all())
        return found if is_untouched else found._replace(excess=0.5)

    monkeypatch.setattr(normalizing, "checked_importance_sampling", finds_more)
    rejected = drl.fit(drl.load_dataset(ring(300), seed=0), settings=SETTINGS, seed=0, progress=False)
    rows = ring(20)
    assert rejected.estimate.log_z == 0
    assert rejected.provenance.is_untrained
    assert "finds 0.5 nats more" in rejected.remarks[0]
    torch.testing.assert_close(rejected.log_prob(rows), reference_log_density(rejected, rows), rtol=1e-5, atol=1e-5)
    assert not density.provenance.rejection
    assert density.baselines.model >= rejected.baselines.model


def test_a_tilt_below_its_reference_by_fresh_draws_is_rejected():
    plan = plan_fit(drl.load_dataset(ring(300), seed=0), SETTINGS, seed=0)
    model, rows = plan.new_model(plan.members[0].base, seed=0), plan.validation(seed=0)
    assert rejection(plan, model, 0.0, 0.0, rows) == ""
    assert rejection(plan, model, -0.1, 0.0, rows) == ""
    assert "it gains -0.1 nats a row" in rejection(plan, model, 0.1, 0.0, rows)
    assert "finds 2 nats more" in rejection(plan, model, 0.0, 2.0, rows)
    last = dataclasses.replace(plan, selection=dataclasses.replace(plan.selection, rule="last"))
    assert rejection(last, model, 0.1, 2.0, rows) == ""
