"""Sizes 0 and 1 of rows, columns, draws, chains and parts, over everything that a user calls.

Zero rows or draws give a result without rows, or a DataError where that has no meaning. One works without a warning.
"""

import math
import warnings

import pandas as pd
import pytest
import torch

import drl_density as drl
from drl_density.density.evaluation.evaluate import evaluate
from drl_density.diagnostics import bulk_ess, drift_test, energy_distance_test, nested_r_hat, split_r_hat
from drl_density.errors import DataError, UnreliableEstimateWarning
from drl_density.operators import Mask
from tests.density.closed_form import closed_form_density
from tests.density.evaluation.sizes import LEAST

CONDITIONAL = drl.ConditionalSettings(num_particles=4, num_final_steps=8, steps_per_level=1, num_transitions=1)
ANNEALING = drl.AISSettings(num_particles=8, num_replicates=2, num_pilot_particles=8, num_transitions=1)
SHORT = drl.ChainSampler(num_warmup=2, num_steps=2)
NAMES = ["x0", "x1", "x2"]
NONE, ONE = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
TABLES = {
    "tensor": lambda rows: rows,
    "array": lambda rows: rows.numpy(),
    "frame": lambda rows: pd.DataFrame(rows.numpy(), columns=NAMES),
}


@pytest.fixture(scope="module")
def density():
    return closed_form_density()


# --- rows

BY_ROW = {
    "log_prob": lambda d, x: [d.log_prob(x)],
    "outlier_scores": lambda d, x: [
        getattr(d.outlier_scores(x), name) for name in ("log_density", "p_value", "strangeness", "profile")
    ],
    "impute": lambda d, x: [d.impute(x, num_samples=2, settings=CONDITIONAL, seed=0).rows.transpose(0, 1)],
    "predict": lambda d, x: [
        getattr(d.predict(x, "x0", seed=0), name) for name in ("mean", "quantiles", "log_density", "standard_error")
    ],
}


