"""One rung of the ladder of images: bits per dimension of several exact densities of the same images, each given one time.

python -m tests.benchmarks.image_ladder mnist.npz --size 28 --minutes 30 --rivals factors gaussians

Seconds are those of a fit, its choice on validation and its last report included. Scoring the test images is timed apart.
Rows are the default of images (an autoregressive density over factor analysers), factor analysers alone, a mixture of at
most 50 full Gaussians over the same histograms, an autoregressive spline flow of zuko over the same histograms, if it is
installed, and with ``--rivals circuit`` a circuit over the grey levels (``image_circuit.py``). All are scored on the same
test images, dequantised but for the circuit.
"""

import argparse
import itertools
import json
import math
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import drl_density as drl
from drl_density import Split, load_dataset
from drl_density.bases import AutoregressivePixels, LayeredBase
from drl_density.density.fitting.bases import ReferenceTime, choose_factors
from drl_density.density.fitting.table import Table, prepare_table
from tests.benchmarks.full_gaussians import fit_full_gaussians
from tests.benchmarks.image_circuit import fit_circuit, log_probability

RIVALS = ("factors", "gaussians", "flow", "circuit")


def shrunk(source: str, size: int | None, folder: Path) -> str:
    """The images of an .npz file averaged over square blocks, as a file in ``folder``; as they are without a size."""
    if size is None or not source.endswith(".npz"):
        return source
    with np.load(source) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    names = [name for name, value in found.items() if value.ndim == 3]
    sides = {found[name].shape[1:] for name in names}
    if len(sides) != 1 or len(set(*sides)) != 1:
        raise SystemExit(f"{source}: --size takes square images of one size, (n, side, side), got {sorted(sides)}")
    side = found[names[0]].shape[1]
    if side == size:
        return source
    if side % size:
        raise SystemExit(
            f"images of {side} pixels a side are averaged over whole blocks: {size} does not divide {side}"
        )
    block = side // size
    for name in names:
        images = found[name].reshape(len(found[name]), size, block, size, block)
        found[name] = (images.mean((2, 4)) + 0.5).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(source).stem}_{size}.npz"
    np.savez_compressed(path, **found)
    return str(path)


class Rung:
    """The images of one rung in model space, with the clock of its fits."""

    def __init__(self, table: Table, seconds: float, most_test: int, seed: int) -> None:
        self.table, self.seconds, self.seed = table, seconds, seed
        data = table.dataset
        generator = torch.Generator().manual_seed(seed)
        self.test = data.test[torch.randperm(len(data.test), generator=generator)[:most_test]]
        rows = table.rows(self.test, generator=generator)
        self.u, self.log_jacobian = table.transform.with_log_jacobian(rows)

    def row(
        self,
        name: str,
        density: Callable[[Tensor], Tensor],
        *,
        verdict: str = "exact",
        began: float,
        used: str = "",
        is_of_levels: bool = False,
    ) -> dict[str, object]:
        """One row of the ladder, with the time of the fit that has just ended.

        Its density is of rows in model space, or the probability of grey levels.
        """
        seconds = time.monotonic() - began
        rows, log_jacobian = (self.test, 0.0) if is_of_levels else (self.u, self.log_jacobian)
        with torch.no_grad():
            log_density = torch.cat([density(part) for part in rows.split(256)])
        bits = -(log_density.double() + log_jacobian) / (self.u.shape[1] * math.log(2))
        error = float(bits.std()) / math.sqrt(len(bits))
        return {
            "density": name,
            "bits": round(float(bits.mean()), 4),
            "error": round(error, 4),
            "verdict": verdict,
            "seconds": round(seconds, 1),
            "scoring_seconds": round(time.monotonic() - began - seconds, 1),
            "used": used,
        }


def ours(rung: Rung) -> dict[str, object]:
    """The default fit of images, with the interval of its log Z."""
    began = time.monotonic()
    settings = drl.FitSettings.preset("pixels")
    minutes = rung.seconds / 60
    density = drl.fit(rung.table.dataset, seed=rung.seed, settings=settings, max_minutes=minutes)
    base, log_z = density.model.base, density.estimate.log_z
    width = 2 * 1.96 * density.estimate.larger_error / (rung.u.shape[1] * math.log(2))
    used = ", ".join(f"{name} {score:.1f}" for name, score in density.provenance.base_scores.items())
    if isinstance(base, LayeredBase) and isinstance(base.clean, AutoregressivePixels):
        used += f", {base.clean.settings.width} units"
    row = rung.row(
        "drl_density",
        lambda u: base.log_prob(u).double() - log_z,
        verdict=str(density.estimate.verdict),
        began=began,
        used=used,
    )
    return {**row, "interval_width": round(width, 6)}


def factors(rung: Rung) -> dict[str, object]:
    """Factor analysers alone."""
    began, table = time.monotonic(), rung.table
    generator = torch.Generator().manual_seed(rung.seed)
    held_out = table.transform(table.validation_rows(seed=0))
    allowed = ReferenceTime(flow=0.0, most_factors=rung.seconds)
    data = table.dataset
    found = choose_factors(
        lambda index: table.to_model(data.train[index], generator=generator), len(data.train), held_out, allowed=allowed
    )
    base = found.best
    used = f"{base.num_components} components"
    return rung.row("factor analysers", lambda u: base.log_prob(u.float()), began=began, used=used)


