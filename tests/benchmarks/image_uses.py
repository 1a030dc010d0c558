"""Labels and outliers of images: probabilities of labels, and outlier scores between sets of images, by exact densities.

python -m tests.benchmarks.image_uses mnist.npz --size 14 --minutes 2 --faces freyfaces.npz

Part "labels": one density for each label within the minutes in all, against one Gaussian for each label on the same
histograms and logistic regression. Accuracy, log loss in nats and calibration error are those of test images; every
generative model has one calibrated power. Part "outliers": one density of all images, and a spline flow of zuko in the same
time. AUROC compares test images with other sets: 0.5 tells nothing apart, and below it the others are taken for the more
usual ones.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

import drl_density as drl
from drl_density import Split, load_dataset
from drl_density.density.classification.class_densities import best_power, label_probabilities
from drl_density.density.fitting.baselines import gaussian_log_density
from drl_density.density.fitting.table import prepare_table
from tests.benchmarks.image_ladder import Rung, fitted_flow, shrunk

PARTS = ("labels", "outliers")
NUM_BINS = 15


def calibration_error(probabilities, labels):
    """Mean gap between the confidence of the most probable label and its accuracy, over bins of confidence."""
    confidence, chosen = probabilities.max(1)
    right, bins = (chosen == labels).double(), (confidence * NUM_BINS).long().clamp_max(NUM_BINS - 1)
    gaps = [
        float((bins == each).double().mean() * (confidence[bins == each].mean() - right[bins == each].mean()).abs())
        for each in bins.unique()
    ]
    return sum(gaps)


def figures(name, probabilities, labels, seconds, **more):
    """A row of accuracy, log loss and calibration."""
    own = probabilities.double()[torch.arange(len(labels)), labels]
    accuracy = float((probabilities.argmax(1) == labels).double().mean())
    loss = -own.clamp_min(1e-300).log()
    row = {"model": name, "accuracy": round(accuracy, 4), "log_loss": round(float(loss.mean()), 4)}
    row |= {"log_loss_error": round(float(loss.std()) / len(loss) ** 0.5, 4)}
    return row | {"calibration": round(calibration_error(probabilities, labels), 4), "seconds": round(seconds, 1)} | more


def by_label(data, minutes, most, seed):
    """Rows about labels."""
    began = time.monotonic()
    found = drl.fit_classes(data, seed=seed, max_minutes=minutes, progress=False)
    seconds = time.monotonic() - began
    x, labels = data.test[:most], data.labels.test[:most]
    values = found.log_densities(x)
    places = torch.searchsorted(torch.tensor(found.labels), labels)
    for name, power in (("densities, Bayes' rule", 1.0), ("densities, calibrated power", found.power)):
        yield figures(name, label_probabilities(values, found.shares, power), places, seconds, power=round(power, 4))
    began, table = time.monotonic(), prepare_table(data, "histogram")
    generator = torch.Generator().manual_seed(seed)
    u = {part: table.to_model(getattr(data, part), generator=generator).double() for part in ("train", "validation", "test")}
    own = [u["train"][data.labels.train == label] for label in found.labels]

    def scores(part):
        return torch.stack([gaussian_log_density(rows, u[part]) for rows in own], 1)

    held_out = torch.searchsorted(torch.tensor(found.labels), data.labels.validation)
    power = best_power(scores("validation"), held_out, found.shares)
    chances = label_probabilities(scores("test")[:most], found.shares, power)
    yield figures("Gaussian of each label", chances, places, time.monotonic() - began, power=round(power, 4))
    from sklearn.linear_model import LogisticRegression

    began = time.monotonic()
    model = LogisticRegression(max_iter=100).fit(data.train[:20_000].numpy() / 255.0, data.labels.train[:20_000].numpy())
    chances = torch.as_tensor(model.predict_proba(x.numpy() / 255.0))
    yield figures("logistic regression, 20,000 images", chances, places, time.monotonic() - began)


def letters(num_images, size, seed):
    """Capital letters of a sans-serif font, shifted, turned and scaled by chance, ``(n, size^2)``, uint8."""
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    rng, found = np.random.default_rng(seed), []
    path = findfont("DejaVu Sans")
    for _ in range(num_images):
        font = ImageFont.truetype(path, int(rng.integers(70, 90)))
        page = Image.new("L", (112, 112))
        place = tuple(56 + rng.integers(-8, 9, 2))
        ImageDraw.Draw(page).text(place, chr(65 + rng.integers(26)), fill=255, font=font, anchor="mm")
        found.append(np.asarray(page.rotate(rng.uniform(-15, 15)).resize((size, size), Image.Resampling.BOX)))
    return torch.as_tensor(np.stack(found).reshape(num_images, -1))


def crops(path, num_images, size, seed):
    """Crops of ``size`` by ``size`` pixels of the faces, ``(n, size^2)``, uint8."""
    with np.load(path) as arrays:
        faces = arrays["x"]
    rng, found = np.random.default_rng(seed), []
    for _ in range(num_images):
        face = faces[rng.integers(len(faces))]
        row, column = (rng.integers(0, side - size + 1) for side in face.shape)
        found.append(face[row : row + size, column : column + size])
    return torch.as_tensor(np.stack(found).reshape(num_images, -1))


def auroc(usual, others):
    """Chance that a score of ``others`` exceeds one of ``usual``, ties counted half."""
    from scipy import stats

    ranks = stats.rankdata(torch.cat([usual, others]).numpy())
    count = len(others)
    return round(float((ranks[len(usual) :].sum() / count - (count + 1) / 2) / len(usual)), 4)


def between_sets(data, minutes, most, seed, faces):
    """Rows about outliers."""
    size, half = data.event_shape[-1], len(data.test) // 2
    density = drl.fit(data, seed=seed, max_minutes=minutes, progress=False)
    rung = Rung(prepare_table(data, "histogram"), 60 * minutes, most, seed)
    flow, steps = fitted_flow(rung)
    usual, more = data.test[:half][:most], data.test[half:][:most]
    generator = torch.Generator().manual_seed(seed)
    sets = {
        "more test images": more,
        "inverted": 255 - more,
        "upside down and mirrored": more.flip(1),
        "faint, a quarter as bright": more // 4,
        "pixels in an order of chance": more[:, torch.randperm(more.shape[1], generator=generator)],
        "blank, with noise of 0 to 3": torch.randint(4, more.shape, generator=generator).to(torch.uint8),
        "letters": letters(most, size, seed),
    }
    if faces:
        sets["crops of faces"] = crops(faces, most, size, seed)

    def scores(x):
        found = density.outlier_scores(x.double())
        rows, log_jacobian = rung.table.transform.with_log_jacobian(rung.table.rows(x, generator=generator))
        with torch.no_grad():
            by_flow = torch.cat([flow().log_prob(part.float()).double() for part in rows.split(256)]) + log_jacobian
        kinds = {"log density": -found.log_density, "atypicality": -found.typicality_p_value}
        return kinds | {"strangeness": found.strangeness, "flow, log density": -by_flow}

    known = scores(usual)
    bits = {name: float(known[name].mean()) / (usual.shape[1] * np.log(2)) for name in ("log density", "flow, log density")}
    yield {"bits per dimension": {name: round(value, 4) for name, value in bits.items()}, "images": len(usual)}
    for name, x in sets.items():
        yield {"set": name} | {kind: auroc(known[kind], value) for kind, value in scores(x).items()} | {"flow_steps": steps}


def main() -> None:
    """Print one row after the other, and write them as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images with labels, as load_dataset takes them")
    parser.add_argument("--size", type=int, help="side in pixels to which the images of an .npz file are averaged")
    parser.add_argument("--minutes", type=float, default=2.0, help="minutes of one core for every model")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--faces", help=".npz file with images `x`, of which crops are outliers")
    parser.add_argument("--most-test", type=int, default=1000)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="what a minute is counted by")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/image_uses"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.clock == "processor":
        time.monotonic = time.process_time  # as in the ladder
    data = load_dataset(shrunk(given.source, given.size, given.out), split=Split(seed=given.seed))
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    if "labels" in given.parts:
        rows.append(by_label(data, given.minutes, given.most_test, given.seed))
    if "outliers" in given.parts:
        rows.append(between_sets(data, given.minutes, given.most_test, given.seed, given.faces))
    with (given.out / "rows.jsonl").open("a") as lines:
        for row in (row for part in rows for row in part):
            print(json.dumps(row), flush=True)
            lines.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
