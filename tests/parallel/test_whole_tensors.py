"""Sharded tensors and plain ones: parts, wholes and errors of communication."""

import pytest
import torch

from drl_density.errors import WorkerLost
from drl_density.parallel import Workers
from drl_density.parallel.whole_tensors import (
    gathered_weights,
    is_sharded,
    local_part,
    whole,
    whole_tensors,
    whole_tensors_of_first,
)


def test_communication_errors_mean_a_lost_worker_and_others_keep_their_type():
    class Unit(torch.nn.Linear):
        def unshard(self):
            pass

        def reshard(self):
            pass

    lost = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer"
    for words, kind in ((lost, WorkerLost), ("modified by an inplace operation", RuntimeError)):
        with pytest.raises(kind) as caught, gathered_weights(Unit(1, 1)):
            raise RuntimeError(words)
        assert words in str(caught.value)
        assert type(caught.value) is kind


def test_a_plain_model_is_left_alone():
    weight = torch.nn.Linear(2, 1)
    with gathered_weights(weight):
        assert whole(weight.weight) is weight.weight
    assert not is_sharded(weight.weight)


def test_plain_tensors_are_whole_and_other_processes_keep_none():
    tensors = {"a": torch.arange(3.0)}
    assert whole_tensors(tensors) == tensors
    assert local_part(tensors["a"]) is tensors["a"]
    assert whole_tensors_of_first(tensors, Workers(0, 2)) == tensors
    assert whole_tensors_of_first(tensors, Workers(1, 2)) == {}
