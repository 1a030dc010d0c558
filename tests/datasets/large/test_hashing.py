"""Random numbers of rows: uniform, independent of each other, and fixed by the row."""

import numpy as np
import torch

from drl_density.datasets.large.hashing import content_hashes, mix, place_hashes, stream_key, unit_interval
from drl_density.testing.statistics import assert_z

COUNT = 40_000


def assert_uniform(numbers: np.ndarray) -> None:
    """Mean, variance and the share in each of ten cells of numbers in [0, 1)."""
    x = torch.as_tensor(numbers)
    assert bool(((x >= 0) & (x < 1)).all())
    assert_z(x, 0.5)
    assert_z((x - 0.5) ** 2, 1 / 12)
    cells = torch.stack([(x * 10).floor() == cell for cell in range(10)], 1)
    assert_z(cells.double(), 0.1)


def test_places_and_contents_have_uniform_numbers():
    places = np.arange(COUNT)
    assert_uniform(unit_interval(place_hashes(places, stream_key(3))))
    assert_uniform(unit_interval(content_hashes(places[:, None] * 1.0, stream_key(3))))
    ordered = np.stack([places // 200, places % 200], 1) / 7.0
    assert_uniform(unit_interval(content_hashes(ordered, stream_key(4))))


def test_streams_and_neighbours_are_uncorrelated():
    places = np.arange(COUNT)
    first = unit_interval(place_hashes(places, stream_key(0, 1, 0)))
    for other in (
        unit_interval(place_hashes(places, stream_key(0, 1, 1))),
        unit_interval(place_hashes(places, stream_key(1, 1, 0))),
        np.roll(first, 1),
    ):
        assert_z(torch.as_tensor((first - 0.5) * (other - 0.5) * 12), 0.0)


def test_a_number_belongs_to_its_row_in_any_chunk_and_order():
    rows = np.random.default_rng(0).normal(size=(50, 3))
    key = stream_key(5)
    whole = content_hashes(rows, key)
    assert (np.concatenate([content_hashes(rows[:7], key), content_hashes(rows[7:], key)]) == whole).all()
    assert (content_hashes(rows[::-1], key)[::-1] == whole).all()
    assert (content_hashes(rows[:, ::-1], key) != whole).all()
    assert len(np.unique(whole)) == 50
    places = place_hashes(np.arange(50), key)
    assert (place_hashes(np.arange(20, 50), key) == places[20:]).all()


def test_equal_rows_have_equal_numbers_whatever_their_bits():
    other_nan = np.array([0x7FF8000000000123], dtype=np.uint64).view(np.float64)[0]
    rows = np.array([[0.0, np.nan], [-0.0, other_nan], [0.0, 1.0]])
    hashes = content_hashes(rows, stream_key(0))
    assert hashes[0] == hashes[1] != hashes[2]
    assert np.signbit(rows[1, 0])  # the rows themselves stay


def test_mixing_is_one_to_one_and_leaves_its_input():
    numbers = np.arange(10_000, dtype=np.uint64)
    assert len(np.unique(mix(numbers))) == 10_000
    assert (numbers == np.arange(10_000)).all()
    # The first output of SplitMix64 with seed 0 (Steele, Lea and Flood 2014).
    assert int(mix(np.array([0x9E3779B97F4A7C15], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
