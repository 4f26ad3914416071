"""Compiled functions and the compiler's cache, which outlives an update of the platform."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

import algo.backtest
import algo.indicators
import algo.strategies

MODULES = [
    name
    for room in (algo.backtest, algo.indicators, algo.strategies)
    for _, name, _ in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
]


def compiled_in(name: str) -> dict[str, Any]:
    found = vars(importlib.import_module(name))
    return {
        key: each for key, each in found.items() if isinstance(each, Dispatcher) and each.py_func.__module__ == name
    }


@pytest.mark.parametrize("name", [name for name in MODULES if compiled_in(name)])
def test_compiled_functions_call_compiled_functions_of_their_own_file_only(name):
    # A cached function is compiled anew when its own file changes, not when one it calls does: it would run old rules.
    for key, function in compiled_in(name).items():
        called = {word: function.py_func.__globals__.get(word) for word in function.py_func.__code__.co_names}
        elsewhere = [
            word for word, each in called.items() if isinstance(each, Dispatcher) and each.py_func.__module__ != name
        ]
        assert elsewhere == [], key


def test_there_are_some():
    assert {"simulate", "play_sets"} <= set(compiled_in("algo.backtest.kernel"))
    assert compiled_in("algo.indicators.averages")
