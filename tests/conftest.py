"""Shared fixtures: a tiny fitted density, made once."""

import pytest
import torch

import drl_density as drl

TINY = drl.FitSettings(
    objective=drl.AdjustedObjective(num_chain_steps=2),
    network=drl.MLPNetwork(width=24, num_blocks=1, num_fourier_features=8),
    schedule=drl.LogSpacedSchedule(num_levels=5),
    num_pool_draws=40,
    training=drl.TrainingSettings(num_steps=40, batch_size=32, evaluate_every=20),
)


@pytest.fixture(scope="session")
def tiny_settings():
    return TINY


@pytest.fixture(scope="session")
def tiny_data():
    return drl.load_dataset("banana", seed=0, num_rows=400)


@pytest.fixture(scope="session")
def tiny_density(tiny_data):
    return drl.fit(tiny_data, seed=0, settings=TINY, progress=False)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def validation_comes_back():
    """torch.compile switches the validation of distributions off for good; the next test finds it as it was."""
    before = torch.distributions.Distribution._validate_args
    yield
    torch.distributions.Distribution.set_default_validate_args(before)
