"""Images made pixel by pixel have the log probabilities of whole images."""

import pytest
import torch

from drl_density.testing import seeded_generator
from tests.bases.autoregressive.small import dependent


def test_steps_give_the_probabilities_of_whole_images():
    base = dependent((2, 3, 4), num_cells=5)
    cells = torch.randint(5, (6, 24), generator=seeded_generator(0))
    whole, steps = base.cell_log_probabilities(cells), base.steps(6)
    total = torch.zeros(6).double()
    while not steps.is_complete:
        place = steps.place
        values = steps.log_probabilities()
        torch.testing.assert_close(values.exp().sum(1), torch.ones(6).double())
        own = values.gather(1, cells[:, place, None]).squeeze(1)
        torch.testing.assert_close(own, whole[:, place], rtol=0, atol=5e-5)
        total += own
        steps.advance(cells[:, place])
    assert torch.equal(steps.cells, cells)
    torch.testing.assert_close(total, whole.sum(1), rtol=0, atol=1e-4)
    for ask in (steps.log_probabilities, lambda: steps.advance(cells[:, 0])):
        with pytest.raises(IndexError):
            ask()


def test_selected_images_go_on_apart():
    base = dependent()
    steps = base.steps(3)
    steps.advance(torch.tensor([0, 1, 2]))
    chosen = steps.select(torch.tensor([2, 2, 0, 1]))
    assert chosen.position == 1
    assert chosen.cells[:, 0].tolist() == [2, 2, 0, 1]
    torch.testing.assert_close(chosen.log_probabilities()[2:], steps.log_probabilities()[:2], rtol=0, atol=5e-5)
    chosen.advance(torch.tensor([0, 1, 1, 1]))
    assert (steps.position, chosen.position) == (1, 2)
    assert steps.cells[:, 1].tolist() == [3, 3, 3]  # not set yet


@pytest.mark.parametrize("given", [[0, 1], [[0], [1], [2]], [0, -1, 0], [0, 3, 0]])
def test_grey_levels_that_cannot_be_are_refused(given):
    with pytest.raises(ValueError, match="expected 3 grey levels from 0 to 2, got shape"):
        dependent().steps(3).advance(torch.tensor(given))
