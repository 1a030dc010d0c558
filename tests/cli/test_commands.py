"""The command line: each command once at toy size, and wrong input."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from drl_density.cli import main
from drl_density.run_folder import RunFolder

SMALL = [
    "--seed", "0", "--settings.schedule.num-levels", "4", "--settings.network.width", "16",
    "--settings.network.num-blocks", "1", "--settings.objective.num-chain-steps", "2", "--settings.num-pool-draws", "40",
    "--settings.training.num-steps", "20", "--settings.training.evaluate-every", "10",
]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=300), rng.normal(size=300).round(1), rng.poisson(4.0, 300)], 1)
    np.savetxt(path, values, delimiter=",", header="a,b,c", comments="", fmt="%.10g")
    return path


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["fit", str(table), "--out", str(out), *SMALL]) == 0
    return out


def test_sample_writes_rows_on_the_columns_grid(run, tmp_path):
    assert main(["sample", str(run), "-n", "30", "--out", str(tmp_path / "draws.csv")]) == 0
    with (tmp_path / "draws.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 30
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    assert all(abs(float(row["b"]) * 10 - round(float(row["b"]) * 10)) < 1e-6 for row in rows)


def test_sample_by_other_methods_says_what_they_are(run, tmp_path, capsys):
    for method, steps in (("ddim", "10"), ("flow", "5"), ("predictor-corrector", "5"), ("ancestral", "60")):
        out = tmp_path / f"{method}.csv"
        assert main(["sample", str(run), "-n", "20", "--method", method, "--steps", steps, "--out", str(out)]) == 0
        assert len(out.read_text().splitlines()) == 21
        assert f"{method}, an approximation" in capsys.readouterr().err
    arguments = ["sample", str(run), "-n", "20", "--method", "ddim", "--chain-steps", "5", "--out", str(tmp_path / "x")]
    assert main(arguments) == 0
    assert "R-hat" in capsys.readouterr().err


def test_combine_draws_from_products_and_mixtures(run, tmp_path, capsys):
    out = tmp_path / "draws.csv"
    for how, weights in (("product", ["1", "0.5"]), ("mixture", ["1", "3"])):
        arguments = ["combine", str(run), str(run), "--how", how, "--weights", *weights, "-n", "12", "--out", str(out)]
        assert main(arguments) == 0
        said = capsys.readouterr().err
        assert f"12 draws of a {how} of 2" in said
        assert all(word in said for word in ("log of the integral", "R-hat", "bulk ESS"))
        with out.open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 12
        assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    out.unlink()
    for refused in (["--weights", "2", "-1"], ["--temperature", "3"]):
        assert main(["combine", str(run), str(run), *refused, "-n", "12", "--out", str(out)]) == 1
        assert "improper" in capsys.readouterr().err
    assert not out.exists()


def test_distill_then_sample_from_the_generator(run, tmp_path, capsys):
    small = ["--num-updates", "3", "--batch-size", "16", "--width", "8", "--num-corrections", "2"]
    for method in ("em", "mmd"):
        assert main(["distill", str(run), "--method", method, *small]) == 0
        said = capsys.readouterr().out
        assert "not a density" in said
        assert ("in place of the generator before" in said) == (method == "mmd")
        out = tmp_path / f"{method}.csv"
        assert main(["sample", str(run), "-n", "20", "--method", "generator", "--out", str(out)]) == 0
        assert "a generator, not the density" in capsys.readouterr().err
        assert len(out.read_text().splitlines()) == 21
    assert main(["sample", str(run), "--method", "generator", "--steps", "3"]) == 1


def test_reconstruct_writes_draws_and_maps(run, tmp_path, capsys):
    measured = tmp_path / "y.npz"
    np.savez(measured, y=np.array([0.3]), mask=np.array([True, False, False]))
    out = tmp_path / "found.npz"
    arguments = ["reconstruct", str(run), str(measured), "--out", str(out), "-n", "12", "--steps", "20"]
    assert main([*arguments, "--method", "projected"]) == 0
    with np.load(out) as found:
        assert found["draws"].shape == (12, 3)
        assert np.allclose(found["draws"][:, 0], 0.3, atol=1e-4)
        assert (found["lower"] <= found["upper"]).all()
    assert "biased" in capsys.readouterr().out
    image = ["--image-shape", "1", "3", "--method", "dps"]
    np.savez(measured, y=np.array([[0.3, 0.2, 4.0]]), kernel=np.array([[0.2, 0.6, 0.2]]))
    assert main([*arguments, *image]) == 0
    assert (tmp_path / "found.png").stat().st_size > 1000
    np.savez(measured, y=np.array([0.3]))
    assert main(arguments) == 1
    assert "exactly one of mask" in capsys.readouterr().err


def test_score_writes_one_line_per_row(run, table, tmp_path, capsys):
    assert main(["score", str(run), str(table), "--out", str(tmp_path / "scores.csv")]) == 0
    with (tmp_path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 300
    assert {"log_density", "p_value", "typicality_p_value", "strangeness", "level_0", "level_1"} <= set(rows[0])
    said = capsys.readouterr().err
    assert "verdict" in said
    assert "test rows" in said
    assert main(["score", str(run), str(table), "--reference", str(table), "--out", str(tmp_path / "scores.csv")]) == 0
    assert "300 rows of" in capsys.readouterr().err


def test_bounds_are_declared_and_printed(table, tmp_path, capsys):
    assert main(["fit", str(table), "--bounds", "c=-0.5:", "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    assert "bounds (-0.5, inf)" in capsys.readouterr().out


def test_dry_run_prints_settings_and_writes_nothing(table, tmp_path, capsys):
    assert main(["fit", str(table), "--out", str(tmp_path / "none"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "rounded, grid 0.1" in printed
    assert json.loads(printed[printed.index("{\n") :])["schedule"]["num_levels"] == 10
    assert not (tmp_path / "none").exists()


def test_demo_writes_a_page(tmp_path, capsys):
    from drl_density.cli.demo import run_demo
    from tests.conftest import TINY

    printed = run_demo("eight_gaussians", tmp_path / "demo", settings=TINY, progress=False)
    assert "kernel density" in printed.text
    assert printed.verdict in ("reliable", "doubtful", "unreliable", "unknown")
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "data:image/png" in page
    assert "log Z" in page
    assert (tmp_path / "demo" / "training.png").stat().st_size > 10_000


def test_diagnose_writes_into_the_report(run, capsys):
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8"]) == 0
    assert "chains of 100 steps" in capsys.readouterr().out
    assert main(["diagnose", str(run), "--steps", "100", "--chains", "8", "--level", "1", "--recovery"]) == 0
    assert (run / "diagnosis_level_0.nc").is_file()
    page = (run / "report.html").read_text()
    assert "data:image/png" in page
    assert "Chains of level 0" in page
    assert "Chains of recovery conditionals of level 1" in page
    capsys.readouterr()
    assert main(["report", str(run)]) == 0
    assert "recovery conditionals of level 1" in capsys.readouterr().out
    assert main(["diagnose", str(run), "--steps", "5"]) == 1


def test_evaluate_keeps_a_live_line_and_writes_the_page(run, capsys):
    assert main(["evaluate", str(run), "--particles", "16", "--replicates", "2", "--mixing-steps", "3"]) == 0
    printed = capsys.readouterr()
    assert re.search(r"annealing +100 % .*log Z = -?\d+\.\d{3} ± \d+\.\d{3}, ESS \d+", printed.err)
    assert "log Z" in printed.out
    page = (run / "report.html").read_text()
    assert main(["report", str(run)]) == 0
    assert (run / "report.html").read_text() == page


def test_impute_fills_the_holes_and_nothing_else(run, table, tmp_path, capsys):
    lines = table.read_text().splitlines()[:7]
    lines[1], lines[2] = "," + lines[1].split(",", 1)[1], lines[2].rsplit(",", 1)[0] + ","
    holes = tmp_path / "holes.csv"
    holes.write_text("\n".join(lines) + "\n")
    assert main(["impute", str(run), str(holes), "--out", str(tmp_path / "full.csv"), "-n", "3"]) == 0
    with (tmp_path / "full.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 18
    assert rows[2]["a"] == f"{float(lines[3].split(',')[0])}"
    assert len({row["a"] for row in rows if row["row"] == "0"}) == 3
    assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    diagnostics = (tmp_path / "full.diagnostics.csv").read_text().splitlines()
    assert len(diagnostics) == 7
    assert "2 cells filled" in capsys.readouterr().err


def test_a_table_without_holes_is_said_to_have_none(run, table, tmp_path, capsys):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[:4]) + "\n")
    out = tmp_path / "full.csv"
    assert main(["impute", str(run), str(few), "--out", str(out), "-n", "2"]) == 0
    said = capsys.readouterr()
    assert f"2 imputations of 3 rows in {out}" in said.out
    assert f"no cell of {few} is empty: nothing was imputed" in said.err
    assert "doubtful" not in said.err
    assert len(out.read_text().splitlines()) == 7


def test_a_failed_fit_is_called_one_by_every_command(run, table, tmp_path, capsys, monkeypatch):
    """The remark of the fit's own summary, on standard error so that tables stay tables."""
    commands = [
        ["sample", str(run), "-n", "3", "--out", str(tmp_path / "x.csv")],
        ["score", str(run), str(table), "--out", str(tmp_path / "x.csv")],
        ["impute", str(run), str(table), "-n", "1", "--out", str(tmp_path / "x.csv")],
        ["diagnose", str(run), "--steps", "100", "--chains", "8"],
    ]
    failure = "FAILURE: about the fit: the model is below its floor"
    for is_failed in (True, False):
        monkeypatch.setattr("drl_density.density.provenance.Baselines.is_above_floor", not is_failed)
        for command in commands[: 4 if is_failed else 1]:
            assert main(command) == 0
            assert (failure in capsys.readouterr().err) == is_failed, command


