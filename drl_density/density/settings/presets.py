"""Settings of the papers' experiments and of small image fits, as data: every number with its source.

A preset is a set of overrides of :class:`drl_density.FitSettings`, named by dotted paths, each with where it comes from.
``drl-density fit photos --preset images --dry-run`` prints what a preset amounts to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DRL_CODE = "release of arXiv 2012.08125, config.py"
DRL_README = "release of arXiv 2012.08125, README"
DRL_NETWORK = "release of arXiv 2012.08125, network.py and model.py"
DRL_PAPER = "arXiv 2012.08125, section 3.2 and appendix"
CDRL_CODE = "release of arXiv 2309.05153, main_uncond.py"
CDRL_UNET = "release of arXiv 2309.05153, models/unet.py"
CDRL_PAPER = "arXiv 2309.05153, as we recall it; not in the release"
OURS = "ours: makes the density integrable, or fits this package's machinery; not in the papers"
OURS_CPU = "ours: sized for 2 CPU cores"
OURS_GPU = "ours: sized for one GPU; mnist_gpu ran on one for minutes, digits_gpu not yet"
GUESS = "ours: neither the paper's text nor its release, both of which we know only in part, states it"


@dataclass(frozen=True)
class Number:
    """One choice and where it comes from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Preset:
    """Overrides of the fit's settings.

    Attributes:
        name: as given to ``--preset``.
        description: one line.
        image_shape: (channels, height, width) it is made for, None for any.
        numbers: by dotted path of :class:`drl_density.FitSettings`, such as ``training.batch_size``.
        notes: what differs from the paper, and what a user should know.
    """

    name: str
    description: str
    image_shape: tuple[int, int, int] | None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    notes: str = ""

    def values(self) -> dict[str, Any]:
        """Nested plain values, such as ``{"training": {"batch_size": 256}}``."""
        nested: dict[str, Any] = {}
        for path, number in self.numbers.items():
            *rooms, name = path.split(".")
            place = nested
            for room in rooms:
                place = place.setdefault(room, {})
            place[name] = number.value
        return nested

    def describe(self) -> str:
        """Every number with its source, one a line."""
        width = max(len(path) for path in self.numbers)
        lines = [f"preset {self.name}: {self.description}"]
        lines += [f"  {path:<{width}}  {number.value!r:<22} {number.source}" for path, number in self.numbers.items()]
        return "\n".join([*lines, f"  {self.notes}"] if self.notes else lines)


def _given(source: str, **values: Any) -> dict[str, Number]:
    """Numbers of one source; a double underscore stands for the dot of the path."""
    return {name.replace("__", "."): Number(value, source) for name, value in values.items()}


_DATA = {
    **_given(f"{DRL_CODE} (images / 127.5 - 1)", transform="rescale"),
    **_given("the papers have no classification", classification_weight=0.0),
    **_given(OURS, base="quadratic", num_particles=16, num_pool_draws=64),
    **_given(OURS, images__num_validation_rows=256, training__evaluate_every=5000, training__patience=10**9),
    **_given("papers report the last averaged weights", selection="last"),
    **_given("release of arXiv 2012.08125, network.py (lrelu, ReLU head, no normalisation)", network="residual"),
    **_given(DRL_NETWORK, images__is_normalized=True, images__activation="leaky_relu", images__starts_at_zero=False),
    **_given(f"{DRL_NETWORK} (log_prob divides by the squared step)", images__is_step_calibrated=True),
    **_given(DRL_CODE, images__num_channels=128, training__learning_rate=1e-4, training__weight_decay=0.0),
}
_DRL = {
    **_DATA,
    **_given(f"{DRL_NETWORK} (six of a thousand linear-beta steps)", schedule="linear_beta", num_levels=6),
    **_given(f"{DRL_NETWORK} (time is the level's index)", images__has_level_index=True),
    **_given(DRL_CODE, objective="langevin", num_chain_steps=30, langevin_factor=2e-4, kernel="ula"),
    **_given(DRL_CODE, training__num_steps=1_000_000, training__warmup_steps=1000, training__decay="constant"),
    **_given(DRL_CODE, training__average_decay=0.999, training__second_moment_decay=0.999, images__flips=True),
    **_given(f"{DRL_CODE} (grad_clip off)", training__max_gradient_norm=float("inf")),
}
_CDRL = {
    **_DATA,
    **_given(CDRL_CODE, schedule="cosine", num_levels=6, objective="cooperative", num_chain_steps=15, kernel="ula"),
    **_given(f"{CDRL_CODE} (Langevin; its last denoising step has 2e-4, which we do not follow)", langevin_factor=4e-4),
    **_given(CDRL_CODE, training__warmup_steps=10_000, training__decay="constant", training__average_decay=0.9999),
    **_given(CDRL_CODE, training__second_moment_decay=0.999, training__first_moment_decay=0.9),
    **_given(CDRL_CODE, training__max_gradient_norm=1.0, images__initializer_rate=0.1, images__num_blocks=8),
    **_given(f"{CDRL_CODE} (32 on each of 8 devices)", training__batch_size=256),
    **_given(CDRL_CODE, images__flips=True, images__initializer_channels=64),
    **_given(CDRL_UNET, images__initializer_multipliers=(1, 1, 1), images__initializer_blocks=3),
}


