"""log Z by this package's sandwich beside other packages at equal density evaluations.

    pip install jax blackjax tensorflow-probability dynesty
    python tests/benchmarks/other_estimators.py --logreg logreg_ionosphere/ionosphere.npz --seeds 3

Every method gets the same base (or prior) and as many evaluations of the log density, with gradient or without, as the
sandwich used, pilots included. Rivals without an interval of their own run as 8 independent replicates joined by
log-mean-exp with Student's interval; their step size is chosen on a grid by a pilot that is not counted. Nested sampling
reports its own error. The logistic regression's reference is bridge sampling from long NUTS chains.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import blackjax
import dynesty
import jax
import jax._src.core
import jax.interpreters.xla
import jax.numpy as jnp
import numpy as np
import pyro.distributions as dist
import torch
from jax.scipy.special import logsumexp
from scipy import special, stats

import drl_density as drl
from drl_density.weights import combine_replicates

# TensorFlow Probability 0.25 asks jax for a table that jax 0.10 keeps elsewhere.
if not hasattr(jax.interpreters.xla, "pytype_aval_mappings"):
    jax.interpreters.xla.pytype_aval_mappings = jax._src.core.pytype_aval_mappings
import tensorflow_probability.substrates.jax as tfp

jax.config.update("jax_enable_x64", True)
NUM_REPLICATES = 8


@dataclass(frozen=True)
class Target:
    """A log density in torch and in jax over ``dim`` reals, its base N(0, scale^2 I), and log Z."""

    dim: int
    scale: float
    in_torch: Callable[[torch.Tensor], torch.Tensor]
    in_jax: Callable[[jax.Array], jax.Array]
    log_z: float | None

    def log_base(self, x: jax.Array) -> jax.Array:
        """Log density of the base."""
        return -0.5 * jnp.square(x / self.scale).sum(-1) - self.dim * (
            math.log(self.scale) + 0.5 * math.log(2 * math.pi)
        )


def funnel() -> Target:
    """Neal's funnel, 10-D."""

    def in_torch(x: torch.Tensor) -> torch.Tensor:
        first = x[..., 0]
        rest = -0.5 * (x[..., 1:].square() * torch.exp(-first)[..., None] + first[..., None] + math.log(2 * math.pi))
        return -0.5 * (first / 3).square() - math.log(3) - 0.5 * math.log(2 * math.pi) + rest.sum(-1)

    def in_jax(x: jax.Array) -> jax.Array:
        first = x[..., 0]
        rest = -0.5 * (jnp.square(x[..., 1:]) * jnp.exp(-first)[..., None] + first[..., None] + math.log(2 * math.pi))
        return -0.5 * jnp.square(first / 3) - math.log(3) - 0.5 * math.log(2 * math.pi) + rest.sum(-1)

    return Target(10, 3.0, in_torch, in_jax, 0.0)


def many_well() -> Target:
    """Sixteen double wells, 32-D."""

    def in_torch(x: torch.Tensor) -> torch.Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        return (-(first**4) + 6 * first**2 + 0.5 * first - 0.5 * second**2).sum(-1)

    def in_jax(x: jax.Array) -> jax.Array:
        first, second = x[..., 0::2], x[..., 1::2]
        return (-(first**4) + 6 * first**2 + 0.5 * first - 0.5 * second**2).sum(-1)

    return Target(32, 2.0, in_torch, in_jax, 164.69568)


def logistic_regression(path: Path) -> Target:
    """Ionosphere: columns standardised, an intercept put first, w ~ N(0, I), labels +-1; 35-D."""
    stored = np.load(path)
    x = stored["x"].astype(np.float64)
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread == 0, 1.0, spread)
    x = np.concatenate([np.ones((len(x), 1)), x], 1) * stored["y"][:, None]
    dim = x.shape[1]
    constant = -0.5 * dim * math.log(2 * math.pi)
    rows_torch, rows_jax = torch.as_tensor(x, dtype=torch.float32), jnp.asarray(x)

    def in_torch(w: torch.Tensor) -> torch.Tensor:
        return constant - 0.5 * w.square().sum(-1) + torch.nn.functional.logsigmoid(w @ rows_torch.T.to(w)).sum(-1)

    def in_jax(w: jax.Array) -> jax.Array:
        return constant - 0.5 * jnp.square(w).sum(-1) + jax.nn.log_sigmoid(w @ rows_jax.T).sum(-1)

    return Target(dim, 1.0, in_torch, in_jax, None)


@dataclass(frozen=True)
class Result:
    """An estimate with its 95 % interval, the evaluations it took, and what is to be said of it."""

    log_z: float
    lower: float
    upper: float
    evaluations: int
    remark: str = ""


