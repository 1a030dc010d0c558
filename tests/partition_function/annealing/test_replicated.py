"""Replicates counted off: the same bits alone, in two processes, and after an interruption."""

import json

import pyro.distributions as dist
import pytest
import torch

import drl_density as drl
from drl_density.errors import RunFolderError
from drl_density.partition_function import replicated_annealing
from drl_density.testing import assert_z
from tests.parallel.pairs import start_pair

SETTINGS = drl.AISSettings(num_particles=64, num_replicates=5, num_pilot_particles=64)
PROGRAM = """
import json, sys
import torch
from drl_density.partition_function import replicated_annealing
from tests.partition_function.annealing.test_replicated import SETTINGS, path

torch.set_num_threads(int(sys.argv[2]))
torch.distributed.init_process_group("gloo")
found = replicated_annealing(path(), seed=7, settings=SETTINGS)
with open(sys.argv[1] + f"/{torch.distributed.get_rank()}.json", "w") as out:
    json.dump(found.log_weights.tolist(), out)
torch.distributed.destroy_process_group()
"""


def path():
    base = dist.Normal(torch.zeros(3), 1.5).to_event(1)
    return drl.geometric_path(base, lambda x: -0.5 * (x**2).sum(-1) / 0.25 + 2.0, num_bridges=20)


@pytest.fixture(scope="module")
def alone():
    return replicated_annealing(path(), seed=7, settings=SETTINGS)


def test_the_estimate_is_right(alone):
    truth = 2.0 + 1.5 * float(torch.log(torch.tensor(2 * torch.pi * 0.25)))
    assert_z(alone.log_z, truth, alone.standard_error)


def test_two_processes_give_the_same_bits(alone, tmp_path):
    pair = start_pair(PROGRAM, tmp_path, torch.get_num_threads())
    assert [process.wait() for process in pair] == [0, 0]
    for rank in (0, 1):
        found = torch.tensor(json.loads((tmp_path / f"{rank}.json").read_text()), dtype=torch.float64)
        assert torch.equal(found, alone.log_weights)


def test_an_interrupted_run_goes_on_to_the_same_bits(alone, tmp_path):
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replicated_annealing(path(), seed=7, settings=SETTINGS, folder=tmp_path / "run", on_replicate=stop)
    assert len(list((tmp_path / "run").glob("replicate_*"))) == 3
    again = replicated_annealing(path(), seed=7, settings=SETTINGS, folder=tmp_path / "run")
    assert torch.equal(again.log_weights, alone.log_weights)
    assert lines[2].startswith("log Z = ")
    assert "ESS" in lines[2]


def test_a_folder_of_another_run_is_refused(tmp_path):
    replicated_annealing(path(), seed=7, settings=SETTINGS, folder=tmp_path / "run")
    with pytest.raises(RunFolderError, match="another seed"):
        replicated_annealing(path(), seed=8, settings=SETTINGS, folder=tmp_path / "run")
