"""Pages of the examples: runs each one, and writes its code, what it printed and its figure to docs/examples/.

python docs/example_pages.py            all of them
python docs/example_pages.py 03 09      those
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import inspect
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from drl_density import plots

HERE = Path(__file__).parent
MOST_BYTES = 80_000


def double_well(module: Any, result: Any) -> Any:
    """The example's density, normalised by its estimate."""
    return plots.plot_density_2d(
        {"exp(F) / Z": lambda x: module.double_well(x) - result.value}, extent=4.0, num_cells=120
    )


def chains(module: Any, result: Any) -> Any:
    """Log density along the chains."""
    return plots.plot_chains(result.tree)


def two_clouds(names: tuple[str, str]) -> Callable[[Any, Any], Any]:
    """Scatter plots of the first two results, side by side on common axes."""

    def draw(module: Any, result: Any) -> Any:
        figure = plots.plot_data_against_samples(result[0], result[1])
        for axis, name in zip(figure.axes, names, strict=False):
            axis.set_title(name)
        return figure

    return draw


def intervals(module: Any, result: Any) -> Any:
    """Both log evidences with their intervals."""
    return plots.plot_intervals({"with a slope": result[0], "without": result[1]}, "log evidence, nats")


FIGURES: dict[str, Callable[[Any, Any], Any]] = {
    "01": two_clouds(("held-out data", "draws of the model")),
    "02": double_well,
    "03": chains,
    "05": two_clouds(("posterior by annealing", "posterior by NUTS")),
    "06": two_clouds(("data of the banana", "draws of the product")),
    "09": intervals,
}


def make_page(path: Path, minutes: float) -> None:
    """Run one example and write its page."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = {"max_minutes": minutes} if "max_minutes" in inspect.signature(module.main).parameters else {}
    printed, started = io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(printed):
        result = module.main(**arguments)
    title = path.stem[3:].replace("_", " ").capitalize()
    call = f"main({', '.join(f'{name}={value:g}' for name, value in arguments.items())})"
    parts = [
        f"# {title}",
        module.__doc__.strip().split("\n", 1)[0],
        "",
        f"`python examples/{path.name}`; below `{call}`.",
    ]
    out = HERE / "examples" / path.stem
    if path.stem[:2] in FIGURES:
        figure = FIGURES[path.stem[:2]](module, result)
        figure.savefig(out.with_suffix(".png"), dpi=70)
        size = out.with_suffix(".png").stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"{out.with_suffix('.png')} has {size} bytes, more than {MOST_BYTES}")
        parts += ["", f"![{title}]({path.stem}.png)"]
    parts += ["", "It prints", "", "```", printed.getvalue().rstrip(), "```", "", "The code", ""]
    parts += ["```python", path.read_text(encoding="utf-8").rstrip(), "```", ""]
    out.with_suffix(".md").write_text("\n".join(parts), encoding="utf-8")
    print(f"{path.stem}: {time.monotonic() - started:.0f} s")


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
