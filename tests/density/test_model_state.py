"""Sequences as plain values: the same modules are built again, and others are refused."""

import json

import pytest
import torch

import drl_density as drl
from drl_density.bases import NoisedGaussianMixture, QuadraticBase
from drl_density.density.ensemble import join
from drl_density.density.model_state import (
    image_network_from_values,
    image_network_to_values,
    members_from_values,
    members_to_values,
)
from drl_density.networks import (
    MLP,
    Ensemble,
    LabelSum,
    MLPSettings,
    ResidualEnergy,
    ResidualSettings,
    StepCalibrated,
    UNet,
    UNetEnergy,
    UNetEnergySettings,
    UNetSettings,
)

SCHEDULE = drl.NoiseSchedule.linear_beta()
SHAPE = (1, 4, 4)


def residual(**given):
    return ResidualEnergy(ResidualSettings(SHAPE, num_channels=4, multipliers=(1,), starts_at_zero=False, **given))


def calibrated():
    alpha, step = SCHEDULE.langevin_steps()
    return StepCalibrated(residual(), SCHEDULE.log_snr[:-1], alpha, step)


NETWORKS = {
    "residual": residual,
    "unet": lambda: UNet(UNetSettings(SHAPE, num_channels=4, multipliers=(1,), num_blocks=1)),
    "unet_energy": lambda: UNetEnergy(UNetEnergySettings(SHAPE, num_channels=4, multipliers=(1,), num_blocks=1)),
    "calibrated": calibrated,
    "labelled": lambda: LabelSum(residual(num_classes=3), (2, 0), (1.5, -0.5)),
}


def through_json(values):
    return json.loads(json.dumps(values))


def filled(network):
    """The network with no weight at zero, so that every weight shows in the output."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_over_images_comes_back(name):
    network = filled(NETWORKS[name]())
    values = image_network_to_values(network)
    again = image_network_from_values(through_json(values)).eval()
    assert type(again) is type(network)
    assert image_network_to_values(again) == values
    x, log_snr = torch.randn(3, 16), SCHEDULE.log_snr[1].float().expand(3)
    before = again(x, log_snr)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x, log_snr), network(x, log_snr))
    assert not torch.equal(before, network(x, log_snr))


@pytest.mark.parametrize("has_initializer", [False, True])
def test_a_sequence_comes_back_with_its_base_and_initialiser(has_initializer):
    initializer = NETWORKS["unet"]() if has_initializer else None
    model = drl.EnergySequence(SCHEDULE, calibrated(), (16,), base=QuadraticBase(16, 1.0), initializer=initializer)
    filled(model.network)
    again = members_from_values(through_json(members_to_values(model)), SCHEDULE)
    again.load_state_dict(model.state_dict())
    x = torch.randn(5, 16)
    assert torch.equal(again.log_density(x, 2), model.log_density(x, 2))
    assert (again.initializer is not None) == has_initializer
    assert members_to_values(again) == members_to_values(model)


def test_members_of_an_average_come_back_in_their_order():
    models = []
    for width, center in ((8, 0.0), (12, 1.0)):
        base = NoisedGaussianMixture(torch.ones(1), torch.full((1, 3), center), torch.eye(3)[None])
        models.append(drl.EnergySequence(SCHEDULE, filled(MLP(MLPSettings(3, width=width))), (3,), base=base))
    joined = join(models)
    values = through_json(members_to_values(joined))
    assert [member["network"]["width"] for member in values["members"]] == [8, 12]
    again = members_from_values(values, SCHEDULE)
    again.load_state_dict(joined.state_dict())
    x = torch.randn(7, 3)
    assert torch.equal(again.log_density(x, 1), joined.log_density(x, 1))


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match="a Linear cannot be saved; known are unet, unet_energy, residual, and an MLP"):
        image_network_to_values(torch.nn.Linear(2, 1))
    network = MLP(MLPSettings(3, width=8))
    with pytest.raises(TypeError, match="without a fixed base cannot be saved"):
        members_to_values(drl.EnergySequence(SCHEDULE, network, (3,), has_base=False))
    bare = drl.EnergySequence(SCHEDULE, Ensemble([network]), (3,), has_base=False)
    with pytest.raises(TypeError, match="members of an average are a base with a network, got MLP"):
        members_to_values(bare)
