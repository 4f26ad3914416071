"""What must not happen to an order, a deal or their history is refused by the database itself, whoever asks.

The tables below are copies of algo/execution/lifecycle.py as it was when this was written: a migration must not change
with the code. A test holds the triggers equal to the code of today; changing a table there asks for a new migration.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import migrations, models

_AT_EXCHANGE = ("OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELED", "EXPIRED")
ORDER_MOVES = {
    "PENDING": ("SUBMITTED", "CANCELED"),
    "SUBMITTED": (*_AT_EXCHANGE, "PENDING", "REJECTED"),
    "OPEN": ("PARTIALLY_FILLED", "CANCELING", "FILLED", "CANCELED", "REJECTED", "EXPIRED"),
    "PARTIALLY_FILLED": ("CANCELING", "FILLED", "CANCELED", "EXPIRED"),
    "CANCELING": ("OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"),
    "CANCELED": ("FILLED",),  # a fill can outrun a cancel
    "EXPIRED": ("FILLED",),
}
ADOPTIONS = {end: tuple(s for s in _AT_EXCHANGE if s != end) for end in ("CANCELED", "REJECTED", "EXPIRED")}
DEAL_MOVES = {
    "PLANNED": ("ENTERING", "CANCELED"),
    "ENTERING": ("OPEN", "CANCELED", "PLANNED"),
    "OPEN": ("EXITING", "CLOSED"),
    "EXITING": ("CLOSED",),
}
REOPENINGS = {"CLOSED": ("OPEN",), "CANCELED": ("OPEN",)}


def _pairs(table: Mapping[str, tuple[str, ...]]) -> str:
    return "ARRAY[" + ", ".join(f"'{old}>{new}'" for old, ends in table.items() for new in ends) + "]"


# Rule to sentence: the error's constraint names the rule, its message is for a person.
REFUSALS = {
    "order_begins_pending": "Order %s begins PENDING, unsent and unfilled, unless it is adopted (adoptions >= 1).",
    "order_identity": "What was planned of order %s never changes: deal, market, role, side, type, amounts, name.",
    "order_exchange_id_kept": "Order %s is %s at the exchange: that name never changes.",
    "order_fill_kept": "What was filled of order %s never goes down (%s to %s).",
    "order_adoptions_counted": "The adoptions of order %s are counted one by one (%s to %s).",
    "order_transition": "Order %s cannot go from %s to %s%s.",
    "order_sends_counted": "Every send of order %s is counted, and nothing else is (%s, attempts %s to %s).",
    "order_sent_under_the_lock": "Order %s cannot be sent under epoch %s: the lock of its account has changed hands.",
    "order_release_unsent": "Order %s cannot be sent again: the exchange has confirmed it.",
    "order_entry_release_undoubted": "Entry %s may have left for the exchange: it is looked up, and never sent again.",
    "order_doubt_kept": "The doubt about entry %s ends only with an answer about it.",
    "deal_frozen": "Deal %s keeps what it was planned with: its rules, account, market, side and plan never change.",
    "deal_opened_once": "Deal %s was opened once, and keeps that time.",
    "deal_reopened_counted": "Every reopening of deal %s is counted, and nothing else is (%s, reopened %s to %s).",
    "deal_transition": "Deal %s cannot go from %s to %s.",
    "deal_prices_set_at_opening": "The first stop and the target of deal %s are set when it opens, and kept.",
    "deal_stop_never_moves_back": "The stop of deal %s moves only while it is open and only in its favour (%s to %s).",
    "deal_unprotected_time_kept": "The time deal %s was unprotected never goes down (%s to %s).",
}


def _refuse(rule: str, *values: str) -> str:
    arguments = ", ".join((f"'{REFUSALS[rule]}'", *values))
    return f"RAISE check_violation USING CONSTRAINT = '{rule}', MESSAGE = format({arguments});"


HINT = f"CASE WHEN move = ANY ({_pairs(ADOPTIONS)}) THEN ' unless it is adopted in the same update' ELSE '' END"
ORDERS = f"""
CREATE FUNCTION algo_order_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'PENDING' OR NEW.filled_quantity <> 0 OR NEW.attempts <> 0 OR NEW.exchange_order_id IS NOT NULL
    THEN
        {_refuse("order_begins_pending", "NEW.client_order_id")}
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_begins BEFORE INSERT ON algo_order FOR EACH ROW WHEN (NEW.adoptions = 0)
    EXECUTE FUNCTION algo_order_begins();

