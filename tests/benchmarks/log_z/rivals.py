"""Other packages' estimators of log Z, each told a box that holds the target.

The sandwich is told nothing. Compiling does not count to a rival's time, nor do pilots of SMC. Packages are imported where
they are used; one that is not installed is said so in the table.
Nested samplers take the uniform prior on the box, so that their evidence is log Z less the log volume of the box.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import special, stats

from drl_density.testing import KnownTarget
from drl_density.weights import combine_replicates
from tests.benchmarks.log_z.chains import jax_log_density, nuts_chains
from tests.benchmarks.log_z.contract import Claim, NotInstalledError, Rival

BOXES: dict[str, float] = {
    "gaussian_20d": 8.0,
    "gaussian_correlated_50d": 6.0,
    "pair_at_30_1d": 40.0,
    "two_modes_10d": 14.0,
    "two_modes_near_5d": 9.0,
    "unequal_pair_5d": 12.0,
    "minor_mode_6d": 10.0,
    "narrow_and_wide_5d": 7.0,
    "narrow_and_wide_10d": 7.0,
    "ring_of_eight_2d": 7.0,
    "forty_gaussians_2d": 50.0,
    "correlated_mixture_8d": 30.0,
    "spike_and_slab_8d": 14.0,
    "twin_shells_2d": 6.5,
    "twin_shells_10d": 6.5,
    "twin_shells_30d": 6.5,
    "wide_shell_20d": 12.0,
    "banana_2d": 150.0,
    "bananas_mild_10d": 30.0,
    "rosenbrock_3d": 20.0,
    "funnel_3d": 100.0,
    "many_well_32d": 6.0,
    "many_well_rotated_8d": 8.0,
    "sine_wave_2d": 12.0,
    "egg_box_2d": 25.0,
    "student_3_product_5d": 200.0,
    "laplace_10d": 25.0,
    "flat_top_4d": 2.0,
    "field_ring_16": 4.0,
    "ising_cold_4x4": 15.0,
    "label_switching_3": 16.0,
    "logistic_regression_2d": 12.0,
    "logistic_regression_20d": 12.0,
    "poisson_regression_2d": 5.0,
    "weibull_regression_3d": 3.0,
    "state_space_20d": 6.0,
    "robust_regression_2d": 15.0,
    "eight_schools_10d": 30.0,
    "pumps_11d": 12.0,
    "boxed_gaussian_wide_2d": 6.0,
    "dirichlet_1_9d": 25.0,
}
"""Half-widths of a cube about the origin that holds all but a negligible part of the target's mass."""


def _clock(seconds: float) -> Callable[[], bool]:
    end = time.process_time() + seconds
    return lambda: time.process_time() < end


def _box(target: KnownTarget) -> tuple[float, float]:
    half = BOXES[target.name]
    return half, target.dim * math.log(2 * half)


