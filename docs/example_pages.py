"""Pages of the examples: runs each one, and writes its code, what it printed and its figure to docs/examples/.

python docs/example_pages.py            all of them
python docs/example_pages.py 03 09      those

Pages that fit the same data with the same seed, settings and minutes share one fit, kept under runs/pages.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from example_figures import FIGURES
from PIL import Image

import drl_density as drl

HERE = Path(__file__).parent
MOST_BYTES = 80_000
# Sizes of a page where the example's own take longer than a page is worth.
SMALL_DIGITS = drl.FitSettings(
    objective=drl.AdjustedObjective(num_chain_steps=3),
    training=drl.TrainingSettings(num_steps=300, evaluate_every=150),
    num_pool_draws=500,
)
SMALL_TOY = drl.FitSettings(
    base="mixture",
    network=drl.ColumnNetwork(width=64),
    training=drl.TrainingSettings(num_steps=60, evaluate_every=60),
    num_folds=1,
)
SIZES: dict[str, dict[str, Any]] = {
    "03": {"num_steps": 2000},
    "10": {"settings": SMALL_TOY},
    "12": {"num_completions": 6},
    "14": {"num_steps": 1000, "num_chains": 8},
    "16": {"levels": (1, 3, 6), "steps": (3, 10), "num_training_steps": 150},
    "19": {"settings": SMALL_DIGITS},
    "20": {"settings": SMALL_TOY},
    "22": {"settings": SMALL_DIGITS},
}
# What a larger study found about the method of a page, below the caption of its figure.
STUDIES = {
    "08": """Networks as priors, trained on fully sampled and on undersampled images, are in