CREATE FUNCTION algo_order_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    move text := OLD.status || '>' || NEW.status;
    adopted boolean := NEW.adoptions = OLD.adoptions + 1;
BEGIN
    IF (NEW.id, NEW.deal_id, NEW.account_id, NEW.market_id, NEW.role, NEW.leg, NEW.client_order_id, NEW.side, NEW.type,
        NEW.quantity, NEW.price, NEW.stop_price, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.deal_id, OLD.account_id, OLD.market_id, OLD.role, OLD.leg, OLD.client_order_id, OLD.side, OLD.type,
        OLD.quantity, OLD.price, OLD.stop_price, OLD.created_at)
       OR (OLD.pair_id IS NOT NULL AND NEW.pair_id IS DISTINCT FROM OLD.pair_id)
    THEN
        {_refuse("order_identity", "OLD.id")}
    END IF;
    IF OLD.exchange_order_id IS NOT NULL AND NEW.exchange_order_id IS DISTINCT FROM OLD.exchange_order_id THEN
        {_refuse("order_exchange_id_kept", "OLD.id", "OLD.exchange_order_id")}
    END IF;
    IF NEW.filled_quantity < OLD.filled_quantity THEN
        {_refuse("order_fill_kept", "OLD.id", "OLD.filled_quantity", "NEW.filled_quantity")}
    END IF;
    IF NEW.adoptions <> OLD.adoptions AND NOT adopted THEN
        {_refuse("order_adoptions_counted", "OLD.id", "OLD.adoptions", "NEW.adoptions")}
    END IF;
    IF NEW.status <> OLD.status AND NOT (
        move = ANY ({_pairs(ORDER_MOVES)})
        OR (adopted AND move = ANY ({_pairs(ADOPTIONS)})))
    THEN
        {_refuse("order_transition", "OLD.id", "OLD.status", "NEW.status", HINT)}
    END IF;
    -- Sent at most once: a send raises attempts, nothing else does, and an entry has one (order_entry_sent_once).
    IF (move = 'PENDING>SUBMITTED') <> (NEW.attempts > OLD.attempts)
       OR (NEW.attempts < OLD.attempts AND move <> 'SUBMITTED>PENDING')
    THEN
        {_refuse("order_sends_counted", "OLD.id", "move", "OLD.attempts", "NEW.attempts")}
    END IF;
    IF move = 'PENDING>SUBMITTED' AND EXISTS (
        SELECT FROM algo_accountlock WHERE account_id = NEW.account_id AND epoch > NEW.epoch)
    THEN
        {_refuse("order_sent_under_the_lock", "OLD.id", "NEW.epoch")}
    END IF;
    IF move = 'SUBMITTED>PENDING' AND (
        NEW.exchange_order_id IS NOT NULL OR NEW.accepted_at IS NOT NULL OR NEW.filled_quantity <> 0)
    THEN
        {_refuse("order_release_unsent", "OLD.id")}
    END IF;
    -- An entry is released only by its own sender, who knows that nothing left. Whoever comes later can only doubt,
    -- and an entry in doubt is never sent again. What the database can know of that: no doubt was noted, and the lock
    -- has not changed hands since it was claimed.
    IF OLD.role = 'ENTRY' AND OLD.status = 'SUBMITTED' THEN
        IF move = 'SUBMITTED>PENDING' AND (OLD.unknown_since IS NOT NULL OR EXISTS (
            SELECT FROM algo_accountlock WHERE account_id = OLD.account_id AND epoch > OLD.epoch))
        THEN
            {_refuse("order_entry_release_undoubted", "OLD.id")}
        END IF;
        IF NEW.status = 'SUBMITTED' AND OLD.unknown_since IS NOT NULL AND NEW.unknown_since IS NULL THEN
            {_refuse("order_doubt_kept", "OLD.id")}
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_changes BEFORE UPDATE ON algo_order FOR EACH ROW EXECUTE FUNCTION algo_order_changes();
"""  # noqa: S608 (made of the literals above)
UNORDERS = """
DROP TRIGGER order_changes ON algo_order;
DROP TRIGGER order_begins ON algo_order;
DROP FUNCTION algo_order_changes();
DROP FUNCTION algo_order_begins();
"""

# A deal may be inserted in any status (one found at the exchange is open at once): which deals may exist at all is
# guarded by deal_once_per_signal and deal_one_live_per_market.
DEALS = f"""
CREATE FUNCTION algo_deal_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    move text := OLD.status || '>' || NEW.status;
    opening boolean := OLD.opened_at IS NULL AND NEW.opened_at IS NOT NULL AND NEW.status = 'OPEN';
    reopening boolean := move = ANY ({_pairs(REOPENINGS)});
