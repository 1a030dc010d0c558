"""8-bit images in memory: one layout, columns of grey levels, equal images together, and every refusal."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from drl_density import Split, fit, load_dataset
from drl_density.datasets import choose_transform, read_rows
from drl_density.datasets.images import as_pixels, images_in_memory, pixel_columns, scaling_of
from drl_density.errors import DataError, DataWarning
from tests.datasets.pictures import COLOR, GREY, LABELS, together, write_folder

RNG = np.random.default_rng(1)


def test_color_layouts_agree(tmp_path):
    whole = np.moveaxis(COLOR, -1, 1)
    folder = load_dataset(write_folder(tmp_path / "f", COLOR), seed=0)
    for data in (folder, load_dataset(COLOR, seed=0), load_dataset(whole.copy(), seed=0)):
        assert data.event_shape == (3, 6, 5)
        assert sorted(map(bytes, together(data).numpy())) == sorted(map(bytes, whole))


def test_equal_images_stay_on_one_side():
    data = load_dataset(np.concatenate([GREY, GREY]), seed=0)
    sides = [set(map(bytes, part.numpy())) for part in (data.train, data.validation, data.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]


def test_images_go_through_a_fit(tiny_settings):
    data = load_dataset(RNG.integers(0, 256, size=(60, 2, 2), dtype=np.uint8), seed=0)
    transform, dequantization = choose_transform(data)
    rows = transform(dequantization(data.train, generator=torch.Generator().manual_seed(0)))
    assert rows.isfinite().all()
    quick = dataclasses.replace(tiny_settings, base="gaussian", selection="last", num_particles=16)
    density = fit(data, seed=0, settings=quick, progress=False)
    assert density.log_prob(data.test.double()).isfinite().all()


def test_images_take_no_columns():
    with pytest.raises(DataError, match="no columns to declare"):
        load_dataset(GREY, drop=["x0"])
    with pytest.raises(DataError, match="no columns to split"):
        load_dataset(GREY, split=Split(group="x0"))
    with pytest.raises(DataError, match="image_size scales"):
        load_dataset("wine", image_size=8)
    with pytest.raises(DataError, match="source is an array, whose images keep their size"):
        load_dataset(np.zeros((20, 4, 4), np.uint8), image_size=8)
    with pytest.raises(DataError, match="image_size must be at least 1 pixel, got -2"):
        load_dataset(np.zeros((20, 4, 4), np.uint8), image_size=-2)
    with pytest.raises(DataError, match="30 columns, these images have 9 pixels"):
        read_rows(GREY[:, :3, :3], load_dataset(GREY).columns)


NOT_WHOLE = (LABELS + 0.5, np.full(len(LABELS), np.nan), np.full(len(LABELS), np.inf), np.array(["cat"] * len(LABELS)))


@pytest.mark.parametrize("labels", NOT_WHOLE, ids=("fraction", "missing", "infinite", "text"))
def test_labels_that_are_no_whole_numbers_are_refused(labels, tmp_path):
    np.savez(tmp_path / "wrong.npz", x_train=GREY, y_train=labels)
    with pytest.raises(DataError, match="expected labels that are whole numbers, got"):
        load_dataset(str(tmp_path / "wrong.npz"))
    whole = LABELS.astype(float) if labels.dtype.kind == "f" else LABELS.astype(str)
    np.savez(tmp_path / "whole.npz", x_train=GREY, y_train=whole)
    found = load_dataset(str(tmp_path / "whole.npz")).labels
    assert sorted(torch.cat(tuple(found)).tolist()) == sorted(LABELS.tolist())


def test_labels_are_neither_lost_nor_taken_for_those_of_other_images(tmp_path):
    for labels in (LABELS[:-1], np.eye(len(LABELS), dtype=int)):
        np.savez(tmp_path / "wrong.npz", x_train=GREY, y_train=labels)
        with pytest.raises(DataError, match=rf"y_train has shape \({labels.shape[0]},.*one label for each of the 30 images"):
            load_dataset(str(tmp_path / "wrong.npz"))
    np.savez(tmp_path / "half.npz", x_train=GREY, y_train=LABELS, x_test=GREY)
    with pytest.warns(DataWarning, match="has no y_test for its x_test, so those of the other part are left out too"):
        assert load_dataset(str(tmp_path / "half.npz")).labels is None


def test_images_with_gradients_are_read():
    images = torch.from_numpy(GREY).float().requires_grad_()
    assert torch.equal(load_dataset(images).train, load_dataset(GREY).train)


def test_grey_levels_are_recognised_in_any_type():
    expected = load_dataset(GREY, seed=0)
    pillow = [PIL.Image.fromarray(image) for image in GREY]
    arrays = (GREY.astype(np.int64), GREY.astype(np.float32), torch.as_tensor(GREY))
    for given in (*arrays, list(GREY), GREY.tolist(), [image.tolist() for image in GREY], pillow):
        found = load_dataset(given, seed=0)
        assert found.is_images
        assert torch.equal(found.train, expected.train)
    assert images_in_memory(RNG.normal(size=(30, 6, 5))) is None
    assert images_in_memory(RNG.normal(size=(30, 6, 5)).tolist()) is None
    assert images_in_memory(GREY[:, 0].tolist()) is None  # rows of a table


def test_images_of_other_scales_and_sizes_are_refused():
    with pytest.raises(DataError, match=r"look like grey levels divided by 255.*np.round\(255 \* images\)"):
        load_dataset(GREY / 255)
    with pytest.raises(DataError, match="expected grey levels 0..255, got whole numbers from -10 to"):
        load_dataset(GREY.astype(np.int16) - 10)
    with pytest.raises(DataError, match="image 0 is 5x6 grey, image 1 is 4x4 grey; scale them to one size first"):
        load_dataset([GREY[0], np.zeros((4, 4), np.uint8)])
    with pytest.raises(DataError, match="image 0 is 5x6 grey, image 1 is 2x1 grey; scale them to one size first"):
        load_dataset([GREY[0].tolist(), [[1, 2]]])
    with pytest.raises(DataError, match="image 1 has lines of different lengths: give each line as many pixels"):
        load_dataset([GREY[0].tolist(), [[1, 2], [3]]])
    with pytest.raises(DataError, match="look like grey levels divided by 255"):
        as_pixels(GREY / 255, "here")
    with pytest.raises(DataError, match=r"divided by 127.5, less 1: .* np.round\(127.5 \* \(images \+ 1\)\)"):
        load_dataset((GREY / 127.5 - 1).astype(np.float32))
    assert scaling_of(np.where(GREY > 200, np.nan, GREY / 255))
    assert not scaling_of(np.array([-1.0, 0.0, 1.0]))


def test_arrays_of_images_of_mixed_sizes_are_refused(tmp_path):
    mixed = np.empty(2, object)
    mixed[:] = [GREY[0], np.zeros((4, 4), np.uint8)]
    np.save(tmp_path / "mixed.npy", mixed, allow_pickle=True)
    with pytest.raises(DataError, match="images of mixed sizes are saved: save one array of numbers"):
        load_dataset(tmp_path / "mixed.npy")


def test_layouts_become_channels_first():
    assert as_pixels(GREY, "here").shape == (30, 1, 6, 5)
    assert np.array_equal(as_pixels(COLOR, "here"), np.moveaxis(COLOR, -1, 1))
    assert as_pixels(GREY.astype(float), "here").dtype == np.uint8
    with pytest.raises(DataError, match="here: has no pixels"):
        as_pixels(GREY[:0], "here")
    with pytest.raises(DataError, match="here: expected 8-bit images"):
        as_pixels(GREY + 0.5, "here")


def test_pixels_are_whole_numbers_with_bounds_half_a_level_outside():
    (column,) = pixel_columns(1)
    assert (column.kind, column.width, column.lower, column.upper) == ("integer", 1.0, -0.5, 255.5)


def test_other_objects_are_no_images():
    assert images_in_memory(np.zeros((5, 4, 4))) is None
    assert images_in_memory(GREY[0]) is None
    assert images_in_memory(SimpleNamespace(data=GREY)) is None


class Folder(list):
    """A list of (image, label) with the marks of a torchvision folder."""

    loader = samples = None


def test_items_of_a_torchvision_folder_are_read_one_by_one():
    found = images_in_memory(Folder(zip(COLOR, LABELS, strict=True)))
    assert found.labels.tolist() == LABELS.tolist()
    assert np.array_equal(found.pixels, np.moveaxis(COLOR, -1, 1))