def test_tables_have_plain_line_ends(run, tmp_path, capsys):
    assert main(["sample", str(run), "-n", "3", "--out", str(tmp_path / "x.csv")]) == 0
    assert main(["sample", str(run), "-n", "3"]) == 0
    assert b"\r" not in (tmp_path / "x.csv").read_bytes()
    assert "\r" not in capsys.readouterr().out


def test_settings_that_cannot_be_are_named_as_they_are_typed(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "wine", "--settings.training.num-steps", "0"])
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "settings.training: num_steps must be at least 1, got 0" in error
    assert "dummy" not in error


MEASUREMENTS = {
    "mask of another shape": (
        {"y": np.zeros(1), "mask": np.array([True, False])},
        "mask does not fit rows of shape (3,)",
    ),
    "too many values": ({"y": np.zeros(2), "mask": np.array([True, False, False])}, "y must be real, of shape (1,)"),
    "complex values": ({"y": np.zeros(1) * 1j, "mask": np.array([True, False, False])}, "got torch.complex128 (1,)"),
    "blur of a vector": ({"y": np.zeros(3), "kernel": np.ones((1, 1))}, "kernel does not fit rows of shape (3,)"),
    "nothing observed": ({"y": np.zeros(1), "mask": np.zeros(3, dtype=bool)}, "mask: a mask must be boolean"),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_that_do_not_fit_name_the_file_and_its_part(name, run, tmp_path, capsys):
    parts, message = MEASUREMENTS[name]
    np.savez(tmp_path / "y.npz", **parts)
    assert main(["reconstruct", str(run), str(tmp_path / "y.npz"), "--noise", "0.1"]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'y.npz'}: " in error
    assert message in error


def test_compare_pairs_the_rows(run, table, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["fit", str(table), "--out", str(other), *SMALL, "--seed", "1"]) == 0
    capsys.readouterr()
    assert main(["compare", str(run), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert float(lines[1].split()[2]) == 0.0
    assert main(["compare", str(run), str(other), "--source", str(table)]) == 0


def test_an_unreliable_demo_fails(monkeypatch, capsys):
    from drl_density.cli import learn
    from drl_density.cli.demo import DemoOutcome

    monkeypatch.setattr(learn, "run_demo", lambda *_, **__: DemoOutcome("figures", "unknown"))
    assert main(["demo"]) == 1
    printed = capsys.readouterr()
    assert "figures" in printed.out
    assert "unknown" in printed.err


BAD = {
    "one run": (["compare", "RUN"], "at least two run folders"),
    "no file": (["fit", "none.csv"], "there is no file"),
    "unknown set": (["fit", "wines"], "did you mean wine"),
    "overwrite": (["fit", "TABLE", "--out", "RUN"], "--force"),
    "no run": (["sample", "nowhere"], "there is no run folder"),
    "other columns": (["score", "RUN", "wine"], "not here"),
    "bounds": (["fit", "TABLE", "--bounds", "a0:1", "--out", "x"], "NAME=LOWER:UPPER"),
    "inside out": (["fit", "TABLE", "--bounds", "a=3:1", "--out", "x"], "lower must be below upper"),
    "no particles": (["evaluate", "RUN", "--particles", "0"], "at least 2 particles and 2 replicates"),
    "never fitted": (["evaluate", "BEGUN"], "is not finished: resume it with"),
    "too many weights": (["combine", "RUN", "--weights", "1", "2"], "as many weights"),
    "no rows": (["sample", "RUN", "--num-samples", "0"], "at least 1"),
    "no folder to write to": (["sample", "RUN", "-n", "2", "--out", "none/draws.csv"], "cannot write none/draws.csv"),
    "drop": (["fit", "TABLE", "--drop", "z", "--out", "x"], "cannot drop z"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_one_clear_line(name, run, table, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    RunFolder.create("begun").write_json("settings.json", {"stage": "training"})
    arguments, message = BAD[name]
    arguments = [{"TABLE": str(table), "RUN": str(run), "BEGUN": "begun"}.get(word, word) for word in arguments]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_interruption_is_resumable(table, tmp_path, capsys, monkeypatch):
    """Ctrl-C once the first state is saved; the same command with --resume ends where an untouched run ends."""
    from drl_density.density.fitting.run import TrainingFolder

    saver = TrainingFolder.saver

    def save_then_interrupt(self, name):
        save = saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            raise KeyboardInterrupt

        return wrapped

    arguments = ["fit", str(table), *SMALL, "--out"]
    monkeypatch.setattr(TrainingFolder, "saver", save_then_interrupt)
    assert main([*arguments, str(tmp_path / "run")]) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*arguments, str(tmp_path / "run"), "--resume"]) == 0
    assert main([*arguments, str(tmp_path / "other")]) == 0
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in ("run", "other"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_that_torchrun_starts_again_goes_on_by_itself(run, table, tmp_path, monkeypatch, capsys):
    """Killed after its first state: refused by hand, taken up under torchrun whatever --force says, to the bits of an
    undisturbed fit.
    """
    from drl_density.density.fitting.run import TrainingFolder

    class Killed(BaseException):
        pass

    saver, steps = TrainingFolder.saver, []

    def watched(self, name):
        save = saver(self, name)

        def wrapped(tensors, scalars):
            save(tensors, scalars)
            steps.append(scalars["step"])
            if len(steps) == 1:
                raise Killed

        return wrapped

    arguments = ["fit", str(table), "--out", str(tmp_path / "run"), *SMALL]
    monkeypatch.setattr(TrainingFolder, "saver", watched)
    with pytest.raises(Killed):
        main(arguments)
    assert main(arguments) != 0
    assert "--resume" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert main([*arguments, "--force"]) == 0
    assert steps == [10, 20]
    first, second = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "run", run))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_interruption_before_the_first_state_promises_nothing(table, tmp_path, capsys, monkeypatch):
    from drl_density.density.fitting.run import TrainingFolder

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    arguments = ["fit", str(table), *SMALL, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(TrainingFolder, "saver", interrupted)
    assert main(arguments) == 130
    error = capsys.readouterr().err
    assert "--resume" not in error
    assert "before anything was saved; start again with the same command and --force" in error
    monkeypatch.setattr("drl_density.cli.learn.load_dataset", interrupted)
    assert main([*arguments[:-1], str(tmp_path / "other")]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_other_commands_have_nothing_to_resume(run, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("drl_density.cli.rows.Density.load", interrupted)
    assert main(["sample", str(run)]) == 130
    assert "--resume" not in capsys.readouterr().err


def test_a_table_that_cannot_be_written_leaves_the_old_one(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "draws.csv"
    out.write_text("mine")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drl_density.run_folder.os.fsync", full)
    assert main(["sample", str(run), "-n", "5", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "No space left" in error
    assert "untouched" in error
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
