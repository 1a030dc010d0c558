"""What the README and the pages tell a reader to type runs, read from the files themselves, at toy size."""

import contextlib
import dataclasses
import inspect
import io
import re
import shlex
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import drl_density as drl
from drl_density.cli import COMMANDS, main
from drl_density.density.storage.training_folder import TrainingFolder
from drl_density.diffusion_sampler import DiffusionSamplerSettings
from drl_density.errors import DRLDensityWarning
from drl_density.model_evidence import entry
from drl_density.partition_function import SandwichSettings
from drl_density.partition_function.mode_search import search
from drl_density.testing import assert_z
from tests.conftest import TINY
from tests.model_evidence.made_up import MadeUpSandwich

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if "_generated" not in page.parts)]
BRIEF = drl.TrainingSettings(num_steps=4, batch_size=32, evaluate_every=2)
TOY = dataclasses.replace(TINY, base="gaussian", selection="last", num_particles=16, training=BRIEF)
FEW = {"num_particles": 16, "num_replicates": 2, "num_transitions": 1, "num_mixing_steps": 3, "steps_per_level": 2}
SMALL = SandwichSettings(**FEW, most_rounds=4, most_batches=1, conditional_ess=0.7, num_swept=0)
# What a page says for real sizes, and what stands in its place here; each must be found in the page, once. A page that is
# not listed holds no code, or that of an example which tests/test_examples.py runs.
SMALLER = {
    "README.md": {
        '"wine", seed=0': '"eight_gaussians", seed=0, num_rows=400',
        "max_minutes=3": "settings=TOY, progress=False",
        "density.evaluate(data.test, seed=0)": "density.evaluate(data.test, seed=0, settings=SMALL)",
        '"alcohol")': '"x0")',
        '{"alcohol": 13.0}': '{"x0": 0.5}',
    },
    "tour.md": {
        '"eight_gaussians", seed=0': '"eight_gaussians", seed=0, num_rows=400',
        "num_steps=1000": "num_steps=100, num_chains=8",
        "drl.sandwich(target, seed=0)": "drl.sandwich(target, seed=0, settings=SMALL)",
    },
    "start.md": {
        '"wine", seed=0': '"eight_gaussians", seed=0, num_rows=400',
        '{"alcohol": 13.0}': '{"x0": 0.5}',
        '"proline"': '"x1"',
    },
    "index.md": {},
    "tables.md": {},
    "evidence.md": {},
    "score_and_outliers.md": {},
    "own_network.md": {
        "log_spaced(6)": "log_spaced(2)",
        "num_steps=200": "num_steps=2",
        "evaluate_every=100": "evaluate_every=2",
        "drl.sandwich(model, data=rows[400:], seed=0)": "drl.sandwich(model, data=rows[400:], seed=0, settings=SMALL)",
    },
    "own_kernel.md": {},
    "papers.md": {
        '"eight_gaussians", seed=0': '"eight_gaussians", seed=0, num_rows=400',
        "states.var(0))": "states.var(0), num_pilot_draws=20, num_pilots=2)",
        'DistillSettings("em")': 'DistillSettings("em", num_updates=2, num_warm_updates=2, batch_size=16, width=8)',
        '"mmd", num_calls=5': '"mmd", num_calls=5, num_updates=2, batch_size=16',
        "(2,))": "(2,), settings=WALKS)",
        "num_samples=500": "num_samples=32",
    },
    "own_estimator.md": {},
    "inside_pyro.md": {"num_samples=500, warmup_steps=500": "num_samples=2, warmup_steps=2, disable_progbar=True"},
}
# Commands that only their own tests run (tests/cli, tests/density): here they are understood.
ELSEWHERE = ("demo", "diagnose", "evaluate", "fit incomplete.csv", "report")
TRAINING = (
    "--settings.training.num-steps 4 --settings.training.evaluate-every 2 --settings.num-pool-draws 40 "
    "--settings.num-particles 4 --settings.base gaussian --settings.selection last"
)
TABLE = "--seed 0 --settings.schedule.num-levels 3 --settings.network.width 8 --settings.network.num-blocks 1 "
TABLE += "--settings.objective.num-samples 400 "
TABLE += f"--settings.transform standardize {TRAINING}"
IMAGES = f"--settings.schedule.num-levels 2 --settings.network.num-channels 4 {TRAINING}"
# Sizes added to a command of the page on commands that begins so; the first that fits.
SIZES = {
    "fit digits": IMAGES,
    "fit photos/": "",
    "fit": TABLE,
    "distill": "--num-updates 3 --batch-size 16",
    "reconstruct": "-n 4 --steps 5",
}