[results](../results.md#undersampled-images). On 64 x 64 phantoms with four coils, the network is nearest to the truth on all
eight at each acceleration R:

![one phantom at R = 2, 4 and 8: truth, zero-filled image, means and standard deviations](../images/mri_phantoms.png)

Where it falls short: on 28 x 28 digits at R = 8, draws by `sample_measured_rows` are 0.4 +- 0.8 dB behind a mixture, and
those by `sample_measured` 3.2 dB ahead. There a prior of undersampled digits alone has 17.7 dB, one of whole digits 22.0.
Supervised networks were not trained.""",
    "10": """On 14 x 14 MNIST, finetuning a walk of five calls brings its Frechet distance to test digits from 50 to 13. A
multistep walk of five calls comes from 9.4 to 6.9 and 7.5. The last four pairs of rows are draws before and after, by DDIM
and by the multistep rule, from the same noise:

![draws of the teacher, the student, and two walks before and after](../images/distilled_digits.png)

The tables are in [results](../results.md#digits-in-one-call-and-in-five).""",
    "14": """Chains of 100,000 steps on tables, and chains on the conditionals of digits, are in
[results](../results.md#long-chains).""",
    "17": """On 14 x 14 MNIST: quality against the number of steps.

![quality of draws against network calls, by four measures](../images/ddim_curve.png)

Draws in 5, 20 and 50 ancestral steps, and walks between two test digits:

![digits drawn, and walks between two test digits](../images/ddim_draws.png)

The table is in [results](../results.md#few-step-draws-and-frequency-averages).""",
    "18": """Regressions, the funnel, a many-well target and a Cox process of 1,600 dimensions are compared with published
figures and with annealing in [results](../results.md#diffusion-samplers).""",
    "19": """After score matching on 14 x 14 MNIST, averages with weights up to 1 made the draws of all few-step samplers
worse. Such draws vary too little, and averages reduce their spread further. Weights that match the spread of the data made
the draws of DDIM and of ancestral steps better, and those of two Heun steps worse. `samplers.matched_average` finds them by
a closed form, and `samplers.calibrated_average` by pilot draws. On sequences trained by recovery likelihood, calibrated
weights were better than plain steps in 17 of 18 cases by the Frechet distance, and in 14 by the sliced one: see
[results](../results.md#few-step-draws-and-frequency-averages).""",
    "20": """On 14 x 14 MNIST, a student of one call cannot be separated from its teacher by gradient boosting (accuracy
0.48, and 0.50 for the student shown). The first two pairs of rows are the teacher's draws and the student's, from the same
noise:

![draws of the teacher, the student, and two walks before and after](../images/distilled_digits.png)

The tables, and what the updates by EM add, are in [results](../results.md#distilled-generators).""",
    "21": """Networks that learn from undersampled frequencies alone, with calibrated intervals, are in
[results](../results.md#a-network-prior).""",
    "23": """Draws are recognisable, but the fitted energy is no density to believe: its likelihood is below that of a
Gaussian, as the summary says. Two steps a level do not reach equilibrium, so the energy is one whose short chains
end at the data.

On 14 x 14 MNIST, a minute of cooperative training after eleven of score matching brings draws of 19 network calls about
as near to test digits as other test digits are:

![digits drawn by the base, by score matching and by cooperative training](../images/cooperative_digits.png)

Ablations and rivals are in [results](../results.md#cooperative-training-and-ambient-priors).""",
}
# Titles that are not the name of the file with a capital.
TITLES = {
    "02": "log Z of your own density",
    "03": "Long chains in ArviZ",
    "09": "Evidence of a Pyro model",
    "10": "Draws in a few steps",
    "11": "Progressive sampling",
    "15": "log Z by level",
    "17": "DDIM",
    "20": "EM distillation",
    "23": "Cooperative training",
}


@contextlib.contextmanager
def kept_fits(folder: Path) -> Iterator[None]:
    """``drl.fit`` reads a fit of the same data, seed, settings and minutes from ``folder`` where there is one."""
    fit = drl.fit

    @functools.wraps(fit)
    def kept(
        data: drl.Dataset,
        *,
        seed: int,
        settings: drl.FitSettings | None,
        max_minutes: float | None = None,
        progress: bool = False,
    ) -> drl.Density:
        choices = [settings and settings.to_dict(), data.loading, len(data.train), seed, max_minutes]
        path = folder / f"{data.name}-{hashlib.sha256(json.dumps(choices, default=str).encode()).hexdigest()[:12]}"
        if not path.exists():
            fit(data, seed=seed, settings=settings, max_minutes=max_minutes, progress=progress).save(path)
        return drl.Density.load(path)

    drl.fit = kept
    try:
        yield
    finally:
        drl.fit = fit


def run(path: Path, minutes: float) -> tuple[Any, Any, dict[str, Any], str]:
    """(module, result, arguments, what it printed) of one example, run in a scratch folder."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    has_minutes = "max_minutes" in inspect.signature(module.main).parameters
    arguments = SIZES.get(path.stem[:2], {}) | ({"max_minutes": minutes} if has_minutes else {})
    values = dict(arguments)
    printed = io.StringIO()
    with (
        kept_fits(Path("runs/pages").absolute()),
        tempfile.TemporaryDirectory() as scratch,
        contextlib.chdir(scratch),
        contextlib.redirect_stdout(printed),
    ):
        result = module.main(**values)
    return module, result, arguments, printed.getvalue().rstrip()


def _typed(value: Any) -> str:
    """An argument as one would type it: of settings, the fields that are not at their default."""
    if not dataclasses.is_dataclass(value):
        return repr(value)
    usual = type(value)()
    fields = [field.name for field in dataclasses.fields(value)]
    given = {name: getattr(value, name) for name in fields if getattr(value, name) != getattr(usual, name)}
    return f"{type(value).__name__}({', '.join(f'{name}={_typed(inside)}' for name, inside in given.items())})"


def made_by(name: str, call: str, made: str) -> str:
    """The line that states how to run an example, and how its page was made."""
    return (
        f"Run it with `python examples/{name}`. Figure and output are those of `{call}`. This page is made by `{made}`."
    )


def make_page(path: Path, minutes: float) -> None:
    """Run one example and write its page."""
    started = time.process_time()
    module, result, arguments, printed = run(path, minutes)
    title = TITLES.get(path.stem[:2]) or path.stem[3:].replace("_", " ").capitalize()
    call = f"main({', '.join(f'{name}={_typed(value)}' for name, value in arguments.items())})"
    made = f"python docs/example_pages.py {path.stem[:2]}"
    if "max_minutes" in arguments:
        made += f" --minutes {minutes:g}"
    out = HERE / "examples" / path.stem
    figure = FIGURES[path.stem[:2]](module, result)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=70)
    Image.open(drawn).convert("RGB").quantize(128).save(out.with_suffix(".png"), optimize=True)
    size = out.with_suffix(".png").stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{out.with_suffix('.png')} has {size} bytes, more than {MOST_BYTES}")
    parts = [
        f"# {title}",
        module.__doc__.strip().split("\n\n", 1)[0],
        "",
        made_by(path.name, call, made),
        "",
        f"![{title}]({path.stem}.png)",
        "",
        " ".join(inspect.getdoc(FIGURES[path.stem[:2]]).split()),
        *(["", STUDIES[path.stem[:2]]] if path.stem[:2] in STUDIES else []),
        *["", "It prints:", "", "```", printed, "```", "", "The code:", ""],
        *["```python", path.read_text(encoding="utf-8").rstrip(), "```", ""],
    ]
    out.with_suffix(".md").write_text("\n".join(parts), encoding="utf-8")
    print(f"{path.stem}: {time.process_time() - started:.0f} s of processor time, figure of {size // 1000} kB")


def main() -> None:
    """Make the pages asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", help="such as 03")
    parser.add_argument("--minutes", type=float, default=2.0, help="max_minutes of each fit")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for path in sorted((HERE.parent / "examples").glob("*.py")):
        if not args.numbers or path.stem[:2] in args.numbers:
            make_page(path, args.minutes)


if __name__ == "__main__":
    main()
