"""Blends: the average of the members' densities, draws in proportion, states, tails; the contract has a battery."""

import pytest
import torch

from drl_density.bases import AutoregressiveFlow, BlendedBase, LayeredBase, NoisedGaussianMixture, Tail, base_from_state
from drl_density.testing import assert_z, seeded_generator
from tests.bases.members import bent_flow


def at(place, *, scale=0.1):
    """A Gaussian of two columns around ``place`` in the first one."""
    return NoisedGaussianMixture(torch.ones(1), torch.tensor([[place, 0.0]]), torch.full((1, 2), scale))


def blend(*weights):
    return BlendedBase([at(-5.0), at(0.0), at(5.0)], torch.tensor(weights))


def test_the_density_is_the_weighted_average():
    base, x = blend(1.0, 2.0, 5.0), torch.randn(50, 2, generator=seeded_generator(0), dtype=torch.float64)
    parts = torch.stack([member.log_prob(x).exp() for member in base.members])
    truth = torch.tensor([0.125, 0.25, 0.625], dtype=torch.float64) @ parts
    # Weights are stored in float32, relative 6e-8.
    torch.testing.assert_close(base.log_prob(x).exp(), truth, rtol=1e-6, atol=0)


def test_weights_are_normalised_in_float64():
    assert float(blend(0.1, 0.2, 0.7).weights.sum()) == pytest.approx(1, abs=1e-15)


def test_draws_come_from_the_members_by_weight_in_random_order():
    base = blend(0.2, 0.3, 0.5)
    drawn = base.sample(4000, generator=seeded_generator(1))
    side = (drawn[:, 0] / 5).round()
    for place, weight in ((-1, 0.2), (0, 0.3), (1, 0.5)):
        assert_z((side == place).double(), weight)
    # Neighbours are independent.
    centered = side.double() - 0.3
    assert_z(centered[1:] * centered[:-1], 0.0)
    assert base.sample(0).shape == (0, 2)


def test_a_row_that_one_member_gives_nothing_has_the_density_of_the_others():
    far = torch.tensor([[1e30, 0.0]])
    base = BlendedBase([at(0.0), bent_flow(2)], torch.tensor([0.5, 0.5]))
    assert float(base.log_prob(far)) == -torch.inf
    x = torch.tensor([[40.0, 0.0]])
    alone = bent_flow(2).log_prob(x.double())
    torch.testing.assert_close(base.log_prob(x.double()), alone + torch.tensor(0.5).double().log(), rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_average():
    base = blend(0.2, 0.3, 0.5)
    x = torch.randn(4, 2, generator=seeded_generator(2), dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(base.log_prob(x).sum(), x)
    for column in range(2):
        step = torch.zeros(2, dtype=torch.float64).index_fill(0, torch.tensor(column), 1e-5)
        slope = (base.log_prob(x + step) - base.log_prob(x - step)).detach() / 2e-5
        torch.testing.assert_close(gradient[:, column], slope, rtol=1e-5, atol=1e-6)


def test_the_tail_is_that_of_all_members():
    base = BlendedBase([at(0.0, scale=4.0), bent_flow(2)], torch.tensor([0.5, 0.5]))
    assert base.tail is Tail.QUADRATIC
    assert base.covariances().diagonal(dim1=1, dim2=2).tolist() == [[4.0, 4.0], [1.0, 1.0]]
    assert base.num_components == 2

    class Heavy(NoisedGaussianMixture):
        tail = Tail.UNKNOWN

    other = Heavy(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2))
    assert BlendedBase([at(0.0), other], torch.ones(2)).tail is Tail.UNKNOWN


def test_it_is_the_clean_part_of_a_layered_base_and_comes_back_from_its_state():
    base = LayeredBase(BlendedBase([at(1.0), bent_flow(2)], torch.tensor([0.4, 0.6])), at(1.0), 6.0)
    again = base_from_state(base.to_state())
    again.load_state_dict(base.state_dict())
    x = torch.randn(6, 2, generator=seeded_generator(3))
    for log_snr in (torch.tensor(6.0), torch.tensor(1.0)):
        assert torch.equal(again(x, log_snr), base(x, log_snr))
    assert isinstance(again, LayeredBase)
    assert isinstance(again.clean, BlendedBase)
    assert isinstance(again.clean.members[1], AutoregressiveFlow)
    drawn = base.sample_at(torch.tensor([6.0, 1.0, 6.0]), 3, generator=seeded_generator(4))
    assert drawn.shape == (3, 2)


def test_conditionals_are_those_of_the_members_by_the_density_of_what_is_observed():
    """Two Gaussians as one blend and as one mixture have the same marginals, and conditionals of the same moments."""
    means, weights = torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.tensor([0.3, 0.7])
    covariances = torch.tensor([[[1.0, 0.6], [0.6, 1.0]], [[0.5, 0.0], [0.0, 2.0]]])
    one = NoisedGaussianMixture(weights, means, covariances)
    members = [NoisedGaussianMixture(torch.ones(1), means[[k]], covariances[[k]]) for k in range(2)]
    law = BlendedBase(members, weights).conditional()
    x, is_missing = torch.tensor([[0.7, torch.nan], [torch.nan, 0.2]]), torch.tensor([[False, True], [True, False]])
    seen = torch.where(is_missing, 0.0, x)
    truth = one.conditional().observed_log_density(seen, is_missing)
    torch.testing.assert_close(law.observed_log_density(seen, is_missing), truth, rtol=0, atol=1e-6)
    drawn = law.sample(seen, is_missing, 20_000, generator=seeded_generator(5))
    axis = torch.linspace(-9, 9, 1001, dtype=torch.float64)
    for row, column in ((0, 1), (1, 0)):
        whole = seen[row].double().repeat(1001, 1)
        whole[:, column] = axis
        shares = one.log_prob(whole).softmax(0)
        assert_z(drawn[row, :, column], shares @ axis)
        assert_z(drawn[row, :, column].square(), shares @ axis.square())
        assert bool((drawn[row, :, 1 - column] == seen[row, 1 - column].double()).all())


def test_a_blend_with_a_flow_has_no_conditionals():
    with pytest.raises(NotImplementedError, match="no conditional in closed form"):
        BlendedBase([at(0.0), bent_flow(2)], torch.tensor([0.5, 0.5])).conditional()


def test_draws_are_quick_where_those_of_all_members_are():
    assert blend(1.0, 2.0, 5.0).has_quick_draws
    assert not BlendedBase([at(0.0), bent_flow(2)], torch.tensor([0.5, 0.5])).has_quick_draws


def test_precision_moves_with_the_module():
    base = BlendedBase([at(0.0), bent_flow(2)], torch.tensor([0.4, 0.6])).double()
    assert base.sample(3).dtype == torch.float64


@pytest.mark.parametrize("weights", [(0.5,), (0.5, 0.0), (0.5, -0.1), (0.5, float("nan"))])
def test_weights_that_are_no_weights_are_refused(weights):
    with pytest.raises(ValueError, match="a weight for each|positive weights"):
        BlendedBase([at(0.0), at(1.0)], torch.tensor(weights))


def test_members_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        BlendedBase([at(0.0), NoisedGaussianMixture.standard(3)], torch.ones(2))
    with pytest.raises(ValueError, match="one length"):
        BlendedBase([], torch.ones(0))
