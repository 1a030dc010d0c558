"""A fit killed at any moment goes on to the same bits; one that would go on with something else is refused."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import drl_density as drl
from drl_density.density import Density
from drl_density.density.fitting.plan import plan_fit
from drl_density.density.storage.training_folder import TrainingFolder
from drl_density.errors import RunFolderError
from drl_density.run_folder import RunFolder, whole_files

# Two members, of which one stops early: a resumed run must not train it further.
SETTINGS = drl.FitSettings(
    objective=drl.AdjustedObjective(num_chain_steps=1),
    network=drl.MLPNetwork(width=8, num_blocks=1, num_fourier_features=4),
    schedule=drl.LogSpacedSchedule(num_levels=3),
    num_networks=2,
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
    with pytest.raises(Killed):
        drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", progress=False)
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match=r"not finished|holds no settings"):
        Density.load(tmp_path / "run")
    resumed = drl.fit(data, seed=0, settings=SETTINGS, out=tmp_path / "run", resume=True, progress=False)
    assert_same_bits(resumed, whole)
    assert_same_bits(Density.load(tmp_path / "run"), whole)


PROGRAM = """
import sys
import drl_density as drl
from tests.density.fitting.test_run import SETTINGS
data = drl.load_dataset("banana", seed=0, num_rows=200)
print("ready", flush=True)
drl.fit(data, seed=0, settings=SETTINGS, out=sys.argv[1], progress=False)
"""


def test_a_process_killed_outright(data, whole, tmp_path):
    """SIGKILL at whatever moment follows the first saved state."""
    out = tmp_path / "run"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out)], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        while process.poll() is None and not RunFolder(out).state.exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    if RunFolder(out).read_json("settings.json")["stage"] == "training":
        resumed = drl.fit(data, seed=0, settings=SETTINGS, out=out, resume=True, progress=False)
        assert_same_bits(resumed, whole)
    assert_same_bits(Density.load(out), whole)


@pytest.fixture
def begun(data, tmp_path):
    """A run that was killed before its first step."""
    folder = TrainingFolder.prepare(tmp_path / "run", resume=False, force=False)
    folder.begin(data, plan_fit(data, SETTINGS, seed=0).settings, seed=0)
    folder.close()
    return tmp_path / "run"


def resumed(out, data, *, settings=SETTINGS, seed=0):
    return drl.fit(data, settings=settings, out=out, resume=True, seed=seed, progress=False)


def test_other_seeds_rows_and_settings_are_refused(begun, data):
    with pytest.raises(RunFolderError, match="begun with seed 0, now asked for 1"):
        resumed(begun, data, seed=1)
    with pytest.raises(RunFolderError, match="other rows"):
        resumed(begun, drl.load_dataset("banana", seed=1, num_rows=200))
    with pytest.raises(RunFolderError, match="other rows"):
        resumed(begun, dataclasses.replace(data, weights=torch.ones(len(data.train))))
    training = dataclasses.replace(SETTINGS.training, learning_rate=0.5)
    network = dataclasses.replace(SETTINGS.network, width=16)
    changed = dataclasses.replace(SETTINGS, network=network, training=training)
    with pytest.raises(
        RunFolderError,
        match="network.width was 8, now asked for 16; training.learning_rate was 0.002, now asked for 0.5",
    ):
        resumed(begun, data, settings=changed)


def test_a_damaged_beginning_is_refused(begun, data):
    values = RunFolder(begun).read_json("settings.json")
    del values["fit"]["training"]["num_steps"]
    values["fit"]["training"]["number_of_steps"] = 3
    RunFolder(begun).write_json("settings.json", values)
    with pytest.raises(RunFolderError, match="damaged or of another version"):
        resumed(begun, data)


def test_a_folder_that_is_not_there_is_not_resumed(data, tmp_path):
    with pytest.raises(RunFolderError, match="there is no run folder"):
        resumed(tmp_path / "typo", data)
