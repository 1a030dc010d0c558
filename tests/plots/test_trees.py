"""Groups of a tree."""

from drl_density.plots.trees import group_of


def test_a_group_is_found_by_its_name(report_like):
    assert group_of(report_like(), "segments")["gap"].values.tolist() == [6.0, 0.5]
