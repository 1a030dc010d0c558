"""Sizes of parts that are worked on at once."""

import pytest

from drl_density.partition_function.chunks import chunk_sizes


@pytest.mark.parametrize(("total", "largest"), [(10, 4), (8, 4), (3, 5), (0, 2)])
def test_chunks_add_up_and_only_the_last_is_smaller(total, largest):
    sizes = chunk_sizes(total, largest)
    assert sum(sizes) == total
    assert all(size == largest for size in sizes[:-1])
    assert all(0 < size <= largest for size in sizes)
