"""Signals from outside: keys for who may send them, and taking in what is sent. What becomes of a buy or a sell is
decided by a worker (`algo.execution.alerts`), through the risk gate of all strategies; a close is carried out here.
"""

from __future__ import annotations

import base64
import logging
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from algo.models import (
    FINISHED_DEALS,
    AlertAction,
    AlertState,
    Deal,
    Door,
    InboundAlert,
    InboundKey,
    StrategyConfig,
    StrategyStatus,
)
from algo.models.fields import SecretUnreadable
from algo.services.audit import Actor, audit_record
from algo.services.deal_acts import ActRefused, deal_close
from algo.services.inbound_body import AlertBody, BodyInvalid, body_read, rules_of
from algo.services.inbound_proof import NotProven, proof_demand, signed_at
from algo.services.refused import Refused
from algo.standard_webhooks import ID, SIGNATURE
from algo.strategies.external import ExternalSignalsSchema
from algo.strategies.schemas import InvalidParameters, validate_parameters
from algo.strategies.strategy_factory import UnknownStrategy, external_names, schema_for
from providers.clock import Clock
from providers.redaction import register_secret

__all__ = [
    "AlertRefused",
    "BodyInvalid",
    "InboundRefused",
    "NotProven",
    "Received",
    "alert_receive",
    "alert_refuse",
    "inbound_key_make",
    "inbound_key_revoke",
    "inbound_key_switch",
]

logger = logging.getLogger("algo.inbound")

# Wall seconds. TradingView delivers within a few; what was given longer ago is no reason to trade now.
MAX_AGE = timedelta(seconds=120)
MAX_AHEAD = timedelta(seconds=10)
_NOBODYS = "whsec_" + "A" * 43 + "="  # compared with where there is no key, so that it takes as long


class InboundRefused(Refused):
    """No key was made, switched or revoked."""


class AlertRefused(Refused):
    """A proven signal that is not taken. `code` is for programs."""

    def __init__(self, text: str, code: str, field: str = "") -> None:
        super().__init__(text, field)
        self.code = code


@dataclass(frozen=True, slots=True)
class Received:
    """`is_new` is False where this very signal had come before: then nothing was done. `closed` counts deals."""

    alert: InboundAlert
    is_new: bool
    closed: int = 0


# --- keys ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def inbound_key_make(config: StrategyConfig, *, by: Actor, at: datetime, label: str = "") -> tuple[InboundKey, str]:
    """A key for `config`, which is off, and its secret, which nobody can be told again. It takes the place of the one
    before, which is revoked. Raises InboundRefused, and PermissionDenied for who may not trade with the account."""
    by.must_trade(config.account)
    if by.user is None:
        raise InboundRefused(_("A key acts as the person who made it: sign in. No key was made."))
    if config.strategy not in external_names():
        raise InboundRefused(
            _("%(name)s decides by itself. Signals go to a strategy of the kind %(kinds)s: add one. No key was made.")
            % {"name": config.name, "kinds": ", ".join(external_names())}
        )
    StrategyConfig.objects.select_for_update(no_key=True).get(pk=config.pk)
    InboundKey.objects.filter(config=config, revoked_at=None).update(revoked_at=at, is_on=False)
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    key = InboundKey(config=config, label=label[:80], made_by=by.user, made_at=at)
    key.set_secret(secret)
    key.save()
    register_secret(secret)
    audit_record("inbound_key.make", by=by, subject=key, at=at, details=_details(key))
    return key, secret


@transaction.atomic
def inbound_key_switch(key: InboundKey, *, is_on: bool, by: Actor, at: datetime) -> bool:
    """Take what is sent with this key, or refuse it. False where it stood so already. Raises InboundRefused for a
    revoked one."""
    row = _locked_key(key, by)
    if row.revoked_at is not None:
        raise InboundRefused(_("This key was revoked: make another one. Nothing was changed."))
    if row.is_on == is_on:
        return False
    row.is_on = key.is_on = is_on
    row.save(update_fields=["is_on"])
    audit_record("inbound_key.on" if is_on else "inbound_key.off", by=by, subject=row, at=at, details=_details(row))
    return True


