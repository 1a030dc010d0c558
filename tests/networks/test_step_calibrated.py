"""Calibration by the step size: scales applied once, log Z of both coordinates, refusals."""

import math

import pytest
import torch
from torch import nn

from drl_density import NoiseSchedule
from drl_density.networks import (
    StepCalibrated,
)


class Quadratic(nn.Module):
    has_bounded_growth = True

    def forward(self, y, log_snr):
        return -0.5 * y.square().flatten(1).sum(1)


def calibrated(raw, *, factor=2e-4):
    schedule = NoiseSchedule.linear_beta()
    return schedule, StepCalibrated(raw, schedule.log_snr[:-1], *schedule.langevin_steps(factor))


def test_calibration_divides_once_and_scales_the_input():
    schedule, wrapped = calibrated(Quadratic())
    step_alpha, step_size = schedule.langevin_steps()
    x = torch.randn(3, 5, dtype=torch.float64)
    for level in range(6):
        log_snr = schedule.log_snr_at(level)
        y = step_alpha[level] * x
        expected = -0.5 * y.square().sum(1) / step_size[level] ** 2
        assert torch.allclose(wrapped(x, log_snr), expected, rtol=1e-12)
        assert torch.allclose(wrapped(x, log_snr.expand(3)), expected, rtol=1e-12)
    half = wrapped.step_size_at(schedule.log_snr_at(0.5))
    assert float(half) == pytest.approx(float((step_size[0] * step_size[1]).sqrt()), rel=1e-12)


def test_log_z_over_x_differs_from_log_z_over_y_by_the_jacobian():
    """Both are Gaussian integrals: precision a^2 / s^2 over x, 1 / s^2 over y; at level 4 and d = 3072 it is 1400 nats."""
    schedule, wrapped = calibrated(Quadratic())
    step_alpha, step_size = schedule.langevin_steps()
    num_features = 3072
    for level in range(6):
        log_z_y = 0.5 * num_features * math.log(2 * math.pi * float(step_size[level]) ** 2)
        log_z_x = 0.5 * num_features * math.log(2 * math.pi * float(step_size[level] / step_alpha[level]) ** 2)
        offset = float(wrapped.log_z_offset(schedule.log_snr_at(level), num_features))
        assert offset == pytest.approx(log_z_x - log_z_y, abs=1e-8)
    assert float(wrapped.log_z_offset(schedule.log_snr_at(4), num_features)) == pytest.approx(1400, abs=1)
    assert float(wrapped.log_z_offset(schedule.log_snr_at(5), num_features)) == 0


def test_calibration_refuses_nonsense():
    with pytest.raises(ValueError, match="one log-SNR, a and s per level"):
        StepCalibrated(Quadratic(), torch.zeros(3), torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="positive"):
        StepCalibrated(Quadratic(), torch.zeros(1), torch.ones(1), torch.zeros(1))
    with pytest.raises(ValueError, match="b\\^2"):
        NoiseSchedule.linear_beta().langevin_steps(0.0)
