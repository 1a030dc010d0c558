"""Every kernel under one contract, and each kernel's own theory."""

import math

import pytest
import torch

from drl_density.errors import DivergenceWarning
from drl_density.mcmc import HMC, MALA, ULA, DualAveraging, Recording, Trajectory, init_state, integrate, run_chain
from drl_density.testing import assert_z, seeded_generator

KERNELS = {"ULA": ULA, "MALA": MALA, "HMC1": lambda **k: HMC(1, **k), "HMC4": lambda **k: HMC(4, **k)}
ADJUSTED = [name for name in KERNELS if name != "ULA"]
PRECISION = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=torch.float64)


def correlated(x):
    return -0.5 * torch.einsum("bi,ij,bj->b", x, PRECISION, x)


def two_modes(x):
    return torch.logaddexp(-0.5 * (x[:, 0] - 1) ** 2, math.log(0.5) - 0.5 * ((x[:, 0] + 1) / 0.5) ** 2)


def normal(x):
    return -0.5 * x.square().reshape(len(x), -1).sum(1)


@pytest.fixture(params=KERNELS, ids=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]()


@pytest.mark.parametrize("event_shape", [(), (3,), (2, 4, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shapes_and_dtypes(kernel, event_shape, dtype):
    x = torch.zeros(5, *event_shape, dtype=dtype)
    state = kernel.init(x, normal)
    for step_size in (0.3, torch.full((5,), 0.3)):
        state, info = kernel.step(state, normal, step_size, seeded_generator())
        assert state.position.shape == x.shape
        assert state.position.dtype == dtype
        assert all(value.shape == (5,) for value in info)


def test_reproducible_by_generator(kernel):
    runs = [
        run_chain(kernel, normal, torch.zeros(4, 2), num_steps=5, step_size=0.5, generator=seeded_generator(3)).draws
        for _ in range(2)
    ]
    assert torch.equal(*runs)


def test_one_gradient_per_leapfrog_step(kernel):
    calls = []

    def counted(x):
        calls.append(1)
        return normal(x)

    state = kernel.init(torch.zeros(2, 2), counted)
    calls.clear()
    kernel.step(state, counted, 0.5, None)
    assert len(calls) == kernel.gradients_per_step


@pytest.mark.parametrize("name", ADJUSTED)
def test_not_a_number_is_rejected_and_told(name):
    def broken(x):
        return torch.where(x[:, 0].abs() > 1e-6, torch.nan, 0.0) + 0 * x.sum(1)

    kernel = KERNELS[name]()
    state = kernel.init(torch.zeros(3, 1), broken)
    after, info = kernel.step(state, broken, 0.5, seeded_generator())
    assert info.is_diverging.all()
    assert torch.equal(after.position, state.position)


@pytest.mark.parametrize("name", ADJUSTED)
def test_exact_start_stays_exact(name):
    """Started from exact draws an adjusted kernel keeps every moment, whatever its step size."""
    generator = seeded_generator(4)
    factor = torch.linalg.cholesky(torch.linalg.inv(PRECISION))
    x = torch.randn(20_000, 2, generator=generator, dtype=torch.float64) @ factor.T
    result = run_chain(KERNELS[name](), correlated, x, num_steps=8, step_size=0.8, generator=generator)
    last = result.draws[-1]
    products = last[:, :, None] * last[:, None, :]
    assert_z(last, 0.0)
    assert_z(products.reshape(-1, 4), torch.linalg.inv(PRECISION).reshape(4))


@pytest.mark.parametrize("name", ADJUSTED)
def test_two_modes_keep_their_weights(name):
    generator = seeded_generator(5)
    is_left = torch.rand(20_000, generator=generator) < 0.2
    noise = torch.randn(20_000, generator=generator, dtype=torch.float64)
    x = torch.where(is_left, -1 + 0.5 * noise, 1 + noise)[:, None]
    last = run_chain(KERNELS[name](), two_modes, x, num_steps=10, step_size=1.0, generator=generator).draws[-1]
    assert_z(last[:, 0], 0.2 * -1 + 0.8 * 1)
    assert_z(last[:, 0] ** 2, 0.2 * 1.25 + 0.8 * 2)


def test_stationary_variance_of_ula_and_mala():
    """ULA on precision P has variance 1 / (P (1 - e^2 P / 4)); MALA has 1 / P."""
    precision, step = 2.0, 0.6
    biased = 1 / (precision * (1 - step**2 * precision / 4))
    for kernel, truth in ((ULA(), biased), (MALA(), 1 / precision), (HMC(3), 1 / precision)):
        generator = seeded_generator(6)
        x = truth**0.5 * torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
        last = run_chain(
            kernel, lambda x: -0.5 * precision * x[:, 0] ** 2, x, num_steps=15, step_size=step, generator=generator
        ).draws[-1]
        assert_z(last**2, truth)


def test_leapfrog_is_reversible():
    state = init_state(torch.tensor([[0.3, -1.0]], dtype=torch.float64), correlated)
    momentum = torch.tensor([[0.5, 0.2]], dtype=torch.float64)
    end, end_momentum = integrate(state, momentum, correlated, Trajectory(0.3, 7))
    back, back_momentum = integrate(end, -end_momentum, correlated, Trajectory(0.3, 7))
    torch.testing.assert_close(back.position, state.position, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(-back_momentum, momentum, rtol=1e-10, atol=1e-12)


def test_mala_is_one_leapfrog_step_of_hmc():
    x = torch.randn(50, 2, generator=seeded_generator(7), dtype=torch.float64)
    runs = [
        run_chain(kernel, correlated, x, num_steps=20, step_size=0.7, generator=seeded_generator(8)).draws
        for kernel in (MALA(), HMC(1))
    ]
    assert torch.equal(*runs)


def test_mala_ratio_is_that_of_its_proposal_densities():
    """The kinetic-energy form equals log q(x | x') - log q(x' | x) plus the change of log density."""
    x = torch.randn(6, 2, generator=seeded_generator(9), dtype=torch.float64)
    state, step = init_state(x, correlated), 0.7
    momentum = torch.randn(6, 2, generator=seeded_generator(10), dtype=torch.float64)
    end, end_momentum = integrate(state, momentum, correlated, Trajectory(step, 1))
    error = 0.5 * (end_momentum.square().sum(1) - momentum.square().sum(1)) + state.log_density - end.log_density

    def log_q(to, start):
        mean = start.position + 0.5 * step**2 * start.gradient
        return -0.5 * ((to.position - mean) / step).square().sum(1)

    ratio = end.log_density + log_q(state, end) - state.log_density - log_q(end, state)
    torch.testing.assert_close(-error, ratio, rtol=1e-10, atol=1e-12)


def test_scale_is_a_change_of_units(kernel):
    """A diagonal scale S on p(x) equals no scale on the density of x / S."""
    scale = torch.tensor([0.5, 3.0], dtype=torch.float64)
    x = torch.randn(10, 2, generator=seeded_generator(11), dtype=torch.float64)
    scaled = type(kernel)(**{**_settings(kernel), "scale": scale})
    first = run_chain(scaled, correlated, x, num_steps=6, step_size=0.5, generator=seeded_generator(12)).draws
    second = run_chain(
        kernel, lambda z: correlated(z * scale), x / scale, num_steps=6, step_size=0.5, generator=seeded_generator(12)
    ).draws
    torch.testing.assert_close(first, second * scale, rtol=1e-9, atol=1e-12)


def _settings(kernel):
    return {"num_leapfrog": kernel.num_leapfrog} if isinstance(kernel, HMC) else {}


@pytest.mark.parametrize("name", ["MALA", "HMC1"])
def test_adaptation_reaches_its_target_and_freezes(name):
    kernel = KERNELS[name]()
    sizes = []
    result = run_chain(
        kernel,
        normal,
        torch.randn(400, 40, generator=seeded_generator(15), dtype=torch.float64),
        num_steps=100,
        step_size=0.05,
        num_warmup=200,
        adaptation=DualAveraging(kernel.target_acceptance),
        recording=Recording(keep_draws=False, on_step=lambda step: sizes.append(step.index)),
        generator=seeded_generator(13),
    )
    assert len(sizes) == 300
    assert bool((result.stats["step_size"] == result.stats["step_size"][0, 0]).all())
    # Dual averaging ends within a few per cent of its target; 0.06 is four times the spread seen over 20 seeds.
    assert abs(float(result.stats["acceptance_rate"].mean()) - kernel.target_acceptance) < 0.06


def test_groups_adapt_apart():
    """Two groups of chains on densities of scales 1 and 10 end with step sizes about ten to one."""
    scale = torch.tensor([1.0] * 200 + [10.0] * 200)
    result = run_chain(
        MALA(),
        lambda x: -0.5 * (x / scale[:, None]).square().sum(1),
        torch.zeros(400, 3),
        num_steps=10,
        step_size=1.0,
        num_warmup=300,
        adaptation=DualAveraging(0.574),
        recording=Recording(groups=(scale > 5).long()),
        generator=seeded_generator(14),
    )
    ratio = float(result.step_size[1] / result.step_size[0])
    assert 8 < ratio < 12.5


def test_recording_thins_and_counts():
    result = run_chain(MALA(), normal, torch.zeros(3, 2), num_steps=10, step_size=0.5, recording=Recording(thin=3))
    assert result.draws.shape == (3, 3, 2)
    assert set(result.stats) == {"acceptance_rate", "step_size", "lp", "energy_error", "energy", "diverging"}
    torch.testing.assert_close(result.stats["lp"][-1], normal(result.draws[-1]))


def test_divergence_is_a_warning():
    with pytest.warns(DivergenceWarning, match="diverged"):
        run_chain(MALA(), lambda x: -1e6 * x.square().sum(1), torch.zeros(4, 2), num_steps=3, step_size=10.0)


def test_start_without_density_is_refused():
    with pytest.raises(ValueError, match="no finite log density"):
        run_chain(MALA(), lambda x: x.sum(1).log(), -torch.ones(2, 2), num_steps=1, step_size=0.1)


def test_parameters_get_no_gradient():
    layer = torch.nn.Linear(2, 1)
    run_chain(MALA(), lambda x: layer(x)[:, 0] - x.square().sum(1), torch.zeros(3, 2), num_steps=2, step_size=0.1)
    assert layer.weight.grad is None


def test_a_chain_that_leaves_the_numbers_stays_where_it_was():
    x = torch.tensor([[0.5, -0.5], [1.0, 2.0]])
    kernel = HMC(num_leapfrog=40)
    state = kernel.init(x, lambda z: -(z**4).sum(-1))
    state, info = kernel.step(state, lambda z: -(z**4).sum(-1), 1e6, None)
    assert torch.equal(state.position, x)
    assert bool(info.is_diverging.all())
    assert not bool(info.is_accepted.any())


def test_trajectories_that_close_on_themselves_are_broken_up():
    """Five steps whose trajectory on N(0, 1) closes: chains with one step size stay at their energy, random ones do not."""

    def log_density(x):
        return -0.5 * x.square().sum(-1)

    step_size = 2 * math.sin(math.pi / 5)  # the leapfrog map turns by 2 pi / 5
    moved = {}
    for jitter in (0.0, 0.2):
        generator, kernel = seeded_generator(4), HMC(5, jitter=jitter)
        start = 3 * torch.ones(2000, 1, dtype=torch.float64)
        state = kernel.init(start, log_density)
        for _ in range(30):
            state, _ = kernel.step(state, log_density, step_size, generator)
        moved[jitter] = state.position[:, 0]
    assert float((moved[0.0] - 3).abs().max()) < 1e-6
    assert_z(moved[0.2], 0.0)
    assert_z(moved[0.2].square(), 1.0)
    with pytest.raises(ValueError, match=r"jitter must lie in \[0, 1\)"):
        HMC(5, jitter=1.0)
