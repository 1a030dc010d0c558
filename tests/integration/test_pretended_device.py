"""The pretended device refuses to mix with the CPU, as a GPU does."""

import pytest
import torch

from tests.integration.pretended_device import CARD, PretendedDevice

MIXED = {
    "sum": lambda far, near: far + near,
    "rows": lambda far, near: near[far.long()],
    "joined": lambda far, near: torch.cat([near, far]),
    "numpy": lambda far, near: far.numpy(),
    "generator": lambda far, near: torch.randn(2, device=CARD, generator=torch.Generator()),
    "in place": lambda far, near: near.add_(far),
}


@pytest.mark.parametrize("name", MIXED)
def test_the_pretended_device_refuses_what_a_card_refuses(name):
    with PretendedDevice(), pytest.raises((RuntimeError, TypeError), match="devic|generator"):
        MIXED[name](torch.zeros(2, device=CARD), torch.zeros(2))
