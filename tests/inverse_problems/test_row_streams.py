"""Random numbers that belong to rows."""

import torch

from drl_density.inverse_problems.row_streams import RowStreams
from drl_density.testing import assert_z, seeded_generator

ROWS = torch.arange(400)


def test_the_numbers_of_a_row_depend_on_its_number_alone():
    streams = RowStreams.of(seeded_generator(0))
    assert streams == RowStreams.of(seeded_generator(0)) != RowStreams.of(seeded_generator(1))
    for kind in ("normal", "uniform"):
        whole = streams.numbers(ROWS, (3, 2), purpose=0, kind=kind)
        assert torch.equal(streams.numbers(ROWS.flip(0)[:7], (3, 2), purpose=0, kind=kind), whole.flip(0)[:7])


def test_rows_purposes_rounds_and_seeds_have_numbers_of_their_own():
    many = [
        RowStreams(seed, index).numbers(ROWS, (4,), purpose=purpose)
        for seed in (0, 1)
        for index in (0, 1)
        for purpose in (0, 1)
    ]
    assert len(torch.cat(many).unique()) == 8 * 1600


def test_normal_and_uniform_numbers_have_their_moments():
    streams = RowStreams(2**62 - 1)
    normal = streams.numbers(ROWS, (50,), purpose=0)
    assert_z(torch.stack([normal, normal.square()], 2).flatten(0, 1), torch.tensor([0.0, 1.0]))
    uniform = streams.numbers(ROWS, (50,), purpose=0, kind="uniform")
    assert bool((uniform >= 0).all() and (uniform < 1).all())
    assert_z(torch.stack([uniform, uniform.square()], 2).flatten(0, 1), torch.tensor([1 / 2, 1 / 3]))
    assert streams.numbers(ROWS[:0], (2,), purpose=0).shape == (0, 2)
