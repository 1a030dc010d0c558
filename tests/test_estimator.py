"""scikit-learn's own checks on the facade, and what it promises beyond them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import drl_density as drl
from drl_density.errors import DataError, NumericalError, UnreliableEstimateWarning, Verdict

pytestmark = pytest.mark.usefixtures("short_paths")
TINY = drl.FitSettings(
    objective=drl.AdjustedObjective(num_chain_steps=1),
    network=drl.MLPNetwork(width=8, num_blocks=1),
    schedule=drl.LogSpacedSchedule(num_levels=2),
    num_pool_draws=8,
    base="gaussian",
    transform="standardize",
    selection="last",
    num_particles=16,
    training=drl.TrainingSettings(num_steps=2, batch_size=16, evaluate_every=2),
)


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@parametrize_with_checks([drl.DRLDensity(TINY, random_state=0)])
def test_scikit_learn_checks(estimator, check):
    """All of them: an exception would have to be named here with its reason (``expected_failed_checks``)."""
    check(estimator)


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(0).normal(size=(150, 3))
    return drl.DRLDensity(TINY, random_state=0).fit(x), x


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_scores_are_log_densities(fitted):
    """Of a toy fit, whatever its verdict."""
    estimator, x = fitted
    scores = estimator.score_samples(x)
    assert scores.shape == (150,)
    assert estimator.score(x) == pytest.approx(scores.mean())
    assert estimator.sample(5, random_state=1).shape == (5, 3)
    np.testing.assert_array_equal(estimator.sample(5, random_state=1), estimator.sample(5, random_state=1))
    assert clone(estimator).get_params()["settings"] == TINY


def test_an_unreliable_normaliser_is_refused(fitted):
    estimator, x = fitted
    broken = clone(estimator)
    broken.density_ = dataclasses.replace(
        estimator.density_, estimate=dataclasses.replace(estimator.density_.estimate, verdict=Verdict.UNRELIABLE)
    )
    broken.n_features_in_ = 3
    with pytest.raises(NumericalError, match="accept_unreliable"):
        broken.score_samples(x)
    with pytest.warns(UnreliableEstimateWarning, match="is unreliable"):
        assert np.isfinite(broken.set_params(accept_unreliable=True).score_samples(x)).all()


def test_a_doubtful_normaliser_is_used_with_a_warning(fitted):
    estimator, x = fitted
    estimate = dataclasses.replace(estimator.density_.estimate, verdict=Verdict.DOUBTFUL)
    doubtful = clone(estimator)
    doubtful.density_ = dataclasses.replace(estimator.density_, estimate=estimate)
    doubtful.n_features_in_ = 3
    with pytest.warns(UnreliableEstimateWarning, match="is doubtful"):
        assert np.isfinite(doubtful.score_samples(x)).all()


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_rows_of_any_layout_score_alike_and_names_in_a_list_are_not_lost(fitted):
    estimator, x = fitted
    frozen = x.copy()
    frozen.setflags(write=False)
    for same in (x[::-1][::-1], np.asfortranarray(x), frozen, torch.tensor(x, requires_grad=True)):
        np.testing.assert_array_equal(estimator.score_samples(same), estimator.score_samples(x))
    # Sums within a pass depend on the order of its rows by some 1e-12.
    np.testing.assert_allclose(estimator.score_samples(x[::-1]), estimator.score_samples(x)[::-1], rtol=1e-9)
    with pytest.raises(DataError, match="names would be lost"):
        estimator.score_samples([pd.Series({"b": 1.0, "a": 2.0, "c": 3.0})])


@pytest.mark.filterwarnings("ignore::drl_density.errors.UnreliableEstimateWarning")
def test_the_estimator_of_one_column():
    x = np.random.default_rng(0).normal(size=(60, 1))
    fitted = drl.DRLDensity(TINY, random_state=0, accept_unreliable=True).fit(x)
    assert fitted.score_samples(x[:1]).shape == (1,)
    assert fitted.sample(1, random_state=0).shape == (1, 1)
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        fitted.sample(0)
    with pytest.raises(ValueError, match="0 sample"):
        fitted.score_samples(x[:0])


@pytest.mark.parametrize("shape", [(0, 2), (1, 2), (3, 2), (20, 0)])
def test_the_estimator_refuses_too_few_rows_or_columns(shape):
    with pytest.raises(ValueError, match=r"sample|feature|10 rows"):
        drl.DRLDensity(TINY, random_state=0).fit(np.random.default_rng(0).normal(size=shape))