@pytest.mark.parametrize("table", ["tensor", "array"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", BY_ROW)
def test_questions_about_rows_answer_as_many_as_there_are(name, number, table, density):
    rows = TABLES[table](torch.zeros(number, 3, dtype=torch.float64))
    for figure in BY_ROW[name](density, rows):
        assert len(figure) == number
        assert bool(figure.isfinite().all())


BY_FRAME = {
    "log_prob": lambda d, x: d.log_prob(x),
    "outlier_scores": lambda d, x: d.outlier_scores(x),
    "impute": lambda d, x: d.impute(x, num_samples=1, settings=CONDITIONAL, seed=0),
    "predict": lambda d, x: d.predict(x, "x0", seed=0),
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", BY_FRAME)
def test_questions_about_a_frame_give_one_of_as_many_rows(name, number, density):
    frame = pd.DataFrame(torch.zeros(number, 3).numpy(), columns=NAMES, index=["somebody"][:number])
    found = BY_FRAME[name](density, frame)
    assert isinstance(found, pd.DataFrame | pd.Series)
    assert list(found.index.get_level_values(-1)) == list(frame.index)


NEED_ROWS = {
    "evaluate": lambda d, x: d.evaluate(x, settings=LEAST, seed=0),
    "evaluate, starts": lambda d, x: d.evaluate(ONE, start_rows=x, settings=LEAST, seed=0),
    "diagnose": lambda d, x: d.diagnose(x, seed=0),
    "distill": lambda d, x: d.distill(x, seed=0),
    "outlier_scores, reference": lambda d, x: d.outlier_scores(ONE, reference=x),
    "compare": lambda d, x: drl.compare({"one": d, "other": d}, x),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", NEED_ROWS)
def test_questions_about_tables_need_rows(name, table, density):
    with pytest.raises(DataError, match="at least|need half"):
        NEED_ROWS[name](density, TABLES[table](NONE))


@pytest.mark.parametrize("name", ["diagnose", "distill", "outlier_scores, reference"])
def test_one_row_is_too_few_where_a_spread_is_needed(name, density):
    with pytest.raises(DataError, match="got 1"):
        NEED_ROWS[name](density, ONE)


def test_the_likelihood_of_a_single_row_has_no_sampling_error(density):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)  # so few particles
        report = evaluate(density, ONE, settings=LEAST, num_chain_steps=20, seed=0)
    assert math.isnan(report.sampling_error)
    assert "single row" in report.summary()
    assert "nan" not in report.summary()
    assert [row.difference for row in drl.compare({"one": density, "other": density}, ONE)] == [0.0, 0.0]


@pytest.mark.parametrize("batch", [(), (0,), (1, 1), (0, 2)])
def test_log_densities_have_the_batch_shape_of_their_points(batch, density):
    x = torch.zeros(*batch, 3)
    assert density.log_prob(x).shape == batch
    assert density.distribution().log_prob(x).shape == batch
    assert density.marginal(["x0"], settings=CONDITIONAL, seed=0).log_prob(x[..., :1]).shape == batch
    assert density.condition({"x0": 0.0}, settings=CONDITIONAL).log_prob(x[..., :2]).shape == batch
    assert drl.Mixture([density.distribution()] * 2, [1.0, 1.0]).log_prob(x).shape == batch


# --- draws

DRAWS = {
    "sample": lambda d, n: d.sample(n, seed=0),
    "run": lambda d, n: d.run(n, seed=0).draws,
    "distribution": lambda d, n: d.distribution().sample(n),
    "product": lambda d, n: drl.product([d.distribution()] * 2, sampler=SHORT).sample(n),
    "one expert": lambda d, n: drl.product([d.distribution()], sampler=SHORT).sample(n),
    "mixture": lambda d, n: drl.Mixture([d.distribution()] * 2, [1.0, 1.0]).sample(n),
    "one component": lambda d, n: drl.Mixture([d.distribution()], [1.0]).sample(n),
    "level": lambda d, n: d.model.level(1).with_sampler(SHORT).sample(n),
    "recovery": lambda d, n: d.model.recovery(1).condition(torch.zeros(3).double()).with_sampler(SHORT).sample(n),
    "condition": lambda d, n: d.condition({"x0": 0.0}, settings=CONDITIONAL).sample(n),
}


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (0, 2)])
@pytest.mark.parametrize("name", DRAWS)
def test_draws_have_the_shape_that_is_asked_for(name, shape, density):
    draws = DRAWS[name](density, shape)
    assert draws.shape == (*shape, 2 if name == "condition" else 3)
    assert bool(draws.isfinite().all())


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", ["sample", "run", "distribution", "mixture", "condition"])
def test_a_number_of_draws_is_a_shape_of_one_dimension(name, number, density):
    assert len(DRAWS[name](density, number)) == number


OPERATOR = Mask(torch.tensor([True, False, True]))
COUNTED = {
    "draw": lambda d, n: d.draw(n, seed=0).draws,
    "chains after a walk": lambda d, n: (
        d.draw(n, settings=drl.DrawSettings("ddim", 1, num_chain_steps=4), seed=0).draws
    ),
    "impute": lambda d, n: d.impute([[0.0, math.nan, 0.0]], num_samples=n, settings=CONDITIONAL, seed=0).rows,
    "reconstruct": lambda d, n: (
        d.reconstruct(
            OPERATOR, torch.zeros(2), num_samples=n, settings=drl.ReconstructSettings("dps", num_steps=1), seed=0
        ).draws
    ),
    "ancestral": lambda d, n: drl.samplers.sample_ancestral(d.model, n).draws,
    "ddim": lambda d, n: drl.samplers.sample_ddim(d.model, n, settings=drl.DDIMSettings(num_steps=1)).draws,
    "flow": lambda d, n: drl.samplers.sample_flow(d.model, n, settings=drl.FlowSettings(num_steps=1)).draws,
    "short run": lambda d, n: drl.samplers.sample_short_run(d.model, n).draws,
    "progressive": lambda d, n: (
        drl.sample_progressive(
            d.model, n, settings=drl.ProgressiveSettings(steps_per_level=1, num_steps=1, num_final_steps=0)
        ).draws
    ),
}


@pytest.mark.parametrize("name", COUNTED)
def test_a_single_draw_works_and_none_is_refused(name, density):
    assert COUNTED[name](density, 1).isfinite().all()
    for number in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="num_samples"):
            COUNTED[name](density, number)


