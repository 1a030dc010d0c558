"""Rows and transforms that the tests of this room share."""

import functools
import math

import pytest
import torch

from drl_density.testing import seeded_generator
from drl_density.transforms import (
    Affine,
    Composed,
    fit_grid_histograms,
    fit_marginal_gaussianization,
    logit,
    standardize,
    whiten,
)

INF = math.inf
BOUNDS = {"lower": torch.tensor([-INF, -INF, 0.0, 0.0]), "upper": torch.tensor([INF, INF, INF, 1.0])}


def rows(num_rows=600):
    """Columns: normal, heavy-tailed, positive and skew, inside (0, 1)."""
    generator = seeded_generator(1)
    normal = torch.randn(num_rows, 5, generator=generator, dtype=torch.float64)
    heavy = normal[:, 1] / (normal[:, 2].square() + normal[:, 3].square()).mul(0.5).sqrt()
    return torch.stack([3 + 2 * normal[:, 0], heavy, normal[:, 3].exp(), torch.sigmoid(normal[:, 4])], 1)


def mixed_rows():
    """The same rows with dequantised values 1, 2 and 5 in the second column."""
    x = rows()
    generator = seeded_generator(2)
    x[:, 1] = torch.tensor([1.0, 2.0, 5.0]).double()[torch.randint(3, (len(x),), generator=generator)]
    x[:, 1] += torch.rand(len(x), generator=generator, dtype=torch.float64) - 0.5
    return x


MIXED = BOUNDS | {"widths": torch.tensor([0.0, 1.0, 0.0, 0.0]), "supports": [(), (1.0, 2.0, 5.0), (), ()]}


def inside():
    return torch.sigmoid(rows())


def composed():
    return Composed([logit(0.0, 1.0), standardize(logit(0.0, 1.0)(inside()))])


def grey():
    """Dequantised values 0 to 15, in four columns of different spread; the last one is constant."""
    generator = seeded_generator(3)
    spread = torch.tensor([6.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    values = (8 + spread * torch.randn(600, 4, generator=generator, dtype=torch.float64)).round().clamp(0, 15)
    return values + torch.rand(values.shape, generator=generator, dtype=torch.float64) - 0.5


@functools.cache
def grids():
    return fit_grid_histograms(grey(), first=0.0, width=1.0, num_cells=16)


@functools.cache
def with_cells():
    """Fitted once, with a closed support in the second column."""
    return fit_marginal_gaussianization(mixed_rows(), **MIXED)


@functools.cache
def gaussian(*, is_bounded=False):
    """Fitted once for all tests that do not fit themselves."""
    return fit_marginal_gaussianization(rows(), **(BOUNDS if is_bounded else {}))


@functools.cache
def spiked():
    """Fitted once, with two frequent values in the first column and one at the bound of the third; and the rows."""
    x, generator = rows(900), seeded_generator(4)
    kind = torch.randint(5, (len(x), 2), generator=generator)
    x[:, 0] = torch.where(kind[:, 0] < 2, 2.0, torch.where(kind[:, 0] == 2, 2.5, (100 * x[:, 0]).round() / 100))
    x[:, 2] = torch.where(kind[:, 1] < 2, 0.0, torch.where(kind[:, 1] == 2, 1.0, (100 * x[:, 2]).round() / 100))
    widths = torch.tensor([0.01, 0.0, 0.01, 0.0], dtype=torch.float64)
    noised = x + widths * (torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.5)
    ends = {"lower": torch.tensor([-INF, -INF, -0.005, -INF]), "upper": torch.full((4,), INF)}
    return fit_marginal_gaussianization(noised, widths=widths, values=x, **ends), noised[:600]


COLUMNWISE = {
    "affine": lambda: (Affine(1.0, torch.tensor([2.0, -0.5, 3.0, -1.0]).double()), rows()),
    "standardize": lambda: (standardize(rows()), rows()),
    "logit": lambda: (logit(torch.zeros(4), torch.ones(4)), inside()),
    "composed": lambda: (composed(), inside()),
    "gaussianize": lambda: (gaussian(), rows()),
    "gaussianize bounded": lambda: (gaussian(is_bounded=True), rows()),
    "gaussianize cells": lambda: (with_cells(), mixed_rows()),
    "gaussianize spikes": spiked,
    "grid histograms": lambda: (grids(), grey()),
}
MIXING = {"whiten": lambda: (whiten(rows()), rows())}
TRANSFORMS = COLUMNWISE | MIXING


def fixture_of(makers):
    """A fixture that gives each (transform, rows in its domain) in turn."""

    def pair(request):
        return makers[request.param]()

    return pytest.fixture(params=makers, ids=list(makers), scope="module")(pair)
