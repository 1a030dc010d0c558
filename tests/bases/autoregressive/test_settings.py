"""Order of the values of an image, and which earlier ones each is predicted from."""

import pytest
import torch

from drl_density.bases import PixelSettings
from drl_density.bases.autoregressive import image_shape
from drl_density.errors import DataError


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 5), (1, 1, 7), (2, 6, 1), (1, 1, 1), (3, 1, 1)])
@pytest.mark.parametrize("reach", [1, 2, 5])
def test_every_value_reads_earlier_ones_alone_and_each_once(shape, reach):
    settings = PixelSettings(shape, reach=reach, num_windows=3)
    order, neighbours = settings.order(), settings.neighbours()
    assert torch.equal(order.sort().values, torch.arange(settings.num_features))
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order))
    for place, read in enumerate(neighbours):
        inside = read[read < settings.num_features]
        assert len(inside.unique()) == len(inside)
        assert bool((position[inside] < position[place]).all())
        assert bool(((read >= 0) & (read <= settings.num_features)).all())


def test_the_densest_window_has_every_earlier_pixel_near_by():
    """A pixel in the middle: two rows above, three columns to both sides, and what is left of it; with both channels."""
    settings = PixelSettings((2, 9, 9), reach=3, num_windows=1)
    place, size = 4 * 9 + 4, 81
    read = settings.neighbours()[place]
    pixels = {row * 9 + column for row in (2, 3, 4) for column in range(1, 8) if (row, column) < (4, 4)}
    assert {int(one) for one in read} == pixels | {pixel + size for pixel in pixels} | {2 * size}
    # The second channel also reads the first one of its own pixel.
    assert place in settings.neighbours()[place + size].tolist()
    assert settings.order()[:4].tolist() == [0, size, 1, size + 1]


def test_further_windows_reach_twice_as_far_with_twice_the_distance():
    one, three = (PixelSettings((1, 40, 40), reach=2, num_windows=number) for number in (1, 3))
    place = 20 * 40 + 20
    added = set(three.neighbours()[place].tolist()) - set(one.neighbours()[place].tolist())
    assert {16 * 40 + 12, 16 * 40 + 28, 18 * 40 + 16, 20 * 40 + 12} <= added
    assert not {17 * 40 + 20, 20 * 40 + 13, 20 * 40 + 17} & added


def test_places_differ_from_one_another():
    places = PixelSettings((2, 6, 7)).places()
    assert len(places.unique(dim=0)) == 84


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shape": (1, 2)}, "shape must be a tuple of 3 values, got"),
        ({"shape": (1, 0, 2)}, "shape must be a tuple in which every value must be at least 1"),
        ({"num_cells": 1}, r"num_cells must lie in \[2, 32767\], got 1"),
        ({"num_windows": 4}, r"num_windows must lie in \[1, 3\], got 4"),
        ({"width": 0}, "width must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        PixelSettings(**{"shape": (1, 2, 2), **given})


def test_events_of_one_to_three_dimensions_are_images():
    assert image_shape((5,)) == (1, 1, 5)
    assert image_shape((4, 5)) == (1, 4, 5)
    assert image_shape((3, 4, 5)) == (3, 4, 5)
    for shape in ((), (1, 2, 3, 4)):
        with pytest.raises(DataError, match=r"expected events \(d,\), .*got"):
            image_shape(shape)
