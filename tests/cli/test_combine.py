"""``combine``: draws of products and mixtures, and refused combinations."""

import csv
import functools

import pytest

import drl_density.cli.combine as command
from drl_density.cli import main
from drl_density.partition_function import AISSettings


@pytest.fixture(autouse=True)
def quick_combination(monkeypatch):
    """Few particles, for which the command has no option."""
    sizes = AISSettings(num_particles=32, num_replicates=2, num_pilot_particles=32)
    monkeypatch.setattr(command, "combine", functools.partial(command.combine, settings=sizes))


def test_combine_draws_from_products_and_mixtures(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "draws.csv"
    for how, weights in (("product", ["1", "0.5"]), ("mixture", ["1", "3"])):
        arguments = ["combine", str(run), str(run), "--how", how, "--weights", *weights, "-n", "12", "--out", str(out)]
        monkeypatch.setattr("drl_density.density.derived.combine.LEAST_ESS", 1e9 if how == "mixture" else 0)
        assert main([*arguments, "--seed", "0"]) == 0
        said = capsys.readouterr().err
        assert f"12 draws of a {how} of 2" in said
        assert all(word in said for word in ("log of the integral", "R-hat", "bulk ESS"))
        assert ("note: these draws are doubtful" in said) == (how == "mixture")
        with out.open() as stream:
            rows = list(csv.DictReader(stream))
        assert len(rows) == 12
        assert all(float(row["c"]) == round(float(row["c"])) for row in rows)
    assert main(["combine", str(run), str(run), "-n", "1", "--seed", "0", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 2
    assert "nan" not in capsys.readouterr().err  # R-hat compares this draw's chain with others
    out.unlink()
    for refused in (["--weights", "2", "-1"], ["--temperature", "3"]):
        assert main(["combine", str(run), str(run), *refused, "-n", "12", "--out", str(out)]) == 1
        assert "improper" in capsys.readouterr().err
    assert not out.exists()