BEGIN
    IF (NEW.id, NEW.config_id, NEW.account_id, NEW.market_id, NEW.signal_id, NEW.bar_open_at, NEW.side, NEW.rules,
        NEW.protection_mode, NEW.planned_quantity, NEW.planned_price, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.config_id, OLD.account_id, OLD.market_id, OLD.signal_id, OLD.bar_open_at, OLD.side, OLD.rules,
        OLD.protection_mode, OLD.planned_quantity, OLD.planned_price, OLD.created_at)
    THEN
        {_refuse("deal_frozen", "OLD.id")}
    END IF;
    IF OLD.opened_at IS NOT NULL AND NEW.opened_at IS DISTINCT FROM OLD.opened_at THEN
        {_refuse("deal_opened_once", "OLD.id")}
    END IF;
    IF NEW.reopened <> OLD.reopened + reopening::int THEN
        {_refuse("deal_reopened_counted", "OLD.id", "move", "OLD.reopened", "NEW.reopened")}
    END IF;
    IF NEW.status <> OLD.status AND NOT reopening AND NOT move = ANY ({_pairs(DEAL_MOVES)}) THEN
        {_refuse("deal_transition", "OLD.id", "OLD.status", "NEW.status")}
    END IF;
    IF NOT opening THEN
        IF (NEW.initial_stop_price, NEW.target_price) IS DISTINCT FROM (OLD.initial_stop_price, OLD.target_price) THEN
            {_refuse("deal_prices_set_at_opening", "OLD.id")}
        END IF;
        IF NEW.stop_price <> OLD.stop_price AND NOT (
            OLD.status = 'OPEN' AND NEW.status = 'OPEN'
            AND CASE OLD.side WHEN 'BUY' THEN NEW.stop_price > OLD.stop_price ELSE NEW.stop_price < OLD.stop_price END)
        THEN
            {_refuse("deal_stop_never_moves_back", "OLD.id", "OLD.stop_price", "NEW.stop_price")}
        END IF;
    END IF;
    IF NEW.unprotected_seconds < OLD.unprotected_seconds THEN
        {_refuse("deal_unprotected_time_kept", "OLD.id", "OLD.unprotected_seconds", "NEW.unprotected_seconds")}
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER deal_changes BEFORE UPDATE ON algo_deal FOR EACH ROW EXECUTE FUNCTION algo_deal_changes();
"""
UNDEALS = "DROP TRIGGER deal_changes ON algo_deal; DROP FUNCTION algo_deal_changes();"

# Each row's hash is made over the hash before it and the row itself, so that a row cannot be changed, removed from
# within or put in between without every later hash telling. Times are hashed as seconds: no session's time zone can
# change them. The order (the deal) is locked while its story is continued: without that, two writers could both
# continue from the same row. The later of two may hold the lower number: it takes a new one, so that a chain is always
# in the order of its numbers. `id + 0` keeps the planner from walking the primary key backwards.
_CHAIN = """
CREATE FUNCTION {table}_hash(previous text, event {table}) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT encode(sha256(convert_to(jsonb_build_array(previous, {fields})::text, 'UTF8')), 'hex')
$$;

DO $$
DECLARE
    event {table};
    owner bigint;
    previous text;
