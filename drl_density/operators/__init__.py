"""Linear measurement operators with their adjoints."""

from drl_density.operators.fourier import (
    Coils,
    ComplexPairs,
    MaskedFourier,
    center_mask,
    root_sum_of_squares,
    shepp_logan,
    smooth_maps,
)
from drl_density.operators.gram import GramBlocks
from drl_density.operators.linear import (
    Blur,
    Downsample,
    LinearOperator,
    Mask,
    MatrixOperator,
    ProjectingOperator,
    adjoint_gap,
    check_operator,
)

__all__ = [
    "Blur",
    "Coils",
    "ComplexPairs",
    "Downsample",
    "GramBlocks",
    "LinearOperator",
    "Mask",
    "MaskedFourier",
    "MatrixOperator",
    "ProjectingOperator",
    "adjoint_gap",
    "center_mask",
    "check_operator",
    "root_sum_of_squares",
    "shepp_logan",
    "smooth_maps",
]
