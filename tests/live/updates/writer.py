"""Books deals one after the other from a line of its input until that closes, through every outage; then says which
there are.

python -m tests.live.updates.writer     prints a token of the API, then, at its end, the ids of all deals as JSON
"""

from __future__ import annotations

import json
import select
import sys
import time

import django

django.setup()

from django.db import DatabaseError, InterfaceError, connection  # noqa: E402
from knox.models import AuthToken  # noqa: E402

from algo.models import Deal, TokenGrant  # noqa: E402
from tests.factories import make_account, make_closed_deal, make_config, make_trader  # noqa: E402

PAUSE_SECONDS = 0.02


def main() -> None:
    trader = make_trader("trader")
    config = make_config(account=make_account(owner=trader))
    token, text = AuthToken.objects.create(user=trader)
    TokenGrant.objects.create(token=token, scope="read")
    print(text, flush=True)  # noqa: T201
    sys.stdin.readline()
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        _try(lambda: make_closed_deal(config))
    print(json.dumps(_try(lambda: list(Deal.objects.order_by("pk").values_list("pk", flat=True)))))  # noqa: T201


def _try(act):
    while True:
        try:
            return act()
        except (DatabaseError, InterfaceError):
            connection.close()
            time.sleep(0.1)


if __name__ == "__main__":
    main()
