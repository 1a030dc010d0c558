"""Settings of the energy networks, one class each."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self, get_args

from drl_density.errors import DataError
from drl_density.networks import MULTIPLIERS
from drl_density.records.fields import Chance, Interval, NonNegativeInt, PositiveFloat, PositiveInt, check_fields

__all__ = [
    "NETWORKS",
    "ColumnNetwork",
    "ImageNetwork",
    "MLPNetwork",
    "NetworkSettings",
    "NoNetwork",
    "ResidualNetwork",
    "UNetNetwork",
]


@dataclass(frozen=True)
class MLPNetwork:
    """Residual multilayer perceptron over the columns of a table.

    Attributes:
        width: Hidden units of each layer.
        num_blocks: Residual blocks between the first and the last layer.
        num_fourier_features: Random Fourier features of the input; None takes 64 for up to three columns, else none.
        fourier_scale: Standard deviation of the frequencies of these features.
        dropout: Share of hidden units dropped in training. None takes 0 from 5,000 rows on; below that, 0.3 for fewer
            than 300 rows or fewer than 30 rows a column, else 0.1.

    Raises:
        ValueError: Counts below their least value, or a dropout outside [0, 1).
    """

    kind: ClassVar[str] = "mlp"
    num_classes: ClassVar[int] = 0

    width: PositiveInt = 128
    num_blocks: PositiveInt = 2
    num_fourier_features: NonNegativeInt | None = None
    fourier_scale: PositiveFloat = 2.0
    dropout: Chance | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def resolve(self, num_rows: int, event_shape: tuple[int, ...]) -> MLPNetwork:
        """These settings with every None replaced by the choice for a table of this size.

        Args:
            num_rows: Number of training rows.
            event_shape: Shape of one data point, ``(d,)`` for a table.
        """
        num_features = math.prod(event_shape)
        found = self
        if self.num_fourier_features is None:
            found = dataclasses.replace(found, num_fourier_features=64 if num_features <= 3 else 0)
        if self.dropout is None:
            found = dataclasses.replace(found, dropout=_choose_dropout(num_rows, num_features))
        return found


SMALL_TABLE = 3000
"""Training rows below which a network over columns is small. On 2,410 rows of waveform, 128 units overfit after a gain of
0.099 nats a row on validation, and 48 units gained 0.123."""


@dataclass(frozen=True)
class ColumnNetwork:
    """Bounded residual network over the columns of a table, each seen through a bank of sigmoids.

    Attributes:
        width: Hidden units of each layer. None takes 48 below 3,000 rows, else 128.
        num_blocks: Residual blocks between the first and the last layer. None takes 1 below 3,000 rows, else 2.
        num_sigmoids: Sigmoids that each column is seen through.
        column_width: Numbers to which the sigmoids of a column are reduced. None takes 8 below 3,000 rows, else 16.
        dropout: Share of hidden units dropped in training. None takes 0.4 below 3,000 rows, 0.3 below 20,000, else 0.2.

    Raises:
        ValueError: Counts below their least value, or a dropout outside [0, 1).
    """

    kind: ClassVar[str] = "columns"
    num_classes: ClassVar[int] = 0

    width: PositiveInt | None = None
    num_blocks: PositiveInt | None = None
    num_sigmoids: Annotated[int, Interval(2)] = 24
    column_width: PositiveInt | None = None
    dropout: Chance | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def resolve(self, num_rows: int, event_shape: tuple[int, ...]) -> ColumnNetwork:
        """These settings with every None replaced by the choice for a table of this size.

        Args:
            num_rows: Number of training rows.
            event_shape: Shape of one data point, ``(d,)`` for a table.
        """
        is_small = num_rows < SMALL_TABLE
        return dataclasses.replace(
            self,
            width=self.width or (48 if is_small else 128),
            num_blocks=self.num_blocks or (1 if is_small else 2),
            column_width=self.column_width or (8 if is_small else 16),
            dropout=(0.4 if is_small else 0.3 if num_rows < 20_000 else 0.2)
            if self.dropout is None
            else self.dropout,
        )


@dataclass(frozen=True)
class ImageNetwork:
    """What the networks over images share.

    Attributes:
        shape: Channels, height and width of an image; None takes those of the data.
        num_channels: Channels of the first feature map.
        multipliers: Multiples of these channels at each resolution; None takes those of the image size.
        num_blocks: Residual blocks at each resolution.
        is_step_calibrated: Divides the output by the squared Langevin step and scales the input, as the papers do.
            Requires an objective with Langevin steps.
        flips: Mirrors training images left to right with probability one half.
        num_classes: Number of labels that condition the network; 0 for none.
        patch_size: Side in pixels of the patches that are folded into channels before the first convolution.
    """

    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    num_channels: PositiveInt = 16
    multipliers: tuple[PositiveInt, ...] | None = None
    num_blocks: PositiveInt = 1
    is_step_calibrated: bool = False
    flips: bool = False
    num_classes: NonNegativeInt = 0
    patch_size: PositiveInt = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def resolve(self, num_rows: int, event_shape: tuple[int, ...]) -> Self:
        """These settings with every None replaced by the choice for images of this shape.

        Args:
            num_rows: Number of training images.
            event_shape: ``(height, width)`` or ``(channels, height, width)`` of one image; or the number of pixels of
                flat rows whose :attr:`shape` is given.

        Raises:
            DataError: Events that are no images, or of another shape than these settings are for.
        """
        if self.shape is not None and event_shape == (math.prod(self.shape),):
            event_shape = self.shape
        if len(event_shape) not in (2, 3):
            raise DataError(
                f"a network over images needs images, event shape (h, w) or (c, h, w), got {tuple(event_shape)}; use "
                "MLPNetwork for tables, or give network.shape for flat rows of images"
            )
        shape = (1, *event_shape) if len(event_shape) == 2 else tuple(event_shape)
        if self.shape is not None and tuple(self.shape) != shape:
            raise DataError(
                f"these settings are for images of shape {tuple(self.shape)} (channels, height, width), the data has "
                f"{shape}: choose another preset, or scale the images (image files by --image-size)"
            )
        known = max((size for size in MULTIPLIERS if size <= min(shape[1:])), default=None)
        multipliers = self.multipliers or (MULTIPLIERS[known] if known else (1,))
        return dataclasses.replace(self, shape=shape, multipliers=tuple(multipliers))


@dataclass(frozen=True)
class ResidualNetwork(ImageNetwork):
    """Residual network over images, as in the papers.

    Attributes:
        shape: Channels, height and width of an image; None takes those of the data.
        num_channels: Channels of the first feature map.
        multipliers: Multiples of these channels at each resolution; None takes those of the image size.
        num_blocks: Residual blocks at each resolution.
        is_step_calibrated: Divides the output by the squared Langevin step and scales the input, as the papers do.
            Requires an objective with Langevin steps.
        flips: Mirrors training images left to right with probability one half.
        num_classes: Number of labels that condition the network; 0 for none.
        patch_size: Side in pixels of the patches that are folded into channels before the first convolution.
        readout: What the energy reads: "sum", features summed over the places, as the papers do, or "places", each feature
            at each place.
        attention_sizes: Heights of the feature maps that have attention.
        is_normalized: Normalises the weights by their spectral norm.
        activation: Activation function; the papers take "leaky_relu".
        starts_at_zero: Starts training at the fixed base; the papers start at a random network.
        has_level_index: Conditions the network on the index of the level, as the first paper does, rather than on the log
            signal-to-noise ratio.

    Raises:
        ValueError: Counts below their least value, or an unknown activation.

    >>> ResidualNetwork(num_channels=8).resolve(1000, (1, 8, 8)).multipliers
    (1, 2)
    """

    kind: ClassVar[str] = "residual"

    readout: Literal["sum", "places"] = "sum"
    attention_sizes: tuple[PositiveInt, ...] = ()
    is_normalized: bool = False
    activation: Literal["silu", "leaky_relu"] = "silu"
    starts_at_zero: bool = True
    has_level_index: bool = False


@dataclass(frozen=True)
class UNetNetwork(ImageNetwork):
    """U-Net over images; the energy is the inner product of its output with the image.

    Attributes:
        shape: Channels, height and width of an image; None takes those of the data.
        num_channels: Channels of the first feature map.
        multipliers: Multiples of these channels at each resolution; None takes those of the image size.
        num_blocks: Residual blocks at each resolution.
        is_step_calibrated: Divides the output by the squared Langevin step and scales the input, as the papers do.
            Requires an objective with Langevin steps.
        flips: Mirrors training images left to right with probability one half.
        num_classes: Number of labels that condition the network; 0 for none.
        patch_size: Side in pixels of the patches that are folded into channels before the first convolution.
        num_middle_blocks: Residual blocks at the coarsest resolution.
        dropout: Share of features dropped in training; None takes that of :class:`MLPNetwork`.
        has_linear_readout: Whether the output is a linear map of the features, without a SiLU before it. High learning rates
            can then not silence the network.

    Raises:
        ValueError: Counts below their least value, or a dropout outside [0, 1).
    """

    kind: ClassVar[str] = "unet"

    num_middle_blocks: NonNegativeInt = 3
    dropout: Chance | None = None
    has_linear_readout: bool = False

    def resolve(self, num_rows: int, event_shape: tuple[int, ...]) -> Self:
        """These settings with every None replaced by the choice for this number of images of this shape.

        Args:
            num_rows: Number of training images.
            event_shape: Shape of one image, as :meth:`ImageNetwork.resolve` takes it.
        """
        found = super().resolve(num_rows, event_shape)
        if self.dropout is not None:
            return found
        return dataclasses.replace(found, dropout=_choose_dropout(num_rows, math.prod(event_shape)))


@dataclass(frozen=True)
class NoNetwork:
    """No network: the fitted density is the reference, whose log Z is 0 exactly."""

    kind: ClassVar[str] = "none"
    num_classes: ClassVar[int] = 0

    def resolve(self, num_rows: int, event_shape: tuple[int, ...]) -> NoNetwork:
        """These settings, which do not depend on the data.

        Args:
            num_rows: Number of training rows; it has no effect.
            event_shape: Shape of one data point; it has no effect.
        """
        return self


NetworkSettings = MLPNetwork | ColumnNetwork | ResidualNetwork | UNetNetwork | NoNetwork
"""Settings of any energy network."""

NETWORKS: dict[str, type[NetworkSettings]] = {made.kind: made for made in get_args(NetworkSettings)}
"""Classes by the name that saved settings and presets give them."""


def _choose_dropout(num_rows: int, num_features: int) -> float:
    """Dropout by the number of rows, measured on small tables."""
    if num_rows >= 5000:
        return 0.0
    return 0.3 if num_rows < max(300, 30 * num_features) else 0.1
