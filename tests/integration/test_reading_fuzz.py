"""Tables written or held in random ways are read back cell by cell; ``tests/benchmarks/reading_fuzz.py`` tries more."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings

from drl_density.errors import DataWarning
from tests.integration.random_frames import check_holding, held_tables
from tests.integration.random_tables import check_reading, written_tables


@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(written_tables())
def test_tables_in_random_dialects_are_read_back(table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        check_reading(table)


@pytest.mark.filterwarnings("ignore::drl_density.errors.DataWarning")
@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(held_tables())
def test_tables_held_in_random_ways_are_read_and_written_back(table):
    check_holding(table)
