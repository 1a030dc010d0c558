"""Every base keeps the contract: draws, noised forms, conditionals, states and tails belong to one normalised density."""

import math

import pytest
import torch
from torch.distributions import Normal

from drl_density.bases import Base, Tail, base_from_state
from drl_density.bases.contract import signal_and_noise
from drl_density.testing import assert_z, seeded_generator
from tests.bases.members import ALL_NAMES, NAMES, all_members, members

LOG_SNRS = (math.inf, 1.5, -2.0)
HAVE_CLEANER_STATES = ("full mixture", "diagonal mixture", "factor analysers")


def grid(num_features, *, half_width=9.0, num_points=301):
    """(points, volume of each) of an even grid. Gaussians are smooth: the trapezoidal rule converges geometrically."""
    axis = torch.linspace(-half_width, half_width, num_points, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * num_features).reshape(-1, num_features)
    return points, float(axis[1] - axis[0]) ** num_features


@pytest.mark.parametrize("num_features", [1, 2])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_snr", LOG_SNRS)
def test_it_integrates_to_one_at_every_level(name, num_features, log_snr):
    # No scale is below 0.3, so that at this spacing of 0.1 the rule's error is exp(-2 (0.3 pi / 0.1)^2), far below rounding.
    points, volume = grid(num_features, num_points=181)
    values = members(num_features)[name](points, torch.tensor(log_snr))
    # Parameters are rounded to float32, weights included: relative 6e-8 each.
    assert float(values.exp().sum() * volume) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("num_features", [1, 2])
@pytest.mark.parametrize("name", ALL_NAMES)
def test_it_integrates_to_one_without_noise(name, num_features):
    """The slope of a spline has kinks at its knots, so the rule's error is of second order: 1.1e-4 at most here."""
    points, volume = grid(num_features, half_width=8.0, num_points=801)
    values = all_members(num_features)[name].log_prob(points)
    assert float(values.exp().sum() * volume) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_is_the_limit_without_noise(name):
    base, x = members(2)[name], torch.randn(5, 2, generator=seeded_generator(0), dtype=torch.float64)
    # At log-SNR 40 the noise has variance 4e-18.
    torch.testing.assert_close(base.log_prob(x), base(x, torch.tensor(40.0)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_draws_have_the_density(name):
    """E f(x) by quadrature against draws, for moments and a mixed cosine that sees the joint law."""
    base, (points, volume) = all_members(2)[name], grid(2)
    weights = base.log_prob(points).exp() * volume

    def features(x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1], x[:, 0] ** 2, (2 * x[:, 0] - x[:, 1]).cos()], 1)

    drawn = base.sample(20_000, generator=seeded_generator(1))
    assert drawn.shape == (20_000, 2)
    assert_z(features(drawn.double()), weights @ features(points))


@pytest.mark.parametrize("name", ALL_NAMES)
def test_equal_seeds_give_equal_draws(name):
    base = all_members(2)[name]
    first, second, other = (base.sample(4, generator=seeded_generator(seed)) for seed in (2, 2, 3))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_snr", [1.5, -2.0])
