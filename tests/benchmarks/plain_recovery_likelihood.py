"""The paper's T6 algorithm as a plain eager loop: the baseline that tests/benchmarks/gpu.py measures against.

Nothing of the package but the network handed in: raw f(y, t), already without the division by the squared step size.
Source: Gao et al. 2021, algorithms 1 and 2, with the release's step sizes and loss weights.
"""

import torch


def constants(device, b=2e-4**0.5):
    """a, sigma, step size, loss weight of each level, and the cumulative scales, from the linear-beta schedule."""
    cumulative = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).neg().log1p().cumsum(0)
    log_alpha_squared = cumulative[torch.tensor([0, 100, 200, 300, 400, 500, 999])]
    alpha, sigma_bar = (0.5 * log_alpha_squared).exp(), (-torch.expm1(log_alpha_squared)).sqrt()
    a = alpha[1:] / alpha[:-1]
    sigma = (1 - a**2).sqrt()
    a[-1] = 1.0
    step = b * (sigma_bar[:-1] / sigma_bar[0]).sqrt() * sigma
    return [value.float().to(device) for value in (a, sigma, step, sigma[0] / sigma, alpha, sigma_bar)]


def langevin(network, y, x_noisier, level, a_sigma_step, num_steps):
    """K unadjusted steps on f(y) / s^2 - |x - y|^2 / (2 sigma^2); the quadratic part is off at the last level."""
    _, sigma, step = (value[level].reshape(-1, 1, 1, 1) for value in a_sigma_step)
    pull = (level < 5).float().reshape(-1, 1, 1, 1) / sigma**2
    for _ in range(num_steps):
        y = y.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(network(y, level).sum(), y)
        y = y + 0.5 * gradient + 0.5 * step**2 * pull * (x_noisier - y) + step * torch.randn_like(y)
    return y.detach()


def training_step(network, optimizer, x, values, num_steps=30):
    """One gradient step on clean images ``x`` in [-1, 1]."""
    a, sigma, step, weight, alpha, sigma_bar = values
    level = torch.randint(6, (len(x),), device=x.device)
    pick = [value[level].reshape(-1, 1, 1, 1) for value in (a, sigma, alpha, sigma_bar)]
    x_t = pick[2] * x + pick[3] * torch.randn_like(x)
    y = pick[0] * x_t
    x_noisier = y + pick[1] * torch.randn_like(x)
    end = langevin(network, x_noisier, x_noisier, level, (a, sigma, step), num_steps)
    loss = -(weight[level] * (network(y, level) - network(end, level))).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def sample(network, shape, values, num_steps=30):
    """Images from noise, level by level."""
    a, sigma, step = values[:3]
    x = torch.randn(shape, device=a.device)
    for t in range(5, -1, -1):
        x = langevin(network, x, x, torch.full((shape[0],), t, device=a.device), (a, sigma, step), num_steps) / a[t]
    return x
