"""A probabilistic circuit over the grey levels of images, by libcirkit, as a rival of the ladder of images.

The structure is a quad-graph over the image, with categorical leaves over the 256 grey levels and a candecomp layer of sums
and products at every region. Circuits are exactly normalised over grey levels, so that they need no dequantisation.
libcirkit needs an older SciPy than ours:

python -m venv circuits
circuits/bin/pip install torch "scipy<1.15" libcirkit pyro-ppl xarray arviz scikit-learn safetensors pandas h5netcdf tyro
PYTHONPATH=. circuits/bin/python -m tests.benchmarks.image_ladder mnist.npz --size 14 --rivals circuit --without-ours
"""

import math
import time

import torch
from torch import Tensor

UNITS = (16, 32)
"""Units of every layer, chosen on validation; the smaller circuit has a third of the time."""
BATCH, RATE = 128, 0.01


def new_circuit(shape: tuple[int, ...], units: int) -> torch.nn.Module:
    """An untrained circuit over images ``(channels, height, width)``."""
    from cirkit.backend.torch import semiring  # pyright: ignore[reportMissingImports]
    from cirkit.pipeline import PipelineContext  # pyright: ignore[reportMissingImports]
    from cirkit.templates import data_modalities, utils  # pyright: ignore[reportMissingImports]

    # libcirkit 0.3 cuts off log values at -708 nats, which images of 14 x 14 pixels fall below.
    semiring.LOG_CLAMP_MIN = -math.inf
    symbolic = data_modalities.image_data(
        shape,
        "quad-graph",
        input_layer="categorical",
        num_input_units=units,
        sum_product_layer="cp",
        num_sum_units=units,
        sum_weight_param=utils.Parameterization(activation="softmax", initialization="normal"),
    )
    return PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True).compile(symbolic)


def log_probability(circuit: torch.nn.Module, images: Tensor) -> Tensor:
    """Log probabilities of flat grey levels ``(n, pixels)``, nats, ``(n,)``."""
    with torch.no_grad():
        return torch.cat([circuit(part.long()).flatten().double() for part in images.flatten(1).split(256)])


def train_circuit(
    circuit: torch.nn.Module, train: Tensor, validation: Tensor, *, seconds: float, generator: torch.Generator
) -> tuple[float, int]:
    """Adam on batches, the rate falling as a half cosine over the time, ending at the weights that score best on validation.

    Returns:
        The mean log probability of the validation images, nats, and the number of steps.
    """
    optimizer = torch.optim.Adam(circuit.parameters(), lr=RATE)
    best, kept, steps, began = -math.inf, dict(circuit.state_dict()), 0, time.monotonic()
    scored = began
    while (gone := (time.monotonic() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * gone))
        batch = train[torch.randint(len(train), (BATCH,), generator=generator)].flatten(1).long()
        optimizer.zero_grad()
        loss = -circuit(batch).mean()
        loss.backward()
        optimizer.step()
        steps += 1
        if time.monotonic() - scored > seconds / 15:
            scored, score = time.monotonic(), float(log_probability(circuit, validation).mean())
            if score > best:
                best, kept = score, {name: value.clone() for name, value in circuit.state_dict().items()}
    score = float(log_probability(circuit, validation).mean())
    if score < best:
        circuit.load_state_dict(kept)
    return max(score, best), steps


def fit_circuit(
    train: Tensor, validation: Tensor, shape: tuple[int, ...], *, seconds: float, generator: torch.Generator
) -> tuple[torch.nn.Module, str]:
    """The circuit that scores best on validation, and a line about all that were tried.

    Args:
        train: Training images of 8-bit grey levels.
        validation: Images that choose the size and the weights.
        shape: Channels, height and width.
        seconds: Seconds of the clock for all sizes.
        generator: Source of the batches.
    """
    ended, fits = time.monotonic() + seconds, []
    for place, units in enumerate(UNITS):
        share = seconds / 3 if place + 1 < len(UNITS) else ended - time.monotonic()
        circuit = new_circuit(shape, units)
        score, steps = train_circuit(circuit, train, validation, seconds=share, generator=generator)
        fits.append((score, units, steps, circuit))
    tried = ", ".join(f"{units} units: {score:.1f} after {steps} steps" for score, units, steps, _ in fits)
    return max(fits, key=lambda fit: fit[0])[3], f"quad-graph, {tried} (nats on validation)"