def ours(target: Target, seed: int, num_particles: int) -> Result:
    """The sandwich; every row whose log density is asked for counts, pilots included."""
    count = 0

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += x.shape[:-1].numel()
        return target.in_torch(x)

    distribution = drl.EnergyDistribution.from_log_density(counted, event_shape=(target.dim,))
    base = dist.Normal(torch.zeros(target.dim), target.scale).to_event(1)
    settings = drl.SandwichSettings(num_particles=num_particles)
    result = drl.sandwich(distribution, base=base, seed=seed, settings=settings)
    return Result(result.log_z, result.lower, result.upper, count, result.verdict)


def _joined(log_z: np.ndarray, evaluations: int, remark: str) -> Result:
    value, error = combine_replicates(torch.as_tensor(log_z))
    half = float(stats.t.ppf(0.975, len(log_z) - 1)) * error
    return Result(value, value - half, value + half, evaluations, remark)


def tempered_smc(target: Target, seed: int, budget: int, *, num_steps: int = 5, share: float = 0.9) -> Result:
    """blackjax's adaptive tempered SMC; MALA whose scale follows the particles' at every temperature.

    The step size is the one of a grid whose mean acceptance in a pilot is nearest to 0.574.
    """

    def run(key: jax.Array, num_particles: int, step_size: float) -> tuple[float, int, float]:
        def parameters(particles: jax.Array) -> dict[str, jax.Array]:
            return blackjax.smc.extend_params(
                {
                    "step_size": jnp.asarray(step_size),
                    "inverse_mass_matrix": particles.var(0),
                    "num_integration_steps": jnp.asarray(1),
                }
            )

        key, start = jax.random.split(key)
        particles = target.scale * jax.random.normal(start, (num_particles, target.dim))
        kernel = blackjax.inner_kernel_tuning(
            blackjax.adaptive_tempered_smc,
            target.log_base,
            lambda x: target.in_jax(x) - target.log_base(x),
            blackjax.hmc.build_kernel(),
            blackjax.hmc.init,
            blackjax.smc.resampling.systematic,
            mcmc_parameter_update_fn=lambda _, state, __: parameters(state.particles),
            initial_parameter_value=parameters(particles),
            num_mcmc_steps=num_steps,
            target_ess=share,
        )
        state = kernel.init(particles)
        step, log_z, rates = jax.jit(kernel.step), 0.0, []
        while state.sampler_state.tempering_param < 1 and len(rates) < 1000:
            key, own = jax.random.split(key)
            state, info = step(own, state)
            log_z += float(info.log_likelihood_increment)
            rates.append(float(info.update_info.acceptance_rate.mean()))
        return log_z, len(rates) * num_particles * (num_steps + 2), float(np.mean(rates))

    key = jax.random.PRNGKey(seed)
    pilots = {size: run(key, 256, size) for size in (0.2, 0.4, 0.7, 1.0, 1.4)}
    best = min(pilots, key=lambda size: abs(pilots[size][2] - 0.574))
    num_particles = max(8, round(256 * budget / NUM_REPLICATES / pilots[best][1]))
    runs = [run(own, num_particles, best) for own in jax.random.split(key, NUM_REPLICATES)]
    values = np.array([log_z for log_z, _, _ in runs])
    remark = f"{num_particles} particles, step {best}, acceptance {np.mean([rate for _, _, rate in runs]):.2f}"
    return _joined(values, sum(count for _, count, _ in runs), remark)


