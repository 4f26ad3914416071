"""What every indicator takes and gives: one-dimensional float64 arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Series = NDArray[np.float64]
Mask = NDArray[np.bool_]

BLOCK = 1024  # windows that are worked on together: what they need stays in the nearest cache


def as_series(values: ArrayLike | Any) -> Series:
    """The values as a contiguous float64 array; a pandas Series is taken too. ValueError unless one-dimensional."""
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"an indicator takes a one-dimensional series, not one of shape {array.shape}")
    return array


def check_period(period: int) -> None:
    """ValueError for a period that is no whole number of at least 1."""
    if period != int(period) or period < 1:
        raise ValueError(f"a period must be a whole number of at least 1, not {period!r}")
