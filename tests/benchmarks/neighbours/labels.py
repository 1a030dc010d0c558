"""Cooperative training with labels on 14 x 14 MNIST, and draws of each label with classifier-free guidance.

    python -m tests.benchmarks.neighbours.labels FOLDER train --start FOLDER/prior.safetensors --seconds 480
    python -m tests.benchmarks.neighbours.labels FOLDER draw
    python -m tests.benchmarks.neighbours.labels FOLDER proposals --start FOLDER/prior.safetensors
    python -m tests.benchmarks.neighbours.labels FOLDER figure --figure docs/images/guided_digits.png

The folder holds the digits, the classifier and the weights of prior.py. Energy and initialiser are those of cooperative.py,
with labels. Each label has a base of its own, four factor analysers. A proposal is a draw of that base given the noisier
state, shifted by the initialiser. Each batch has one label, or none with a probability of 0.1. The base of all rows cannot
propose for a label: ``proposals`` begins at test digits with the noise of a level, draws the cleaner states by
that base, and counts at level 0 how many still are the digit that they were. A shift that depends on the noisier
state alone cannot mend a draw of another digit.

The guided energy is (1 + w) F(x, c) - w F(x), where F(x, c) is the log density of the base of the label plus the network,
and F(x) that of the base of all rows plus the network without a label. The guided initialiser is the same sum. Forty digits
of each label, from the same noise for all labels, are drawn by proposals and two adjusted steps a level. "right" is the
share to which the classifier of prior.py gives the label that was asked for. Lines go to ``labels.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import drl_density as drl
from drl_density.bases import FactorAnalysers
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.execution import precision
from drl_density.networks import LabelSum, guide_by_label
from drl_density.training import CooperativeRecovery, Objective
from drl_density.training.objectives.objective import ObjectiveValue
from tests.benchmarks.neighbours.cooperative import (
    BATCH,
    CHAINS,
    INITIALIZER,
    LEVELS,
    RATE,
    STEPS,
    Sheet,
    Training,
    load_named,
    matched,
    save,
    short_run,
)
from tests.benchmarks.neighbours.few_steps import new_figure
from tests.benchmarks.neighbours.prior import LOW, SIDE, to_grey, to_rows

CLASSES, OWN, UNLABELLED, WEIGHTS = 10, FactorSize(4, 12), 0.1, (0.0, 0.5, 1.0, 2.0)


def bases_of(base: FactorAnalysers, data: drl.Dataset) -> list[FactorAnalysers]:
    """The base, and a small mixture of factor analysers for the training rows of each label."""
    assert data.labels is not None
    rows, found = to_rows(data.train, torch.Generator().manual_seed(0)), [base]
    for label in range(CLASSES):
        own = rows[data.labels[0] == label]
        found.append(fit_factor_analysers(own, OWN, num_passes=12, generator=torch.Generator().manual_seed(label)))
    return found


class GuidedEnergy(nn.Module):
    """What guidance adds to the base of a label: the guided network, and w times the excess of that base over the base."""

    def __init__(self, network: nn.Module, label: int, weight: float, bases: list[FactorAnalysers]) -> None:
        super().__init__()
        self.network, self.weight = guide_by_label(network, label, weight), weight
        self.own, self.whole = bases[label], bases[0]

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Values ``(n,)``."""
        value = self.network(x, log_snr)
        return value + self.weight * (self.own(x, log_snr) - self.whole(x, log_snr)) if self.weight else value


def sequence_of(
    model: drl.EnergySequence, label: int, bases: list[FactorAnalysers], weight: float = 0.0
) -> drl.EnergySequence:
    """The sequence of a label, or of all rows with label 0; it shares the weights of the networks."""
    assert model.initializer is not None
    if label:
        energy: nn.Module = GuidedEnergy(model.network, label, weight, bases)
        start = guide_by_label(model.initializer, label, weight)
    else:
        energy, start = (LabelSum(part, [0], [1.0]) for part in (model.network, model.initializer))
    return drl.EnergySequence(model.schedule, energy, (SIDE * SIDE,), base=bases[label], initializer=start)


class LabelTraining(Training):
    """Training whose batches have one label each."""

    def __init__(self, model: drl.EnergySequence, data: drl.Dataset, planned: float) -> None:
        super().__init__(model, data, planned)
        assert isinstance(model.base, FactorAnalysers)
        assert data.labels is not None
        bases = bases_of(model.base, data)
        self.sequences = [sequence_of(model, label, bases) for label in range(CLASSES + 1)]
        places = [(data.labels[0] == label).nonzero().squeeze(1) for label in range(CLASSES)]
        self.places = [torch.arange(len(data.train)), *places]

    def evaluate(self, objective: Objective) -> ObjectiveValue:
        """The objective on a batch of one label, or of all."""
        has_label = float(torch.rand((), generator=self.generator)) >= UNLABELLED
        label = int(torch.randint(1, CLASSES + 1, (), generator=self.generator)) if has_label else 0
        chosen = torch.randint(len(self.places[label]), (BATCH,), generator=self.generator)
        model = self.sequences[label]
        with precision(model, LOW):
            rows = self.rows(self.places[label][chosen])
            return objective(model, rows, torch.ones(LEVELS), generator=self.generator)


