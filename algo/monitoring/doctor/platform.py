"""The platform's own parts: settings, files, processes, schedules, exchanges, accounts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.checks import ERROR, WARNING, run_checks
from django.utils.translation import gettext, override
from django_celery_beat.models import PeriodicTask

from algo import exchanges
from algo.models import Account, AccountState, Environment
from algo.models.fields import SecretUnreadable, unseal
from algo.monitoring.doctor.finding import Finding, broken, ok, warning
from algo.monitoring.doctor.servers import clock_finding, disk_finding
from algo.monitoring.health import silence
from algo.selectors.health import KEY_WORTH_A_LOOK, STREAM, Life, exchanges_used, house_health
from algo.services.sealing import sealed_columns
from providers.clock import clock_from_env
from providers.errors import CircuitOpen, ProviderError, RateLimited
from providers.types import ProtectionMode

PAGES_NEED = ("algo/admin.css", "admin/css/base.css", "unfold/css/styles.css", "litecharts/lightweight-charts.js")
LATE_PROBE = timedelta(days=90)
HOW_TO_START = {
    "beat": "Start it: celery -A algo_trade beat (docs/operations.md). Without it no strategy decides.",
    "guardian": "Start it now: python manage.py run_guardian. Open positions are looked after by nobody else in time.",
}
HOW_TO_STREAM = "Start it: python manage.py stream_market_data. Until then prices come by REST, a little later."


def django_checks() -> Iterator[Finding]:
    """What Django and the platform's rooms say of these settings; of a server's security where it serves others."""
    serves = Environment.LIVE.value == settings.EXCHANGE_ENVIRONMENT or bool(settings.SECURE_SSL_REDIRECT)
    found = [each for each in run_checks(include_deployment_checks=serves) if each.level >= WARNING]
    for each in found:
        advice = str(each.hint or "See Django's documentation of this check.")
        tell = broken if each.level >= ERROR else warning
        yield tell("settings", f"{each.msg} ({each.id})", advice)
    if not found:
        yield ok("settings", f"Loaded; EXCHANGE_ENVIRONMENT is {settings.EXCHANGE_ENVIRONMENT}.")


def disks() -> Iterator[Finding]:
    yield disk_finding("disk", Path(settings.BASE_DIR))
    yield disk_finding("temporary files", Path(tempfile.gettempdir()))


def pages() -> Iterator[Finding]:
    """What pages are made of."""
    missing = [name for name in PAGES_NEED if finders.find(name) is None and not (settings.STATIC_ROOT / name).exists()]
    if missing:
        yield broken(
            "static files",
            f"{', '.join(missing)} cannot be found: pages would have no styles.",
            "Install requirements.lock and the whole of this version again.",
        )
    else:
        yield ok("static files", "All are there.")
    for code, name in settings.LANGUAGES:
        with override(code):
            told = gettext("Deal opened")
        if code != settings.LANGUAGE_CODE and told == "Deal opened":
            yield warning("translations", f"{name} is not compiled.", "Run: python manage.py update_messages")
        elif code != settings.LANGUAGE_CODE:
            yield ok("translations", f"{name} is there.")


# --- processes --------------------------------------------------------------------------------------------------------


def processes() -> Iterator[Finding]:
    """Signs of life of beat, the guardian, the workers of every queue and the streams."""
    clock = clock_from_env()
    lives, _ = house_health(clock.now(), speed=clock.speed)
    for process in lives:
        gone = process.life in (Life.SILENT, Life.NEVER)
        if process.name.startswith(STREAM):
            if gone or process.life is Life.ALONE:
                told = silence(process) if gone else f"{process.name} has no connection."
                advice = (
                    "Start it: python manage.py stream_market_data. Until then prices come by REST, a little later."
                )
                yield warning(process.name, told, advice)
                continue
        elif gone:
            queue = process.name.partition(":")[2]
            start = f"Start a worker of it: celery -A algo_trade worker -Q {queue}. Its tasks wait meanwhile."
            yield broken(process.name, silence(process), HOW_TO_START.get(process.name, start))
            continue
        busy = "is busy with backtests" if process.life is Life.BUSY else f"gave a sign of life {process.age:.0f} s ago"
        yield ok(process.name, f"It {busy}.")


def schedules() -> Iterator[Finding]:
    """What beat sends: somebody may have switched an entry off in the admin."""
    known = dict(PeriodicTask.objects.filter(name__in=settings.CELERY_BEAT_SCHEDULE).values_list("name", "enabled"))
    off = sorted(name for name, enabled in known.items() if not enabled)
    if off:
        yield broken("schedules", f"Switched off: {', '.join(off)}.", "Enable them in the admin, Periodic tasks.")
    elif len(known) < len(settings.CELERY_BEAT_SCHEDULE):
        missing = sorted(set(settings.CELERY_BEAT_SCHEDULE) - set(known))
        told = f"Beat has not taken over: {', '.join(missing)}."
        yield warning("schedules", told, "Start beat of this version; it writes its schedules when it begins.")
    else:
        yield ok("schedules", f"All {len(known)} are on.")


# --- exchanges and accounts -------------------------------------------------------------------------------------------


def exchange_clocks() -> Iterator[Finding]:
    """Each exchange in use is asked for something public, and what its clock says compared."""
    used = sorted(exchanges_used())
    if not used:
        yield ok("exchanges", "No account and no running strategy uses any.")
    for name in used:
        try:
            client = exchanges.public_provider(name)
            client.markets()
        except (ProviderError, ValueError) as exc:
            if isinstance(exc, RateLimited) and not isinstance(exc, CircuitOpen):
                told = "It could not be asked: its call budget is spent at the moment."
                yield warning(
                    f"exchange {name}", told, "Run doctor again in a minute; look at the budgets if it stays so."
                )
                continue
            yield broken(
                f"exchange {name}",
                f"It does not answer at {exchanges.base_url(name)}: {exc}",
                f"Look at the network, the name service and {name.upper()}_BASE_URL; some clouds are blocked there.",
            )
            continue
        yield ok(f"exchange {name}", "It answers.")
        if (difference := client.clock_difference) is not None:
            yield clock_finding(f"clock of {name}", f"{name.capitalize()}'s", _beyond_a_second(difference))


def _beyond_a_second(difference: timedelta) -> float:
    """The exchange says whole seconds: what is within one of them is no difference."""
    seconds = difference.total_seconds()
    return 0.0 if abs(seconds) <= 1.0 else seconds


def accounts() -> Iterator[Finding]:
    """Keys that open and last, and what each account can really do."""
    rows = list(Account.objects.order_by("name"))
    if not rows:
        advice = "Add one: python manage.py create_account, or in the admin."
        yield warning("accounts", "There is none: nothing can be traded.", advice)
    for account in rows:
        name = f"account {account.name}"
        if account.environment != settings.EXCHANGE_ENVIRONMENT:
            told = (
                f"It is a {account.environment} account, and EXCHANGE_ENVIRONMENT is {settings.EXCHANGE_ENVIRONMENT}."
            )
            yield warning(name, told, "It is never traded with here. Its open positions belong to the other platform.")
            continue
        found = [finding for finding in (_state(name, account), _key(name, account)) if finding]
        found += [finding for finding in (_capabilities(name, account),) if finding]
        yield from found or [ok(name, _what_it_can_do(account))]


def _state(name: str, account: Account) -> Finding | None:
    if account.state != AccountState.STOPPED:
        return None
    advice = "Enter a key that the exchange takes, then activate the account in the admin."
    return broken(name, f"It is stopped: {account.state_reason or 'the exchange refused its key'}", advice)


def _key(name: str, account: Account) -> Finding | None:
    try:
        key = account.api_key() or getattr(settings, f"{account.provider.upper()}_API_KEY", "")
    except SecretUnreadable:
        return None  # told with all sealed secrets
    if not key:
        return broken(name, "It has no key.", "Enter one in the admin, or remove the account.")
    ends = account.key_expires_at
    if ends is None:
        return None
    left = ends - clock_from_env().now()
    advice = "Make a new key at the exchange and enter it in the admin; the old one works until then."
    if left <= timedelta():
        return broken(name, f"Its key ended at {ends:%Y-%m-%d %H:%M} UTC.", advice)
    if left <= KEY_WORTH_A_LOOK:
        return warning(name, f"Its key ends at {ends:%Y-%m-%d %H:%M} UTC.", advice)
    return None


def _capabilities(name: str, account: Account) -> Finding | None:
    how = f'python manage.py probe_account "{account.name}" --orders'
    if account.protection is ProtectionMode.NO_STOPS:
        told = "Its exchange takes no stops of it: the guardian alone protects its positions."
        return warning(name, told, f"Look whether that is still so: {how}")
    if account.environment != Environment.LIVE:
        return None
    probed = account.capabilities_probed_at
    if probed is None:
        told = "What it can do was never tried; what its exchange documents is taken for true."
        return warning(name, told, f"Try it with two tiny stops: {how} --yes-real-money")
    if clock_from_env().now() - probed > LATE_PROBE:
        told = f"What it can do was last tried at {probed:%Y-%m-%d}."
        return warning(name, told, f"Exchanges change: {how} --yes-real-money")
    return None


def _what_it_can_do(account: Account) -> str:
    mode = account.protection
    protects = f"protects by {mode.name.lower().replace('_', ' ')}" if mode else "protects as its exchange documents"
    return f"Its key opens; it {protects}."


def sealed() -> Iterator[Finding]:
    """Every stored secret opens with FIELD_ENCRYPTION_KEYS."""
    count, closed = 0, []
    for model, columns in sealed_columns():
        for row in model._default_manager.order_by("pk").values("pk", "public_id", *columns):
            for secret in filter(None, (row[column] for column in columns)):
                count += 1
                try:
                    unseal(secret, owner=str(row["public_id"]))
                except SecretUnreadable:
                    closed.append(f"{model._meta.verbose_name} {row['pk']}")
    if closed:
        yield broken(
            "encryption keys",
            f"{len(closed)} of {count} stored secrets cannot be opened: {', '.join(closed[:5])}.",
            "Put the key they were sealed with back into FIELD_ENCRYPTION_KEYS, behind the newest, and run "
            "python manage.py rotate_keys; or enter the secrets again.",
        )
    else:
        yield ok("encryption keys", f"All {count} stored secrets open.")
