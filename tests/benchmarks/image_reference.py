"""Bits per dimension of mixtures of factor analysers over histograms of all pixels, for several sizes, with their times.

python -m tests.benchmarks.image_reference mnist.npz 4,8 8,8 16,16 32,16 --passes 3
"""

import argparse
import math
import time

import torch

from drl_density import Split, load_dataset
from drl_density.bases.fitting import FactorSize, fit_factor_analysers
from drl_density.bases.fitting.factor_sizes import mean_log_density
from drl_density.density.fitting.table import prepare_table

MOST_TEST = 4000
"""Test images that are scored: their standard error is about 0.003 bits per dimension."""


def main() -> None:
    """Print one line for every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="images, as load_dataset takes them")
    parser.add_argument("sizes", nargs="+", help="components,factors")
    parser.add_argument("--passes", type=int, default=3, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(given.source, split=Split(seed=given.seed))
    generator, began = torch.Generator().manual_seed(given.seed), time.process_time()
    table = prepare_table(data)
    print(f"{data.describe()}\ntransform: {time.process_time() - began:.1f} s of one core")
    u, log_jacobian = table.transform.with_log_jacobian(table.rows(data.test[:MOST_TEST], generator=generator))
    unit = -1 / (u.shape[1] * math.log(2))
    alone = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) + log_jacobian
    print(f"independent pixels: {unit * float(alone.mean()):.4f} bits per dimension")
    for text in given.sizes:
        size, began = FactorSize(*map(int, text.split(","))), time.process_time()
        base = fit_factor_analysers(
            lambda index: table.to_model(data.train[index], generator=generator),
            size,
            num_rows=len(data.train),
            num_passes=given.passes,
            generator=torch.Generator().manual_seed(given.seed + 1),
        )
        seconds = time.process_time() - began
        bits = unit * (mean_log_density(base, u) + float(log_jacobian.mean()))
        print(f"{size.num_components} x {size.num_factors}: {bits:.4f} bits per dimension, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
