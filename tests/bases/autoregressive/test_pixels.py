"""The density over grey levels sums to one, and that over model space has it as the probability of its cells."""

import math

import pytest
import torch
from torch.distributions import Normal

from drl_density.bases import AutoregressivePixels, PixelSettings, base_from_state
from drl_density.testing import assert_z, seeded_generator
from drl_density.transforms.grid_histograms import GridHistograms, GridMarginals
from tests.bases.autoregressive.small import all_images, dependent


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (1, 1, 4), (1, 4, 1), (3, 1, 1)])
def test_probabilities_of_all_images_sum_to_one(shape):
    base = dependent(shape)
    values = base.cell_log_probabilities(all_images(base)).sum(1)
    assert float(values.exp().sum()) == pytest.approx(1, abs=1e-6)  # logits are float32
    independent = base.log_shares[torch.arange(base.num_features), all_images(base)].sum(1)
    assert float((values - independent).std()) > 0.5


def test_the_probability_of_a_value_depends_on_those_before_it_alone():
    base = dependent((2, 3, 3), num_cells=5)
    cells = torch.randint(5, (1, 18), generator=seeded_generator(1))
    before, reached = base.cell_log_probabilities(cells), torch.zeros(18, 18, dtype=torch.bool)
    for position, place in enumerate(base.order.tolist()):
        changed = cells.clone()
        changed[0, place] = (changed[0, place] + 2) % 5
        moved = (base.cell_log_probabilities(changed) - before).abs()[0] > 0
        reached[position] = moved[base.order]
    assert not bool(reached.tril(-1).any())
    assert bool(reached.triu(1).sum() > 100)  # of 153 pairs; pixels at the far end are not in the window


def test_single_values_have_the_logits_of_whole_images():
    base = dependent((2, 3, 3), num_cells=5)
    cells = torch.randint(5, (4, 18), generator=seeded_generator(1), dtype=torch.uint8)
    rows, places = torch.tensor([3, 0, 0, 2]), torch.tensor([17, 0, 9, 5])
    logits = base.logits_of(cells, rows, places)
    torch.testing.assert_close(logits, base.logits(base.tokens(cells[rows]), places))
    own = logits.log_softmax(1).gather(1, cells[rows, places].long()[:, None]).squeeze(1)
    torch.testing.assert_close(own.double(), base.cell_log_probabilities(cells.long())[rows, places], rtol=0, atol=1e-4)


def test_cells_of_model_space_have_the_probability_of_their_image():
    """p(u) inside a cell is that of the histogram, times P(image) over its probability under the histograms."""
    base = dependent()
    images = all_images(base)
    u = base.from_cells(images, generator=seeded_generator(2))
    assert torch.equal(base.cells(u), images)
    ratio = base.log_prob(u) - Normal(0.0, 1.0).log_prob(u).sum(1)
    shares = base.log_shares[torch.arange(4), images].sum(1)
    expected = base.cell_log_probabilities(images).sum(1) - shares
    torch.testing.assert_close(ratio, expected, rtol=0, atol=1e-12)


def test_one_pixel_integrates_to_one_by_quadrature():
    """Between the ends of its cells the density is smooth, so that the midpoint rule converges inside each of them."""
    base = dependent((1, 1, 1), num_cells=4)
    ends = [-8.0, *base.edges[0].tolist(), 8.0]
    total = 0.0
    for low, high in zip(ends, ends[1:], strict=False):
        step = (high - low) / 2000
        points = low + step * (torch.arange(2000).double() + 0.5)
        total += float(base.log_prob(points[:, None]).exp().sum()) * step
    assert total == pytest.approx(1, abs=1e-6)


def test_the_likelihood_of_grey_levels_has_no_gap_of_dequantisation():
    """Back in grey levels, with the Jacobian of the histograms, any point of a cell has the probability of the image."""
    base = dependent()
    transform = GridHistograms(GridMarginals(0.0, 1.0, base.log_shares))
    images = all_images(base)
    x = images + torch.rand(images.shape, generator=seeded_generator(3), dtype=torch.float64) - 0.5
    u, log_jacobian = transform.with_log_jacobian(x)
    expected = base.cell_log_probabilities(images).sum(1)
    torch.testing.assert_close(base.log_prob(u) + log_jacobian, expected, rtol=0, atol=1e-9)


def test_draws_have_the_probabilities_of_images():
    base = dependent()
    drawn = base.sample(20_000, generator=seeded_generator(4))
    index = base.cells(drawn) @ torch.tensor([27, 9, 3, 1])
    truth = base.cell_log_probabilities(all_images(base)).sum(1).exp()
    is_common = truth > 1e-3
    assert float(truth[is_common].sum()) > 0.9
    assert_z(torch.nn.functional.one_hot(index, 81)[:, is_common].double(), truth[is_common])


def test_images_pass_in_parts_of_bounded_memory(monkeypatch):
    base, cells = dependent(), all_images(dependent())
    whole = base.cell_log_probabilities(cells)
    monkeypatch.setattr("drl_density.bases.autoregressive.pixels.MOST_NUMBERS", 400)
    torch.testing.assert_close(base.cell_log_probabilities(cells), whole, rtol=0, atol=1e-5)
    monkeypatch.setattr("drl_density.bases.autoregressive.pixels.MOST_DRAWN", 3)
    assert base.sample(7, generator=seeded_generator(0)).shape == (7, 4)
    assert base.sample(0).shape == (0, 4)
    assert base.cell_log_probabilities(cells[:0]).shape == (0, 4)


def test_a_new_density_is_that_of_independent_pixels():
    shares = torch.randn(9, 7, generator=seeded_generator(2)).log_softmax(1)
    base = AutoregressivePixels(PixelSettings((1, 3, 3), num_cells=7, width=8), shares, generator=seeded_generator(0))
    u = torch.randn(5, 9, generator=seeded_generator(1), dtype=torch.float64)
    expected = Normal(0.0, 1.0).log_prob(u).sum(1)
    torch.testing.assert_close(base.log_prob(u), expected, rtol=0, atol=1e-5)


def test_values_that_are_no_numbers_have_no_density():
    base = dependent()
    x = torch.tensor([[math.nan, 0, 0, 0], [0, math.inf, 0, 0], [0, 0, 30.0, 0]])
    values = base.log_prob(x)
    assert bool(values[0].isnan())
    assert float(values[1]) == -math.inf
    assert bool(values[2].isfinite())


def test_ends_of_cells_are_part_of_the_state():
    base = dependent((1, 2, 3), num_cells=6)
    again = base_from_state(base.to_state())
    assert not torch.equal(again.edges, base.edges)
    again.load_state_dict(base.state_dict())
    x = torch.randn(4, 6, generator=seeded_generator(0))
    assert torch.equal(again.log_prob(x), base.log_prob(x))
    assert torch.equal(again.sample(3, generator=seeded_generator(1)), base.sample(3, generator=seeded_generator(1)))


def test_log_shares_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected log shares \(4, 3\) of every value of every pixel, got \(3, 4\)"):
        AutoregressivePixels(PixelSettings((1, 2, 2), num_cells=3), torch.zeros(3, 4))
