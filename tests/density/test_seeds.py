"""One reading of seeds."""

import numpy as np
import pytest
import torch

from drl_density.density.seeds import random_generator
from drl_density.errors import DataError


def first(seed):
    return torch.rand(3, generator=random_generator(seed)).tolist()


def test_equal_seeds_of_any_integer_type_give_equal_numbers():
    assert first(3) == first(np.int64(3)) == first(np.uint8(3))
    assert first(3) != first(4)


def test_none_follows_the_global_generator():
    torch.manual_seed(5)
    one, two = first(None), first(None)
    torch.manual_seed(5)
    assert one != two
    assert first(None) == one


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "a", True])
def test_other_seeds_are_refused_in_words(seed):
    with pytest.raises(DataError, match="seed must be an integer from 0 to"):
        random_generator(seed)
