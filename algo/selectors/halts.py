"""Which kill switches stand, which of them counts, and which accounts have been proved flat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, models
from django.db.models import Exists, Q, QuerySet

from algo.models import (
    FINISHED_DEALS,
    Account,
    Deal,
    FlatProof,
    Halt,
    KillSwitch,
    Market,
    StrategyConfig,
    SystemControl,
    Ticket,
)
from algo.selectors.visible import rows_seen
from providers.clock import Clock

Target = Account | StrategyConfig | Market

PROOF_MAX_AGE = 300.0  # wall seconds after which a proof of flatness says nothing about now
AGAIN = 10.0  # wall seconds between two proofs while something is missing
EVERY = 60.0  # wall seconds between two proofs of what was flat


@dataclass(frozen=True, slots=True)
class Standing:
    """The strictest switch that applies, and the sentence for whoever asks why."""

    level: KillSwitch = KillSwitch.OFF
    reason: str = ""

    @property
    def stops_entries(self) -> bool:
        return self.level != KillSwitch.OFF


_NONE_STANDS = Standing()


# --- the strictest that applies -------------------------------------------------------------------------------------


def halt_for(account_id: int, config_id: int | None, market_id: int | None, *, lock: bool = False) -> Standing:
    """The strictest of the switches over an account, a strategy and a market, read in one query.

    With `lock`, inside a transaction: a turn of any switch that has begun is waited for, and the next one waits until
    the transaction ends. So every switch that committed before is seen.
    """
    if lock:
        _hold_switches()
    configs, markets = [[] if each is None else [each] for each in (config_id, market_id)]
    return _strictest(_switches(account_id, configs, markets))


def _hold_switches() -> None:
    """Every turn of a switch writes the system's row first: sharing that one holds them all, also those that have no
    row yet. Shared, so that claims of several accounts do not wait for each other."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {_table(SystemControl)} WHERE id = 1 FOR SHARE")  # noqa: S608 - our own table
        held = cursor.fetchone()
    if held is None:  # no switch was ever turned, or the first one is being turned right now: then this waits for it
        SystemControl.load()


def halts_for(account_id: int, scopes: Collection[tuple[int, int]]) -> dict[tuple[int, int], Standing]:
    """`halt_for` of an account and each of these pairs of a strategy and a market, read in one query."""
    configs, markets = {config for config, _ in scopes}, {market for _, market in scopes}
    rows = _switches(account_id, configs, markets)
    return {scope: _strictest(row for row in rows if _is_over(row, *scope)) for scope in scopes}


def _is_over(switch: Sequence[Any], config_id: int, market_id: int) -> bool:
    """Whether a switch that was read for an account is over a strategy and a market of it."""
    of_config, of_market = switch[6], switch[7]
    return of_config in (None, config_id) and of_market in (None, market_id)


def _strictest(switches: Iterable[Sequence[Any]]) -> Standing:
    standing = (standing_of(*switch[:6]) for switch in switches)
    return max(standing, key=lambda each: each.level.severity, default=_NONE_STANDS)


def _switches(account_id: int, configs: Collection[int], markets: Collection[int]) -> Sequence[tuple[Any, ...]]:
    """Those that are not off. In SQL of our own, for every step on every deal asks this: to put the same query together
    anew takes several times as long as PostgreSQL takes to answer it."""
    with connection.cursor() as cursor:
        over: dict[str, Any] = {"account": account_id, "configs": list(configs), "markets": list(markets)}
        cursor.execute(_SWITCHES_SQL, over)
        return cursor.fetchall()


