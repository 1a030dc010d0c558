"""8-bit images from files: the same pixels from every source, official parts, and errors that name the file."""

import gzip
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from drl_density import Split, load_dataset
from drl_density.datasets import load_again, read_rows
from drl_density.datasets.image_files import read_idx, read_image
from drl_density.errors import DataError
from tests.datasets.pictures import GREY, LABELS, Rows, idx, together, write, write_folder

RNG = np.random.default_rng(1)


SOURCES = {
    "folder": lambda p: write_folder(p, GREY),
    "class folders": lambda p: write_folder(p, GREY, LABELS),
    "idx": lambda p: write(p / "train-images-idx3-ubyte", idx(GREY)),
    "idx.gz": lambda p: write(p / "train-images-idx3-ubyte.gz", gzip.compress(idx(GREY))),
    "array": lambda p: GREY,
    "tensor": lambda p: torch.from_numpy(GREY),
    "npy": lambda p: (np.save(p / "a.npy", GREY), p / "a.npy")[1],
    "npz": lambda p: (np.savez(p / "a.npz", pictures=GREY, y=LABELS), p / "a.npz")[1],
    "torchvision, in memory": lambda p: SimpleNamespace(data=torch.from_numpy(GREY), targets=LABELS.tolist()),
    "Hugging Face": lambda p: Rows(GREY, LABELS),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_pixels(tmp_path, name):
    data = load_dataset(SOURCES[name](tmp_path), seed=0)
    assert data.event_shape == (1, 6, 5)
    assert data.train.dtype == torch.uint8
    found, wanted = together(data)[:, 0].numpy(), GREY
    assert sorted(map(bytes, found)) == sorted(map(bytes, wanted))
    if data.labels is not None:
        for pixels, label in zip(found, torch.cat(data.labels).tolist(), strict=True):
            assert LABELS[(wanted == pixels).all((1, 2)).argmax()] == label
    assert (data.labels is not None) == (name in ("class folders", "torchvision, in memory", "Hugging Face"))


OFFICIAL = {
    "folders": lambda p: (
        write_folder(p / "train", GREY[:20], LABELS[:20]),
        write_folder(p / "test", GREY[20:], LABELS[20:]),
        p,
    )[2],
    "npz": lambda p: (
        np.savez(p / "a.npz", x_train=GREY[:20], y_train=LABELS[:20], x_test=GREY[20:], y_test=LABELS[20:]),
        p / "a.npz",
    )[1],
    "idx": lambda p: (
        [
            write(p / f"{name}-{kind}-ubyte", idx(array[part]))
            for name, part in (("train", slice(20)), ("t10k", slice(20, None)))
            for kind, array in (("images-idx3", GREY), ("labels-idx1", LABELS.astype(np.uint8)))
        ]
        and p
    ),
    "Hugging Face": lambda p: {"train": Rows(GREY[:20], LABELS[:20]), "test": Rows(GREY[20:], LABELS[20:])},
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_test_parts_stay(tmp_path, name):
    data = load_dataset(OFFICIAL[name](tmp_path), split=Split(validation=0.2, seed=3))
    label_of = dict(zip(map(bytes, GREY[20:]), LABELS[20:].tolist(), strict=True))
    assert {
        bytes(row): label for row, label in zip(data.test.numpy(), data.labels[2].tolist(), strict=True)
    } == label_of
    assert (len(data.train), len(data.validation)) == (16, 4)


def test_images_load_again_and_score(tmp_path):
    folder = write_folder(tmp_path / "f", RNG.integers(0, 256, size=(20, 9, 7, 3), dtype=np.uint8))
    data = load_dataset(str(folder), seed=4, image_size=4)
    assert data.event_shape == (3, 4, 4)
    again = load_again(data.source, data.loading)
    assert torch.equal(again.train, data.train)
    rows = read_rows(GREY, load_dataset(GREY).columns)
    assert torch.equal(rows, torch.from_numpy(GREY).reshape(30, -1).double())


def test_photos_are_upright(tmp_path):
    """An image stored on its side with EXIF orientation 6 is turned by a quarter, clockwise."""
    stored = RNG.integers(0, 256, size=(5, 7), dtype=np.uint8)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(stored, -1))


def test_scaling_keeps_the_mean_of_the_centred_square(tmp_path):
    """Box filter: each output pixel is the mean of a 2x2 block, rounded across and then down to whole grey levels."""
    pixels = RNG.integers(0, 256, size=(4, 8), dtype=np.uint8)
    data = load_dataset(
        write_folder(tmp_path, [pixels] + list(RNG.integers(0, 256, (9, 4, 8), np.uint8))), image_size=2
    )
    across = np.floor(pixels[:, 2:6].reshape(4, 2, 2).mean(2) + 0.5)
    wanted = np.floor(across.reshape(2, 2, 2).mean(1) + 0.5)
    assert any(np.array_equal(image, wanted) for image in together(data)[:, 0].numpy())


def save(path, image):
    image.save(path)
    return path.parent


MIXED = PillowImage.fromarray(np.zeros((4, 4), np.uint8))
BAD = {
    "mixed sizes": (
        lambda p: (MIXED.save(p / "000.png"), write_folder(p / "z", GREY), p)[2],
        "000.png is 4x4 grey.*000.png",
    ),
    "grey and colour": (
        lambda p: (MIXED.save(p / "0.png"), write_folder(p, np.zeros((2, 4, 4, 3), np.uint8)))[1],
        "channels",
    ),
    "truncated": (lambda p: write(write_folder(p, GREY) / "000.png", b"\x89PNG\r\n").parent, "000.png: cannot be read"),
    "no image": (lambda p: write(write_folder(p, GREY) / "007.jpg", b"text").parent, "007.jpg: cannot be read"),
    "transparent": (
        lambda p: save(p / "a.png", PillowImage.new("RGBA", (2, 2), (0, 0, 0, 7))),
        "a.png: is partly transparent",
    ),
    "16 bits": (lambda p: save(p / "a.png", PillowImage.new("I;16", (2, 2))), "a.png: expected 8-bit grey or RGB"),
    "empty folder": (lambda p: p, "has no image files"),
    "short idx": (lambda p: write(p / "a-idx3-ubyte", idx(GREY)[:-1]), "a-idx3-ubyte: the header promises"),
    "foreign idx": (lambda p: write(p / "a-idx3-ubyte", b"PK12"), "a-idx3-ubyte: not an idx file"),
    "broken gz": (
        lambda p: write(p / "a-idx3-ubyte.gz", gzip.compress(idx(GREY))[:40]),
        "a-idx3-ubyte.gz: cannot be read",
    ),
    "float idx": (lambda p: write(p / "a-idx3-ubyte", idx(GREY.astype(np.float32) / 255)), "ubyte: .*divided by 255"),
    "unit range": (
        lambda p: (np.savez(p / "a.npz", x_train=GREY / 255), p / "a.npz")[1],
        "a.npz:x_train: .*divided by 255",
    ),
    "sizes of parts": (
        lambda p: (np.savez(p / "a.npz", x_train=GREY, x_test=GREY[:, :4]), p / "a.npz")[1],
        "training and test images differ",
    ),
    "one for white": (lambda p: GREY // 200, "the array: .* multiply images of zeros and ones by 255"),
    "channels": (lambda p: np.zeros((5, 4, 4, 2), np.uint8), "1 or 3 channels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_named(tmp_path, name):
    make, message = BAD[name]
    with pytest.raises(DataError, match=message):
        load_dataset(make(tmp_path))


def test_an_idx_file_keeps_its_type_and_shape(tmp_path):
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    found = read_idx(write(tmp_path / "a-idx3-ubyte", idx(values)))
    assert found.dtype == np.dtype(">f4")
    assert np.array_equal(found, values)
