"""The line that a running evaluation keeps up to date."""

from drl_density.density.evaluation.sections.live_line import LiveLine
from drl_density.partition_function import Progress


def test_share_is_shown_where_there_are_parts(capsys):
    line = LiveLine()
    line(Progress("annealing", 3, 4, -1.0, 0.1, 50.0))
    line(Progress("annealing", 4, 4, -1.0, 0.1, 50.0))
    line(Progress("paths in both directions"))
    line.close()
    shown = capsys.readouterr().err
    assert "annealing 100 %" in shown
    assert "paths in both directions 0" in shown.replace("directions  ", "directions ")  # then the time, no percentage
    assert "0 %" not in shown.split("paths in both directions")[1]
    assert line.ess == 50.0


def test_no_effective_size_is_shown_where_nothing_was_weighted(capsys):
    line = LiveLine()
    line(Progress("long chains", 0, 1, 0.0, 0.0, line.ess))
    line.close()
    shown = capsys.readouterr().err
    assert "log Z = 0.000 ± 0.000" in shown
    assert "ESS" not in shown
