"""The size of a mixture of factor analysers: chosen on validation, within time, memory and rows."""

import itertools

import pytest
import torch

from drl_density.bases.fitting import FactorSize, SizeSearch, fit_factors_by_size
from drl_density.errors import DataError
from drl_density.testing import seeded_generator


def ring(num_rows, seed):
    """Eight well separated clusters of flat shape in eight columns."""
    generator = seeded_generator(seed)
    rows = 0.3 * torch.randn(num_rows, 8, generator=generator)
    rows[torch.arange(num_rows), torch.arange(num_rows) % 8] += 6.0
    return rows


def test_the_size_follows_validation():
    found = fit_factors_by_size(ring(1200, 0), ring(400, 1), generator=seeded_generator(2))
    assert found.size.num_components >= 8
    assert found.scores[found.size] == max(found.scores.values())
    assert found.base.num_components <= found.size.num_components
    one = torch.randn(300, 6, generator=seeded_generator(3))
    assert fit_factors_by_size(one[:200], one[200:], generator=seeded_generator(4)).size.num_components == 1


def test_limits_end_the_search_with_a_remark():
    x, held_out = ring(400, 0), ring(100, 1)
    seconds = itertools.count()
    quick = fit_factors_by_size(x, held_out, search=SizeSearch(max_seconds=1.0, clock=lambda: float(next(seconds))))
    assert len(quick.scores) == 1
    assert quick.remark.startswith("no larger mixture of factor analysers: no time for")
    small = SizeSearch(most_bytes=FactorSize(4, 8).num_bytes(8))
    assert "would not fit into memory" in fit_factors_by_size(x, held_out, search=small).remark
    few = fit_factors_by_size(x[:12], held_out)
    assert few.size.num_components <= 6
    with pytest.raises(DataError, match="at least 2 rows"):
        fit_factors_by_size(x[:1], held_out)