def _drl(name: str, what: str, side: int, *, blocks: int, batch: int, beta: float, note: str = "") -> Preset:
    multipliers = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4), 128: (1, 2, 2, 2, 4, 4)}[side]
    shared = (
        "ours: under torchrun every process holds its share of what training keeps of the weights; steps are the same"
    )
    numbers = {
        **_DRL,
        **(_given(shared, training__has_sharded_weights=True) if side == 128 else {}),
        **_given(DRL_NETWORK, images__multipliers=multipliers),
        **_given(DRL_README, images__num_blocks=blocks, training__batch_size=batch, training__first_moment_decay=beta),
    }
    dequantised = "The paper takes the 8-bit values as they are; here they are dequantised, so that there is a density."
    return Preset(
        name, f"{what}, T6 of diffusion recovery likelihood", (3, side, side), numbers, f"{dequantised} {note}".strip()
    )


def _cdrl(name: str, what: str, side: int, steps: Number, note: str = "") -> Preset:
    multipliers = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4)}[side]
    source = CDRL_CODE if side == 32 else CDRL_PAPER
    numbers = {**_CDRL, **_given(source, images__multipliers=multipliers), "training.num_steps": steps}
    return Preset(name, f"{what}, cooperative diffusion recovery likelihood", (3, side, side), numbers, note)


