"""The map of a teacher's probability flow, which a Gaussian teacher has in closed form."""

import pytest
import torch

import drl_density as drl
from drl_density.distillation import OneStepGenerator, WarmStartSettings, follow_flow
from drl_density.testing import gaussian_sequence, seeded_generator


def gaussian_teacher():
    return gaussian_sequence(
        torch.zeros(2), torch.diag(torch.tensor([0.5, 0.1])), drl.NoiseSchedule.log_spaced(8, sigma_max=0.9999)
    )


def linear_student():
    return OneStepGenerator(torch.nn.Linear(2, 2, dtype=torch.float64), 2)


def test_a_linear_student_learns_the_flow_of_a_gaussian():
    """From N(0, I) the flow of N(0, S) is the map by the root of level 0's covariance."""
    system, student = gaussian_teacher(), linear_student()
    settings = WarmStartSettings(num_steps=150, num_pairs=1000, num_flow_steps=30, learning_rate=0.05)
    losses = follow_flow(system.model, student, settings=settings, generator=seeded_generator(0))
    expected = system.components(0).covariance_matrix[0].sqrt()  # diagonal
    torch.testing.assert_close(student.network.weight.detach(), expected, rtol=0.01, atol=0.005)
    assert losses[-1] < 1e-3 < losses[0]


def test_no_steps_leave_the_student_and_latents_must_be_coordinates():
    system, student = gaussian_teacher(), linear_student()
    before = student.network.weight.detach().clone()
    assert follow_flow(system.model, student, settings=WarmStartSettings(num_steps=0)) == []
    assert torch.equal(student.network.weight, before)
    three = OneStepGenerator(torch.nn.Linear(3, 2, dtype=torch.float64), 3)
    with pytest.raises(ValueError, match="expected 2, got 3"):
        follow_flow(system.model, three)
