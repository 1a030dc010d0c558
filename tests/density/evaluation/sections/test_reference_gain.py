"""The reference of a fit beside the fit, on the scored rows and by stages."""

import dataclasses
import math

import pytest
import torch

import drl_density as drl
from drl_density.density import Stage
from drl_density.density.evaluation.sections.reference_gain import ReferenceGain, reference_log_density
from tests.density.closed_form import closed_form_density


def test_the_reference_is_the_base_in_data_units(tiny_density, tiny_data):
    """F less the network is the base; without a base there is no reference."""
    rows, model = tiny_data.test.double(), tiny_density.model
    found = reference_log_density(tiny_density, rows)
    with torch.no_grad():
        network = model.tilt(tiny_density.to_states(rows), 0.0).double()
    expected = tiny_density.log_density_of(rows) + tiny_density.estimate.log_z - network
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    exact = closed_form_density()
    assert exact.model.base is None
    assert reference_log_density(exact, torch.zeros(3, 2)) is None
    assert ReferenceGain(exact, torch.zeros(3, 2)).groups() == {}


def test_a_report_has_the_paired_gain_and_the_stages(report, tiny_density, tiny_data):
    gains = report.log_likelihood - reference_log_density(tiny_density, tiny_data.test.double())
    found = report.gain_over_reference
    assert found.log_z == pytest.approx(float(gains.mean()), abs=1e-6)
    assert found.standard_error == pytest.approx(float(gains.std()) / len(gains) ** 0.5, abs=1e-6)
    assert f"gain over its reference on these rows {found.log_z:+.4f}" in report.summary()

    stages = (
        Stage("reference", -2.0),
        Stage("tilt", -1.75, 0.25, 0.05),
        Stage("recovery", -1.76, -0.01, 0.02, kept=False),
    )
    staged = dataclasses.replace(tiny_density, provenance=dataclasses.replace(tiny_density.provenance, stages=stages))
    groups = ReferenceGain(staged, tiny_data.test.double()).groups()
    assert groups["stages"]["gain"].values.tolist() == [0.0, 0.25, -0.01]
    tree = report.tree.copy(deep=True)
    tree["stages"] = groups["stages"]
    sections = drl.LikelihoodReport(tree).page().sections
    ((table,),) = (section.tables for section in sections if section.title == "Gain over the reference")
    assert table.rows[:3] == (
        ("reference, on validation", "-2.0000", "-", "-", "kept"),
        ("tilt, on validation", "-1.7500", "+0.2500", "0.0500", "kept"),
        ("recovery, on validation", "-1.7600", "-0.0100", "0.0200", "not kept"),
    )
    assert [row[0] for row in table.rows[3:]] == ["reference, on these rows", "density, on these rows"]
    assert "tilt +0.250 +- 0.050, recovery -0.010 +- 0.020 (not kept)" in staged.summary()


def test_a_gain_is_not_known_where_log_z_is_not(report):
    tree = report.tree.copy(deep=True)
    tree.attrs |= {"log_z_lower": -math.inf, "log_z_upper": math.inf}
    unknown = drl.LikelihoodReport(tree)
    assert unknown.gain_over_reference is None
    assert "gain over its reference: not known, as log Z is not" in unknown.summary()
    assert f"log Z = unknown (the estimate {report.log_z:.4f} is not bounded on both sides)" in unknown.summary()
