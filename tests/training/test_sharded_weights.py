"""Weights sharded over two processes: the steps of one process, a share of the memory, and clear errors."""

import pytest
import torch

from drl_density import FitSettings, LogSpacedSchedule, ResidualNetwork, TrainingSettings, load_dataset
from drl_density.density.fitting.forecast import footprint
from drl_density.density.fitting.plan import plan_fit
from drl_density.parallel import Workers
from drl_density.run_folder import RunFolder
from drl_density.testing import seeded_generator
from drl_density.training import sharded_weights
from drl_density.training.sharded_weights import shard_weights
from tests.parallel.pairs import start_pair
from tests.training.sharded_run import CASES, steps
from tests.training.two_mode_run import STATE, fresh, run, stand_at

MODULE = "tests.training.two_mode_run"


@pytest.fixture(autouse=True)
def one_thread():
    """As the processes of a pair have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one pair of processes left: gradient steps of every case, a run, and a run resumed from its step 10."""
    folder = tmp_path_factory.mktemp("sharded")
    names = [folder / name for name in ("cases", "pair", "resumed")]
    assert [process.wait(400) for process in start_pair("tests.training.sharded_run", *names, is_sharded=True)] == [0, 0]
    return folder


@pytest.fixture(scope="module")
def sharded(folders):
    return RunFolder.open(folders / "cases")


@pytest.mark.parametrize("name", CASES)
def test_sharded_weights_take_the_steps_of_one_process(name, sharded):
    """Gradients to 1e-6 of the largest, then two steps of weights, averages and moments, for all objectives."""
    wanted, kept_whole = steps(name, Workers())
    found, scalars = sharded.read_tensors(f"{name}.safetensors")
    assert found.keys() == wanted.keys()
    gradients = [key for key in wanted if key.startswith("gradient.")]
    largest = max(float(wanted[key].abs().max()) for key in gradients)
    assert largest > 0
    for key in gradients:
        assert float((found[key] - wanted[key]).abs().max()) <= 1e-6 * largest, key
    assert float(found["norm"]) == pytest.approx(float(wanted["norm"]), rel=1e-5)
    for key in wanted.keys() - gradients:
        # Steps of AdamW are of the size of the rate, 1e-3, wherever gradients are not zero.
        assert torch.allclose(found[key].double(), wanted[key].double(), rtol=1e-4, atol=1e-5), key
    # Spectral norms' vectors and a few odd rows are all that is not halved.
    assert 0.5 * kept_whole <= scalars["kept"] < 0.56 * kept_whole


@pytest.fixture(scope="module")
def pair(folders):
    return folders / "pair"


def saved(folder, name=STATE):
    return RunFolder.open(folder).read_tensors(name)


def test_the_loop_draws_the_curve_of_one_process_and_saves_whole_weights(pair, tmp_path):
    """Evaluations, averages, the best state and what is saved are those of one process up to rounding."""
    run(tmp_path / "alone")
    (found, scalars), (wanted, others) = saved(pair), saved(tmp_path / "alone")
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}
    for one, other in zip(scalars["history"], others["history"], strict=True):
        for name in ("loss", "validation_loss", "gradient_norm", "energy_gap", "step_size", "spurious_gap"):
            assert torch.allclose(torch.tensor(one[name]), torch.tensor(other[name]), rtol=1e-5, atol=1e-5), name
    for key, value in wanted.items():
        assert torch.allclose(found[key].double(), value.double(), rtol=1e-4, atol=1e-5), key


def test_what_sharded_weights_saved_resumes_unsharded_and_sharded(folders, pair, tmp_path):
    """From step 10, by one process and by a pair that shards once more, to the pair's own curve."""
    wanted, resumed = saved(pair)[1]["history"], folders / "resumed"
    stand_at(10, pair, tmp_path / "whole")
    run(tmp_path / "whole")
    assert not (resumed / "step_5.safetensors").exists()
    for folder in (tmp_path / "whole", resumed):
        history = saved(folder)[1]["history"]
        assert [record["step"] for record in history] == [5, 10, 15, 20]
        for one, other in zip(history, wanted, strict=True):
            assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-5)
    assert saved(resumed)[1] == saved(pair)[1]
    assert all(torch.equal(saved(resumed)[0][key], value) for key, value in saved(pair)[0].items())


def test_a_process_lost_in_a_step_of_sharded_weights_is_reported(tmp_path):
    """Process 1 dies in the midst of a step; process 0 ends with the words, not with those of the network."""
    with (tmp_path / "words.txt").open("w") as file:
        options = ["--sharded", "--kill", "1:7"]
        first, second = start_pair(MODULE, tmp_path / "run", *options, stderr=file, is_sharded=True)
        assert (first.wait(240), second.wait(60)) == (1, -9)
    words = (tmp_path / "words.txt").read_text()
    assert "WorkerLost: another process of this run has stopped" in words
    assert (tmp_path / "run" / "step_5.safetensors").is_file()


def test_what_cannot_be_sharded_is_not_reported_as_a_lost_process(monkeypatch):
    def refused(_):
        raise NotImplementedError("FSDP does not support non-contiguous parameters")

    monkeypatch.setattr(sharded_weights, "_shard", refused)
    with pytest.raises(NotImplementedError, match="non-contiguous"):
        shard_weights(fresh())


def test_the_memory_estimate_counts_sharded_weights(monkeypatch):
    def bytes_of(**training):
        settings = FitSettings(
            network=ResidualNetwork(num_channels=4),
            schedule=LogSpacedSchedule(num_levels=3),
            base="gaussian",
            training=TrainingSettings(num_shards=8, **training),
        )
        return footprint(plan_fit(pictures, settings))

    pictures = load_dataset(torch.randint(256, (100, 8, 8), generator=seeded_generator(0)).to(torch.uint8).numpy())

    alone = bytes_of(has_sharded_weights=True)
    monkeypatch.setenv("WORLD_SIZE", "8")
    replicated, sharded = bytes_of(), bytes_of(has_sharded_weights=True)
    assert alone.weight_bytes == replicated.weight_bytes == 4 * 16 * alone.num_parameters
    assert sharded.weight_bytes == int(4 * (2 + 15 / 8 + 5) * alone.num_parameters)
    assert sharded.activation_bytes == replicated.activation_bytes