def python_of(page):
    """All fenced Python of a page as one program whose line numbers are the page's."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def commands_of(page):
    """The indented commands of a page row by row, without their comments, and those in its text that have options."""
    text = page.read_text(encoding="utf-8")
    rows = [line.split(" #")[0].strip() for line in text.splitlines() if line.startswith("    drl-density ")]
    typed = [command for row in rows for command in re.split(r"\s{2,}(?=drl-density )", row)]
    told = [
        span
        for span in re.findall(r"`(drl-density [^`]+)`", text)
        if " -" in span and "..." not in span and "--help" not in span
    ]
    return [shlex.split(command)[1:] for command in typed], [shlex.split(command)[1:] for command in told]


def sizes_of(words):
    """Options that make a command of the page on commands small."""
    return next((SIZES[start].split() for start in SIZES if " ".join(words).startswith(start)), [])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the files that the page on commands speaks of."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(24):
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.uint8)).save(f"photos/{index}.png")
    np.savez("measured.npz", y=rng.normal(8.0, 1.0, (4, 4)), factor=2)
    wine = np.stack([rng.normal(size=120), rng.normal(size=120).round(1), rng.integers(3, 9, 120)], 1)
    incomplete = np.where(rng.random(wine.shape) < 0.03, np.nan, wine)
    for name, values in {"wine": wine, "new": wine[:30], "incomplete": incomplete}.items():
        cells = [["" if np.isnan(value) else f"{value:.10g}" for value in row] for row in values]
        (tmp_path / f"{name}.csv").write_text(
            "\n".join(map(",".join, [["alcohol", "acidity", "quality"], *cells])) + "\n"
        )
    return tmp_path


def interrupted_once_saved(self, name, saver=TrainingFolder.saver):
    """The saver of a run that Ctrl-C reaches after its first state is written."""
    save = saver(self, name)

    def wrapped(tensors, scalars):
        save(tensors, scalars)
        raise KeyboardInterrupt

    return wrapped


def run_python_of(name, **names):
    """The names after a page's code has run at toy size."""
    page = next(page for page in PAGES if page.name == name)
    program = python_of(page)
    for real, small in SMALLER[name].items():
        assert program.count(real) == 1, real
        program = program.replace(real, small)
    exec(compile(program, page, "exec"), names)
    return names


