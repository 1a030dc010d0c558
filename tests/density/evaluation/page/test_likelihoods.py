"""The likelihood beside rivals and over the reference."""

import numpy as np
import xarray as xr

import drl_density as drl
from drl_density.density.evaluation.page.likelihoods import gain_section, rivals_section


def with_reference(report, gain):
    """The report with a reference whose log density is lower by ``gain`` in every row but for a little noise."""
    tree = report.tree.copy(deep=True)
    values = report.log_likelihood.numpy() - gain
    tree["reference"] = xr.DataTree(xr.Dataset({"log_likelihood": ("obs_id", values)}))
    return drl.LikelihoodReport(tree)


def test_a_density_below_a_simple_one_says_so(report):
    words = rivals_section(report).words[0]
    assert "this density" in words
    tree = report.tree.copy(deep=True)
    tree.attrs |= {"validation_model": -5.0, "validation_gaussian": -3.0, "validation_independent": -4.0}
    assert rivals_section(drl.LikelihoodReport(tree)).words == (
        "On validation rows this density is 2.00 nats BELOW one Gaussian.",
    )


def test_no_reference_has_no_gain(report):
    tree = report.tree.copy(deep=True)
    for name in ("reference", "stages"):
        if name in tree.children:
            del tree[name]
    assert gain_section(drl.LikelihoodReport(tree)) == ()


def test_a_gain_is_given_with_its_paired_error(report):
    spread = np.linspace(-0.1, 0.1, report.num_rows)
    (section,) = gain_section(with_reference(report, 0.5 + spread))
    assert "scores 0.500 nats per row more than" in section.words[0]
    assert section.tables[0].rows[-1][-1] == "better than the reference"
    (section,) = gain_section(with_reference(report, spread - 0.5))
    assert "scores 0.500 nats per row less than" in section.words[0]


def test_rounding_is_no_gain_and_no_loss(report):
    (section,) = gain_section(with_reference(report, -1e-5))
    assert section.words[0] == "The density is its own reference here: the gain is 0."
    assert section.tables[0].rows[-1][2:] == ("+0.0000", "0.0000", "within its error")
