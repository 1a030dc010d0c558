"""Processes of one run: shards, gathering without pickle, and errors."""

import pytest
import torch

from drl_density import TrainingSettings
from drl_density.errors import NumericalError
from drl_density.parallel import Workers


class Elsewhere(Workers):
    """Another process that holds other weights."""

    def add_up(self, *tensors):
        for tensor in tensors:
            tensor += torch.tensor([0.0, 1.0])


def test_processes_that_drift_apart_are_said():
    with pytest.raises(NumericalError, match="at step 7 the processes hold different weights"):
        Elsewhere(0, 2).check_agreement(iter([torch.zeros(3)]), step=7)


def test_bad_shards():
    with pytest.raises(ValueError, match="num_shards must divide batch_size"):
        TrainingSettings(batch_size=10, num_shards=3)
    with pytest.raises(ValueError, match="3 processes need at least as many shards"):
        Workers(0, 3).own_shards(2)
    assert [list(Workers(rank, 2).own_shards(5)) for rank in (0, 1)] == [[0, 1], [2, 3, 4]]
