"""What changed is noted for those who watch, in the transaction of the change.

The columns are those that the lists of the API show of each kind: a look at an order at its exchange is no news. A test
holds them equal to the serializers of today; showing another column asks for a new migration.
"""

from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Now

NOTE = """
CREATE FUNCTION algo_live_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO algo_livechange (kind, row_id) VALUES (TG_ARGV[0], NEW.id);
    RETURN NULL;
END $$;
CREATE FUNCTION algo_live_note_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO algo_livechange (kind, row_id, account_id) VALUES (TG_ARGV[0], OLD.id, OLD.account_id);
    RETURN NULL;
END $$;
CREATE TRIGGER live_removed AFTER DELETE ON algo_strategyconfig FOR EACH ROW
    EXECUTE FUNCTION algo_live_note_removed('strategy');
"""
# Of each kind: its table, and the columns whose change is news. What is written once has none.
NEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "deal": (
        "algo_deal",
        (
            "config_id", "account_id", "market_id", "signal_id", "side", "status", "protection_mode", "bar_open_at",
            "planned_quantity", "planned_price", "initial_stop_price", "stop_price", "target_price", "best_price",
            "entry_price", "entry_quantity", "exit_price", "exit_quantity", "fees_quote", "profit", "dust_quantity",
            "exit_reason", "close_reason", "note", "unprotected_since", "unprotected_seconds", "protected_at",
            "created_at", "opened_at", "closed_at",
        ),
    ),
    "order": (
        "algo_order",
        (
            "deal_id", "account_id", "market_id", "role", "leg", "client_order_id", "exchange_order_id", "side", "type",
            "quantity", "price", "stop_price", "status", "filled_quantity", "average_price", "fee", "fee_asset",
            "reason", "unknown_since", "created_at", "submitted_at", "accepted_at", "closed_at",
        ),
    ),
    "fill": ("algo_fill", ()),
    "signal": ("algo_signal", ("denial_code", "denial_message", "warnings")),
    "strategy": (
        "algo_strategyconfig",
        (
            "name", "strategy", "parameters", "account_id", "data_market_id", "market_id", "resolution", "status",
            "ordering_enabled", "allowed_sides", "last_bar_at",
        ),
    ),
    "ticket": (
        "algo_ticket",
        ("answer", "answer_note", "answered_at", "adopt_config_id", "outcome", "resolved_at", "resolved_by_id"),
    ),
    "control": ("algo_systemcontrol", ("kill_switch", "reason", "version")),
    "halt": ("algo_halt", ("level", "reason", "version")),
    "alarm": ("algo_outboxevent", ()),
}  # fmt: skip


def triggers() -> str:
    made = []
    for kind, (table, columns) in NEWS.items():
        note = f"FOR EACH ROW %sEXECUTE FUNCTION algo_live_note('{kind}');"
        made.append(f"CREATE TRIGGER live_new AFTER INSERT ON {table} " + note % "")
        if columns:
            old, new = (", ".join(f"{which}.{name}" for name in columns) for which in ("OLD", "NEW"))
            when = f"WHEN (({old}) IS DISTINCT FROM ({new})) "
            made.append(f"CREATE TRIGGER live_changed AFTER UPDATE ON {table} " + note % when)
    return "\n".join(made)


def triggers_away() -> str:
    named = [("live_new", table) for table, _ in NEWS.values()]
    named += [("live_changed", table) for table, columns in NEWS.values() if columns]
    named.append(("live_removed", "algo_strategyconfig"))
    return "\n".join(f"DROP TRIGGER {name} ON {table};" for name, table in named)


class Migration(migrations.Migration):
    dependencies = [("algo", "0025_deliveries_per_channel")]

    operations = [
        migrations.CreateModel(
            name="LiveChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(help_text="Which trigger noted it: deal, order, fill, …", max_length=12),
                ),
                ("row_id", models.BigIntegerField()),
                ("account_id", models.BigIntegerField(null=True)),
                ("at", models.DateTimeField(db_default=Now(), help_text="By the database's clock.")),
            ],
            options={"ordering": ("id",)},
        ),
        migrations.RunSQL(
            NOTE + triggers(),
            triggers_away() + "DROP FUNCTION algo_live_note(); DROP FUNCTION algo_live_note_removed();",
        ),
    ]