def gaussians(rung: Rung) -> dict[str, object]:
    """Full Gaussians by expectation maximisation, with the number and the ridge that score best on validation.

    50 components have half of the time, and 20, 10, 5, 2 and 1 have half of what is left in turn.
    """
    began, table = time.monotonic(), rung.table
    generator = torch.Generator().manual_seed(rung.seed)
    u = table.to_model(table.dataset.train, generator=generator).float()
    held_out = table.to_model(table.dataset.validation[:1000], generator=generator).float()
    fits = []
    for number in (50, 20, 10, 5, 2, 1):
        left = rung.seconds - (time.monotonic() - began)
        if number > len(u) // 2 or (fits and left < rung.seconds / 20):
            continue
        model, score, passes = fit_full_gaussians(u, held_out, number, seconds=left / 2, generator=generator)
        fits.append((score, number, passes, model))
    _, number, _, model = max(fits, key=lambda fit: fit[0])
    tried = ", ".join(f"{count}: {score:.1f} after {passes}" for score, count, passes, _ in fits)
    used = f"{len(u)} images, ridge {model.ridge:g}; validation by number and passes: {tried}"
    return rung.row(f"{number} full Gaussians", model.log_prob, began=began, used=used)


def fitted_flow(rung: Rung) -> tuple[torch.nn.Module, int]:
    """A neural spline flow of zuko, stopped by time, with the weights that score best on validation; and its steps."""
    import zuko

    began, table = time.monotonic(), rung.table
    torch.manual_seed(rung.seed)
    generator, data = torch.Generator().manual_seed(rung.seed), table.dataset
    held_out = table.to_model(data.validation[:1000], generator=generator)
    model = zuko.flows.NSF(rung.u.shape[1], transforms=3, hidden_features=(256, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    best, kept, scored, steps = -math.inf, model.state_dict(), began, 0
    while time.monotonic() - began < rung.seconds:
        rows = table.batches(128, generator)
        rate = 0.5 * (1 + math.cos(math.pi * min(1.0, (time.monotonic() - began) / rung.seconds)))
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        loss = -model().log_prob(rows).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        steps += 1
        if time.monotonic() - scored > rung.seconds / 15:
            scored = time.monotonic()
            with torch.no_grad():
                score = float(torch.cat([model().log_prob(part) for part in held_out.split(128)]).mean())
            if score > best:
                best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return model, steps


def flow(rung: Rung) -> dict[str, object]:
    """A neural spline flow of zuko in the same time."""
    began = time.monotonic()
    model, steps = fitted_flow(rung)
    used = f"3 transforms of 2 x 256, {steps} steps"
    return rung.row("zuko NSF", lambda u: model().log_prob(u.float()), began=began, used=used)


def circuit(rung: Rung) -> dict[str, object]:
    """A circuit over grey levels in the same time."""
    began, data = time.monotonic(), rung.table.dataset
    torch.manual_seed(rung.seed)
    found, used = fit_circuit(
        data.train,
        data.validation[:1000],
        data.event_shape,
        seconds=rung.seconds,
        generator=torch.Generator().manual_seed(rung.seed),
    )
    return rung.row("circuit", lambda x: log_probability(found, x), began=began, used=used, is_of_levels=True)


def main() -> None:
    """Print one row for every density, and write them as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images, as load_dataset takes them; .npz files can be shrunk")
    parser.add_argument("--size", type=int, help="side in pixels to which the images of an .npz file are averaged")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of one core for every density")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS[:3]))
    parser.add_argument("--without-ours", action="store_true", help="rivals alone")
    parser.add_argument("--most-test", type=int, default=4000, help="test images that are scored")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what a minute is counted by")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/image_ladder"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.clock == "processor":
        # Every limit of time reads time.monotonic. On a busy machine the seconds that this process had of the processor
        # take its place, so that nobody's minute is shortened by other work.
        time.monotonic = time.process_time
    data = load_dataset(shrunk(given.source, given.size, given.out), split=Split(seed=given.seed))
    table = prepare_table(data, "histogram")
    rung = Rung(table, 60 * given.minutes, given.most_test, given.seed)
    print(data.describe().splitlines()[0])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "source": Path(given.source).name,
        "shape": list(data.event_shape),
        "test": len(rung.u),
        "minutes": given.minutes,
        "clock": given.clock,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, one thread",
    }
    given.out.mkdir(parents=True, exist_ok=True)
    made = {"factors": factors, "gaussians": gaussians, "flow": flow, "circuit": circuit}
    chosen = [*([] if given.without_ours else [ours]), *(made[name] for name in given.rivals)]
    with (given.out / "rows.jsonl").open("a") as lines:
        normal = torch.distributions.Normal(0.0, 1.0)
        independent = rung.row(
            "independent pixels", lambda u: normal.log_prob(u.double()).sum(1), began=time.monotonic()
        )
        for row in itertools.chain([independent], (each(rung) for each in chosen)):  # each as soon as it is known
            print(json.dumps(row), flush=True)
            lines.write(json.dumps({**about, **row}) + "\n")
            lines.flush()


if __name__ == "__main__":
    main()
