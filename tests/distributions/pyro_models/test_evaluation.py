"""How many rows are evaluated, and in how much memory."""

import torch

from drl_density.distributions.pyro_models import evaluation
from drl_density.distributions.pyro_models.evaluation import choose_method, graph_bytes, in_chunks, rows_per_chunk
from drl_density.testing import seeded_generator

ROWS = torch.randn(7, 2, generator=seeded_generator(), dtype=torch.float64)


def cube(u):
    return (u**3).sum(1)


def test_chunks_have_the_value_and_both_derivatives_of_the_whole():
    sizes = []

    def noted(u):
        sizes.append(len(u))
        return cube(u)

    u = ROWS.clone().requires_grad_(True)
    torch.testing.assert_close(in_chunks(noted, ROWS, 3), cube(ROWS))
    assert sizes == [3, 3, 1]
    value = in_chunks(noted, u, 3)
    assert sizes == [3, 3, 1] * 2
    (slope,) = torch.autograd.grad(value.sum(), u, create_graph=True)
    torch.testing.assert_close(slope, 3 * ROWS**2)
    torch.testing.assert_close(torch.autograd.grad(slope.sum(), u)[0], 6 * ROWS)
    torch.testing.assert_close(torch.func.grad(lambda x: in_chunks(cube, x, 3).sum())(ROWS), 3 * ROWS**2)


def test_the_graph_of_one_chunk_is_in_memory_at_a_time():
    """The weights of all chunks' intermediate results would be 7 * 8 * 1,000 bytes; what is saved are u and its gradient."""
    saved = []

    def keep(tensor):
        saved.append(tensor.untyped_storage().nbytes())
        return tensor

    u = ROWS.clone().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        in_chunks(lambda x: (x[:, :1] * torch.ones(1000, dtype=x.dtype)).exp().sum(1), u, 3)
    assert saved[-2:] == [7 * 2 * 8] * 2
    assert max(saved[:-2]) <= 3 * 8 * 1000


def test_memory_of_a_row_leaves_out_what_all_rows_share(monkeypatch):
    data = torch.ones(1000, dtype=torch.float64)

    def density(u):
        return (data * u[0]).exp().sum()

    alone = graph_bytes(density, ROWS[0], {data.untyped_storage().data_ptr()})
    assert alone + 8000 == graph_bytes(density, ROWS[0], set())
    assert alone >= 8000
    monkeypatch.setattr(evaluation, "LARGEST_GRAPH", 100)
    assert (rows_per_chunk(30), rows_per_chunk(0), rows_per_chunk(1000)) == (3, 100, 1)


def test_the_fastest_method_that_agrees_is_chosen():
    def refuses(u):
        raise RuntimeError("no batching rule\nmore")

    def wrong_slope(u):
        return cube(u.detach()) + 0 * u.sum(1)

    def wrong_for_two(u):
        return cube(u) * (1 if len(u) == len(ROWS) else 2)

    for way in (refuses, wrong_slope, wrong_for_two, lambda u: 1.001 * cube(u)):
        assert choose_method(ROWS, {"vmap": way, "plate": cube, "loop": cube})[0] == "plate"
        assert choose_method(ROWS, {"vmap": way, "plate": way, "loop": cube})[0] == "loop"
    assert choose_method(ROWS, {"vmap": refuses, "loop": cube}) == ("loop", "no batching rule")
    assert choose_method(ROWS, {"vmap": cube, "loop": cube}) == ("vmap", "")
    flat = choose_method(ROWS, {"vmap": lambda u: u.detach().sum(1), "loop": lambda u: u.detach().sum(1)})
    assert flat == ("vmap", "")  # no gradient anywhere
