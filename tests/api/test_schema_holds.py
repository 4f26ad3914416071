"""The schema and the API agree: whatever the schema allows or forbids to send, the answer is one that it names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import schemathesis
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, seed, settings
from knox.models import AuthToken
from rest_framework.throttling import SimpleRateThrottle
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from algo.models import AuditRecord, CandleFetch, TokenGrant
from algo.selectors.rights import Role
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db

# What the schema allows may still not fit the state of things, and is answered with 400 or 409 then.
OF_ITS_MEANING = [positive_data_acceptance]


@pytest.fixture(scope="module")
def contract() -> Any:
    found = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(public=True))
    found.app = get_wsgi_application()
    return found


@pytest.fixture
def _one_connection(db: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The requests run in the test's own transaction; none is throttled."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a login takes no second
    monkeypatch.setattr(SimpleRateThrottle, "allow_request", lambda *_: True)
    ends = (signals.request_started, signals.request_finished)
    for each in ends:
        each.disconnect(close_old_connections)
    yield
    for each in ends:
        each.connect(close_old_connections)


def a_world(owner: Any) -> dict[str, int]:
    """A row of each kind, by the address of its list."""
    config = make.make_config(account=make.make_account(owner=owner), status="running")  # to start it takes no check
    deal = make.make_closed_deal(config, signal=make.make_signal(config))
    order = make.make_order(make.make_open_deal(make.make_config(account=config.account)))
    fill = make.make_fill(order)
    market = config.market
    fetch = CandleFetch.objects.create(
        market=market, resolution="60", start=NOW, end=NOW, reached=NOW, due_at=NOW, created_at=NOW, requested_by=owner
    )
    channel = make.make_channel(owner, target="https://example.org/hook")
    inbound = make.make_inbound_key(make.make_config(strategy="ExternalSignals", account=config.account))
    record = AuditRecord.objects.create(at=NOW, user=owner, door="api", act="deal.close", subject_kind="deal")
    return {
        "accounts": config.account_id,
        "auth/tokens": a_token(owner)[0].pk,
        "backtests": make.make_backtest(config=config, requested_by=owner).pk,
        "channels": channel.pk,
        "deliveries": make.make_delivery(channel=channel).pk,
        "inbound": inbound.public_id,
        "inbound-keys": inbound.pk,
        "inbound-signals": make.make_alert(inbound).pk,
        "candle-fetches": fetch.pk,
        "deals": deal.pk,
        "decisions": make.make_decision(config).pk,
        "fills": fill.pk,
        "markets": market.pk,
        "optimisations": make.make_optimisation(requested_by=owner).pk,
        "orders": order.pk,
        "signals": deal.signal_id,
        "strategies": config.pk,
        "system/audit": record.pk,
        "tickets": make.make_ticket(config.account).pk,
        "webhooks/deliveries": make.make_delivery().pk,
    }


def a_token(user: Any) -> tuple[TokenGrant, str]:
    row, text = AuthToken.objects.create(user)
    return TokenGrant.objects.create(token=row, scope="admin"), text


def path_of(operation: Any, world: dict[str, int]) -> dict[str, int]:
    """The row that an address with an id is about."""
    names = {each.name for each in operation.path_parameters}
    kind = operation.path.removeprefix("/api/v1/").partition("/{id}")[0]
    return {name: {"id": world[kind], "version": 1}[name] for name in names}


def can_be_wrong(operation: Any) -> bool:
    return any([*operation.query, *operation.path_parameters, *operation.body])


def at_the_bounds(contract: Any, operation: Any, every: int) -> Iterator[Any]:
    """Each parameter and field at its bounds and beyond, left out, of another type; methods that there are not."""
    modes, how = list(GenerationMode), contract.config.generation
    yield from islice(
        contract.iter_coverage_cases(operation, generation_modes=modes, generation_config=how), 0, None, every
    )


def thought_of(strategy: Any, examples: int) -> list[Any]:
    found: list[Any] = []

    @seed(1)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=strategy)
    def keep(case: Any) -> None:
        found.append(case)

    keep()
    return found


def cases_of(contract: Any, operation: Any, world: dict[str, int], every: int, examples: int) -> Iterator[Any]:
    yield from at_the_bounds(contract, operation, every)
    if examples:
        right, wrong = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
        path = path_of(operation, world)
        yield from thought_of(operation.as_strategy(generation_mode=right, path_parameters=path), examples)
        if can_be_wrong(operation):
            yield from thought_of(operation.as_strategy(generation_mode=wrong), examples)


def holds(contract: Any, role: Role, *, every: int, examples: int) -> None:
    """Asks with every so-manieth case at the bounds, and with so many examples of either kind."""
    user = make.make_user(role=role)
    world = a_world(user if role is Role.TRADER else make.make_trader())
    asked, broken = 0, []
    for operation in [each.ok() for each in contract.get_all_operations()]:
        token = a_token(user)[1]
        for case in cases_of(contract, operation, world, every, examples):
            asked += 1
            with transaction.atomic():
                try:
                    case.call_and_validate(headers={"Authorization": f"Token {token}"}, excluded_checks=OF_ITS_MEANING)
                except FailureGroup as exc:
                    broken.append("\n".join([operation.label, *map(str, exc.exceptions), str(exc)]))
                transaction.set_rollback(True)  # each acts on the same world
    assert asked > 250
    assert not broken, "\n\n".join(broken)


@pytest.mark.parametrize(("role", "every", "examples"), [(Role.TRADER, 12, 1), (Role.VIEWER, 24, 0)])
@pytest.mark.usefixtures("_one_connection")
def test_every_answer_is_one_that_the_schema_names(contract, role, every, examples):
    holds(contract, role, every=every, examples=examples)


@pytest.mark.long
@pytest.mark.parametrize(("role", "every", "examples"), [(Role.TRADER, 1, 6), (Role.VIEWER, 3, 1)])
@pytest.mark.usefixtures("_one_connection")
def test_many_answers_are_ones_that_the_schema_names(contract, role, every, examples):
    holds(contract, role, every=every, examples=examples)
