"""Train the small MNIST classifier whose features and classes judge drawn digits; prints its test accuracy.

    python tests/benchmarks/mnist_classifier.py mnist.npz --out runs/mnist_classifier.safetensors

About a minute on one core. Below 98 % test accuracy nothing is written and the exit status is 1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from drl_density import load_dataset
from drl_density.sample_quality import ClassifierSettings, ImageClassifier, accuracy, save_classifier, train_classifier


def main() -> None:
    """Train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", help="MNIST as .npz with x_train, y_train, x_test, y_test, or its folder of idx files"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/mnist_classifier.safetensors"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load_dataset(args.source, seed=args.seed)
    if data.labels is None:
        raise SystemExit(f"{args.source}: no labels to learn from")
    images = [part.reshape(-1, *data.event_shape) for part in (data.train, data.validation, data.test)]
    generator = torch.Generator().manual_seed(args.seed)
    settings = ClassifierSettings(data.event_shape, int(data.labels[0].max()) + 1)
    classifier = ImageClassifier(settings, generator=generator)
    started = time.monotonic()
    train_classifier(classifier, images[0], data.labels[0], num_epochs=args.epochs, generator=generator)
    scores = [accuracy(classifier, *pair) for pair in zip(images[1:], data.labels[1:], strict=True)]
    print(
        f"{args.epochs} epochs in {time.monotonic() - started:.0f} s: validation {scores[0]:.4f}, test {scores[1]:.4f}"
    )
    if scores[1] < 0.98:
        raise SystemExit("below 98 %: not written; train longer with --epochs")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    name = f"a small {data.name} classifier trained here"
    print(f"saved in {save_classifier(classifier, args.out, name=name, test_accuracy=scores[1])}")


if __name__ == "__main__":
    main()
