"""The benchmarks of scale run at toy size; what they time is never asserted."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
import gpu
import plain_recovery_likelihood as plain

from drl_density import NoiseSchedule


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
