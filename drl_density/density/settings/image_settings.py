"""Choices that only networks over images have."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from drl_density.errors import DataError
from drl_density.networks import MULTIPLIERS, ResidualSettings, UNetEnergySettings
from drl_density.records.literals import check_literals


@dataclass(frozen=True)
class ImageSettings:
    """Sizes and rules of energy networks over images and of the initialiser; None means chosen from the image's size.

    Of network "unet" are num_channels, multipliers, num_blocks, num_middle_blocks, patch_size and num_classes; the rest of
    the choices about the energy are of network "residual".

    Attributes:
        shape: (channels, height, width) of an image.
        num_channels: of the first feature map.
        multipliers: of the channels at each resolution.
        num_blocks: residual blocks at each resolution.
        num_middle_blocks: of network "unet": residual blocks at the coarsest resolution.
        patch_size: of network "unet": pixels of a side that are folded into channels.
        attention_sizes: heights of feature maps with attention.
        is_normalized: spectral normalisation.
        activation: "silu", or the papers' "leaky_relu".
        starts_at_zero: begin at the fixed base; the papers begin at a random network.
        is_step_calibrated: the papers' parametrisation: output over the squared Langevin step, input times a.
        has_level_index: the network is told the level's index, as the first paper's, in place of its log-SNR.
        flips: training images are mirrored left to right with chance one half.
        num_classes: labels that cooperative training or score matching tells the networks; 0 for none.
        num_validation_rows: held-out images that evaluations look at.
        initializer_channels: of the initialiser U-Net of cooperative training.
        initializer_multipliers: of its channels.
        initializer_blocks: residual blocks at each of its resolutions.
        initializer_rate: its learning rate over the energy's.

    >>> ImageSettings(num_channels=8).resolve((1, 8, 8)).multipliers
    (1, 2)
    """

    shape: tuple[int, int, int] | None = None
    num_channels: int = 16
    multipliers: tuple[int, ...] | None = None
    num_blocks: int = 1
    num_middle_blocks: int = 3
    patch_size: int = 1
    attention_sizes: tuple[int, ...] = ()
    is_normalized: bool = False
    activation: Literal["silu", "leaky_relu"] = "silu"
    starts_at_zero: bool = True
    is_step_calibrated: bool = False
    has_level_index: bool = False
    flips: bool = False
    num_classes: int = 0
    num_validation_rows: int = 256
    initializer_channels: int = 64
    initializer_multipliers: tuple[int, ...] | None = None
    initializer_blocks: int = 3
    initializer_rate: float = 0.1

    def __post_init__(self) -> None:
        check_literals(self)

    def resolve(self, event_shape: tuple[int, ...]) -> ImageSettings:
        """With the shape and multipliers for events ``(h, w)`` or ``(c, h, w)``, or flat ones of the size of ``shape``.

        Args:
            event_shape: of one point of the data.

        Raises:
            DataError: events that are no images, or of another shape than the settings are for.
        """
        if self.shape is not None and len(event_shape) == 1 and event_shape[0] == math.prod(self.shape):
            event_shape = self.shape
        if len(event_shape) not in (2, 3):
            raise DataError(
                f"a network over images needs images, event shape (h, w) or (c, h, w), got {tuple(event_shape)}; use "
                'network "mlp" for tables, or say images.shape for flat rows of images'
            )
        shape = (1, *event_shape) if len(event_shape) == 2 else tuple(event_shape)
        if self.shape is not None and tuple(self.shape) != shape:
            raise DataError(
                f"these settings are for images of shape {tuple(self.shape)} (channels, height, width), the data has "
                f"{shape}: choose another preset, or scale the images (--image-size)"
            )
        side = min(shape[1:])
        known = max((size for size in MULTIPLIERS if size <= side), default=None)
        multipliers = self.multipliers or (MULTIPLIERS[known] if known else (1,))
        halvings = 0
        while halvings < 2 and side % 2 ** (halvings + 1) == 0 and side >= 2 ** (halvings + 3):
            halvings += 1
        initializer = self.initializer_multipliers or (1,) * (halvings + 1)
        return dataclasses.replace(
            self, shape=shape, multipliers=tuple(multipliers), initializer_multipliers=tuple(initializer)
        )

    def residual_sizes(self, level_log_snr: tuple[float, ...] | None = None) -> ResidualSettings:
        """Those of network "residual", of resolved settings.

        Args:
            level_log_snr: table of the levels, for a network that is told their index.

        Raises:
            DataError: choices that only network "unet" has.
        """
        self._refuse("residual", ("num_middle_blocks", "patch_size"), other="unet")
        return ResidualSettings(
            self.shape,
            num_channels=self.num_channels,
            multipliers=self.multipliers,
            num_blocks=self.num_blocks,
            attention_sizes=self.attention_sizes,
            is_normalized=self.is_normalized,
            activation=self.activation,
            starts_at_zero=self.starts_at_zero,
            level_log_snr=level_log_snr,
            num_classes=self.num_classes,
        )

    def unet_sizes(self, dropout: float = 0.0) -> UNetEnergySettings:
        """Those of network "unet", of resolved settings.

        Args:
            dropout: share of features dropped while training, which is a setting of the fit.

        Raises:
            DataError: images that cannot be folded and halved so often, or choices that only network "residual" has.
        """
        others = ("attention_sizes", "is_normalized", "activation", "starts_at_zero", "has_level_index")
        self._refuse("unet", others, other="residual")
        try:
            return UNetEnergySettings(
                self.shape,
                num_channels=self.num_channels,
                multipliers=self.multipliers,
                num_blocks=self.num_blocks,
                num_middle_blocks=self.num_middle_blocks,
                patch_size=self.patch_size,
                num_classes=self.num_classes,
                dropout=dropout,
            )
        except ValueError as error:
            raise DataError(f"images.multipliers or images.patch_size do not fit: {error}") from error

    def _refuse(self, network: str, names: tuple[str, ...], *, other: str) -> None:
        """Raise where one of ``names``, which only the ``other`` network has, differs from its default."""
        plain = ImageSettings()
        changed = [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) != getattr(plain, name)]
        if changed:
            raise DataError(
                f'network "{network}" has no {", ".join(changed)}: leave that out, or take network "{other}"'
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageSettings:
        """Settings from plain values; lists become tuples.

        Args:
            values: by name.
        """
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
