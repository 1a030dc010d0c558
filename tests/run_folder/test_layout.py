"""Which files belong to a run, which to its writers, and which to the user."""

import pytest

from drl_density.run_folder.layout import FILES, is_part, is_run_file, own_entries, parts, run_files


@pytest.mark.parametrize("name", [*FILES, "diagnosis_recovery_1.nc", "figure_log_Z.png", "replicate_0012.safetensors"])
def test_files_of_a_run_and_their_parts(name):
    assert is_run_file(name)
    assert is_part(f".{name}.0a1b2c3d.x")
    assert not is_part(name)


@pytest.mark.parametrize(
    "name", ["notes.txt", ".gitignore", "settings.json.bak", "diagnosis.nc", "picture.png", ".a.b.c"]
)
def test_files_of_the_user(name):
    assert not is_run_file(name)
    assert not is_part(name)


def test_entries_of_a_folder(tmp_path):
    for name in ("weights.safetensors", "settings.json", "diagnosis_b.nc", "diagnosis_a.nc", "mine.txt", ".lock"):
        (tmp_path / name).write_text("")
    (tmp_path / ".settings.json.ab.json").write_text("")
    (tmp_path / ".whole").mkdir()
    names = [item.name for item in run_files(tmp_path)]
    assert names == ["settings.json", "diagnosis_a.nc", "diagnosis_b.nc", "weights.safetensors"]
    assert [item.name for item in parts(tmp_path)] == [".settings.json.ab.json"]
    assert {item.name for item in own_entries(tmp_path)} == {".lock", ".settings.json.ab.json", ".whole"}
    assert run_files(tmp_path / "missing") == []
