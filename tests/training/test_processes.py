"""Shards, processes, kills: the same gradient, the same curve, the same bits, and a clear word when a process is lost."""

import os
import random
import signal
import subprocess
import sys

import pytest
import torch

from drl_density import TrainingSettings, fit
from drl_density.errors import NumericalError, RunFolderError
from drl_density.parallel import Workers
from drl_density.run_folder import RunFolder
from drl_density.training.gradient_step import gradient_step
from drl_density.training.objectives.objective import LevelStatistics, ObjectiveValue
from tests.training import two_mode_run
from tests.training.pairs import ROOT, start_pair
from tests.training.two_mode_run import STATE, draw, first_gradient, fresh, run


def saved(folder, name=STATE):
    return RunFolder.open(folder).read_tensors(name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair") / "run"
    first, second = start_pair("two_mode_run", folder, "--then-lose")
    assert (first.wait(240), second.wait(60)) == (0, -signal.SIGKILL)
    return folder


class RowMeans:
    """A loss without noise of its own: the mean of F at level 1 over the rows."""

    kernel = two_mode_run.OBJECTIVE.kernel

    def __call__(self, model, x, step_sizes, *, generator):
        loss = model.eval().log_density(x, 1).mean()
        levels = torch.full((model.num_levels,), float(x.mean()))
        levels[0] = torch.nan if float(x[0, 0]) > 10 else 0.5
        return ObjectiveValue(loss, {"mean": loss.detach()}, LevelStatistics(levels, levels, levels))


def test_shards_add_up_to_the_joint_batch():
    """With the rows cut in four and no other noise, gradients and means are those of one pass over the joint batch."""
    rows = draw(64, torch.Generator().manual_seed(3)).double()
    rows[16] = 11.0
    results = []
    for num_shards in (1, 4):
        state, parts = fresh(), iter(rows.split(64 // num_shards))
        state.model.double()
        torch.nn.init.normal_(state.model.network.readout.weight, generator=torch.Generator().manual_seed(0))
        settings = TrainingSettings(batch_size=64, num_shards=num_shards, max_gradient_norm=float("inf"))
        value, norm = gradient_step(state, RowMeans(), lambda n, g, parts=parts: next(parts), settings, Workers())
        results.append((value, norm, [p.grad for p in state.model.parameters() if p.grad is not None]))
    (whole, norm, gradients), (cut, cut_norm, added) = results
    # float64 sums of 64 rows in another order: at most 64 rounding errors.
    bound = {"rtol": 64 * 2.3e-16, "atol": 64 * 2.3e-16}
    assert torch.allclose(whole.loss, cut.loss, **bound)
    assert norm == pytest.approx(cut_norm, rel=1e-12)
    for one, other in zip(gradients, added, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=float(one.abs().max()) * 1e-13)
    assert cut.statistics.energy_gap[1] == pytest.approx(float(rows.mean()), rel=1e-6)
    assert cut.statistics.energy_gap[0] == 0.5


def test_two_processes_take_the_gradient_of_one(pair):
    found, _ = saved(pair, "gradient.safetensors")
    wanted = first_gradient(Workers())
    largest = max(float(value.abs().max()) for value in wanted.values())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert float((found[name] - value).abs().max()) <= 1e-6 * largest, name


def test_two_processes_draw_the_curve_of_one(alone, pair):
    curves = [saved(folder)[1]["history"] for folder in (alone, pair)]
    assert [record["step"] for record in curves[0]] == [10, 20, 30, 40]
    for one, other in zip(*curves, strict=True):
        for name in ("loss", "validation_loss", "gradient_norm", "energy_gap", "step_size"):
            assert torch.allclose(torch.tensor(one[name]), torch.tensor(other[name]), rtol=1e-5, atol=1e-5), name


def test_a_run_goes_on_with_another_number_of_processes(pair, tmp_path):
    """The pair's state of step 20, gone on with by one process, draws the pair's curve."""
    store = RunFolder.create(tmp_path / "run")
    store.write_json("settings.json", {"stage": "training"})
    store.write_tensors(STATE, *saved(pair, "step_20.safetensors"))
    state = run(tmp_path / "run")
    wanted = saved(pair)[1]["history"]
    assert state.history[:2] == wanted[:2]
    for one, other in zip(state.history, wanted, strict=True):
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-5)


def test_a_run_begun_by_one_process_goes_on_with_two(alone, tmp_path):
    """The state of step 20 of one process with four shards, gone on with by a pair, draws the curve of one."""
    store = RunFolder.create(tmp_path / "run")
    store.write_json("settings.json", {"stage": "training"})
    store.write_tensors(STATE, *saved(alone, "step_20.safetensors"))
    assert [process.wait(240) for process in start_pair("two_mode_run", tmp_path / "run")] == [0, 0]
    assert not (tmp_path / "run" / "step_10.safetensors").exists()
    found, wanted = (saved(folder)[1]["history"] for folder in (tmp_path / "run", alone))
    assert found[:2] == wanted[:2]
    assert [record["step"] for record in found] == [10, 20, 30, 40]
    for one, other in zip(found, wanted, strict=True):
        for name in ("loss", "validation_loss", "gradient_norm", "energy_gap", "step_size"):
            assert torch.allclose(torch.tensor(one[name]), torch.tensor(other[name]), rtol=1e-5, atol=1e-5), name


def test_a_lost_process_is_said(pair):
    words = (pair / "lost.txt").read_text()
    assert "another process of this run has stopped" in words
    assert "start the same command again" in words


@pytest.mark.slow
def test_torchrun_starts_again_after_kills(pair, tmp_path):
    """SIGKILL takes process 1 at a random step, then process 0; torchrun starts both anew each time, and weights and
    history end with the bits of the undisturbed pair.
    """
    moments = random.Random(0)
    kills = [f"1:{moments.randint(5, 25)}", f"0:{moments.randint(3, 12)}"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command += ["-m", "tests.training.two_mode_run", str(tmp_path / "run"), "--kill", *kills]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("exitcode: -9") >= 2, done.stderr[-3000:]
    (tensors, scalars), (wanted, other) = saved(tmp_path / "run"), saved(pair)
    assert scalars == other
    assert all(torch.equal(tensors[name], value) for name, value in wanted.items())


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


def test_a_fit_of_several_processes_needs_a_folder(tiny_data, monkeypatch):
    monkeypatch.setattr(Workers, "current", classmethod(lambda cls: cls(0, 2)))
    with pytest.raises(RunFolderError, match="2 processes hand their density on through a run folder"):
        fit(tiny_data, progress=False)