@pytest.mark.parametrize("number", [0, 1, True])
def test_a_posterior_needs_two_draws(number, density):
    with pytest.raises(DataError, match="num_samples must be"):
        density.posterior(lambda x: -x.square().sum(1), num_samples=number, settings=ANNEALING, seed=0)


@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_a_combination_needs_a_draw(number, density):
    with pytest.raises(DataError, match="num_samples must be a positive integer"):
        drl.combine([density], num_samples=number, settings=ANNEALING, seed=0)


def test_a_single_reconstruction_has_no_standard_deviation(density):
    found = density.reconstruct(
        OPERATOR, torch.zeros(2), num_samples=1, settings=drl.ReconstructSettings("dps", num_steps=1), seed=0
    )
    assert bool(found.standard_deviation.isnan().all())
    assert "nan" not in found.summary()


# --- parts


def test_nothing_to_join_is_refused(density):
    for call in (
        lambda: drl.product([]),
        lambda: drl.Mixture([], []),
        lambda: drl.combine([]),
        lambda: drl.compare({}, ONE),
        lambda: density.condition({}),
        lambda: density.marginal([]),
    ):
        with pytest.raises(ValueError, match="at least|some but not all"):
            call()


def test_no_quantiles_are_none_and_one_is_one(density):
    assert density.predict(ONE, "x0", quantiles=()).quantiles.shape == (1, 0)
    assert density.predict(ONE, "x0", quantiles=[0.5]).quantiles.shape == (1, 1)
    for wrong in (0.5, "0.5", None, [True], [math.nan], [0.0]):
        with pytest.raises(DataError, match="quantiles must"):
            density.predict(ONE, "x0", quantiles=wrong)


# --- chains, particles and replicates


@pytest.mark.parametrize("number", [0, 1])
def test_chains_of_any_number_and_length_one(number):
    found = drl.run_chain(drl.MALA(), lambda x: -x.square().sum(-1), torch.zeros(number, 1), num_steps=1, step_size=0.1)
    assert found.draws.shape == (1, number, 1)


def test_statistics_that_need_a_spread_are_nan_without_one(caplog):
    for shape in ((1, 8, 2), (2, 1, 2), (0, 8, 2)):
        assert bool(split_r_hat(torch.randn(shape)).isnan().all())
    assert split_r_hat(torch.randn(2, 8, 2)).shape == (2,)
    assert bool(bulk_ess(torch.randn(3, 1, 2)).isnan().all())
    assert caplog.text == ""
    with pytest.raises(ValueError, match="two draws"):
        drift_test(torch.zeros(1, 4, 1))
    with pytest.raises(ValueError, match="rows in both"):
        energy_distance_test(torch.zeros(0, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="two superchains"):
        nested_r_hat(torch.zeros(4, 2, 1), [0, 0])


def test_a_single_particle_works_and_a_single_replicate_has_no_error(density):
    path = drl.sequence_path(density.model, steps_per_level=1)
    settings = drl.AISSettings(num_particles=1, num_replicates=2, num_pilot_particles=1, num_transitions=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreliableEstimateWarning)
        assert math.isfinite(drl.annealed_importance_sampling(path, settings=settings).log_z)
    alone = drl.AISSettings(num_particles=8, num_replicates=1)
    with pytest.raises(ValueError, match="at least 2 replicates, got num_replicates=1"):
        drl.annealed_importance_sampling(path, settings=alone)


def test_too_few_rows_show_no_memorisation():
    rows = torch.randn(5, 2)
    for samples, train, test in ((rows[:0], rows, rows), (rows, rows[:1], rows), (rows, rows, rows[:0])):
        with pytest.raises(DataError, match="at least two training rows"):
            drl.memorization_check(samples, train, test)
