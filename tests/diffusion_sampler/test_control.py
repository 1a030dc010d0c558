"""Parts of a control."""

import torch

from drl_density.diffusion_sampler.control import NUM_PHASES, ColumnTerm
from drl_density.testing import seeded_generator


def test_a_column_term_sees_each_coordinate_alone():
    term, phases = ColumnTerm(3, 8, 1.5), torch.randn(5, NUM_PHASES, generator=seeded_generator(0), dtype=torch.float64)
    y = torch.randn(5, 3, generator=seeded_generator(1), dtype=torch.float64)
    assert not bool(term(y, phases, is_held=False).any())
    with torch.no_grad():
        term.weights.weight.normal_(generator=seeded_generator(2))
    moved = y + torch.tensor([0.0, 0.5, 0.0])
    change = (term(moved, phases, is_held=False) - term(y, phases, is_held=False)).abs().sum(0)
    assert (change > 1e-3).tolist() == [False, True, False]
    assert term(y, phases, is_held=False).requires_grad
    assert not term(y, phases, is_held=True).requires_grad
