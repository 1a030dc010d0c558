"""Neural spline flows and masked autoregressive flows of zuko, with early stopping on validation."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.benchmarks.tables.contract import Budget, Fitted, NotInstalled, Rows

SHAPES = {"nsf": ((5, 128), (3, 64), (1, 32)), "maf": ((5, 128), (5, 64), (3, 32))}
"""Numbers of transformations and hidden units of the candidates, the largest first."""

LEAST_STEPS, MOST_STEPS, MOST_EPOCHS = 1500, 20_000, 1000
"""Steps for which a candidate must have time to be begun (the last is begun anyhow), and most that one takes."""

BATCH, RATE, DECAY, AVERAGING, PATIENCE = 512, 2e-3, 1e-4, 0.99, 0.2
"""Rows in a step, learning rate, weight decay, decay of averaged weights, and share of steps without a better score."""


@dataclass(frozen=True)
class _Run:
    """A trained candidate.

    Attributes:
        flow: The flow with the averaged weights that scored best.
        score: Its mean log density of the validation rows.
        num_steps: Number of steps taken.
        ending: Why it ended.
    """

    flow: nn.Module
    score: float
    num_steps: int
    ending: str


def fit_flow(kind: str, rows: Rows, budget: Budget, seed: int) -> Fitted:
    """The best on validation of the candidates that the budget allows.

    The largest candidate with time for 1,500 steps is trained first. Where early stopping ends it before the budget does,
    the next ones follow.

    Args:
        kind: "nsf" or "maf".
        rows: Rows in model space.
        budget: Time of the fit.
        seed: Seed of weights and batches.
    """
    try:
        import zuko
    except ImportError:
        raise NotInstalled("zuko") from None
    runs: dict[tuple[int, int], _Run] = {}
    for place, (num_transforms, width) in enumerate(SHAPES[kind]):
        is_last = place == len(SHAPES[kind]) - 1
        torch.manual_seed(seed)
        if kind == "nsf":
            flow = zuko.flows.NSF(rows.num_features, transforms=num_transforms, bins=8, hidden_features=(width, width))
        else:
            flow = zuko.flows.MAF(rows.num_features, transforms=num_transforms, hidden_features=(width, width))
        needed = LEAST_STEPS * _seconds_per_step(flow, rows)
        if needed > budget.left and not (is_last and not runs):
            continue
        runs[num_transforms, width] = _train(flow, rows, budget, seed)
    shape = max(runs, key=lambda key: runs[key].score)
    best = runs[shape]

    def log_density(u: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([best.flow().log_prob(part.float()).double() for part in u.split(4096)])

    scores = {f"{key[0]} x {key[1]}": round(run.score, 4) for key, run in runs.items()}
    detail = {"shape": f"{shape[0]} x {shape[1]}", "steps": best.num_steps, "ending": best.ending, "validation": scores}
    return Fitted(log_density, detail=detail)


def _seconds_per_step(flow: nn.Module, rows: Rows) -> float:
    """Seconds of one step, measured on ten without effect."""
    x = rows.train[0, :BATCH].float()
    flow().log_prob(x).mean().backward()
    started = time.monotonic()
    for _ in range(10):
        flow().log_prob(x).mean().backward()
    flow.zero_grad()
    return (time.monotonic() - started) / 10


def _train(flow: nn.Module, rows: Rows, budget: Budget, seed: int) -> _Run:
    """AdamW with a rate that falls to zero as a half cosine in steps or in time, whichever is further."""
    copies, validation = rows.train.float(), rows.validation.float()
    num_copies, num_rows = copies.shape[:2]
    size = min(BATCH, num_rows)
    num_steps = min(MOST_STEPS, max(LEAST_STEPS, MOST_EPOCHS * num_rows // size))
    every = max(25, num_steps // 200)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=RATE, weight_decay=DECAY)
    average = {name: value.clone() for name, value in flow.state_dict().items()}
    started, allowed = time.monotonic(), budget.left
    best, kept, best_step, ending, step = -math.inf, dict(average), 0, "steps", 0
    while step < num_steps:
        progress = max(step / num_steps, (time.monotonic() - started) / allowed)
        if progress >= 1:
            ending = "time"
            break
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * progress))
        copy = int(torch.randint(num_copies, (), generator=generator))
        batch = copies[copy, torch.randint(num_rows, (size,), generator=generator)]
        loss = -flow().log_prob(batch).mean()
        if not bool(loss.isfinite()):
            ending = "a loss that is not finite"
            break
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        step += 1
        decay = min(AVERAGING, step / (step + 10))
        with torch.no_grad():
            for name, value in flow.state_dict().items():
                average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)
        if step % every == 0:
            score = _score(flow, average, validation)
            if score > best:
                best, best_step, kept = score, step, {name: value.clone() for name, value in average.items()}
            # Early stopping: a fifth of the steps that the time allows without a better score.
            elif (step - best_step) > PATIENCE * max(LEAST_STEPS, step / max(progress, 1e-3)):
                ending = "early stopping"
                break
    score = _score(flow, average, validation)
    if score > best:
        best, kept = score, dict(average)
    flow.load_state_dict(kept)
    return _Run(flow, best, step, ending)


def _score(flow: nn.Module, weights: dict[str, Tensor], validation: Tensor) -> float:
    """Mean log density of the validation rows under the averaged weights; those of the flow are put back."""
    current = {name: value.clone() for name, value in flow.state_dict().items()}
    flow.load_state_dict(weights)
    with torch.no_grad():
        score = float(torch.cat([flow().log_prob(part) for part in validation.split(4096)]).double().mean())
    flow.load_state_dict(current)
    return score if math.isfinite(score) else -math.inf
