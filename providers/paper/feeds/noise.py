"""Randomness without memory: the same (key, index) gives the same number in every process, in any order of asking."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def stream(*parts: object) -> np.uint64:
    """A key for one series, from anything printable."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def uniform(key: np.uint64, index: Ints) -> Floats:
    """Numbers in (0, 1): the splitmix64 finaliser over key and index."""
    with np.errstate(over="ignore"):
        word = (index.astype(np.uint64) + np.uint64(1)) * _STEP + key
        word = (word ^ (word >> np.uint64(30))) * _MIX_1
        word = (word ^ (word >> np.uint64(27))) * _MIX_2
        word = word ^ (word >> np.uint64(31))
    return ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: np.uint64, index: Ints) -> Floats:
    """Standard normal numbers (Box and Muller)."""
    radius = np.sqrt(-2.0 * np.log(uniform(key, index)))
    return radius * np.cos(2.0 * np.pi * uniform(key ^ _MIX_1, index))


def smooth(key: np.uint64, at: Floats) -> Floats:
    """A continuous series with standard normal values at whole `at`, straight lines between. `at` increases."""
    nodes = np.arange(np.floor(at[0]), np.ceil(at[-1]) + 2).astype(np.int64)
    return np.interp(at, nodes.astype(np.float64), normal(key, nodes))
