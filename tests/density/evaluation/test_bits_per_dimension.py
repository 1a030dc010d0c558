"""Bits per dimension add up, refuse other schemes, and are unknown where log Z is."""

import dataclasses
import math

import pytest
import torch
import xarray as xr

import drl_density as drl
from drl_density.density import LikelihoodReport
from drl_density.density.data_units import freeze
from drl_density.density.evaluation.bits_per_dimension import bits_per_dimension
from drl_density.density.evaluation.evaluate import evaluate
from drl_density.density.fitting.table import prepare_table
from drl_density.errors import DataError
from drl_density.testing import GaussianMixtureSequence, assert_z, seeded_generator
from tests.density.closed_form import closed_form_density

D = 12


LOGS = torch.linspace(-3, 2, 50, dtype=torch.float64)


def found(**changes):
    arguments = {"log_z": (1.0, 0.9, 1.2), "num_features": D, **changes}
    return bits_per_dimension(LOGS, torch.full((50,), -D * math.log(256), dtype=torch.float64), **arguments)


def test_terms_add_up():
    """-(log p - log Z - d log 256) / (d log 2), and the ends by log Z."""
    result = found()
    wanted = -(float(LOGS.mean()) - 1.0 - D * math.log(256)) / (D * math.log(2))
    assert result.value == pytest.approx(wanted, rel=1e-12)
    assert result.interval()[0] == pytest.approx(wanted - 0.1 / (D * math.log(2)))
    assert result.interval()[1] == pytest.approx(wanted + 0.2 / (D * math.log(2)))
    assert dict(result.terms)["-log Jacobian from grey levels to model space"] == pytest.approx(8.0)
    assert result.sampling_error == pytest.approx(float(LOGS.std()) / math.sqrt(50) / (D * math.log(2)))
    audit = result.audit()
    assert all(name in audit for name, _ in result.terms)
    assert "grey levels 0..255, uniform" in audit


def test_noise_density_counts_and_schemes_do_not_mix():
    uniform, variational = found(), found(log_noise_density=torch.full((50,), 0.5))
    assert variational.value - uniform.value == pytest.approx(0.5 / (D * math.log(2)))
    assert uniform.compare(uniform) == 0.0
    for other in (variational, found(value_range=(0, 16)), found(num_features=D + 1)):
        with pytest.raises(DataError, match="different schemes do not compare"):
            uniform.compare(other)


def test_a_wide_interval_is_unknown():
    assert not found(log_z=(1.0, 0.5, 1.5)).is_known
    assert "unknown" in found(log_z=(1.0, 0.5, 1.5)).audit()
    assert not found(log_z=(1.0, -math.inf, 1.5)).is_known
    with pytest.raises(DataError, match="log Z as"):
        found(log_z=(1.0, 1.5, 2.0))


def report(declared):
    """A report of 50 rows with mean log Jacobian -d log 256 and log Z = 1 in [0.9, 1.2]."""
    values = (LOGS - 1.0 - D * math.log(256)).numpy()[None, None]
    tree = xr.DataTree.from_dict({"log_likelihood": xr.Dataset({"x": (("chain", "draw", "obs_id"), values)})})
    tree.attrs |= {"log_z": 1.0, "log_z_lower": 0.9, "log_z_upper": 1.2, "num_features": D, "scheme": "rows as given"}
    tree.attrs |= {"mean_log_jacobian": -D * math.log(256), "level_noise": 0.01, "declared_range": declared}
    return LikelihoodReport(tree)


def test_a_report_tells_its_bits():
    """The same number as from the parts, and as ``bits_per_dim``; other rows are refused."""
    result = report("0..255").bits()
    assert result.value == pytest.approx(found().value, rel=1e-12)
    assert result.value == pytest.approx(report("0..255").bits_per_dim, rel=1e-12)
    assert (result.value_range, result.level_noise) == ((0, 255), 0.01)
    with pytest.raises(DataError, match="whole numbers of one declared range.*rows as given"):
        report("").bits()


@pytest.mark.filterwarnings("ignore::drl_density.errors.DRLDensityWarning")
def test_rescaled_pixels_cost_the_logarithm_of_their_half_range():
    """-log2 p(x / 127.5 - 1) / d + log2 127.5 for a known p on [-1, 1], from 8-bit images to the report's bits."""
    corners = torch.tensor([0.4, -0.4, 0.4, -0.4]).double()
    covariance = torch.diag(torch.tensor([0.01, 0.02, 0.01, 0.02]).double()).expand(2, 4, 4)
    half = torch.tensor([0.5, 0.5]).double()
    system = GaussianMixtureSequence(
        half, torch.stack([corners, -corners]), covariance, drl.NoiseSchedule.log_spaced(2)
    )
    grey = (127.5 + 127.5 * system.sample(60, 0, generator=seeded_generator(1))).round().clamp(0, 255)
    dataset = drl.load_dataset(grey.to(torch.uint8).reshape(-1, 2, 2).numpy(), seed=0)
    transform = prepare_table(dataset, "rescale").transform
    density = closed_form_density(system, dataset.columns)
    density = dataclasses.replace(
        density, model=freeze(density.model), transform=transform, event_shape=dataset.event_shape
    )
    settings = drl.SandwichSettings(num_particles=16, num_replicates=4, num_mixing_steps=2, path_steps_per_level=2)
    report = evaluate(density, dataset.test, settings=settings, num_chain_steps=10, seed=0)
    bits = report.bits()
    unit = 1 / (4 * math.log(2))
    log_p = system.log_prob(report.rows / 127.5 - 1, 0)
    known = -unit * float(log_p.mean()) + math.log2(127.5)
    assert_z(report.log_z, system.log_z(0), report.tree.attrs["log_z_standard_error"])
    assert bits.value == pytest.approx(known + unit * (report.log_z - float(system.log_z(0))), rel=1e-10)
    assert bits.value == pytest.approx(report.bits_per_dim, rel=1e-12)
    assert dict(bits.terms)["-log Jacobian from grey levels to model space"] == pytest.approx(6.994353, abs=1e-6)
    assert (bits.num_rows, bits.num_features, bits.value_range) == (len(dataset.test), 4, (0, 255))
    noise = report.rows - dataset.test.double().reshape(-1, 4)
    assert 0.4 < float(noise.abs().max()) <= 0.5