@transaction.atomic
def inbound_key_revoke(key: InboundKey, *, by: Actor, at: datetime) -> bool:
    """It proves nothing from now on. Signals that wait are refused. False where it was revoked already."""
    row = _locked_key(key, by)
    if row.revoked_at is not None:
        return False
    row.revoked_at, row.is_on = at, False
    row.save(update_fields=["revoked_at", "is_on"])
    for alert in InboundAlert.objects.select_for_update().filter(key=row, state=AlertState.WAITING):
        alert_refuse(alert, _("The key was revoked before a worker came to it."), at)
    audit_record("inbound_key.revoke", by=by, subject=row, at=at, details=_details(row))
    key.revoked_at, key.is_on = at, False
    return True


def _locked_key(key: InboundKey, by: Actor) -> InboundKey:
    """After its strategy, as rows are locked everywhere."""
    StrategyConfig.objects.select_for_update(no_key=True).get(pk=key.config_id)
    row = InboundKey.objects.select_related("config__account").select_for_update(of=("self",)).get(pk=key.pk)
    by.must_trade(row.config.account)
    return row


def _details(key: InboundKey) -> dict[str, str]:
    return {"key": key.secret_hint, "label": key.label, "made_by": str(key.made_by)}


# --- what is sent ---------------------------------------------------------------------------------------------------


def alert_receive(
    public_id: uuid.UUID, body: bytes, headers: Mapping[str, str], *, wall_now: datetime, clock: Clock
) -> Received:
    """Take in one signal: keep it for a worker, or close what the strategy has open. The same id acts once.

    Raises NotProven; BodyInvalid; AlertRefused for what is proven and right but not to be taken. `headers` have names
    in lower case. `wall_now` is compared with the times that are sent: senders live in wall time.
    """
    key = _proven_key(public_id, body, headers)
    alert = body_read(body)
    _refuse_old(alert, headers, wall_now)
    age = max(wall_now - alert.time, timedelta())
    given_at = clock.now() - clock.wall(age.total_seconds())
    try:
        with transaction.atomic():
            return _taken(key, alert, given_at, clock.now())
    except IntegrityError:  # two at once: the constraint is the judge
        return _again(key.config, alert)


def alert_refuse(alert: InboundAlert, why: str, at: datetime) -> None:
    """Note that nothing came of it, and why."""
    alert.state, alert.note, alert.done_at = AlertState.REFUSED, why[:400], at
    alert.save(update_fields=["state", "note", "done_at"])
    logger.warning("signal refused strategy=%s alert=%s why=%s", alert.config_id, alert.alert_id, why)


def _proven_key(public_id: uuid.UUID, body: bytes, headers: Mapping[str, str]) -> InboundKey:
    keys = InboundKey.objects.filter(public_id=public_id, revoked_at=None)
    key = keys.select_related("config__account", "config__market", "made_by").first()
    secret = _NOBODYS
    try:
        secret = key.secret() if key else _NOBODYS
    except SecretUnreadable as exc:
        logger.exception("an inbound key cannot be used id=%s why=%s", public_id, exc.args[0])
        key = None
    proof_demand(body, headers, secret)
    if key is None or not settings.INBOUND_SIGNALS:
        raise NotProven
    return key


def _refuse_old(alert: AlertBody, headers: Mapping[str, str], now: datetime) -> None:
    times = [alert.time]
    if SIGNATURE in headers:
        times.append(cast(datetime, signed_at(headers)))
        if headers.get(ID) != alert.id:
            raise AlertRefused(_("The signed webhook-id is not the id in the body. Nothing was done."), "ids_differ")
    if not all(-MAX_AHEAD <= now - each <= MAX_AGE for each in times):
        raise AlertRefused(
            _("It was given more than %(age)d seconds ago, or by a clock that is ahead of ours. Nothing was done.")
            % {"age": MAX_AGE.total_seconds()},
            "stale",
        )


