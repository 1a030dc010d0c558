"""The benchmarks of scale run at toy size; what they time is never asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gpu
import mnist_samples
import plain_recovery_likelihood as plain

import drl_density as drl
from drl_density import NoiseSchedule
from drl_density.sample_quality import ClassifierSettings, ImageClassifier, save_classifier
from tests.benchmarks.paper_scale import one_step
from tests.density.small_images import settings_for


@pytest.mark.slow
def test_gpu_benchmark_at_toy_size(capsys):
    (found,) = gpu.main(["--toy", "--batch", "4", "--steps", "1", "--rounds", "1", "--device", "cpu"])
    assert json.loads(capsys.readouterr().out) == found
    assert all(value > 0 for name, value in found.items() if isinstance(value, float))


def test_the_plain_loop_has_the_constants_of_the_schedule():
    """a, sigma, s, loss weight of all six levels, to float32."""
    a, sigma, step, weight, alpha, sigma_bar = plain.constants("cpu")
    schedule = NoiseSchedule.linear_beta()
    step_alpha, step_size = schedule.langevin_steps()
    for found, wanted in (
        (a, step_alpha),
        (sigma, schedule.step_sigma),
        (step, step_size),
        (weight, schedule.step_sigma[0] / schedule.step_sigma),
        (alpha, schedule.alpha),
        (sigma_bar, schedule.sigma),
    ):
        assert torch.allclose(found, wanted.float(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
@pytest.mark.parametrize("guidance", [None, 0.5])
def test_drawn_digits_are_judged_at_toy_size(guidance, tmp_path, capsys):
    """By a classifier of random weights: what is drawn, denoised, moved and written, not how good it is."""
    is_told = guidance is not None
    rows = torch.randint(256, (80, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    labels = {"y_train": np.arange(60) % 2, "y_test": np.arange(20) % 2} if is_told else {}
    np.savez(tmp_path / "rows.npz", x_train=rows[:60], x_test=rows[60:], **labels)
    look = ImageClassifier(ClassifierSettings((1, 8, 8), 3), generator=torch.Generator().manual_seed(1))
    classifier = save_classifier(look, tmp_path / "look.safetensors", name="random", test_accuracy=0.98)
    settings = settings_for("mnist_denoising", network={"num_classes": 2 * is_told})
    data = drl.load_dataset(tmp_path / "rows.npz", seed=0)
    drl.fit(data, seed=0, settings=settings, out=tmp_path / "run", progress=False)
    arguments = [str(tmp_path / "run"), str(tmp_path / "rows.npz"), "--classifier", str(classifier)]
    arguments += ["--guidance", str(guidance)] if is_told else []
    found = mnist_samples.main(
        [*arguments, "--samples", "16", "--steps", "3", "--chain-steps", "2", "--chains", "8", "--threads", "1"]
    )
    assert [line["source"] for line in found] == [
        "test images at level 0",
        "3 ancestral steps",
        "chains from data",
        "chains from noise",
    ]
    assert [line["samples"] for line in found] == [16, 16, 8, 8]
    assert all(0 <= line["confident"] <= 1 and 0 < line["class_entropy"] <= np.log(3) + 1e-6 for line in found)
    assert (tmp_path / "run" / "chains_from_noise.png").is_file()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")] == found


@pytest.mark.parametrize("name", ["cifar10", "cifar10_t1k", "cifar10_cdrl"])
def test_a_step_of_the_papers_presets_at_toy_size(name):
    """Time and memory of both steps, and days of the two steps of eight images that the settings have."""
    found = one_step(settings_for(name), 2, side=8)
    assert found["seconds"] > 0
    assert 0.01 < found["memory_gib"] < 64
    assert found["days"] == pytest.approx(found["seconds"] / 2 * 8 * 2 / 86_400)


def test_a_run_of_the_papers_size_is_started_under_torchrun(tmp_path):
    """By an interpreter that prints what it is to run."""
    stub = tmp_path / "python"
    stub.write_text('#!/bin/sh\necho "$@"\n')
    stub.chmod(0o755)
    script = Path(__file__).parents[1] / "benchmarks" / "paper_scale.sh"
    given = ["photos.npz", "runs/photos", "--preset", "cifar10"]
    names = os.environ | {"PYTHON": str(stub), "PROCESSES": "8", "DEVICE": "cpu"}
    words = subprocess.run(["bash", script, *given], env=names, capture_output=True, text=True, check=True).stdout.split()
    started = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "8", "--max-restarts", "3"]
    fit = ["-m", "drl_density.cli", "fit", "photos.npz", "--out", "runs/photos", "--device", "cpu", "--preset", "cifar10"]
    assert words == started + fit
