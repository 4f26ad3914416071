"""The worked example of docs/notifications.md, carried out as it stands there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from algo.models import InboundAlert
from algo.services.inbound import inbound_key_make, inbound_key_switch
from tests import factories as make
from tests.factories import NOW, by

pytestmark = pytest.mark.django_db

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "notifications.md").read_text()
SECTION = TEXT.partition("## Signals from outside")[2]


@pytest.fixture
def key(settings: Any) -> tuple[str, str]:
    settings.INBOUND_SIGNALS = True
    trader = make.make_trader()
    config = make.make_config(strategy="ExternalSignals", account=make.make_account(owner=trader))
    row, secret = inbound_key_make(config, by=by(trader), at=NOW)
    inbound_key_switch(row, is_on=True, by=by(trader), at=NOW)
    return f"/api/v1/inbound/{row.public_id}/", secret


def test_the_message_for_tradingview_is_taken(key):
    address, secret = key
    (message,) = re.findall(r"```json\n(.*?)```", SECTION, re.DOTALL)
    sent = message.replace("whsec_YOUR_SECRET", secret)
    sent = sent.replace("{{timenow}}", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")).replace("{{close}}", "50010.5")
    answer = APIClient().post(address, sent.encode(), content_type="application/json; charset=utf-8")
    assert answer.status_code == 202, answer.content
    assert InboundAlert.objects.get().asked["stop_loss_percent"] == "1.5"


def test_the_program_that_signs_is_believed(key):
    address, secret = key
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    now = datetime.now(UTC).isoformat()
    body, headers = namespace["signed"]({"id": "a-1", "time": now, "action": "buy", "market": "BTCUSDT"}, secret)
    content_type = headers.pop("Content-Type")
    assert APIClient().post(address, body, content_type=content_type, headers=headers).status_code == 202
    assert "secret" not in json.loads(body)