def _taken(key: InboundKey, body: AlertBody, given_at: datetime, now: datetime) -> Received:
    """In a transaction that holds the strategy's row: a close waits for an entry that is being decided."""
    config = StrategyConfig.objects.select_for_update(no_key=True, of=("self",)).select_related("account", "market")
    row = config.get(pk=key.config_id)
    if InboundAlert.objects.filter(config=row, alert_id=body.id).exists():
        return _again(row, body)
    _refuse_unfit(InboundKey.objects.select_related("made_by").get(pk=key.pk), row, body)
    alert = InboundAlert.objects.create(
        config=row,
        key=key,
        alert_id=body.id,
        action=body.action,
        asked=body.told(),
        fingerprint=body.fingerprint(),
        alert_at=given_at,
        received_at=now,
    )
    InboundKey.objects.filter(pk=key.pk).update(last_used_at=now)
    logger.info("signal taken strategy=%s alert=%s action=%s", row.name, body.id, body.action)
    closed = _close(alert, row, key, now) if body.action == AlertAction.CLOSE.value else 0
    return Received(alert, is_new=True, closed=closed)


def _again(config: StrategyConfig, body: AlertBody) -> Received:
    """What came of it the first time."""
    kept = InboundAlert.objects.select_related("config").get(config=config, alert_id=body.id)
    if kept.fingerprint != body.fingerprint():
        raise AlertRefused(
            _("The id %(id)s was used for another signal. Nothing was done: a new signal takes a new id.")
            % {"id": body.id},
            "id_reused",
        )
    return Received(kept, is_new=False)


def _refuse_unfit(key: InboundKey, config: StrategyConfig, body: AlertBody) -> None:
    if not key.is_on:
        raise AlertRefused(_("This key is switched off. Nothing was done."), "switched_off")
    if not Actor(key.made_by, Door.INBOUND).may_trade(config.account):
        raise AlertRefused(
            _("Who made this key may not trade with the strategy's account any more. Nothing was done."), "not_allowed"
        )
    if body.market.upper() not in (config.market.symbol.upper(), config.market.pair.upper()):
        raise AlertRefused(
            _("This strategy trades %(symbol)s. Nothing was done.") % {"symbol": config.market.symbol},
            "wrong_market",
            "market",
        )
    if body.action == AlertAction.CLOSE.value:
        return  # also of a strategy that is stopped
    if config.status != StrategyStatus.RUNNING:
        raise AlertRefused(_("This strategy is stopped. Nothing was done."), "strategy_stopped")
    rules_of(body.told(), external_parameters(config))


def external_parameters(config: StrategyConfig) -> ExternalSignalsSchema:
    """Raises AlertRefused where they cannot work any more, or the strategy is none that takes signals."""
    try:
        parameters = validate_parameters(schema_for(config.strategy), config.parameters)
    except (UnknownStrategy, InvalidParameters) as exc:
        raise AlertRefused(
            _("This strategy cannot work as it is configured. Nothing was done."), "strategy_unfit"
        ) from exc
    if not isinstance(parameters, ExternalSignalsSchema):
        raise AlertRefused(_("This strategy takes no signals from outside. Nothing was done."), "strategy_unfit")
    return parameters


def _close(alert: InboundAlert, config: StrategyConfig, key: InboundKey, now: datetime) -> int:
    """As by hand, by who made the key; entries that were asked for and not decided yet are off."""
    earlier = InboundAlert.objects.select_for_update().filter(config=config, state=AlertState.WAITING)
    for each in earlier.exclude(pk=alert.pk):
        alert_refuse(each, _("A later signal to close came first."), now)
    by, refusals, closed = Actor(key.made_by, Door.INBOUND), [], 0
    for deal in Deal.objects.filter(config=config).exclude(status__in=FINISHED_DEALS).order_by("pk"):
        try:
            closed += deal_close(deal, by=by, at=now, reason=f"signal {alert.alert_id}")
        except ActRefused as exc:
            refusals.append(str(exc))
    alert.state = AlertState.REFUSED if refusals else AlertState.CLOSED
    alert.note = (" ".join(refusals) or _("Deals that are being closed: %(count)d.") % {"count": closed})[:400]
    alert.done_at = now
    alert.save(update_fields=["state", "note", "done_at"])
    return closed
