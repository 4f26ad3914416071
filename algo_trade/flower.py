"""Flower shows tasks and stops workers: it does not start where it would do so for everybody."""

from __future__ import annotations

import os
import sys
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def refuse_open_flower(*, is_serving: bool, **_: Any) -> None:
    """Ends the process where it is Flower and would listen without a login. `is_serving`: others can reach this
    machine, or money is real; then it needs a login on loopback too, for a proxy or another user stands before it."""
    if "flower" not in sys.argv:
        return
    from tornado.options import options  # noqa: PLC0415 - Flower's, read by now from all places they may come from

    if why := opening(options.as_dict(), os.environ.get("FLOWER_UNAUTHENTICATED_API", ""), is_serving=is_serving):
        sys.exit(f"Configuration error. {why}")


def opening(options: dict[str, Any], open_api: str, *, is_serving: bool) -> str:
    """What is wrong with how Flower would be reachable; empty where nothing is."""
    if options.get("basic_auth") or options.get("auth"):
        return ""
    address = options.get("address") or ""
    if address in LOOPBACK and not is_serving and open_api.lower() in ("", "0", "false", "no", "off"):
        return ""
    where = "on every address of this machine" if not address else f"on {address}"
    return (
        f"Flower would listen {where} without a login: whoever reaches it sees all tasks and stops workers. It was not "
        "started. Set FLOWER_BASIC_AUTH=user:password in its environment."
    )