_SMALL = {
    **_given(OURS, network="residual", objective="adjusted", transform="rescale", base="gaussian", sigma_min=0.1),
    **_given(
        OURS,
        images__is_normalized=False,
        images__activation="silu",
        images__starts_at_zero=True,
        selection="likelihood",
    ),
    **_given(OURS, num_levels=8, kernel="mala", training__learning_rate=1e-3, images__num_blocks=1),
}
_LOGIT = _given("ours: the default of tables bounded on both sides, so that likelihoods compare", transform="logit")
_DIGITS = _given(
    OURS_CPU, images__num_channels=16, images__multipliers=(1, 2), num_chain_steps=4, training__batch_size=128
)
_DIGITS_UNET = {
    **_given(
        "ours: measured beside others, see docs/results.md",
        network="unet",
        base="mixture",
        dropout=0.1,
        num_particles=256,
    ),
    **_given(OURS_CPU, images__num_channels=8, training__evaluate_every=100),
}
_MNIST = _given(
    OURS_CPU, images__num_channels=16, images__multipliers=(1, 2, 2), num_chain_steps=4, training__batch_size=64
)
_DENOISING = {
    **_given(OURS_CPU, objective="denoising", training__batch_size=32, training__num_steps=15_000, selection="last"),
    **_given(OURS_CPU, training__learning_rate=2e-3, training__evaluate_every=2500, training__is_channels_last=True),
    **_given(
        "ours: for fits of half an hour; behind the residual network in the first minutes, see docs/results.md",
        network="unet",
        level_balance=0.5,
    ),
    **_given(OURS_CPU, images__num_channels=48, images__multipliers=(1, 2), images__patch_size=2),
    **_given(OURS_CPU, images__num_middle_blocks=4, num_particles=16, num_pool_draws=64),
    **_given("ours: losses are hundreds of nats, and so are their gradients", training__max_gradient_norm=100.0),
    **_given("ours: noise levels of images are told apart without error", classification_weight=0.0),
}
_LITTLE = {
    **_given(OURS_CPU, training__num_steps=4000, training__evaluate_every=200, num_pool_draws=500, num_particles=64),
    **_given(OURS_CPU, images__num_validation_rows=256),
}
_LARGE = {
    **_given(OURS_GPU, images__num_channels=64, images__num_blocks=2, training__batch_size=256, num_chain_steps=8),
    **_given(OURS_GPU, training__num_steps=100_000, training__evaluate_every=2000, num_particles=512),
    **_given(OURS_GPU, images__num_validation_rows=2048, num_pool_draws=2000),
    **_given(
        "ours: faster, the same values up to rounding", training__is_graphed=True, training__is_channels_last=True
    ),
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _drl("cifar10", "CIFAR-10", 32, blocks=8, batch=256, beta=0.9),
        _drl(
            "celeba64",
            "CelebA",
            64,
            blocks=6,
            batch=128,
            beta=0.5,
            note="The release trains at 32 pixels here; the paper says 64.",
        ),
        _drl("lsun_church64", "LSUN church", 64, blocks=2, batch=128, beta=0.9),
        _drl("lsun_bedroom64", "LSUN bedroom", 64, blocks=2, batch=128, beta=0.9),
        _drl("lsun_church128", "LSUN church", 128, blocks=2, batch=64, beta=0.5),
        _drl("lsun_bedroom128", "LSUN bedroom", 128, blocks=5, batch=64, beta=0.5),
        Preset(
            "cifar10_t1k",
            "CIFAR-10, T1k of diffusion recovery likelihood: normal approximation over a thousand levels",
            (3, 32, 32),
            {
                **_DRL,
                **_given(DRL_NETWORK, images__multipliers=(1, 2, 2, 2)),
                **_given(DRL_README, images__num_blocks=8, training__batch_size=256, training__first_moment_decay=0.9),
                **_given(f"{DRL_PAPER} (all thousand steps of the base chain)", num_levels=999),
                **_given(f"{DRL_PAPER} (one Gaussian draw)", objective="normal"),
            },
            "The calibration's step sizes are those of T6: the release has no T1k. Draw with refined progressive sampling.",
        ),
        _cdrl("cifar10_cdrl", "CIFAR-10", 32, Number(400_000, CDRL_CODE)),
        _cdrl("imagenet32_cdrl", "ImageNet at 32 pixels", 32, Number(1_000_000, CDRL_PAPER)),
        _cdrl("celeba64_cdrl", "CelebA", 64, Number(400_000, GUESS), "Its settings are not in the release."),
        Preset(
            "digits", "8x8 digits on 2 cores", (1, 8, 8), {**_SMALL, **_LOGIT, **_DIGITS, **_LITTLE, **_DIGITS_UNET}
        ),
        Preset("digits_gpu", "8x8 digits on one GPU", (1, 8, 8), {**_SMALL, **_LOGIT, **_DIGITS, **_LARGE}),
        Preset("mnist", "28x28 digits on 2 cores", (1, 28, 28), {**_SMALL, **_MNIST, **_LITTLE}),
        Preset(
            "mnist_denoising",
            "28x28 digits on 2 cores, by score matching",
            (1, 28, 28),
            {**_SMALL, **_MNIST, **_LITTLE, **_DENOISING},
            "Draw with `sample --method ddim --eta 1`: the weights of modes are not learned, and adjusted chains show it.",
        ),
        Preset("mnist_gpu", "28x28 digits on one GPU", (1, 28, 28), {**_SMALL, **_MNIST, **_LARGE}),
        Preset(
            "images",
            "small images of any size on 2 cores",
            None,
            {path: number for path, number in (_SMALL | _DIGITS | _LITTLE).items() if path != "images.multipliers"},
            "Multipliers follow the size of the images.",
        ),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ValueError: for an unknown name, with the known ones.

    >>> find_preset("cifar10").numbers["num_chain_steps"]
    Number(value=30, source='release of arXiv 2012.08125, config.py')
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