def dynesty_nested(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """dynesty's static sampler with 500 live points, stopped when its time is over."""
    try:
        import dynesty  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalledError("dynesty") from None
    half, log_volume = _box(target)
    log_density = target.target.log_density

    def log_likelihood(x: np.ndarray) -> float:
        return float(log_density(torch.as_tensor(x)))

    sampler = dynesty.NestedSampler(
        log_likelihood, lambda u: half * (2 * u - 1), target.dim, nlive=500, rstate=np.random.default_rng(seed)
    )
    has_time, ended = _clock(seconds), True
    with torch.no_grad():
        for _ in sampler.sample(dlogz=0.01):
            if not has_time():
                ended = False
                break
        for _ in sampler.add_live_points():
            pass
    found = sampler.results
    value, error = float(found.logz[-1]) + log_volume, float(found.logzerr[-1])
    return Claim(value, value - 1.96 * error, value + 1.96 * error, "ended by itself" if ended else "stopped by the time")


def nautilus_nested(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """nautilus with its own settings; its error is that of its effective number of points."""
    try:
        import nautilus  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalledError("nautilus") from None
    half, log_volume = _box(target)
    log_density = target.target.log_density

    def log_likelihood(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return log_density(torch.as_tensor(np.ascontiguousarray(x))).numpy()

    sampler = nautilus.Sampler(
        lambda u: half * (2 * u - 1), log_likelihood, target.dim, vectorized=True, pass_dict=False, seed=seed
    )
    ended = sampler.run(timeout=seconds, verbose=False)
    value, error = float(sampler.log_z) + log_volume, 1 / math.sqrt(max(1.0, float(sampler.n_eff)))
    return Claim(value, value - 1.96 * error, value + 1.96 * error, "ended by itself" if ended else "stopped by the time")


def nested_slice(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """blackjax's nested slice sampling, 500 live points, 50 replaced at a time by max(5, 2 d) slice steps each."""
    jax, blackjax = _blackjax()
    from blackjax.ns.utils import finalise, log_weights  # pyright: ignore[reportMissingImports]

    half, log_volume = _box(target)
    density, dim = jax_log_density(target), target.dim

    def log_prior(x):
        return jax.numpy.where((jax.numpy.abs(x) <= half).all(), -log_volume, -jax.numpy.inf)

    algorithm = blackjax.nss(log_prior, density, num_inner_steps=max(5, 2 * dim), num_delete=50)
    key = jax.random.PRNGKey(seed)
    key, own = jax.random.split(key)
    state = algorithm.init(jax.random.uniform(own, (500, dim), minval=-half, maxval=half))
    step, dead, ended = jax.jit(algorithm.step), [], False
    step(key, state)  # compiled before its time begins
    has_time = _clock(seconds)
    while has_time() and not ended:
        key, own = jax.random.split(key)
        state, info = step(own, state)
        dead.append(info)
        ended = bool(state.integrator.logZ_live - state.integrator.logZ < -4)
    weights = log_weights(key, finalise(state, dead), shape=200)
    values = special.logsumexp(np.nan_to_num(np.asarray(weights), nan=-np.inf), axis=0) + log_volume
    value, error = float(values.mean()), float(values.std())
    return Claim(value, value - 1.96 * error, value + 1.96 * error, "ended by itself" if ended else "stopped by the time")


def tempered_smc(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """blackjax's adaptive tempered SMC from a Gaussian a third as wide as the box: replicates of 256 until the time is over.

    The kernel is MALA with the particles' variances; its step size is that of a grid with the best acceptance in a pilot.
    """
    jax, blackjax = _blackjax()
    jnp = jax.numpy
    half, _ = _box(target)
    density, dim, scale = jax_log_density(target), target.dim, half / 3

    def log_base(x):
        return -0.5 * jnp.square(x / scale).sum(-1) - dim * (math.log(scale) + 0.5 * math.log(2 * math.pi))

    def parameters(particles, size):
        return blackjax.smc.extend_params(
            {
                "step_size": jnp.asarray(size),
                "inverse_mass_matrix": particles.var(0),
                "num_integration_steps": jnp.asarray(1),
            }
        )

    def build(size):
        return blackjax.inner_kernel_tuning(
            blackjax.adaptive_tempered_smc,
            log_base,
            lambda x: density(x) - log_base(x),
            blackjax.hmc.build_kernel(),
            blackjax.hmc.init,
            blackjax.smc.resampling.systematic,
            mcmc_parameter_update_fn=lambda _, state, __: parameters(state.particles, size),
            initial_parameter_value=parameters(scale * jax.random.normal(jax.random.PRNGKey(0), (256, dim)), size),
            num_mcmc_steps=5,
            target_ess=0.9,
        )

    def run(key, kernel, step, most: int = 500) -> tuple[float, float]:
        key, own = jax.random.split(key)
        state = kernel.init(scale * jax.random.normal(own, (256, dim)))
        log_z, rates = 0.0, []
        while state.sampler_state.tempering_param < 1 and len(rates) < most:
            key, own = jax.random.split(key)
            state, info = step(own, state)
            log_z += float(info.log_likelihood_increment)
            rates.append(float(info.update_info.acceptance_rate.mean()))
        return log_z, float(np.mean(rates))

    key = jax.random.PRNGKey(seed)
    kernels = {size: build(size) for size in (0.5, 1.0)}
    steps = {size: jax.jit(kernel.step) for size, kernel in kernels.items()}
    pilots = {size: run(key, kernels[size], steps[size], 20)[1] for size in kernels}
    best = min(pilots, key=lambda size: abs(pilots[size] - 0.574))
    values: list[float] = []
    has_time = _clock(seconds)  # compiling and pilots do not count
    while has_time() or len(values) < 2:
        key, own = jax.random.split(key)
        values.append(run(own, kernels[best], steps[best])[0])
    value, error = combine_replicates(torch.tensor(values, dtype=torch.float64))
    width = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Claim(value, value - width, value + width, f"{len(values)} replicates of 256, step size {best}")


def nuts_bridge(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """Bennett's ratio between NUTS draws (blackjax) and a Gaussian fitted to their first half; the error is over chains."""
    from drl_density.partition_function.bridge import bennett

    _blackjax()
    half, _ = _box(target)
    draws = nuts_chains(target, seed, seconds, half / 3)
    values, first = [], draws.shape[1] // 2
    fitted = draws[:, :first].reshape(-1, target.dim)
    near = stats.multivariate_normal(fitted.mean(0), np.atleast_2d(np.cov(fitted.T)), allow_singular=True)
    for index, rows in enumerate(draws[:, first:]):
        other = near.rvs(len(rows), random_state=seed + index).reshape(len(rows), target.dim)
        forward = target.target.log_density(torch.as_tensor(other)) - torch.as_tensor(near.logpdf(other))
        reverse = target.target.log_density(torch.as_tensor(rows)) - torch.as_tensor(near.logpdf(rows))
        values.append(bennett(forward.reshape(1, -1), reverse.reshape(1, -1)).log_z)
    value, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    width = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return Claim(value, value - width, value + width, f"{len(values)} chains of {draws.shape[1]} draws")


def morph_bridge(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """MorphZ: bridge sampling between NUTS draws and kernel densities of pairs of coordinates."""
    try:
        import morphZ  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalledError("morphZ") from None
    _blackjax()
    half, _ = _box(target)
    draws = nuts_chains(target, seed, 0.6 * seconds, half / 3).reshape(-1, target.dim)
    np.random.seed(seed)  # noqa: NPY002 - the generator that the package uses
    log_density = target.target.log_density
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        values = log_density(torch.as_tensor(draws)).numpy()

        def of_one(x: np.ndarray) -> float:
            return float(log_density(torch.as_tensor(np.asarray(x, dtype=np.float64).reshape(-1))))

        found = morphZ.evidence(
            draws,
            log_posterior_function=of_one,
            log_posterior_values=values,
            n_resamples=1000,
            morph_type="indep" if target.dim < 2 else "2_group",
            n_estimations=1,
            show_progress=False,
        )
    value, error = (float(part) for part in found[0][:2])
    return Claim(value, value - 1.96 * error, value + 1.96 * error, f"{len(draws)} draws")


def annealing_bracket(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """ebmkit's bracket: annealed importance sampling of 64 chains by HMC, then in reverse from the draws that it ends with.

    The base is a Gaussian a third as wide as the box. Both directions take as many temperatures as the time allows. The
    estimate is the middle of the bracket, and the interval goes 1.96 standard errors beyond its ends.
    """
    try:
        import ebm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise NotInstalledError("ebm") from None
    half, _ = _box(target)
    torch.manual_seed(seed)  # the generator that the package uses
    place = torch.zeros(target.dim, dtype=torch.float64)
    base = torch.distributions.Independent(torch.distributions.Normal(place, torch.full_like(place, half / 3)), 1)

    def energy(x: torch.Tensor) -> torch.Tensor:
        return -target.target.log_density(x)

    started = time.process_time()
    ebm.ais_log_z(energy, (target.dim,), base=base, n_temps=20)
    each = (time.process_time() - started) / 20
    number = max(50, int((seconds - 20 * each) / (2 * each)))
    lower = ebm.ais_log_z(energy, (target.dim,), base=base, n_temps=number)
    upper = ebm.reverse_ais_log_z(energy, lower.samples, base=base, n_temps=number)
    ends = lower.log_z - 1.96 * lower.stderr, upper.log_z + 1.96 * upper.stderr
    return Claim(0.5 * (lower.log_z + upper.log_z), min(ends), max(ends), f"{number} temperatures, 64 chains")


def learned_harmonic(target: KnownTarget, seed: int, seconds: float) -> Claim:
    """harmonic: the learned harmonic mean of NUTS draws with its RealNVP flow, concentrated to a temperature of 0.8."""
    jax, _ = _blackjax()
    _mend_jax(jax)
    try:
        import harmonic  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise NotInstalledError(error.name) from None
    half, _ = _box(target)
    draws = nuts_chains(target, seed, 0.6 * seconds, half / 3)
    with torch.no_grad():
        values = target.target.log_density(torch.as_tensor(draws)).numpy()
    chains = harmonic.Chains(target.dim)
    chains.add_chains_3d(draws, values)
    training, rest = harmonic.utils.split_data(chains, training_proportion=0.5)
    model = harmonic.model.RealNVPModel(target.dim, standardize=True, temperature=0.8)
    has_time = _clock(0.4 * seconds)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model.fit(training.samples, epochs=10, verbose=False)
        evidence = harmonic.Evidence(rest.nchains, model)
        evidence.add_chains(rest)
    value = -float(evidence.ln_evidence_inv)
    above, below = (float(part) for part in evidence.compute_ln_inv_evidence_errors())
    ends = sorted((value - 1.96 * above, value - 1.96 * below))
    return Claim(value, *ends, f"{draws.shape[0]} chains of {draws.shape[1]} draws, {'in time' if has_time() else 'slow'}")


def _mend_jax(jax) -> None:
    """TensorFlow Probability 0.25, which harmonic needs, asks jax for a table that jax 0.10 keeps elsewhere."""
    import jax._src.core  # pyright: ignore[reportMissingImports]
    import jax.interpreters.xla  # pyright: ignore[reportMissingImports]

    if not hasattr(jax.interpreters.xla, "pytype_aval_mappings"):
        jax.interpreters.xla.pytype_aval_mappings = jax._src.core.pytype_aval_mappings


def _blackjax():
    try:
        import blackjax  # pyright: ignore[reportMissingImports]
        import jax  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise NotInstalledError(error.name) from None
    jax.config.update("jax_enable_x64", True)
    return jax, blackjax


RIVALS: dict[str, Rival] = {
    "dynesty": dynesty_nested,
    "nautilus": nautilus_nested,
    "nested-slice": nested_slice,
    "tempered-smc": tempered_smc,
    "annealing-bracket": annealing_bracket,
    "nuts-bridge": nuts_bridge,
    "morphz": morph_bridge,
    "harmonic": learned_harmonic,
}
"""Rivals by name."""
