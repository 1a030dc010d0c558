"""Shares of a walk, and settings that are refused."""

import pytest
import torch

from drl_density.diffusion_sampler import DiffusionSamplerSettings


def test_decay_is_what_the_walk_forgets():
    for decay in (2.0, 6.0):
        shares = DiffusionSamplerSettings(num_steps=50, decay=decay).shares()
        # The schedule adds at most 0.25 to the decay so that no step stands still.
        assert decay < float(-torch.log1p(-shares).sum()) < decay + 0.3


def test_wrong_settings():
    with pytest.raises(ValueError, match="scale must be positive"):
        DiffusionSamplerSettings(scale=0.0)
    with pytest.raises(ValueError, match="expected updates"):
        DiffusionSamplerSettings(num_chain_updates=0)
    with pytest.raises(ValueError, match="num_restarts=2 needs chains"):
        DiffusionSamplerSettings(num_chain_updates=0, num_walk_updates=5, num_restarts=2)
    for name, value in (("num_chains", 1), ("num_states", 0), ("batch_size", 0)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            DiffusionSamplerSettings(**{name: value})
