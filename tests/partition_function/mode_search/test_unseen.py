"""The estimated share of unseen modes against a multinomial whose unseen share is known."""

import pytest
import torch

from drl_density.partition_function.mode_search.unseen import unseen_share


def test_it_estimates_the_unseen_share_of_a_known_multinomial():
    """Good's share has the mean of the true unseen share; ours lies above it by the one supposed search in 101."""
    generator = torch.Generator().manual_seed(0)
    shares = (torch.arange(1, 61).double() ** -1.0) / (torch.arange(1, 61).double() ** -1.0).sum()
    estimated, true = [], []
    for _ in range(400):
        hits = torch.bincount(torch.multinomial(shares, 100, replacement=True, generator=generator), minlength=60)
        estimated.append(unseen_share(hits[hits > 0].tolist()))
        true.append(float(shares[hits == 0].sum()))
    estimated, true = torch.tensor(estimated), torch.tensor(true)
    error = float((estimated - true).std() / 20)
    assert abs(float(estimated.mean() - true.mean()) - 1 / 101) < 4 * error + 1 / 101 * 0.2


@pytest.mark.parametrize(("hits", "share"), [([], 1.0), ([1], 1.0), ([99], 0.01), ([40, 40, 19], 0.01), ([1] * 9, 1.0)])
def test_few_searches_never_give_a_small_share(hits, share):
    assert unseen_share(hits) == pytest.approx(share)