BEGIN
    FOR event IN SELECT * FROM {table} ORDER BY {owner}_id, id LOOP
        IF owner IS DISTINCT FROM event.{owner}_id THEN
            owner := event.{owner}_id;
            previous := '';
        END IF;
        IF event.hash = '' THEN
            event.hash := {table}_hash(previous, event);
            UPDATE {table} SET hash = event.hash WHERE id = event.id;
        END IF;
        previous := event.hash;
    END LOOP;
END $$;

CREATE FUNCTION {table}_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest record;
BEGIN
    PERFORM FROM algo_{owner} WHERE id = NEW.{owner}_id FOR NO KEY UPDATE;
    SELECT id, hash INTO newest FROM {table} WHERE {owner}_id = NEW.{owner}_id ORDER BY id + 0 DESC LIMIT 1;
    IF newest.id >= NEW.id THEN
        NEW.id := nextval(pg_get_serial_sequence('{table}', 'id'));
    END IF;
    NEW.hash := {table}_hash(COALESCE(newest.hash, ''), NEW);
    RETURN NEW;
END $$;
CREATE TRIGGER {owner}_event_chain BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_chain();
"""
_UNCHAIN = """
DROP TRIGGER {owner}_event_chain ON {table};
DROP FUNCTION {table}_chain();
DROP FUNCTION {table}_hash(text, {table});
"""
ORDER_EVENTS = {
    "owner": "order",
    "table": "algo_orderevent",
    "fields": "event.id, event.order_id, extract(epoch FROM event.at), event.from_status, event.to_status, "
    "event.reason, event.raw",
}
DEAL_EVENTS = {
    "owner": "deal",
    "table": "algo_dealevent",
    "fields": "event.id, event.deal_id, extract(epoch FROM event.at), event.kind, event.from_status, event.to_status, "
    "event.detail",
}

# TRUNCATE fires no row trigger, so it has its own. Emptying a database of tests is legitimate: its sessions say so with
# `algo.may_erase_history`, which nothing in the platform sets.
KEPT = {
    "algo_orderevent": "UPDATE OR DELETE",
    "algo_dealevent": "UPDATE OR DELETE",
    "algo_fill": "UPDATE OR DELETE",
    "algo_order": "DELETE",
    "algo_deal": "DELETE",
}
KEEP = """
CREATE FUNCTION algo_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        MESSAGE = format('%s on %s is refused: what was written about orders, deals and fills stays.', TG_OP,
                         TG_TABLE_NAME),
        ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'history_is_kept';
END $$;
""" + "".join(
    f"""
CREATE TRIGGER history_is_kept BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION algo_keep();
CREATE TRIGGER history_is_not_erased BEFORE TRUNCATE ON {table} FOR EACH STATEMENT
    WHEN (current_setting('algo.may_erase_history', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION algo_keep();
"""
    for table, what in KEPT.items()
)
UNKEEP = (
    "".join(
        f"DROP TRIGGER history_is_not_erased ON {table}; DROP TRIGGER history_is_kept ON {table};" for table in KEPT
    )
    + "DROP FUNCTION algo_keep();"
)

FINAL = ["CANCELED", "EXPIRED", "FILLED", "REJECTED"]


class Migration(migrations.Migration):
    dependencies = [("algo", "0005_orders_that_cannot_get_lost")]

    operations = [
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(("role", "ENTRY"), _negated=True) | models.Q(leg=1) | models.Q(adoptions__gte=1),
                name="order_one_entry_per_deal",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.UniqueConstraint(
                fields=("deal", "role"),
                condition=models.Q(adoptions=0, role__in=("STOP", "TARGET")) & ~models.Q(status__in=FINAL),
                name="order_one_live_stop_and_target",
            ),
        ),
        migrations.RunSQL(ORDERS, UNORDERS),
        migrations.RunSQL(DEALS, UNDEALS),
        migrations.RunSQL(_CHAIN.format(**ORDER_EVENTS), _UNCHAIN.format(**ORDER_EVENTS)),
        migrations.RunSQL(_CHAIN.format(**DEAL_EVENTS), _UNCHAIN.format(**DEAL_EVENTS)),
        migrations.RunSQL(KEEP, UNKEEP),
    ]