@pytest.fixture(scope="module")
def readme(short_paths, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        patch.chdir(tmp_path_factory.mktemp("readme"))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            names = run_python_of("README.md", TOY=TOY, SMALL=SMALL, folder=Path.cwd())
        return {**names, "printed": printed.getvalue()}


def answers(function, result):
    """A function that takes what the other takes, and returns this."""

    def answer(*args, **kwargs):
        inspect.signature(function).bind(*args, **kwargs)
        return result

    return answer


def test_python_of_the_readme_runs(readme):
    assert readme["dist"].is_normalized
    assert (readme["folder"] / "report.html").stat().st_size > 1000


def test_the_readme_shows_what_its_code_prints(readme):
    """Numbers and verdicts, which are those of another table there, are left out of both."""

    def form(text):
        text = re.sub(r"-?(\d+\.\d*(e[+-]\d+)?|\d+|inf)", "number", text)
        text = re.sub(r"unreliable|reliable|doubtful|unknown", "verdict", text)
        return [re.sub(r"\s+", "", line) for line in text.splitlines()]

    shown = re.search(r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert form(shown[1]) == form(readme["printed"])


@pytest.mark.usefixtures("short_ladders")
def test_python_of_the_tour_runs(readme, monkeypatch):
    """With the fit of the README."""
    monkeypatch.setattr(search, "MOST_EXPENSIVE", 0)
    monkeypatch.setattr(drl, "fit", answers(drl.fit, readme["density"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        names = run_python_of("tour.md", SMALL=SMALL)
    assert names["partial"].event_shape == (1,)
    assert names["posterior"].draws.shape[1] == 2


def test_python_of_the_first_page_runs(readme, monkeypatch, tmp_path):
    """With the fit and the report of the README, whose calls are those of this page."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(drl, "fit", answers(drl.fit, readme["density"]))
    monkeypatch.setattr(drl.Density, "evaluate", answers(drl.Density.evaluate, readme["report"]))
    names = run_python_of("start.md")
    assert names["partial"].event_shape == (1,)
    wine = drl.load_dataset("wine", seed=0)
    assert (len(wine.train) + len(wine.validation) + len(wine.test), wine.num_columns) == (178, 13)
    assert {"alcohol", "proline"} < {column.name for column in wine.columns}


def test_python_of_the_index_runs(readme, monkeypatch):
    monkeypatch.setattr(drl, "fit", lambda source, *, seed, max_minutes: readme["density"])
    assert run_python_of("index.md")["density"] is readme["density"]


def test_python_of_the_page_on_outliers_runs(readme):
    names = run_python_of("score_and_outliers.md", density=readme["density"], rows=readme["data"].test[:5])
    assert names["found"].p_value.shape == names["prediction"].log_density.shape == (5,)


def test_python_of_the_page_on_papers_runs(readme, monkeypatch):
    monkeypatch.setattr(drl, "fit", answers(drl.fit, readme["density"]))
    few = DiffusionSamplerSettings(num_steps=4, width=8, num_chain_updates=3, num_chains=16, num_states=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        names = run_python_of("papers.md", WALKS=few)
    assert names["between"].shape == (5, 2)
    assert names["draws"].shape == names["averaged"].shape == (64, 2)


def test_python_of_the_page_on_networks_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        names = run_python_of("own_network.md", SMALL=SMALL)
    assert names["state"].step == 2
    assert names["model"].is_integrable


def test_python_of_the_page_on_kernels_draws_the_target():
    draws = run_python_of("own_kernel.md")["result"].draws[100:]
    assert_z(draws.square().mean((0, 2)), 1.0)  # 64 independent chains


def test_python_of_the_page_on_estimators_finds_log_z():
    """The page itself compares with the truth."""
    assert run_python_of("own_estimator.md")["estimate"].is_one_sided


def test_python_of_the_tables_page_reads_as_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [f"{'AB'[i % 2]};{str(value).replace('.', ',')}" for i, value in enumerate(rng.normal(size=90).round(3))]
    rows[3] = "A;-999"
    Path("sensors.csv").write_text("\n".join(["station;heat", *rows]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DRLDensityWarning)
        data = run_python_of("tables.md", drl=drl)["data"]
    assert [column.kind for column in data.columns] == ["categorical", "continuous"]
    assert sum(int(part.isnan().sum()) for part in (data.train, data.validation, data.test)) == 1


def test_python_of_the_evidence_page_runs(monkeypatch):
    """With sandwiches made up, which tests/model_evidence has in earnest."""

    def pretended(target, **settings):
        return MadeUpSandwich(-30.0, draws=torch.zeros(2, 4, *target.event_shape, dtype=torch.float64))

    monkeypatch.setattr(entry, "sandwich", pretended)
    names = run_python_of("evidence.md")
    assert {"level", "slope", "scale"} == set(names["found"].tree["posterior"].data_vars)
    assert {model.name for model in names["table"].models} == {"line", "constant"}


def test_python_of_the_page_on_pyro_models_runs(readme):
    names = run_python_of("inside_pyro.md", density=readme["density"], y=torch.tensor(0.2, dtype=torch.float64))
    assert names["predictions"]["y"].shape == (2,)


# Variables of the pages, and the classes of which they are.
def test_other_code_is_that_of_an_example():
    examples = {path.read_text(encoding="utf-8").strip() for path in (ROOT / "examples").glob("*.py")}
    for page in PAGES:
        assert page.name in SMALLER or python_of(page).strip() in {"", *examples}, page


@pytest.mark.usefixtures("short_paths")
def test_commands_of_their_page_run(folder, monkeypatch, capsys):
    """In their order; a run to be resumed is interrupted first."""
    ran = set()
    for words in commands_of(ROOT / "docs" / "command_line.md")[0]:
        if " ".join(words).startswith(ELSEWHERE):
            continue
        small = [*words, *sizes_of(words)]
        if "--resume" in words:
            with monkeypatch.context() as patch:
                patch.setattr(TrainingFolder, "saver", interrupted_once_saved)
                assert main([*(word for word in small if word != "--resume"), "--force"]) == 130
        if words[0] == "compare":
            shutil.copytree(words[1], words[2])
        capsys.readouterr()
        assert main(small) == 0, (words, capsys.readouterr().err)
        ran.add(words[0])
    assert {"fit", "sample", "score", "impute", "predict", "distill"} <= ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_pages_are_understood(page, monkeypatch):
    understood = []
    for command in COMMANDS.values():
        monkeypatch.setattr(command.load(), "run", lambda command: understood.append(command))
    typed, told = commands_of(page)
    for words in typed + told:
        assert main(words) == 0, words
    assert len(understood) == len(typed + told)


@pytest.mark.parametrize(
    ("function", "file"),
    re.findall(r"^\| `drl\.(\w+)` \| `([\w/.]+)` \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE),
)
def test_the_table_of_functions_names_their_files(function, file):
    assert inspect.getsourcefile(inspect.unwrap(getattr(drl, function))) == str(ROOT / file)