def judge(sheet: Sheet, name: str, calls: int, drawn: list[Tensor], seconds: float) -> None:
    """Judge draws of each label in turn, write a line, and keep the first ones."""
    chances = sheet.judge.look.apply(to_grey(torch.cat(drawn))).log_probabilities
    label = torch.arange(CLASSES).repeat_interleave(len(drawn[0]))
    right = (chances.argmax(1) == label).double().reshape(CLASSES, -1).mean(1)
    error = math.sqrt(float((right * (1 - right)).sum()) / len(drawn[0])) / CLASSES
    more = {"right": float(right.mean()), "error": error, "by_label": right.tolist()}
    sheet.judge.line("labels", name, f"K = {STEPS}", calls, torch.cat(drawn), seconds, more)
    path = sheet.folder / "labels_pictures.pt"
    pictures = torch.load(path) if path.exists() else {}
    torch.save(pictures | {name: to_grey(torch.stack(drawn)[:, :2].transpose(0, 1).flatten(0, 1))}, path)


def draw(sheet: Sheet, name: str, weights: list[float]) -> None:
    """Forty digits of each label by each weight of the guidance, and by the bases alone."""
    model = load_named(sheet.folder, name).requires_grad_(False)
    assert isinstance(model.base, FactorAnalysers)
    bases, each = bases_of(model.base, sheet.data), sheet.count // CLASSES
    generator = torch.Generator().manual_seed(3)
    exact = [base.sample(each, generator=generator) for base in bases[1:]]
    judge(sheet, f"{name}, bases of the labels", 0, exact, 0.0)
    for weight in weights:
        began, drawn = time.process_time(), []
        for label in range(1, CLASSES + 1):
            drawn.append(short_run(sequence_of(model, label, bases, weight), STEPS, each))
        calls = (2 if weight else 1) * (LEVELS * (STEPS + 1) + 1)
        judge(sheet, f"{name}, w = {weight:g}", calls, drawn, time.process_time() - began)


def proposals(sheet: Sheet, model: drl.EnergySequence) -> None:
    """Digits that keep their label down the levels of the base of all rows, and down those of the base of the label."""
    assert isinstance(model.base, FactorAnalysers)
    assert sheet.data.labels is not None
    bases, generator, schedule = bases_of(model.base, sheet.data), torch.Generator().manual_seed(0), model.schedule
    rows, label = to_rows(sheet.data.test[: sheet.count], generator), sheet.data.labels[2][: sheet.count]
    for top in range(1, LEVELS):
        states = schedule.diffuse(rows, top, generator=generator)
        found = {}
        for name in ("base of all", "base of the label"):
            x = states.clone()
            for level in reversed(range(top)):
                snr = [schedule.log_snr_at(torch.tensor(place)).expand(len(x)) for place in (level, level + 1)]
                if name == "base of all":
                    x = bases[0].sample_cleaner(x, *snr, generator=generator)
                    continue
                for number in range(CLASSES):
                    own = label == number
                    x[own] = bases[number + 1].sample_cleaner(x[own], *(s[own] for s in snr), generator=generator)
            chances = sheet.judge.look.apply(to_grey(x)).log_probabilities
            found[name] = float((chances.argmax(1) == label).double().mean())
        snr_above = float(schedule.log_snr_at(torch.tensor(top)))
        print(json.dumps({"part": "proposals", "from level": top, "log_snr": snr_above, **found}), flush=True)


def draw_figure(path: Path, folder: Path) -> None:
    """Two rows of draws by each weight, a column for each label."""
    pictures = torch.load(folder / "labels_pictures.pt")
    figure = new_figure(4, 0.95 * len(pictures))
    for axis, (name, grey) in zip(figure.subplots(len(pictures), 1), pictures.items(), strict=True):
        tiles = grey[:, 0].reshape(2, CLASSES, SIDE, SIDE).permute(0, 2, 1, 3).reshape(2 * SIDE, CLASSES * SIDE)
        axis.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(name.split(", ", 1)[1], fontsize=8, pad=2)
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Train, draw, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of prior.py")
    parser.add_argument("part", choices=["train", "draw", "proposals", "figure"])
    parser.add_argument("--start", type=Path, help="weights of prior.py to start from")
    parser.add_argument("--name", default="labels", help="file of the weights, without its ending")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--weights", type=float, nargs="*", default=list(WEIGHTS), help="of the guidance")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.part == "figure":
        draw_figure(args.figure, args.folder)
        return
    sheet = Sheet(args.folder, args.count)
    sheet.judge.out = args.folder / "labels.jsonl"
    if args.part == "train":
        training = LabelTraining(matched(args.start, INITIALIZER), sheet.data, args.seconds)
        training.run(CooperativeRecovery(CHAINS, label_dropout=0.0), args.seconds, args.rate)
        training.average.swap()
        save(training.model, args.folder / f"{args.name}.safetensors")
        print(json.dumps({"steps": training.steps, "seconds": round(training.seconds, 1)}), flush=True)
    elif args.part == "proposals":
        proposals(sheet, matched(args.start, INITIALIZER))
    else:
        draw(sheet, args.name, args.weights)


if __name__ == "__main__":
    main()
