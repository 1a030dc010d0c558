"""Devices by name, random numbers on them, precision and global generators."""

import pytest
import torch

from drl_density.devices import (
    find_device,
    generator_device,
    globally_seeded,
    normal_draws,
    uniform_draws,
    whole_float32,
)
from drl_density.testing import seeded_generator
from tests.integration.pretended_device import CARD, FarTensor, PretendedDevice

ASKED = [("cuda:99", "cannot be used"), ("nonsense", "torch .* has cpu"), ("meta", "name one of those"), ("", "cannot")]


@pytest.mark.parametrize(("name", "message"), ASKED)
def test_a_device_that_is_not_there_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        find_device(name)


@pytest.mark.parametrize("draws", [normal_draws, uniform_draws])
def test_a_seed_means_the_same_numbers_everywhere(draws):
    """Also where no generator is given, as far as the global one is the CPU's."""
    like = torch.zeros(1, dtype=torch.float64)
    expected = draws((3, 2), like, seeded_generator(0))
    with PretendedDevice():
        found = draws((3, 2), like.to(CARD), seeded_generator(0))
        assert isinstance(found, FarTensor)
        assert torch.equal(found.cpu(), expected)


def fails_in_whole_float32(matmul, convolution):
    with whole_float32(torch.device("cuda")):
        assert (matmul.fp32_precision, convolution.fp32_precision) == ("ieee", "ieee")
        raise KeyError


def test_flags_of_precision_come_back():
    """Whatever the user had set, also after an error; and nothing is touched for a CPU."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    try:
        matmul.fp32_precision, convolution.fp32_precision = "tf32", "tf32"
        with pytest.raises(KeyError):
            fails_in_whole_float32(matmul, convolution)
        with whole_float32(torch.device("cpu")):
            assert (matmul.fp32_precision, convolution.fp32_precision) == ("tf32", "tf32")
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before


def test_the_device_that_is_there_is_found():
    assert find_device("cpu") == torch.device("cpu")
    assert find_device(torch.device("cpu")) == torch.device("cpu")


def test_numbers_are_drawn_where_the_generator_is():
    assert generator_device(None) == torch.device("cpu")
    assert generator_device(torch.Generator("cpu")) == torch.device("cpu")


def test_global_generators_are_seeded_inside_and_restored_after():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    generator = seeded_generator(0)
    with globally_seeded(generator):
        first = torch.rand(4)
    with globally_seeded(generator):
        second = torch.rand(4)
    with globally_seeded(seeded_generator(0)):
        assert torch.equal(torch.rand(4), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.rand(4), expected)
