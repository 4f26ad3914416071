"""Which version of a strategy a config holds: one fingerprint over its name, its code and its parameters."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import Any

from algo.models import StrategyConfig
from algo.strategies.interface import StrategyInterface
from algo.strategies.schemas import InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy, strategy_class

CHECKS_VERSION = 1  # raise it where the checks became stricter: every version is then checked again
_ROOMS = ("algo.strategies.", "algo.indicators.")
_LIBRARIES = (sysconfig.get_paths()["stdlib"], "site-packages", "dist-packages")


def strategy_fingerprint(strategy: StrategyInterface) -> str:
    """SHA-256 of the version: equal wherever the same code runs with the same parameters, wherever it is installed."""
    return _fingerprint(type(strategy), strategy.parameters)


def config_fingerprint(config: StrategyConfig) -> str:
    """The version that a config holds; empty where it holds none, because its parameters or its name cannot work."""
    try:
        kind = strategy_class(config.strategy)
        return _fingerprint(kind, kind.schema.model_validate(config.parameters))
    except (UnknownStrategy, InvalidParameters, ValueError):
        return ""


def _fingerprint(kind: type[StrategyInterface], parameters: Any) -> str:
    words = [CHECKS_VERSION, kind.__name__, _code(kind), parameters.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=256)
def _code(kind: type[StrategyInterface]) -> str:
    """Over the files a strategy is made of. Once for each process: a process keeps running the code it has loaded."""
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in strategy_files(kind))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def strategy_files(kind: type[StrategyInterface]) -> set[Path]:
    """Where the code of a strategy stands: its class and those it inherits from, its schema, and every module of the
    rooms of strategies and indicators that these use, directly or by one another. No library is among them."""
    classes = [each for owner in (kind, kind.schema) for each in owner.__mro__]
    files = {file for each in classes if (file := _file_of(each))}
    modules = {each.__module__ for each in classes} & set(sys.modules)
    seen: set[str] = set()
    while modules - seen:
        name = (modules - seen).pop()
        seen.add(name)
        if not _is_ours(name):
            continue
        used = {_module_of(value) for value in vars(sys.modules[name]).values()}
        modules |= {each for each in used if each.startswith(_ROOMS) and each in sys.modules}
    files |= {Path(sys.modules[name].__file__ or "") for name in seen if name.startswith(_ROOMS)}
    return {file for file in files if file.is_file() and not any(part in str(file) for part in _LIBRARIES)}


def _is_ours(name: str) -> bool:
    file = getattr(sys.modules[name], "__file__", None) or ""
    return bool(file) and not any(part in file for part in _LIBRARIES)


def _module_of(value: Any) -> str:
    return value.__name__ if inspect.ismodule(value) else str(getattr(value, "__module__", "") or "")


def _file_of(kind: type) -> Path | None:
    """The file of a class, also where its module is not to be found by name any more."""
    module = sys.modules.get(kind.__module__)
    if file := getattr(module, "__file__", None):
        return Path(file)
    functions = (value for value in vars(kind).values() if inspect.isfunction(value))
    return next((Path(each.__code__.co_filename) for each in functions), None)
