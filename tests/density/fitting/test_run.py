"""A fit killed at any moment goes on to the same bits; one that would go on with something else is refused."""

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


# The how-manieth write to the run folder does not come through: settings, then state and history at each evaluation, last
# weights, history and settings.
MOMENTS = {"settings": 0, "first history": 2}
LAST = {"weights": -3, "last settings": -1}


@pytest.mark.parametrize("moment", [*MOMENTS, "second member", *LAST])
def test_killed_at_any_write(moment, data, whole, tmp_path, monkeypatch):
    evaluations = whole.provenance.steps_done // SETTINGS.training.evaluate_every
    num_writes = 1 + 2 * evaluations + 3
    at = MOMENTS.get(moment, num_writes + LAST[moment] if moment in LAST else 2 * evaluations)
    count = iter(range(10**6))
    write = whole_files._write

    def killed(target, fill):
        if next(count) == at:
            target.with_name(f".{target.name}.ab12.half").write_text("half a file")
            raise Killed
        write(target, fill)

    monkeypatch.setattr(whole_files, "_write", killed)
    monkeypatch.setattr(training_folder, "HISTORY_SHARE", math.inf)  # the history is written at every evaluation
    with pytest.raises(Killed):
        drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", progress=False)
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match=r"not finished|holds no settings"):
        Density.load(tmp_path / "run")
    resumed = drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", resume=True, progress=False)
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
