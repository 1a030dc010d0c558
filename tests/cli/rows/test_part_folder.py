"""Finished row groups: kept, continued, refused for another job, and gone at the end."""

import json

import pandas as pd
import pytest

from drl_density.cli.rows.part_folder import PartFolder, part_path, read_job
from drl_density.errors import DataError, RunFolderError

ROWS = [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3]})]


def folder(tmp_path, **job):
    return PartFolder({"rows": tmp_path / "out.csv"}, {"command": "score", **job})


def begun(tmp_path, **job):
    parts = folder(tmp_path, **job)
    parts.open(resume=False)
    parts.add({"rows": ROWS[0]}, {"rows": 2}, {})
    parts.close(is_hopeless=False)
    return parts


def test_row_groups_are_joined_and_the_folder_goes(tmp_path):
    parts = folder(tmp_path)
    parts.open(resume=False)
    for rows in ROWS:
        parts.add({"rows": rows}, {"rows": len(rows)}, {})
    assert parts.num_finished == 2
    parts.join()
    assert (tmp_path / "out.csv").read_text() == "a\n1\n2\n3\n"
    assert [item.name for item in tmp_path.iterdir()] == ["out.csv"]


def test_an_interrupted_job_is_continued_with_its_figures(tmp_path):
    first = begun(tmp_path, seed=1)
    assert "1 row groups are finished" in first.advice()
    assert "--resume" in first.advice()
    parts = folder(tmp_path, seed=1)
    parts.open(resume=True)
    assert parts.figures == [{"rows": 2}]
    parts.add({"rows": ROWS[1]}, {"rows": 1}, {})
    parts.join()
    assert (tmp_path / "out.csv").read_text() == "a\n1\n2\n3\n"


def test_a_row_group_without_its_record_is_made_again(tmp_path):
    begun(tmp_path)
    path = part_path(tmp_path / "out.csv")
    (path / "000001.rows.csv").write_text("half")
    (path / "000002.json").write_text("{}")
    parts = folder(tmp_path)
    parts.open(resume=True)
    assert parts.num_finished == 1
    parts.add({"rows": ROWS[1]}, {}, {})
    assert (path / "000001.rows.csv").read_text() == "3\n"
    parts.delete()


def test_finished_row_groups_are_not_lost_without_resume(tmp_path):
    begun(tmp_path)
    with pytest.raises(DataError, match="1 finished row groups of an interrupted command: continue it with --resume"):
        folder(tmp_path).open(resume=False)
    folder(tmp_path).open(resume=True)


def test_row_groups_of_another_job_are_refused_with_what_changed(tmp_path):
    begun(tmp_path, seed=1, method="ddim")
    with pytest.raises(DataError, match="seed was 1 and is 2 now; method was ddim and is None now"):
        folder(tmp_path, seed=2).open(resume=True)


def test_another_folder_is_left_alone(tmp_path):
    path = part_path(tmp_path / "out.csv")
    path.mkdir()
    (path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds mine\.txt"):
        folder(tmp_path).open(resume=False)
    assert (path / "mine.txt").read_text() == "mine"


def test_two_processes_do_not_write_the_same_row_groups(tmp_path):
    from filelock import FileLock

    from drl_density.run_folder.layout import LOCK

    path = part_path(tmp_path / "out.csv")
    path.mkdir()
    with FileLock(path / LOCK), pytest.raises(RunFolderError, match="being written"):
        folder(tmp_path).open(resume=False)


def test_nothing_is_kept_where_nothing_can_be_continued(tmp_path):
    for is_hopeless, can_resume, num_rows in ((True, True, 1), (False, False, 1), (False, True, 0)):
        parts = PartFolder({"rows": tmp_path / "out.csv"}, {}, can_resume=can_resume)
        parts.open(resume=False)
        for _ in range(num_rows):
            parts.add({"rows": ROWS[0]}, {}, {})
        parts.close(is_hopeless=is_hopeless)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="standard input cannot be read again"):
        PartFolder({"rows": tmp_path / "out.csv"}, {}, can_resume=False).open(resume=True)


def test_a_full_disk_at_the_join_keeps_the_row_groups_and_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "out.csv").write_text("old")
    begun(tmp_path)
    parts = folder(tmp_path)
    parts.open(resume=True)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("drl_density.datasets.tables.writing.text_rows.shutil.copyfileobj", full)
        with pytest.raises(RunFolderError, match="No space left"):
            parts.join()
    assert (tmp_path / "out.csv").read_text() == "old"
    parts.join()
    assert (tmp_path / "out.csv").read_text() == "a\n1\n2\n"


def test_several_outputs_are_joined_side_by_side(tmp_path):
    parts = PartFolder({"rows": tmp_path / "out.csv", "more": tmp_path / "more.csv"}, {})
    parts.open(resume=False)
    for rows in ROWS:
        parts.add({"rows": rows, "more": rows + 10}, {}, {})
    parts.join()
    assert (tmp_path / "more.csv").read_text() == "a\n11\n12\n13\n"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["more.csv", "out.csv"]


def test_a_job_that_cannot_be_read_is_none(tmp_path):
    assert read_job(tmp_path) is None
    for text in ("{", "[1]"):
        (tmp_path / "job.json").write_text(text)
        assert read_job(tmp_path) is None
    (tmp_path / "job.json").write_text(json.dumps({"--seed": 3}))
    assert read_job(tmp_path) == {"--seed": 3}
