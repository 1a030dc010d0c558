"""Long chains and the modes they visit."""

from drl_density.plots.chains import plot_chains, plot_occupancy


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_chains_are_coloured_by_their_starts(report_like):
    axes = plot_chains(report_like())
    assert legend(axes) == ["began at data", "began at noise"]
    assert axes.lines[1].get_xydata().tolist() == [[0.0, 3.0], [5.0, 4.0], [10.0, 5.0]]
    assert plot_chains(report_like(), axes) is axes


def test_occupancy_has_two_bars_for_every_mode(report_like):
    axes = plot_occupancy(report_like())
    assert [bar.get_height() for bar in axes.patches] == [0.3, 0.7, 0.4, 0.6]
    assert legend(axes) == ["data", "chains"]
