"""Training in two processes: the gradient and curve of one, kills, and clear errors."""

import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from drl_density import fit
from drl_density.errors import RunFolderError
from drl_density.parallel import Workers
from drl_density.run_folder import RunFolder
from tests.parallel.pairs import start_pair
from tests.processes import ROOT
from tests.training.two_mode_run import STATE, first_gradient, run, stand_at


def saved(folder, name=STATE):
    return RunFolder.open(folder).read_tensors(name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def pair(alone, tmp_path_factory):
    """A run of two processes, which then go on from step 10 of the run of one, beside it; at last one of them is lost."""
    folder = tmp_path_factory.mktemp("pair") / "run"
    stand_at(10, alone, folder.parent / "resumed")
    first, second = start_pair("tests.training.two_mode_run", folder, folder.parent / "resumed", "--then-lose")
    assert (first.wait(240), second.wait(60)) == (0, -signal.SIGKILL)
    return folder


def test_two_processes_take_the_gradient_of_one(pair):
    found, _ = saved(pair, "gradient.safetensors")
    wanted = first_gradient(Workers())
    largest = max(float(value.abs().max()) for value in wanted.values())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float((found[name] - value).abs().max()) <= 1e-6 * largest, name


def test_two_processes_draw_the_curve_of_one(alone, pair):
    curves = [saved(folder)[1]["history"] for folder in (alone, pair)]
    assert [record["step"] for record in curves[0]] == [5, 10, 15, 20]
    for one, other in zip(*curves, strict=True):
        for name in ("loss", "validation_loss", "gradient_norm", "energy_gap", "step_size"):
            assert torch.allclose(torch.tensor(one[name]), torch.tensor(other[name]), rtol=1e-5, atol=1e-5), name


def test_a_run_resumes_with_another_number_of_processes(pair, tmp_path):
    """The pair's state of step 10, resumed by one process, draws the pair's curve."""
    stand_at(10, pair, tmp_path / "run")
    state = run(tmp_path / "run")
    wanted = saved(pair)[1]["history"]
    assert state.history[:2] == wanted[:2]
    for one, other in zip(state.history, wanted, strict=True):
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-5)


def test_a_run_of_one_process_resumes_with_two(alone, pair):
    """The state of step 10 of one process with four shards, resumed by a pair, draws the curve of one."""
    resumed = pair.parent / "resumed"
    assert not (resumed / "step_5.safetensors").exists()
    found, wanted = (saved(folder)[1]["history"] for folder in (resumed, alone))
    assert found[:2] == wanted[:2]
    assert [record["step"] for record in found] == [5, 10, 15, 20]
    for one, other in zip(found, wanted, strict=True):
        for name in ("loss", "validation_loss", "gradient_norm", "energy_gap", "step_size"):
            assert torch.allclose(torch.tensor(one[name]), torch.tensor(other[name]), rtol=1e-5, atol=1e-5), name


def test_a_lost_process_is_reported(pair):
    words = (pair / "lost.txt").read_text()
    assert "another process of this run has stopped" in words
    assert "start the same command again" in words


@pytest.mark.slow
def test_torchrun_starts_again_after_kills(pair, tmp_path):
    """SIGKILL takes process 1 at a random step, then process 0; torchrun restarts both each time, and weights and
    history end with the bits of the undisturbed pair.
    """
    moments = random.Random(0)
    kills = [f"1:{moments.randint(3, 12)}", f"0:{moments.randint(2, 6)}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command += ["-m", "tests.training.two_mode_run", str(tmp_path / "run"), "--kill", *kills]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("exitcode: -9") >= 2, done.stderr[-3000:]
    (tensors, scalars), (wanted, other) = saved(tmp_path / "run"), saved(pair)
    assert scalars == other
    assert all(torch.equal(tensors[name], value) for name, value in wanted.items())


def test_a_fit_of_several_processes_needs_a_folder(tiny_data, monkeypatch):
    monkeypatch.setattr(Workers, "current", classmethod(lambda cls: cls(0, 2)))
    with pytest.raises(RunFolderError, match="2 processes pass their density on through a run folder"):
        fit(tiny_data, seed=0, progress=False)
