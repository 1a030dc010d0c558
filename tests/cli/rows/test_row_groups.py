"""The engine of the commands on rows: order, seeds, progress, notes, faults and continuation."""

import re
import warnings

import pandas as pd
import pytest

from drl_density.cli.rows import row_groups
from drl_density.cli.rows.part_folder import PartFolder
from drl_density.cli.rows.row_groups import (
    Finished,
    PlacedError,
    Progress,
    group_seed,
    numbered_groups,
    run_row_groups,
)
from drl_density.errors import DataError, DataWarning, RunFolderError


def rows_of(group):
    numbers = range(group.first_row, group.first_row + group.num_rows)
    frame = pd.DataFrame({"row": list(numbers), "seed": group_seed(5, group.index)})
    return Finished({"rows": frame}, {"rows": group.num_rows})


def run(tmp_path, work=rows_of, *, resume=False, num_rows=10, target="out.csv"):
    path = tmp_path / target
    parts = PartFolder({"rows": path}, {"num_rows": num_rows})
    groups = numbered_groups(num_rows, 4)
    return run_row_groups(groups, work, outputs={"rows": path}, parts=parts, total=num_rows, resume=resume)


def failing_at(index, error):
    def work(group):
        if group.index == index:
            raise error
        return rows_of(group)

    return work


def test_groups_cover_all_rows_once():
    for num_rows in (0, 1, 4, 5, 8):
        groups = list(numbered_groups(num_rows, 4))
        assert sum(group.num_rows for group in groups) == num_rows
        assert [group.index for group in groups] == list(range(len(groups)))
        assert [group.first_row for group in groups] == [4 * index for index in range(len(groups))]


def test_seeds_of_groups_differ_and_follow_from_the_seed_alone():
    seeds = [group_seed(seed, index) for seed in (0, 1, 2**63 - 1) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert group_seed(3, 0) == 3
    assert group_seed(3, 2) == group_seed(3, 2)


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunFolderError("full"), MemoryError()])
@pytest.mark.parametrize("target", ["out.csv", "out.csv.gz", "out.parquet"])
def test_an_interrupted_command_ends_in_the_same_bytes(index, error, target, tmp_path, capsys):
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", target=target)
    with pytest.raises(type(error)):
        run(tmp_path, failing_at(index, error), target=target)
    assert not (tmp_path / target).exists()
    capsys.readouterr()
    made = []

    def watched(group):
        made.append(group.index)
        return rows_of(group)

    figures = run(tmp_path, watched, resume=True, target=target)
    assert made == list(range(index, 3))
    assert sum(each["rows"] for each in figures) == 10
    assert f"resuming: {index} row groups are finished" in capsys.readouterr().err
    assert (tmp_path / target).read_bytes() == (tmp_path / "whole" / target).read_bytes()


def test_a_failure_that_can_be_continued_says_how(tmp_path, capsys):
    with pytest.raises(RunFolderError):
        run(tmp_path, failing_at(1, RunFolderError("the disk is full")))
    said = capsys.readouterr().err
    assert said.startswith("note: 1 row groups are finished in")
    assert "--resume to continue" in said


def test_a_fault_in_the_table_names_its_rows_and_keeps_nothing(tmp_path):
    with pytest.raises(DataError, match="in rows 4 to 7, counted from the first of them: row 2 is bad"):
        run(tmp_path, failing_at(1, DataError("row 2 is bad")))
    with pytest.raises(PlacedError, match=r"^row 6 is bad"):
        run(tmp_path, failing_at(1, PlacedError("row 6 is bad")))
    with pytest.raises(DataError, match=r"^row 2 is bad"):
        run(tmp_path, failing_at(0, DataError("row 2 is bad")))
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_continue_starts_from_the_beginning(tmp_path, capsys):
    run(tmp_path, resume=True)
    assert "resuming: no row group was finished" in capsys.readouterr().err
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 11


def test_standard_output_gets_every_group_and_cannot_be_continued(capsys):
    figures = run_row_groups(numbered_groups(5, 4), rows_of, outputs={"rows": None}, parts=None)
    assert [each["rows"] for each in figures] == [4, 1]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "row,seed"
    assert len(printed) == 6
    with pytest.raises(DataError, match="--resume needs --out"):
        run_row_groups(numbered_groups(5, 4), rows_of, outputs={"rows": None}, parts=None, resume=True)


def test_the_first_note_of_a_place_is_shown_and_others_are_counted(tmp_path, capsys, monkeypatch):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: shown.append(str(message)))

        def work(group):
            warnings.warn(f"note {group.index}", DataWarning, stacklevel=1)
            warnings.warn(f"other {group.index}", UserWarning, stacklevel=1)
            return rows_of(group)

        run(tmp_path, work)
    assert shown == ["note 0", "other 0", "other 1", "other 2"]
    assert "note: 2 more notes like the ones above" in capsys.readouterr().err


def test_progress_is_a_line_in_a_log_from_time_to_time(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(row_groups.time, "monotonic", lambda: now[0])
    with Progress(100) as progress:
        progress.skip(20)
        for _ in range(4):
            now[0] += 2.0
            progress.add(10)
    assert capsys.readouterr().err == "50 of 100 rows, 5 rows/s, 10 s left\n"


def test_progress_is_one_line_on_a_terminal(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(row_groups.time, "monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(None) as progress:
        for _ in range(2):
            now[0] += 1.0
            progress.add(1000)
    said = capsys.readouterr().err
    assert re.findall(r"\r([^\x1b]*)\x1b\[K", said) == ["1,000 rows, 1,000 rows/s"] + 2 * ["2,000 rows, 1,000 rows/s"]
    assert said.endswith("\n")


@pytest.mark.parametrize(("seconds", "words"), [(3.2, "3 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_are_short(seconds, words):
    assert row_groups._duration(seconds) == words
