"""Settings of the papers' experiments and of small image fits, as data: every number with its source.

A preset is a set of overrides of :class:`drl_density.FitSettings`, named by dotted paths, each with its source.
``drl-density fit photos --preset images --dry-run`` prints all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drl_density.errors import see

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
    """One choice with its source.

    Attributes:
        value: Plain value of the setting.
        source: Paper, release or measurement that it is taken from.
    """

    value: Any
    source: str


@dataclass(frozen=True)
class Preset:
    """Overrides of the settings of a fit.

    Attributes:
        name: Name as given to ``--preset``.
        description: One line about the data and the method.
        image_shape: Channels, height and width of the images it is made for; None for any.
        numbers: Choices by dotted path in :class:`drl_density.FitSettings`, such as ``training.batch_size``. The path
            ``objective.kind`` names the class of the objective; ``network.kind`` and ``schedule.kind`` do likewise.
        notes: Differences from the paper, and what a user should know.
    """

    name: str
    description: str
    image_shape: tuple[int, int, int] | None
    numbers: Mapping[str, Number] = field(default_factory=dict)
    notes: str = ""

    def values(self) -> dict[str, Any]:
        """Nested plain values for :meth:`drl_density.FitSettings.from_dict`.

        >>> find_preset("mnist").values()["network"]["shape"]
        (1, 28, 28)
        """
        nested: dict[str, Any] = {"network": {} if self.image_shape is None else {"shape": self.image_shape}}
        for path, number in self.numbers.items():
            *rooms, name = path.split(".")
            place = nested
            for room in rooms:
                place = place.setdefault(room, {})
            place[name] = number.value
        return nested

    def describe(self) -> str:
        """Every number with its source, one to a line."""
        width = max(len(path) for path in self.numbers)
        lines = [f"preset {self.name}: {self.description}"]
        lines += [f"  {path:<{width}}  {number.value!r:<22} {number.source}" for path, number in self.numbers.items()]
        return "\n".join([*lines, f"  {self.notes}"] if self.notes else lines)


def _given(source: str, **values: Any) -> dict[str, Number]:
    """Numbers of one source; a double underscore in a name is the dot of its path."""
    return {name.replace("__", "."): Number(value, source) for name, value in values.items()}


_DATA = {
    **_given(f"{DRL_CODE} (images / 127.5 - 1)", transform="rescale"),
    **_given("the papers have no classification", objective__classification_weight=0.0),
    **_given(OURS, base="quadratic", num_particles=16, num_pool_draws=64),
    **_given(OURS, num_validation_rows=256, training__evaluate_every=5000, training__patience=10**9),
    **_given("papers report the last averaged weights", selection="last"),
    **_given("release of arXiv 2012.08125, network.py (lrelu, ReLU head, no normalisation)", network__kind="residual"),
    **_given(DRL_NETWORK, network__is_normalized=True, network__activation="leaky_relu", network__starts_at_zero=False),
    **_given(f"{DRL_NETWORK} (log_prob divides by the squared step)", network__is_step_calibrated=True),
    **_given(DRL_CODE, network__num_channels=128, training__learning_rate=1e-4, training__weight_decay=0.0),
}
_SIX_OF_A_THOUSAND = f"{DRL_NETWORK} (six of a thousand linear-beta steps)"
_DRL = {
    **_DATA,
    **_given(_SIX_OF_A_THOUSAND, schedule__kind="linear_beta", schedule__num_levels=6),
    **_given(f"{DRL_NETWORK} (time is the level's index)", network__has_level_index=True),
    **_given(DRL_CODE, objective__langevin_factor=2e-4),
    **_given(DRL_CODE, training__num_steps=1_000_000, training__warmup_steps=1000, training__decay="constant"),
    **_given(DRL_CODE, training__average_decay=0.999, training__second_moment_decay=0.999, network__flips=True),
    **_given(f"{DRL_CODE} (grad_clip off)", training__max_gradient_norm=float("inf")),
}
_CHAINS = _given(DRL_CODE, objective__kind="langevin", objective__num_chain_steps=30, objective__kernel="ula")
_CDRL = {
    **_DATA,
    **_given(CDRL_CODE, schedule__kind="cosine", schedule__num_levels=6),
    **_given(CDRL_CODE, objective__kind="cooperative", objective__num_chain_steps=15, objective__kernel="ula"),
    **_given(
        f"{CDRL_CODE} (Langevin; its last denoising step has 2e-4, which we do not follow)",
        objective__langevin_factor=4e-4,
    ),
    **_given(CDRL_CODE, training__warmup_steps=10_000, training__decay="constant", training__average_decay=0.9999),
    **_given(CDRL_CODE, training__second_moment_decay=0.999, training__first_moment_decay=0.9),
    **_given(CDRL_CODE, training__max_gradient_norm=1.0, objective__initializer_rate=0.1, network__num_blocks=8),
    **_given(f"{CDRL_CODE} (32 on each of 8 devices)", training__batch_size=256),
    **_given(CDRL_CODE, network__flips=True, objective__initializer_channels=64),
    **_given(CDRL_UNET, objective__initializer_multipliers=(1, 1, 1), objective__initializer_blocks=3),
}


def _drl(name: str, what: str, side: int, *, blocks: int, batch: int, beta: float, note: str = "") -> Preset:
    multipliers = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4), 128: (1, 2, 2, 2, 4, 4)}[side]
    shared = (
        "ours: under torchrun every process holds its share of what training keeps of the weights; steps are the same"
    )
    numbers = {
        **_DRL,
        **_CHAINS,
        **(_given(shared, training__has_sharded_weights=True) if side == 128 else {}),
        **_given(DRL_NETWORK, network__multipliers=multipliers),
        **_given(DRL_README, network__num_blocks=blocks, training__batch_size=batch, training__first_moment_decay=beta),
    }
    dequantised = "The paper takes the 8-bit values as they are; here they are dequantised, so that there is a density."
    return Preset(
        name, f"{what}, T6 of diffusion recovery likelihood", (3, side, side), numbers, f"{dequantised} {note}".strip()
    )


def _cdrl(name: str, what: str, side: int, steps: Number, note: str = "") -> Preset:
    multipliers = {32: (1, 2, 2, 2), 64: (1, 2, 2, 2, 4)}[side]
    source = CDRL_CODE if side == 32 else CDRL_PAPER
    numbers = {**_CDRL, **_given(source, network__multipliers=multipliers), "training.num_steps": steps}
    return Preset(name, f"{what}, cooperative diffusion recovery likelihood", (3, side, side), numbers, note)


_SMALL = {
    **_given(OURS, transform="rescale", base="gaussian", selection="likelihood"),
    **_given(OURS, schedule__kind="log_spaced", schedule__sigma_min=0.1, schedule__num_levels=8),
    **_given(OURS, training__learning_rate=1e-3, network__num_blocks=1),
}
_ADJUSTED = _given(OURS, objective__kind="adjusted", objective__kernel="mala")
_FOUR_STEPS = _given(OURS_CPU, objective__num_chain_steps=4)
_RESIDUAL = _given(
    OURS,
    network__kind="residual",
    network__is_normalized=False,
    network__activation="silu",
    network__starts_at_zero=True,
)
_LOGIT = _given("ours: the default of tables bounded on both sides, so that likelihoods compare", transform="logit")
_DIGITS = _given(OURS_CPU, network__num_channels=16, network__multipliers=(1, 2), training__batch_size=128)
_DIGITS_UNET = {
    **_given(
        f"ours: measured against others, {see('Results')}",
        network__kind="unet",
        base="mixture",
        network__dropout=0.1,
        num_particles=256,
    ),
    **_given(OURS_CPU, network__num_channels=8, training__evaluate_every=100),
}
_MNIST = _given(OURS_CPU, network__num_channels=16, network__multipliers=(1, 2, 2), training__batch_size=64)
_DENOISING = {
    **_given(OURS_CPU, objective__kind="denoising", training__batch_size=32, training__num_steps=15_000),
    **_given(OURS_CPU, selection="last", training__learning_rate=2e-3, training__evaluate_every=2500),
    **_given(OURS_CPU, training__is_channels_last=True),
    **_given(
        f"ours: for fits of half an hour; behind the residual network in the first minutes, {see('Results')}",
        network__kind="unet",
        objective__level_balance=0.5,
    ),
    **_given(OURS_CPU, network__num_channels=48, network__multipliers=(1, 2), network__patch_size=2),
    **_given(OURS_CPU, network__num_middle_blocks=4, num_particles=16, num_pool_draws=64),
    **_given("ours: losses are hundreds of nats, and so are their gradients", training__max_gradient_norm=100.0),
    **_given("ours: the noise levels of images are classified without error", objective__classification_weight=0.0),
}
_LITTLE = {
    **_given(OURS_CPU, training__num_steps=4000, training__evaluate_every=200, num_pool_draws=500, num_particles=64),
    **_given(OURS_CPU, num_validation_rows=256),
}
_LARGE = {
    **_given(OURS_GPU, network__num_channels=64, network__num_blocks=2, training__batch_size=256),
    **_given(OURS_GPU, objective__num_chain_steps=8, num_validation_rows=2048, num_pool_draws=2000),
    **_given(OURS_GPU, training__num_steps=100_000, training__evaluate_every=2000, num_particles=512),
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
                **_given(DRL_NETWORK, network__multipliers=(1, 2, 2, 2)),
                **_given(DRL_README, network__num_blocks=8, training__batch_size=256, training__first_moment_decay=0.9),
                **_given(f"{DRL_PAPER} (all thousand steps of the base chain)", schedule__num_levels=999),
                **_given(f"{DRL_PAPER} (one Gaussian draw)", objective__kind="normal"),
            },
            "The calibration's step sizes are those of T6: the release has no T1k. Draw with refined progressive sampling.",
        ),
        _cdrl("cifar10_cdrl", "CIFAR-10", 32, Number(400_000, CDRL_CODE)),
        _cdrl("imagenet32_cdrl", "ImageNet at 32 pixels", 32, Number(1_000_000, CDRL_PAPER)),
        _cdrl("celeba64_cdrl", "CelebA", 64, Number(400_000, GUESS), "Its settings are not in the release."),
        Preset(
            "digits",
            "8x8 digits on 2 cores",
            (1, 8, 8),
            {**_SMALL, **_ADJUSTED, **_LOGIT, **_DIGITS, **_FOUR_STEPS, **_LITTLE, **_DIGITS_UNET},
        ),
        Preset(
            "digits_cdrl",
            "8x8 digits on 2 cores, by cooperative recovery likelihood",
            (1, 8, 8),
            {
                **_given(OURS, transform="rescale", base="factors", selection="last", network__kind="unet"),
                **_given(OURS, schedule__kind="log_spaced", schedule__sigma_min=0.1, schedule__num_levels=6),
                **_given(OURS, objective__kind="cooperative", objective__kernel="mala", objective__weights="nats"),
                **_given(OURS_CPU, objective__num_chain_steps=2, objective__langevin_factor=0.5),
                **_given(OURS, objective__initializer_starts_at_base=True, objective__scaling="conditional"),
                **_given(OURS, objective__classification_weight=0.0),
                **_given(OURS_CPU, objective__initializer_channels=16, objective__initializer_multipliers=(1, 1)),
                **_given(OURS_CPU, objective__initializer_blocks=1, objective__initializer_rate=1.0),
                **_given(OURS_CPU, network__num_channels=32, network__multipliers=(1,), network__patch_size=2),
                **_given(OURS_CPU, training__batch_size=64, training__num_steps=2000, training__evaluate_every=250),
                **_given(OURS, training__learning_rate=5e-4, training__second_moment_decay=0.99),
                **_given(OURS_CPU, num_particles=16, num_pool_draws=64, num_validation_rows=256),
            },
            "Draw with `sample --method short-run`: two adjusted steps a level from proposals.",
        ),
        Preset(
            "digits_gpu",
            "8x8 digits on one GPU",
            (1, 8, 8),
            {**_SMALL, **_ADJUSTED, **_RESIDUAL, **_LOGIT, **_DIGITS, **_LARGE},
        ),
        Preset(
            "mnist",
            "28x28 digits on 2 cores",
            (1, 28, 28),
            {**_SMALL, **_ADJUSTED, **_RESIDUAL, **_MNIST, **_FOUR_STEPS, **_LITTLE},
        ),
        Preset(
            "mnist_denoising",
            "28x28 digits on 2 cores, by score matching",
            (1, 28, 28),
            {**_SMALL, **_MNIST, **_LITTLE, **_DENOISING},
            "Draw with `sample --method ddim --eta 1`: the weights of modes are not learned, and adjusted chains show it.",
        ),
        Preset(
            "mnist_gpu",
            "28x28 digits on one GPU",
            (1, 28, 28),
            {**_SMALL, **_ADJUSTED, **_RESIDUAL, **_MNIST, **_LARGE},
        ),
        Preset(
            "pixels",
            "images of any size by an exact reference: histograms of all pixels, then every pixel by those before it",
            None,
            _given(OURS, transform="histogram", base="autoregressive", network__kind="none", num_validation_rows=2048)
            | _given("ours: a draw costs as much as a density", num_pool_draws=256),
            "The density is normalised exactly: log Z is 0. It is what 8-bit images are fitted by where nothing is chosen.",
        ),
        Preset(
            "pixels_tilt",
            "images of any size: the reference of `pixels`, tilted by a U-Net with score matching, increments and particles",
            None,
            {
                **_given(OURS, transform="histogram", base="factors", objective__kind="paths", schedule__num_levels=12),
                **_given(
                    "ours: a score for every pixel at full resolution; folded pixels learn a fifth as fast",
                    network__kind="unet",
                    network__num_channels=32,
                    network__multipliers=(1,),
                    network__num_middle_blocks=2,
                ),
                **_given("ours: a SiLU there was silenced at 1e-3", network__has_linear_readout=True),
                **_given(OURS_CPU, network__dropout=0.0, training__batch_size=32, training__learning_rate=2e-3),
                **_given(OURS_CPU, training__num_steps=20_000, training__evaluate_every=500, training__weight_decay=0.0),
                **_given(
                    "ours: the loss rises where the increments join in; the falling rate ends the training",
                    training__patience=10**9,
                ),
                **_given(
                    "ours: 0.999 still held 0.3 of the untrained weights after 1,200 steps",
                    training__average_decay=0.99,
                    training__second_moment_decay=0.99,
                ),
                **_given(OURS_CPU, training__is_channels_last=True, num_particles=256, num_pool_draws=32),
                **_given(OURS, objective__increment_weight=0.5, objective__increments_from=0.5),
                **_given(
                    "ours: losses are hundreds of nats, and so are their gradients", training__max_gradient_norm=100.0
                ),
            },
            "The tilt is reported only where its likelihood at the upper end of log Z exceeds that of the reference.",
        ),
        Preset(
            "images",
            "small images of any size on 2 cores",
            None,
            {
                path: number
                for path, number in (_SMALL | _ADJUSTED | _RESIDUAL | _DIGITS | _FOUR_STEPS | _LITTLE).items()
                if path != "network.multipliers"
            },
            "Multipliers follow the size of the images.",
        ),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ValueError: An unknown name; the message lists the known ones.

    >>> find_preset("cifar10").numbers["objective.num_chain_steps"]
    Number(value=30, source='release of arXiv 2012.08125, config.py')
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