def _table(model: type[models.Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)


_SWITCHES_SQL = f"""
    SELECT NULL, NULL, NULL, NULL, kill_switch, reason, NULL, NULL
      FROM {_table(SystemControl)} WHERE kill_switch <> '{KillSwitch.OFF}'
     UNION ALL
    SELECT account.name, config.name, market.symbol, market.provider, halt.level, halt.reason,
           halt.config_id, halt.market_id
      FROM {_table(Halt)} halt
      LEFT JOIN {_table(Account)} account ON account.id = halt.account_id
      LEFT JOIN {_table(StrategyConfig)} config ON config.id = halt.config_id
      LEFT JOIN {_table(Market)} market ON market.id = halt.market_id
     WHERE halt.level <> '{KillSwitch.OFF}'
       AND (halt.account_id = %(account)s OR halt.config_id = ANY(%(configs)s) OR halt.market_id = ANY(%(markets)s))
"""  # noqa: S608 - our own tables


def standing_of(
    account: str | None, config: str | None, symbol: str | None, provider: str | None, level: str, reason: str
) -> Standing:
    """One switch that is not off, in words; the system's where nothing is named."""
    whose = f"account {account}" if account else f"strategy {config}" if config else f"market {symbol} at {provider}"
    scope = whose if account or config or symbol else "whole system"
    return Standing(KillSwitch(level), f"kill switch of the {scope}: {reason or 'no reason given'}")


def target_field(target: Target) -> str:
    """What a row that belongs to an account, a strategy or a market calls it."""
    return {Account: "account", StrategyConfig: "config", Market: "market"}[type(target)]


def level_of(row: SystemControl | Halt) -> KillSwitch:
    return KillSwitch(row.kill_switch if isinstance(row, SystemControl) else row.level)


def switch_of(target: Target | None) -> SystemControl | Halt:
    """How a switch stands now; one that was never turned stands at off (and may have no row)."""
    if target is None:
        return SystemControl.load()
    found = Halt.objects.filter(**{target_field(target): target}).select_related("changed_by").first()
    return found or Halt(**{target_field(target): target})


def halts_standing() -> QuerySet[Halt]:
    """Every switch of an account, a strategy or a market that is not off."""
    rows = Halt.objects.exclude(level=KillSwitch.OFF).select_related("account", "config", "market", "changed_by")
    return rows.order_by("-changed_at")


def halts_seen(user: Any, most: int) -> QuerySet[Halt]:
    """Those that concern `user`, the newest `most` of them."""
    return rows_seen(user, halts_standing())[:most]


def switches_at_a_glance() -> tuple[KillSwitch, bool]:
    """The system's level, and whether any account, strategy or market has a switch of its own that is not off."""
    narrow = Exists(Halt.objects.exclude(level=KillSwitch.OFF))
    row = SystemControl.objects.filter(pk=1).values_list("kill_switch", narrow).first()
    return (KillSwitch(row[0]), row[1]) if row else (KillSwitch.OFF, False)


def scope_name(target: Target | None) -> str:
    """How a switch is called in events, logs and pages."""
    if target is None:
        return "the whole system"
    kind = {Account: "account", StrategyConfig: "strategy", Market: "market"}[type(target)]
    name = f"{target.provider}:{target.symbol}" if isinstance(target, Market) else target.name
    return f"{kind} {name}"


# --- flat -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountFlat:
    """Whether one account was proved flat in the scope of a switch, and why not."""

    account: Account
    is_flat: bool
    why: str
    checked_at: datetime | None


def accounts_of(target: Target | None) -> QuerySet[Account]:
    """Accounts with something of ours to flatten under a switch: those with deals, that this platform can reach or
    that still have a live one."""
    deals = Deal.objects.filter(**_deals_of(target))
    live = deals.exclude(status__in=FINISHED_DEALS)
    here = Q(environment=settings.EXCHANGE_ENVIRONMENT, pk__in=deals.values("account"))
    return Account.objects.filter(here | Q(pk__in=live.values("account"))).select_related("flat_proof").order_by("name")


def _deals_of(target: Target | None) -> dict[str, Target]:
    return {} if target is None else {target_field(target): target}


def proof_max_age(clock: Clock) -> timedelta:
    """How long a proof counts; the guardian renews it every minute while FLATTEN stands."""
    return clock.wall(PROOF_MAX_AGE)


def flat_state(
    target: Target | None, *, since: datetime | None, now: datetime, max_age: timedelta
) -> list[AccountFlat]:
    """Every account in the scope of a switch and whether it has been proved flat since the switch was turned.

    For an account or the whole system the proof is of all it holds. For a strategy or a market it is narrower: no live
    deal, and on its markets no open order of ours, none that nobody has explained, and no open ticket.
    """
    return [flat_in(account, target, since, now - max_age) for account in accounts_of(target)]


def flat_in(account: Account, target: Target | None, since: datetime | None, oldest: datetime) -> AccountFlat:
    """The same for one account. A proof from before `oldest` does not count."""
    proof: FlatProof | None = getattr(account, "flat_proof", None)
    if proof is None:
        return AccountFlat(account, False, "it was never checked", None)
    checked = proof.checked_at
    if since is not None and checked < since:
        return AccountFlat(account, False, "it was not checked since the switch was turned", checked)
    if checked < oldest:
        return AccountFlat(account, False, "its last check is too old to say anything about now", checked)
    if target is None or isinstance(target, Account):
        return AccountFlat(account, proof.is_flat, proof.summary, checked)
    why = _narrow_gaps(account, target, proof)
    return AccountFlat(account, not why, "; ".join(why) or "no live deal and no open order there", checked)


def _narrow_gaps(account: Account, target: StrategyConfig | Market, proof: FlatProof) -> list[str]:
    """What keeps a strategy or a market of an account from being flat: our books now, and the exchange's last list."""
    deals = Deal.objects.filter(account=account, **_deals_of(target))
    gaps = [f"deal {pk} has not ended" for pk in deals.exclude(status__in=FINISHED_DEALS).values_list("pk", flat=True)]
    listed = proof.details.get("open_orders")
    if listed is None:
        return [*gaps, proof.summary]
    markets = dict(deals.values_list("market__symbol", "market"))
    gaps += open_tickets(account, market__in=markets.values())
    gaps += [unexplained(each) for each in proof.details.get("unexplained_orders", ()) if each["symbol"] in markets]
    return gaps + [f"order {each['order']} is open on {each['symbol']}" for each in listed if each["symbol"] in markets]


def open_tickets(account: Account, **scope: Any) -> list[str]:
    """What speaks against flatness because a person has not resolved it yet, in words."""
    tickets = Ticket.objects.filter(account=account, resolved_at=None, **scope).order_by("pk")
    return [f"ticket {each.pk} is open: {each.get_kind_display()}, {each.reference}" for each in tickets]


def unexplained(order: Mapping[str, str | None]) -> str:
    """The same of an order at the exchange that nobody was asked about yet."""
    return f"order {order['order']} on {order['symbol']} is not the platform's, and nobody has explained it yet"


# --- when to ask whether an account is flat -------------------------------------------------------------------------


def flattening_over(account: Account) -> list[tuple[Target | None, datetime]]:
    """What is to be flattened of an account, and since when."""
    return [(target, turned) for target, turned in _flattening() if accounts_of(target).filter(pk=account.pk).exists()]


def accounts_to_prove(clock: Clock) -> list[int]:
    """Ids of the accounts for which `flat_due` says so."""
    under = {account.pk: account for target, _ in _flattening() for account in accounts_of(target)}
    return [pk for pk, account in under.items() if flat_due(account, clock)]


def flat_due(account: Account, clock: Clock) -> bool:
    """Whether something of `account` is to be flattened, and it is time to ask whether it is flat: every few seconds
    until it is, then every minute."""
    over = flattening_over(account)
    if not over:
        return False
    now, row = clock.now(), Account.objects.select_related("flat_proof").get(pk=account.pk)
    states = [flat_in(row, target, turned, now - proof_max_age(clock)) for target, turned in over]
    checked, last_turn = states[0].checked_at, max(turned for _, turned in over)
    if checked is None or checked < last_turn:
        return True
    return now - checked >= clock.wall(EVERY if all(state.is_flat for state in states) else AGAIN)


def _flattening() -> list[tuple[Target | None, datetime]]:
    system = SystemControl.objects.filter(pk=1, kill_switch=KillSwitch.FLATTEN).first()
    halts = Halt.objects.filter(level=KillSwitch.FLATTEN).select_related("account", "config", "market")
    narrow: list[tuple[Target | None, datetime]] = [(halt.target, halt.changed_at) for halt in halts if halt.changed_at]
    return [*([(None, system.changed_at)] if system else []), *narrow]


# --- the whole picture ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwitchState:
    """One switch, and at FLATTEN whether each account under it is proved flat."""

    target: Target | None
    row: SystemControl | Halt
    accounts: Sequence[AccountFlat] = ()


def switch_states(clock: Clock) -> list[SwitchState]:
    """The system's switch, and every other one that is not off."""
    rows: list[SystemControl | Halt] = [SystemControl.load(), *halts_standing()]
    return [switch_state(None if isinstance(row, SystemControl) else row.target, row, clock) for row in rows]


def switch_state(target: Target | None, row: SystemControl | Halt, clock: Clock) -> SwitchState:
    if level_of(row) != KillSwitch.FLATTEN:
        return SwitchState(target, row)
    accounts = flat_state(target, since=row.changed_at, now=clock.now(), max_age=proof_max_age(clock))
    return SwitchState(target, row, accounts)
