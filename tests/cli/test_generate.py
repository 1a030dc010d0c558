"""``distill``, ``guide`` and ``reconstruct``, and the files of measurements."""

import numpy as np
import pytest

from drl_density.cli import main
from drl_density.cli.generate import read_measurement
from drl_density.errors import DataError
from drl_density.operators import Blur, Downsample, Mask, MaskedFourier


def test_distill_then_sample_from_the_generator(run, tmp_path, capsys):
    small = ["--num-updates", "3", "--batch-size", "16"]
    own = {"em": ["--width", "8", "--num-corrections", "2", "--num-warm-updates", "2"], "mmd": ["--num-calls", "2"]}
    table = tmp_path / "table.csv"
    assert main(["sample", str(run), "-n", "5", "--out", str(table)]) == 0
    assert main(["distill", str(run), str(table), "--method", "em", *small, *own["em"]]) == 1
    assert "leave out the rows" in capsys.readouterr().err
    for method in ("em", "mmd"):
        assert main(["distill", str(run), "--method", method, *small, *own[method]]) == 0
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


MEASUREMENTS = {
    "mask of another shape": (
        {"y": np.zeros(1), "mask": np.array([True, False])},
        "mask does not fit rows of shape (3,)",
    ),
    "too many values": ({"y": np.zeros(2), "mask": np.array([True, False, False])}, "y must be real, of shape (1,)"),
    "complex values": ({"y": np.zeros(1) * 1j, "mask": np.array([True, False, False])}, "got torch.complex128 (1,)"),
    "blur of a vector": ({"y": np.zeros(3), "kernel": np.ones((1, 1))}, "kernel does not fit rows of shape (3,)"),
    "no number": ({"y": np.array([np.nan]), "mask": np.array([True, False, False])}, "y must be finite numbers"),
    "mask of counts": ({"y": np.zeros(1), "mask": np.array([2, 0, 0])}, "mask: expected booleans, or 0 and 1"),
    "two factors": ({"y": np.zeros(1), "factor": np.array([2, 2])}, "factor: expected one whole number, got [2, 2]"),
    "nothing observed": ({"y": np.zeros(1), "mask": np.zeros(3, dtype=bool)}, "mask: expected a mask that measures"),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_that_do_not_fit_name_the_file_and_its_part(name, run, tmp_path, capsys):
    parts, message = MEASUREMENTS[name]
    np.savez(tmp_path / "y.npz", **parts)
    assert main(["reconstruct", str(run), str(tmp_path / "y.npz"), "--noise", "0.1"]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'y.npz'}: " in error
    assert message in error


def test_a_measurement_of_text_is_no_measurement(tmp_path):
    np.savez(tmp_path / "y.npz", y=np.array(["a"]), mask=np.array([True]))
    with pytest.raises(DataError, match="expected an .npz archive of arrays of numbers"):
        read_measurement(tmp_path / "y.npz")


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"mask": np.array([True, False])}, Mask),
        ({"kernel": np.ones((1, 1))}, Blur),
        ({"factor": np.array(2)}, Downsample),
        ({"sampling": np.array([[True]])}, MaskedFourier),
    ],
)
def test_the_part_names_the_operator(part, kind, tmp_path):
    np.savez(tmp_path / "y.npz", y=np.array([0.5]), **part)
    name, operator, y = read_measurement(tmp_path / "y.npz")
    assert name in part
    assert isinstance(operator, kind)
    assert y.tolist() == [0.5]


def test_files_that_hold_no_measurement_are_refused(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_measurement(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name in ("text.npz", "empty.npz", "array.npy"):
        with pytest.raises(DataError, match=f"{name} cannot be read: expected an .npz archive of arrays of numbers"):
            read_measurement(tmp_path / name)
    np.savez(tmp_path / "two.npz", y=np.zeros(1), mask=np.array([True]), factor=np.array(2))
    with pytest.raises(DataError, match="exactly one of mask, kernel, factor, sampling; it holds y, mask, factor"):
        read_measurement(tmp_path / "two.npz")


def test_guide_needs_a_fit_with_labels(run, tmp_path, capsys):
    assert main(["guide", str(run), "0", "--out", str(tmp_path / "guided")]) == 1
    assert "label" in capsys.readouterr().err
    assert not (tmp_path / "guided").exists()


def test_posterior_draws_need_a_noise(run, tmp_path, capsys):
    np.savez(tmp_path / "y.npz", y=np.zeros(1), mask=np.array([True, False, False]))
    out = tmp_path / "found.npz"
    assert main(["reconstruct", str(run), str(tmp_path / "y.npz"), "--out", str(out)]) == 1
    assert "noise" in capsys.readouterr().err
    assert not out.exists()
