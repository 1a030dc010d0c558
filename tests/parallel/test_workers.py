"""Processes of one run: shards, gathering without pickle, and errors."""

import json

import pytest
import torch

from drl_density import TrainingSettings
from drl_density.errors import NumericalError, WorkerLost
from drl_density.parallel import Workers, joined_workers, num_restarts
from drl_density.parallel.workers import communication
from tests.parallel import gather_run
from tests.parallel.pairs import start_pair


class Elsewhere(Workers):
    """Another process that holds other weights."""

    def add_up(self, *tensors):
        for tensor in tensors:
            tensor += torch.tensor([0.0, 1.0])


def test_processes_that_drift_apart_are_reported():
    with pytest.raises(NumericalError, match="at step 7 the processes hold different weights"):
        Elsewhere(0, 2).check_agreement(iter([torch.zeros(3)]), step=7)


def test_bad_shards():
    with pytest.raises(ValueError, match="num_shards must divide batch_size"):
        TrainingSettings(batch_size=10, num_shards=3)
    with pytest.raises(ValueError, match="3 processes need at least as many shards"):
        Workers(0, 3).own_shards(2)
    assert [list(Workers(rank, 2).own_shards(5)) for rank in (0, 1)] == [[0, 1], [2, 3, 4]]


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    assert [process.wait(240) for process in start_pair("tests.parallel.gather_run", folder, is_sharded=True)] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_every_process_gets_the_values_and_tensors_of_all(exchanged):
    for found in exchanged:
        for rank in range(2):
            values, tensors = gather_run.own_values(rank)
            assert found["values"][rank] == values
            assert found["tensors"][rank] == {name: tensor.tolist() for name, tensor in tensors.items()}
            assert found["dtypes"][rank] == {name: str(tensor.dtype) for name, tensor in tensors.items()}
        assert found["last"] == gather_run.own_values(1)[0]


def test_nothing_is_pickled_where_annealing_and_training_exchange_what_they_have(exchanged, tmp_path):
    """With every pickle function raising, two processes anneal to the bits of one and train to its weights."""
    annealed, trained = gather_run.annealed(), gather_run.trained(tmp_path / "run")
    for found in exchanged:
        assert found["is_caught"]  # the guard sees torch's own pickling
        assert torch.equal(torch.tensor(found["annealed"], dtype=annealed.dtype), annealed)
        # Sums of gradients in another order, through ten steps of AdamW at rate 3e-3.
        assert torch.allclose(torch.tensor(found["trained"]), trained, rtol=1e-4, atol=1e-5)


def test_one_process_gathers_what_it_has():
    values, tensors = gather_run.own_values(1)
    assert Workers().gather(values) == [values]
    assert Workers().broadcast(values) == values
    assert Workers().gather_tensors(tensors) == [tensors]


def test_communication_errors_are_raised_as_a_lost_worker():
    with pytest.raises(WorkerLost, match="start the same command again") as caught, communication():
        raise RuntimeError("Connection closed by peer\nmore")
    assert "(Connection closed by peer)" in str(caught.value)


def test_without_torchrun_this_process_works_alone():
    with joined_workers() as workers:
        assert workers == Workers() == Workers.current()
    assert num_restarts() == 0


def test_the_number_of_restarts_is_that_of_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert num_restarts() == 2
