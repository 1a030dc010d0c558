"""Presets: every number with its source, and the numbers of the papers."""

import json
import math

import pytest

import drl_density as drl
from drl_density.density.settings.presets import PRESETS, Number, Preset, find_preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_has_a_source_and_a_place(name):
    preset = PRESETS[name]
    settings = drl.FitSettings.preset(name)
    plain = settings.to_dict()
    for path, number in preset.numbers.items():
        assert len(number.source) > 8, path
        value = plain
        for part in path.split("."):
            value = value[part]
        assert value == number.value, path
    assert drl.FitSettings.from_dict(json.loads(json.dumps(plain))) == settings
    assert name in preset.describe()


# What the papers' releases say: blocks, batch, beta_1, K, b^2, side, clip, average; T1k has no chains.
PAPERS = {
    "cifar10": (8, 256, 0.9, 30, 2e-4, 32, math.inf, 0.999),
    "celeba64": (6, 128, 0.5, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_church64": (2, 128, 0.9, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_bedroom64": (2, 128, 0.9, 30, 2e-4, 64, math.inf, 0.999),
    "lsun_church128": (2, 64, 0.5, 30, 2e-4, 128, math.inf, 0.999),
    "lsun_bedroom128": (5, 64, 0.5, 30, 2e-4, 128, math.inf, 0.999),
    "cifar10_t1k": (8, 256, 0.9, 0, 2e-4, 32, math.inf, 0.999),
    "cifar10_cdrl": (8, 256, 0.9, 15, 4e-4, 32, 1.0, 0.9999),
    "imagenet32_cdrl": (8, 256, 0.9, 15, 4e-4, 32, 1.0, 0.9999),
    "celeba64_cdrl": (8, 256, 0.9, 15, 4e-4, 64, 1.0, 0.9999),
}


MULTIPLIERS = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4), 128: (1, 2, 2, 2, 4, 4)}


THOUSAND = drl.NoiseSchedule.linear_beta(range(1000))


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_numbers(name):
    settings = drl.FitSettings.preset(name)
    network, objective, training = settings.network, settings.objective, settings.training
    is_normal = name == "cifar10_t1k"
    found = (
        network.num_blocks,
        training.batch_size,
        training.first_moment_decay,
        0 if is_normal else objective.num_chain_steps,
        objective.langevin_factor,
        network.shape[1],
        training.max_gradient_norm,
        training.average_decay,
    )
    assert found == PAPERS[name]
    assert (training.rate(10**5), training.second_moment_decay) == (1e-4, 0.999)
    warmup = 10_000 if name.endswith("cdrl") else 1000
    assert training.rate(warmup // 2 - 1) == pytest.approx(0.5e-4)
    assert objective.classification_weight == 0
    assert settings.base == "quadratic"
    assert settings.selection == "last"
    is_cooperative = name.endswith("cdrl")
    six = drl.NoiseSchedule.cosine(6) if is_cooperative else drl.NoiseSchedule.linear_beta()
    assert settings.schedule.noise_schedule() == (THOUSAND if is_normal else six)
    kind = "normal" if is_normal else "cooperative" if is_cooperative else "langevin"
    assert (objective.kind, is_normal or objective.kernel == "ula") == (kind, True)
    assert (network.kind, network.num_channels, network.multipliers) == (
        "residual",
        128,
        MULTIPLIERS[network.shape[1]],
    )
    assert (network.is_normalized, network.activation, network.starts_at_zero) == (True, "leaky_relu", False)
    assert (network.is_step_calibrated, network.has_level_index) == (True, not is_cooperative)
    assert network.flips
    if is_cooperative:
        assert (objective.initializer_channels, objective.initializer_rate) == (64, pytest.approx(1e-5 / 1e-4))
    if name != "celeba64_cdrl":  # no source states its length
        assert training.num_steps == (400_000 if name == "cifar10_cdrl" else 1_000_000)


def test_values_are_nested_by_their_paths():
    numbers = {"objective.kind": Number("normal", "paper"), "num_particles": Number(3, "ours")}
    preset = Preset("small", "small images", (1, 2, 3), numbers, "A note.")
    assert preset.values() == {"network": {"shape": (1, 2, 3)}, "objective": {"kind": "normal"}, "num_particles": 3}
    assert preset.describe().splitlines() == [
        "preset small: small images",
        "  objective.kind  'normal'               paper",
        "  num_particles   3                      ours",
        "  A note.",
    ]


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="preset must be one of cifar10, .*, images, got 'cifar'"):
        drl.FitSettings.preset("cifar")
    assert find_preset("digits") is PRESETS["digits"]
