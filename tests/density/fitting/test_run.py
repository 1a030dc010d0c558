"""A fit killed at any moment goes on to the same bits; one that would go on with something else is refused."""

import functools
import math
import os
import signal
import time

import pytest
import torch

import drl_density as drl
from drl_density.density import Density
from drl_density.density.storage import training_folder
from drl_density.errors import RunFolderError
from drl_density.run_folder import RunFolder, whole_files
from tests.processes import start

pytestmark = pytest.mark.usefixtures("short_paths")

# Two members, of which one stops early: a resumed run must not train it further.
SETTINGS = drl.FitSettings(
    base="gaussian",
    objective=drl.AdjustedObjective(num_chain_steps=1),
    network=drl.MLPNetwork(width=8, num_blocks=1, num_fourier_features=4),
    schedule=drl.LogSpacedSchedule(num_levels=3),
    num_networks=2,
    num_particles=16,
    num_pool_draws=20,
    training=drl.TrainingSettings(num_steps=30, batch_size=16, evaluate_every=10, patience=1),
)


class Killed(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@pytest.fixture(scope="module")
def data():
    return drl.load_dataset("banana", seed=0, num_rows=200)


@pytest.fixture(scope="module")
def whole(data):
    return drl.fit(data, seed=0, settings=SETTINGS, progress=False)


def assert_same_bits(density, other):
    for name, value in other.model.state_dict().items():
        assert torch.equal(value, density.model.state_dict()[name]), name
    assert density.estimate.log_z == other.estimate.log_z
    assert torch.equal(density.pool, other.pool)
    assert density.provenance.best_step == other.provenance.best_step
    assert density.provenance.steps_done == other.provenance.steps_done


def test_a_member_stops_early(whole):
    """What the moments below rely on: fewer steps than asked for."""
    assert whole.provenance.steps_done < 2 * SETTINGS.training.num_steps


# A run writes settings, then state and history at each evaluation, last weights, history and settings. Each start of it is
# killed at the write of a file so many of which came through before.
KILLS = {
    "settings": ("settings.json", lambda evaluations: 0),
    "first history": ("history.nc", lambda evaluations: 0),
    "second member": ("history.nc", lambda evaluations: evaluations - 2),  # the first is there already
    "weights": ("weights.safetensors", lambda evaluations: 0),
    "last settings": ("settings.json", lambda evaluations: 0),
}


def test_killed_at_any_write(data, whole, tmp_path, monkeypatch):
    """One run that is killed at one write after the other, and goes on from what is in its folder each time."""
    evaluations = whole.provenance.steps_done // SETTINGS.training.evaluate_every
    fit = functools.partial(drl.fit, data, seed=0, settings=SETTINGS, out=tmp_path / "run", progress=False)
    monkeypatch.setattr(training_folder, "HISTORY_SHARE", math.inf)  # the history is written at every evaluation
    write = whole_files._write
    for moment, (name, number) in KILLS.items():
        left = [number(evaluations)]

        def killed(target, fill, name=name, left=left):
            if target.name == name:
                if left[0] == 0:
                    target.with_name(f".{target.name}.ab12.half").write_text("half a file")
                    raise Killed
                left[0] -= 1
            write(target, fill)

        with monkeypatch.context() as patch:
            patch.setattr(whole_files, "_write", killed)
            with pytest.raises(Killed):
                fit(resume=moment != "settings")
        with pytest.raises(RunFolderError, match=r"not finished|holds no settings"):
            Density.load(tmp_path / "run")
    resumed = fit(resume=True)
    assert_same_bits(resumed, whole)
    assert_same_bits(Density.load(tmp_path / "run"), whole)


PROGRAM = '''
import sys, time
import torch
import drl_density as drl
from drl_density.density.storage.training_folder import TrainingFolder
from tests.conftest import short_annealing
from tests.density.fitting.test_run import SETTINGS
torch.set_num_threads(int(sys.argv[2]))
saver, steps = TrainingFolder.saver, []

def waiting(self, name):
    """The saver of a run that goes no further than its third saved state."""
    save = saver(self, name)
    def wrapped(tensors, scalars):
        save(tensors, scalars)
        steps.append(scalars["step"])
        if len(steps) == 3:
            time.sleep(60)
    return wrapped

TrainingFolder.saver = waiting
data = drl.load_dataset("banana", seed=0, num_rows=200)
with short_annealing():
    drl.fit(data, seed=0, settings=SETTINGS, out=sys.argv[1], progress=False)
'''


def test_a_process_killed_outright(data, whole, tmp_path):
    """SIGKILL at whatever moment follows the first saved state."""
    out = tmp_path / "run"
    process = start(PROGRAM, out, torch.get_num_threads())
    while process.poll() is None and not RunFolder(out).state.exists():
        time.sleep(0.002)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert RunFolder(out).read_json("settings.json")["stage"] == "training"
    resumed = drl.fit(data, seed=0, settings=SETTINGS, out=out, resume=True, progress=False)
    assert_same_bits(resumed, whole)
    assert_same_bits(Density.load(out), whole)