def annealed(target: Target, seed: int, budget: int, *, num_steps: int = 200) -> Result:
    """TensorFlow Probability's annealed importance sampling with HMC of one leapfrog step."""

    @jax.jit
    def weights(start: jax.Array, key: jax.Array, step_size: float) -> jax.Array:
        return tfp.mcmc.sample_annealed_importance_chain(
            num_steps=num_steps,
            proposal_log_prob_fn=target.log_base,
            target_log_prob_fn=target.in_jax,
            current_state=start,
            make_kernel_fn=lambda f: tfp.mcmc.HamiltonianMonteCarlo(f, step_size=step_size, num_leapfrog_steps=1),
            seed=key,
        )[1]

    def run(key: jax.Array, num_particles: int, step_size: float) -> jax.Array:
        start, own = jax.random.split(key)
        return weights(target.scale * jax.random.normal(start, (num_particles, target.dim)), own, step_size)

    key = jax.random.PRNGKey(seed)
    best = max((0.03, 0.1, 0.3, 0.6), key=lambda size: float(jnp.nan_to_num(run(key, 256, size).mean(), nan=-jnp.inf)))
    # each step asks for the log density at the new point, and of both neighbours for the weight
    num_particles = max(2 * NUM_REPLICATES, budget // (3 * num_steps)) // NUM_REPLICATES * NUM_REPLICATES
    found = run(key, num_particles, best).reshape(NUM_REPLICATES, -1)
    values = np.asarray(logsumexp(found, axis=1) - math.log(found.shape[1]))
    return _joined(values, 3 * num_steps * num_particles, f"{num_particles} particles, step {best}")


def nested(target: Target, seed: int, budget: int, *, num_live: int = 200) -> Result:
    """dynesty's static nested sampler, stopped at the budget."""
    log_ratio = jax.jit(lambda x: target.in_jax(x) - target.log_base(x))
    sampler = dynesty.NestedSampler(
        lambda x: float(log_ratio(x)),
        lambda u: target.scale * special.ndtri(u),
        target.dim,
        nlive=num_live,
        sample="rwalk" if target.dim <= 20 else "rslice",
        rstate=np.random.default_rng(seed),
    )
    sampler.run_nested(maxcall=budget, dlogz=0.01, print_progress=False)
    found = sampler.results
    value, error = float(found.logz[-1]), float(found.logzerr[-1])
    remark = "stopped by the budget" if found.ncall.sum() >= budget else "ended by itself"
    return Result(value, value - 1.96 * error, value + 1.96 * error, int(found.ncall.sum()), remark)


def bridge_reference(target: Target, seed: int, *, num_chains: int = 4, num_draws: int = 5000) -> tuple[float, float]:
    """log Z by bridge sampling between a Gaussian and long NUTS chains, and its standard error over chains.

    The Gaussian is fitted to the first half of every chain; the ratio uses the second half.
    Source: Meng and Wong 1996; the iteration's fixed point is Bennett's ratio.
    """
    key = jax.random.PRNGKey(seed)
    adaptation = blackjax.window_adaptation(blackjax.nuts, target.in_jax)

    @jax.jit
    def chain(key: jax.Array) -> jax.Array:
        warm, own = jax.random.split(key)
        (state, parameters), _ = adaptation.run(warm, jnp.zeros(target.dim), num_steps=1000)
        kernel = blackjax.nuts(target.in_jax, **parameters)

        def step(state, key):
            state, _ = kernel.step(key, state)
            return state, state.position

        return jax.lax.scan(step, state, jax.random.split(own, num_draws))[1]

    draws = np.stack([np.asarray(chain(own)) for own in jax.random.split(key, num_chains)])
    half = num_draws // 2
    fitted = draws[:, :half].reshape(-1, target.dim)
    near = stats.multivariate_normal(fitted.mean(0), np.cov(fitted.T))
    values = []
    for index in range(num_chains):
        rows = draws[index, half:]
        other = near.rvs(len(rows), random_state=seed + index)
        forward = np.asarray(target.in_jax(jnp.asarray(other))) - near.logpdf(other)
        reverse = np.asarray(target.in_jax(jnp.asarray(rows))) - near.logpdf(rows)
        pair = (torch.as_tensor(forward)[None], torch.as_tensor(reverse)[None])
        values.append(drl.partition_function.bennett(*pair).log_z)
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(num_chains))


LONG_RUN = "blackjax tempered SMC, ten times the budget"
METHODS = {"blackjax tempered SMC": tempered_smc, "TFP AIS": annealed, "dynesty": nested}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logreg", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--particles", type=int, default=64, help="of the sandwich, per replicate")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--targets", nargs="+", default=["logistic regression", "funnel", "many-well"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", drl.errors.UnreliableEstimateWarning)
    targets = {"funnel": funnel(), "many-well": many_well(), "logistic regression": logistic_regression(args.logreg)}
    print("| target | method | seed | evaluations | log Z | error | width | covers | seconds | remark |")
    for name in args.targets:
        target, truth = targets[name], targets[name].log_z
        if truth is None:
            started = time.time()
            truth, error = bridge_reference(target, 0)
            seconds = time.time() - started
            print(
                f"| {name} | NUTS, bridge | 0 | - | {truth:.4f} | +- {error:.4f} | - | - | {seconds:.0f} | |",
                flush=True,
            )
        for seed in range(args.seeds):
            budget = 0
            long_run = [LONG_RUN] if target.log_z is None and seed == 0 else []
            for method in ("drl_density sandwich", *args.methods, *long_run):
                started = time.time()
                if not budget:
                    found = ours(target, seed, args.particles)
                    budget = found.evaluations
                elif method == LONG_RUN:
                    found = tempered_smc(target, seed + 100, 10 * budget, num_steps=50)
                else:
                    found = METHODS[method](target, seed, budget)
                covers = found.lower <= truth <= found.upper
                print(
                    f"| {name} | {method} | {seed} | {found.evaluations} | {found.log_z:.3f} | {found.log_z - truth:+.3f} | "
                    f"{found.upper - found.lower:.3f} | {covers} | {time.time() - started:.0f} | {found.remark} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
