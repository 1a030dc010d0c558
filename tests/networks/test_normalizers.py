"""Learned constants of the levels."""

import torch

from drl_density.networks import LogNormalizers, MeanNormalizers
from drl_density.testing import seeded_generator


def test_mean_constants_are_the_mean_of_the_members():
    members = [LogNormalizers(generator=seeded_generator(seed)) for seed in (0, 1)]
    for member in members:
        torch.nn.init.normal_(member.readout.weight, generator=seeded_generator(2))
    log_snr = torch.tensor([-3.0, 0.0, 3.0]).double()  # converted to the members' float32
    mean = MeanNormalizers(members)(log_snr)
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, (members[0](log_snr) + members[1](log_snr)) / 2)
    assert not torch.equal(members[0](log_snr), members[1](log_snr))
