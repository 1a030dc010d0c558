"""Declared ranges of scored rows."""

import pytest
import torch

from drl_density.datasets import Column
from drl_density.density.evaluation.sections.scored_rows import ScoredRows

PIXEL = Column("x", "integer", 1.0, lower=-0.5, upper=255.5)


class Pixels:
    def __init__(self, *columns):
        self.columns = columns


@pytest.mark.parametrize(
    ("columns", "width", "declared"),
    [
        ((PIXEL, PIXEL), 1.0, "0..255"),
        ((PIXEL, PIXEL), 0.0, ""),
        ((PIXEL, Column("y", "integer", 1.0, lower=-0.5, upper=16.5)), 1.0, ""),
        ((PIXEL, Column("y")), 1.0, ""),
        ((Column("y", "integer", 1.0),) * 2, 1.0, ""),
    ],
    ids=["pixels", "not dequantised", "two ranges", "continuous", "no bounds"],
)
def test_declared_ranges(columns, width, declared):
    zeros, widths = torch.zeros(1, 2, dtype=torch.float64), torch.full((2,), width, dtype=torch.float64)
    assert ScoredRows(Pixels(*columns), zeros, widths, zeros[0], 0.0).declared_range == declared
