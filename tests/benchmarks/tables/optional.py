"""Rivals whose packages are not requirements: a vine copula, unmasking trees, and a probabilistic circuit."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from tests.benchmarks.tables.contract import Budget, Fitted, NotInstalled, Rows

SMOOTHING = (0.5, 1.0, 2.0)
"""Multipliers of the vine's bandwidths, chosen on validation."""

ORDERS = 5
"""Random orders of the columns over which unmasking trees average."""

UNITS = (16, 64)
"""Units of every layer of the circuit, chosen on validation."""


def fit_vine(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """A vine of nonparametric pair copulas (transformation local likelihood) on the fitted marginals.

    It is fitted to one dequantised copy, because copies of a row would narrow its bandwidths. The multiplier of the
    bandwidths is chosen on validation, then the vine is fitted again to all rows.
    """
    try:
        import pyvinecopulib as pv  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalled("pyvinecopulib") from None

    def fit(x: Tensor, smoothing: float) -> pv.Vinecop:
        controls = pv.FitControlsVinecop(family_set=[pv.BicopFamily.tll], nonparametric_mult=smoothing, num_threads=1)
        return pv.Vinecop.from_data(stats.norm.cdf(x.numpy()), controls=controls)

    def log_density(vine: pv.Vinecop, u: Tensor) -> Tensor:
        copula = np.log(vine.pdf(stats.norm.cdf(u.numpy())))
        return torch.as_tensor(copula + stats.norm.logpdf(u.numpy()).sum(1))

    scores: dict[float, float] = {}
    for smoothing in SMOOTHING:
        if scores and budget.left < budget.seconds / 3:
            break
        vine = fit(rows.train[0], smoothing)
        scores[smoothing] = float(log_density(vine, rows.validation).mean())
    smoothing = max(scores, key=scores.__getitem__)
    vine = fit(rows.everything[0], smoothing)
    detail = {"smoothing": smoothing, "validation": {str(key): round(value, 4) for key, value in scores.items()}}
    return Fitted(lambda u: log_density(vine, u), "exact up to the grids of its pair copulas", detail)


def fit_trees(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """Unmasking trees with their own settings: a chain of boosted trees over random orders of the columns."""
    try:
        from utrees import UnmaskingTrees  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalled("utrees") from None
    model = UnmaskingTrees(random_state=seed)
    model.fit(rows.everything[0].numpy())

    def log_density(u: Tensor) -> Tensor:
        return torch.as_tensor(np.asarray(model.score_samples(u.numpy(), n_evals=ORDERS), dtype=np.float64))

    return Fitted(log_density, "exact, chain rule over columns", {"orders": ORDERS})


def fit_circuit(rows: Rows, budget: Budget, seed: int) -> Fitted:
    """A circuit of Gaussian leaves over a random binary tree of columns, trained by Adam with early stopping."""
    try:
        from cirkit.backend.torch import semiring  # pyright: ignore[reportMissingImports]
        from cirkit.pipeline import PipelineContext  # pyright: ignore[reportMissingImports]
        from cirkit.templates import data_modalities, utils  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalled("libcirkit") from None
    semiring.LOG_CLAMP_MIN = -math.inf  # libcirkit 0.3 cuts off log values at -708 nats
    validation, copies = rows.validation.float(), rows.train.float()
    circuits: dict[int, tuple[float, torch.nn.Module]] = {}
    for place, units in enumerate(UNITS):
        torch.manual_seed(seed)
        symbolic = data_modalities.tabular_data(
            "random-binary-tree",
            num_features=rows.num_features,
            input_layers={"name": "gaussian", "args": {}},
            num_input_units=units,
            sum_product_layer="cp",
            num_sum_units=units,
            sum_weight_param=utils.Parameterization(activation="softmax", initialization="normal"),
        )
        circuit = PipelineContext(backend="torch", semiring="lse-sum", fold=True, optimize=True).compile(symbolic)
        share = Budget.start(budget.left / (len(UNITS) - place))
        circuits[units] = (_train_circuit(circuit, copies, validation, share, seed), circuit)
    chosen = max(circuits, key=lambda units: circuits[units][0])
    best = circuits[chosen][1]

    def log_density(u: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([best(part.float()).flatten().double() for part in u.split(4096)])

    return Fitted(log_density, detail={"units": chosen})


def _train_circuit(circuit: torch.nn.Module, copies: Tensor, validation: Tensor, budget: Budget, seed: int) -> float:
    """Adam at 0.01 on batches of 256; ends at the deadline or after 20 scores without a better one."""
    optimizer = torch.optim.Adam(circuit.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(seed)
    best, kept, since, step = -math.inf, dict(circuit.state_dict()), 0, 0
    while budget.left > 0 and since < 20:
        copy = int(torch.randint(len(copies), (), generator=generator))
        batch = copies[copy, torch.randint(copies.shape[1], (256,), generator=generator)]
        loss = -circuit(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 25 == 0 or budget.left <= 0:
            with torch.no_grad():
                score = float(circuit(validation).mean())
            since += 1
            if score > best:
                best, kept, since = score, {k: v.clone() for k, v in circuit.state_dict().items()}, 0
    circuit.load_state_dict(kept)
    return best
