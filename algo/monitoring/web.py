"""What web processes do beside requests: tell now and then what was counted."""

from __future__ import annotations

from typing import Any

from django.core.signals import request_finished

from algo.services.tallies import Teller

_teller = Teller("web")


def watch_requests() -> None:
    """Each time an answer has been sent, the counts are told where they are due."""
    request_finished.connect(_tell, dispatch_uid="algo.watch")


def _tell(**_: Any) -> None:
    _teller.tell_if_due()
