"""Column-wise Jacobians of the transforms that real data sets get."""

import pytest
import torch

import drl_density as drl


@pytest.mark.parametrize("name", ["wine", "digits"])
def test_column_jacobians_add_up(name):
    from drl_density.datasets import choose_transform

    data = drl.load_dataset(name, seed=0)
    transform, dequantization = choose_transform(data)
    x = data.train[:20]
    if dequantization is not None:
        x = dequantization(x, generator=torch.Generator().manual_seed(0))
    by_column = transform.column_log_jacobian(x)
    assert by_column.shape == x.shape
    torch.testing.assert_close(by_column.sum(1), transform.log_abs_det_jacobian(x, transform(x)))