def test_the_noised_form_is_the_convolution_with_noise(name, log_snr):
    """p(y) = integral of p(x) N(y; alpha x, sigma^2) dx, by quadrature in one dimension."""
    base, (points, volume) = members(1)[name], grid(1, num_points=2001)
    alpha, sigma = math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr)))
    y = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    kernel = Normal(alpha * points.T, sigma).log_prob(y)
    truth = (base.log_prob(points) + kernel).logsumexp(1) + math.log(volume)
    noised = base.noised(torch.tensor(log_snr))
    assert noised.num_features == 1
    # Rounded to float32 once more by ``noised``: relative 1e-7 of terms of order 10.
    torch.testing.assert_close(base(y, torch.tensor(log_snr)), truth, rtol=0, atol=2e-6)
    torch.testing.assert_close(noised.log_prob(y), truth, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_noise_upon_noise_is_the_noise_of_both(name):
    """Signal scales multiply: alpha^2 of the whole is the product of both."""
    base, x = members(2)[name], torch.randn(5, 2, generator=seeded_generator(0), dtype=torch.float64)
    first, second = torch.tensor(1.5), torch.tensor(0.3)
    both = (torch.sigmoid(first) * torch.sigmoid(second)).logit()
    torch.testing.assert_close(base.noised(first)(x, second), base(x, both), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_rows_on_many_levels_are_rows_on_one(name):
    base, x = members(2)[name], torch.randn(6, 2, generator=seeded_generator(0), dtype=torch.float64)
    log_snr = torch.tensor([1.5, -2.0, 1.5, 0.0, -2.0, 4.0])
    alone = torch.cat([base(row[None], value) for row, value in zip(x, log_snr, strict=True)])
    # Levels are converted to the dtype of x: exact for float32 values.
    torch.testing.assert_close(base(x, log_snr), alone, rtol=1e-12, atol=1e-12)
    by_row = base(x, log_snr.double().requires_grad_(True))  # asks for derivatives in the level: no sharing of levels
    torch.testing.assert_close(by_row.detach(), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALL_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_densities_follow_the_rows(name, dtype):
    base, x = all_members(2)[name], torch.randn(6, 2, generator=seeded_generator(0)).to(dtype)
    assert base.log_prob(x).dtype == dtype
    assert torch.equal(base.log_prob(x.reshape(6, 1, 2)), base.log_prob(x))


@pytest.mark.parametrize("name", ALL_NAMES)
def test_noised_draws_are_draws_under_noise(name):
    """The first two moments of alpha x + sigma eps, one level for all draws and one for each."""
    base, (points, volume) = all_members(2)[name], grid(2)
    weights = base.log_prob(points).exp() * volume
    mean, second = weights @ points, weights @ (points[:, 0] * points[:, 1])
    for log_snr in (torch.tensor(-0.5), torch.full((20_000,), -0.5)):
        drawn = base.sample_at(log_snr, 20_000, generator=seeded_generator(1)).double()
        signal, noise = float(torch.sigmoid(torch.tensor(-0.5))), float(torch.sigmoid(torch.tensor(0.5)))
        assert_z(drawn, signal**0.5 * mean)
        assert_z(drawn[:, 0] * drawn[:, 1], signal * second)
        assert_z(drawn[:, 0] ** 2, signal * (weights @ points[:, 0] ** 2) + noise)


@pytest.mark.parametrize("name", NAMES)
def test_events_of_any_shape_and_dtype_follow_the_rows(name):
    base, x = members(2)[name], torch.randn(6, 2, generator=seeded_generator(0))
    assert base(x, torch.tensor(0.0)).dtype == torch.float32
    assert torch.equal(base(x.reshape(6, 1, 2), torch.tensor(0.0)), base(x, torch.tensor(0.0)))


@pytest.mark.parametrize("name", ALL_NAMES)
def test_a_state_comes_back(name):
    base, x = all_members(2)[name], torch.randn(5, 2, generator=seeded_generator(0))
    again = base_from_state(base.to_state())
    again.load_state_dict(base.state_dict())
    assert type(again) is type(base)
    assert again.num_components == base.num_components
    if base.has_noised_form:
        assert torch.equal(again(x, torch.tensor(1.5)), base(x, torch.tensor(1.5)))
    assert torch.equal(again.log_prob(x), base.log_prob(x))


def test_an_unknown_state_is_refused():
    known = "quadratic, autoregressive_flow, autoregressive_pixels, atoms, blend, layered"
    with pytest.raises(ValueError, match=f"no base of kind 'spline'.*{known}"):
        base_from_state({"kind": "spline"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_snr", [None, 1.5])
def test_conditionals_are_slices_of_the_density(name, log_snr):
    """p(x_1 | x_0) by quadrature over x_1: marginal of what is observed, and moments of the draws."""
    base, level = members(2)[name], None if log_snr is None else torch.tensor(log_snr)
    law, (points, volume) = base.conditional(level), grid(1, num_points=2001)
    row, mask = torch.tensor([[0.4, 99.0]]).double(), torch.tensor([[False, True]])
    slice_points = torch.cat([torch.full_like(points, 0.4), points], 1)
    values = base.log_prob(slice_points) if level is None else base(slice_points, level)
    marginal = values.logsumexp(0) + math.log(volume)
    torch.testing.assert_close(law.observed_log_density(row, mask)[0], marginal, rtol=0, atol=2e-6)
    drawn = law.sample(row, mask, 20_000, generator=seeded_generator(4))
    assert drawn.shape == (1, 20_000, 2)
    assert torch.equal(drawn[0, :, 0], row[0, 0].expand(20_000))
    shares = (values - marginal).exp() * volume

    def features(x):
        return torch.stack([x, x**2, x.cos()], 1)

    assert_z(features(drawn[0, :, 1]), shares @ features(points[:, 0]))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_missing_and_all_missing(name):
    base = members(2)[name]
    law, x = base.conditional(), torch.randn(3, 2, generator=seeded_generator(0), dtype=torch.float64)
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    torch.testing.assert_close(law.observed_log_density(x, nothing), base.log_prob(x), rtol=0, atol=1e-6)
    assert torch.equal(law.sample(x, nothing, 2), x[:, None].expand(3, 2, 2))
    torch.testing.assert_close(law.observed_log_density(x, ~nothing), torch.zeros(3).double(), rtol=0, atol=1e-6)
    drawn = law.sample(x[:1], ~nothing[:1], 20_000, generator=seeded_generator(5))[0]
    points, volume = grid(2)
    weights = base.log_prob(points).exp() * volume
    assert_z(drawn, weights @ points)
    assert_z(drawn[:, 0] * drawn[:, 1], weights @ (points[:, 0] * points[:, 1]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("log_snr", [1.5, -2.0])
def test_expected_error_is_that_of_its_components(name, log_snr):
    """E|sigma s + eps|^2 of one Gaussian is tr(alpha^2 C (alpha^2 C + sigma^2)^-1), from its matrices."""
    base, level = members(2)[name], torch.tensor(log_snr).double()
    alpha2, sigma2 = signal_and_noise(level, level)
    eye = torch.eye(2).double()
    errors = [
        torch.trace(alpha2 * part @ torch.linalg.inv(alpha2 * part + sigma2 * eye))
        for part in base.covariances().double()
    ]
    weights = [0.7, 0.3] if base.num_components == 2 else [1.0]
    truth = sum(weight * float(error) for weight, error in zip(weights, errors, strict=True))
    assert float(base.expected_error(level)) == pytest.approx(truth, abs=1e-6)
    assert base.expected_error(level.expand(2, 3)).shape == (2, 3)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_the_tail_has_the_covariances_of_the_components(name):
    """Far out along a ray log p falls as the largest of -r^2 u^T C^-1 u / 2: second differences in r show it."""
    base = all_members(2)[name]
    assert base.tail is Tail.QUADRATIC
    for log_snr in (math.inf, 0.5) if base.has_noised_form else (math.inf,):
        ray = torch.tensor([0.6, 0.8]).double()
        x = torch.tensor([199.0, 200.0, 201.0]).double()[:, None] * ray
        values = base.log_prob(x) if log_snr == math.inf else base(x, torch.tensor(log_snr))
        bend = values.diff(n=2)[0]
        covariances = base.covariances(torch.tensor(log_snr)).double()
        steepness = torch.einsum("i,kij,j->k", ray, torch.linalg.inv(covariances), ray)
        # Log densities of order 1e5 in float64 cancel to 1e-10; parameters are float32.
        if name in ("affine flow", "flow of both"):  # whose covariance is a bound
            assert float(bend) < -float(steepness.min())
        else:
            assert float(bend) == pytest.approx(-float(steepness.min()), rel=1e-5)


class Uniform(Base):
    """A density without a noised form, as a flow is one."""

    kind = "uniform"
    has_noised_form = False
    num_features = 1
    tail = Tail.UNKNOWN

    def log_prob(self, x):
        return torch.where((x[:, 0] >= 0) & (x[:, 0] <= 1), 0.0, -math.inf)

    def sample(self, num_samples, *, generator=None):
        return torch.rand(num_samples, 1, generator=generator)

    def to_state(self):
        return {"kind": self.kind}

    @classmethod
    def from_state(cls, values):
        return cls()


@pytest.mark.parametrize(
    "ask",
    [
        lambda base: base.noised(torch.tensor(0.0)),
        lambda base: base(torch.zeros(1, 1), torch.tensor(0.0)),
        lambda base: base.expected_error(torch.tensor(0.0)),
        lambda base: base.covariances(),
        lambda base: base.conditional(),
    ],
)
def test_what_a_base_has_not_is_an_error(ask):
    assert not Uniform.has_noised_form
    with pytest.raises(NotImplementedError, match="Uniform has no (noised form|covariance|conditional) in closed form"):
        ask(Uniform())
    assert Uniform().num_components == 1


def test_signal_and_noise_are_rounded_once():
    signal, noise = signal_and_noise(torch.tensor(0.7).double(), torch.zeros(1))
    assert signal.dtype == torch.float32
    assert float(signal + noise) == pytest.approx(1, abs=1e-7)
    assert tuple(map(float, signal_and_noise(None, torch.zeros(1)))) == (1.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_cleaner_states_are_draws_given_the_noisier_ones(name):
    """Pairs drawn from the noisy end have the joint law of pairs drawn from the clean end, at two pairs of levels."""
    base, generator, count = members(2)[name], seeded_generator(3), 8000
    log_snr = torch.tensor([2.0, 0.5], dtype=torch.float64).repeat(count // 2)
    noisier = log_snr - torch.tensor([1.5, 1.0]).repeat(count // 2)
    if name not in HAVE_CLEANER_STATES:
        with pytest.raises(NotImplementedError, match="cleaner state"):
            base.sample_cleaner(torch.zeros(count, 2), log_snr, noisier)
        return

    def step(x):
        a = (torch.sigmoid(noisier) / torch.sigmoid(log_snr)).sqrt()
        spread = torch.sigmoid(-noisier) - a**2 * torch.sigmoid(-log_snr)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return a[:, None] * x + spread.sqrt()[:, None] * noise

    def features(x, y):
        return torch.cat([x, x**2, x * y, (x * y.flip(1)), (2 * x[:, :1] - y[:, 1:]).cos()], 1)

    forward, other = (base.sample_at(log_snr, count, generator=generator).double() for _ in range(2))
    end = step(other)
    back = base.sample_cleaner(end, log_snr, noisier, generator=generator)
    assert_z((features(back, end) - features(forward, step(forward))), 0.0)
