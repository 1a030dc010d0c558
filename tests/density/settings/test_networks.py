"""Settings of the networks: choices by the data, and values that are refused."""

import pytest
import torch

from drl_density import (
    ColumnNetwork,
    FitSettings,
    LogSpacedSchedule,
    MLPNetwork,
    ResidualNetwork,
    UNetNetwork,
)
from drl_density.density.fitting.build import network_factory
from drl_density.errors import DataError


@pytest.mark.parametrize(
    ("rows", "columns", "dropout"),
    [
        (299, 2, 0.3),
        (300, 10, 0.1),
        (300, 11, 0.3),
        (1400, 64, 0.3),
        (4999, 64, 0.1),
        (5000, 64, 0.0),
        (5000, 200, 0.0),
    ],
)
def test_dropout_follows_the_rows_there_are_per_column(rows, columns, dropout):
    assert FitSettings(network=MLPNetwork()).resolve(rows, (columns,), 0.07).network.dropout == dropout
    assert FitSettings(network=MLPNetwork(dropout=0.2)).resolve(rows, (columns,), 0.07).network.dropout == 0.2


@pytest.mark.parametrize(("rows", "dropout"), [(2999, 0.4), (3000, 0.3), (19_999, 0.3), (20_000, 0.2)])
def test_dropout_of_the_network_over_columns_follows_the_rows(rows, dropout):
    assert FitSettings().resolve(rows, (8,), 0.07).network.dropout == dropout
    assert FitSettings(network=ColumnNetwork(dropout=0.1)).resolve(rows, (8,), 0.07).network.dropout == 0.1


@pytest.mark.parametrize(("rows", "sizes"), [(2999, (48, 1, 8)), (3000, (128, 2, 16))])
def test_sizes_of_the_network_over_columns_follow_the_rows(rows, sizes):
    network = FitSettings().resolve(rows, (8,), 0.07).network
    assert (network.width, network.num_blocks, network.column_width) == sizes
    own = ColumnNetwork(width=7, num_blocks=3, column_width=5)
    found = FitSettings(network=own).resolve(rows, (8,), 0.07).network
    assert (found.width, found.num_blocks, found.column_width) == (7, 3, 5)


def test_the_papers_network_has_no_dropout_and_the_u_net_does():
    shape, schedule = (1, 8, 8), LogSpacedSchedule(num_levels=2, sigma_min=0.1).noise_schedule()
    assert FitSettings(network=UNetNetwork()).resolve(1000, shape, 0.07).network.dropout == 0.3
    settings = FitSettings(network=UNetNetwork(dropout=0.2)).resolve(1000, shape, 0.07)
    network, _ = network_factory(settings.network, settings.objective, schedule, 64).build(schedule, generator=None)
    assert {module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)} == {0.2}
    with pytest.raises(TypeError, match="dropout"):
        ResidualNetwork(dropout=0.1)


def test_fourier_features_are_for_few_columns():
    found = {columns: MLPNetwork().resolve(1000, (columns,)).num_fourier_features for columns in (1, 3, 4)}
    assert found == {1: 64, 3: 64, 4: 0}
    assert MLPNetwork(num_fourier_features=5).resolve(1000, (4,)).num_fourier_features == 5


def test_shape_and_multipliers_follow_the_images():
    """Channels are put in front; flat rows need the shape that they had."""
    network = ResidualNetwork().resolve(1000, (32, 48))
    assert (network.shape, network.multipliers) == ((1, 32, 48), (1, 2, 2, 2))
    assert ResidualNetwork().resolve(1000, (3, 4, 4)).multipliers == (1,)
    flat = ResidualNetwork(shape=(1, 8, 8), multipliers=(3,)).resolve(1000, (64,))
    assert (flat.shape, flat.multipliers) == ((1, 8, 8), (3,))
    assert flat.resolve(1000, (1, 8, 8)) == flat


@pytest.mark.parametrize(
    ("network", "event_shape", "message"),
    [
        (ResidualNetwork(shape=(3, 32, 32)), (1, 4, 4), r"of shape \(3, 32, 32\).*the data has \(1, 4, 4\)"),
        (ResidualNetwork(), (13,), r"needs images.*got \(13,\); use MLPNetwork"),
        (UNetNetwork(shape=(1, 3, 4)), (13,), r"needs images.*got \(13,\)"),
    ],
)
def test_data_that_are_no_such_images(network, event_shape, message):
    with pytest.raises(DataError, match=message):
        network.resolve(100, event_shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLPNetwork(width=0), "width must be at least 1"),
        (lambda: MLPNetwork(dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: UNetNetwork(dropout=-0.1), r"dropout must lie in \[0, 1\)"),
        (lambda: ResidualNetwork(num_blocks=0), "num_blocks must be at least 1"),
        (lambda: UNetNetwork(patch_size=0), "patch_size must be at least 1"),
        (lambda: ResidualNetwork(activation="relu"), "activation must be one of 'silu', 'leaky_relu', got 'relu'"),
    ],
)
def test_settings_that_cannot_be(call, message):
    with pytest.raises(ValueError, match=message):
        call()
