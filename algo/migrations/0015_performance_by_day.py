"""What closed deals came to, day by day, kept exact by a trigger in the transaction of the deal itself.

The trading day's zone stands in a function, so that it is one for all writers; `manage.py rebuild_performance` changes
it. Creating the trigger holds writes of deals back until all of them are counted: a few seconds for a million.
"""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import algo.models.fields

FUNCTIONS = """
CREATE FUNCTION algo_trading_day(moment timestamptz) RETURNS date LANGUAGE sql STABLE AS
$$ SELECT (moment AT TIME ZONE algo_trading_day_zone())::date $$;

CREATE FUNCTION algo_deal_risk_multiple(deal algo_deal) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$
    -- None where the stop stood at the entry, or so near to it that the multiple says nothing.
    SELECT CASE WHEN abs(deal.profit) <= 1000000 * abs(deal.entry_price - deal.initial_stop_price) * deal.entry_quantity
        THEN round(deal.profit / nullif(abs(deal.entry_price - deal.initial_stop_price) * deal.entry_quantity, 0), 18)
    END
$$;

CREATE FUNCTION algo_deal_days_sum() RETURNS TABLE (
    account_id bigint, config_id bigint, market_id bigint, day date, close_reason varchar, deals bigint, wins bigint,
    losses bigint, profit numeric, won numeric, lost numeric, fees numeric, notional numeric, hold_seconds numeric,
    unprotected_seconds numeric, r_sum numeric, r_deals bigint
) LANGUAGE sql STABLE AS $$
    SELECT d.account_id, d.config_id, d.market_id, (d.closed_at AT TIME ZONE zone.name)::date, d.close_reason,
        count(*), count(*) FILTER (WHERE d.profit > 0), count(*) FILTER (WHERE d.profit < 0),
        coalesce(sum(d.profit), 0), coalesce(sum(d.profit) FILTER (WHERE d.profit > 0), 0),
        coalesce(-sum(d.profit) FILTER (WHERE d.profit < 0), 0), sum(d.fees_quote),
        coalesce(sum(round(d.entry_price * d.entry_quantity, 18)), 0),
        coalesce(sum(extract(epoch FROM d.closed_at - d.opened_at)), 0), sum(d.unprotected_seconds),
        coalesce(sum(algo_deal_risk_multiple(d)), 0), count(algo_deal_risk_multiple(d))
    FROM algo_deal d, (SELECT algo_trading_day_zone() AS name) zone
    WHERE d.status = 'CLOSED' AND d.closed_at IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5
$$;

CREATE FUNCTION algo_deal_day_book(d algo_deal, sign integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gain numeric := coalesce(d.profit, 0);
    multiple numeric := algo_deal_risk_multiple(d);
    counted date := algo_trading_day(d.closed_at);
BEGIN
    INSERT INTO algo_dealday AS kept (
        account_id, config_id, market_id, day, close_reason, deals, wins, losses, profit, won, lost, fees, notional,
        hold_seconds, unprotected_seconds, r_sum, r_deals
    ) VALUES (
        d.account_id, d.config_id, d.market_id, counted, d.close_reason, sign, sign * (gain > 0)::int,
        sign * (gain < 0)::int, sign * gain, sign * greatest(gain, 0), sign * greatest(-gain, 0), sign * d.fees_quote,
        sign * coalesce(round(d.entry_price * d.entry_quantity, 18), 0),
        sign * coalesce(extract(epoch FROM d.closed_at - d.opened_at), 0), sign * d.unprotected_seconds,
        sign * coalesce(multiple, 0), sign * (multiple IS NOT NULL)::int
    ) ON CONFLICT (account_id, config_id, market_id, day, close_reason) DO UPDATE SET
        deals = kept.deals + excluded.deals, wins = kept.wins + excluded.wins,
        losses = kept.losses + excluded.losses, profit = kept.profit + excluded.profit,
        won = kept.won + excluded.won, lost = kept.lost + excluded.lost, fees = kept.fees + excluded.fees,
        notional = kept.notional + excluded.notional, hold_seconds = kept.hold_seconds + excluded.hold_seconds,
        unprotected_seconds = kept.unprotected_seconds + excluded.unprotected_seconds,
        r_sum = kept.r_sum + excluded.r_sum, r_deals = kept.r_deals + excluded.r_deals;
    IF sign < 0 THEN
        DELETE FROM algo_dealday
        WHERE account_id = d.account_id AND config_id = d.config_id AND market_id = d.market_id AND day = counted
            AND close_reason = d.close_reason AND deals = 0;
    END IF;
END $$;

CREATE FUNCTION algo_deal_day_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.status = 'CLOSED' AND OLD.closed_at IS NOT NULL THEN
        PERFORM algo_deal_day_book(OLD, -1);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.status = 'CLOSED' AND NEW.closed_at IS NOT NULL THEN
        PERFORM algo_deal_day_book(NEW, 1);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER deal_day_kept_inserted AFTER INSERT ON algo_deal FOR EACH ROW
    WHEN (NEW.status = 'CLOSED') EXECUTE FUNCTION algo_deal_day_keep();
CREATE TRIGGER deal_day_kept_deleted AFTER DELETE ON algo_deal FOR EACH ROW
    WHEN (OLD.status = 'CLOSED') EXECUTE FUNCTION algo_deal_day_keep();
CREATE TRIGGER deal_day_kept AFTER UPDATE ON algo_deal FOR EACH ROW
    WHEN ((OLD.status = 'CLOSED' OR NEW.status = 'CLOSED') AND (
        OLD.status, OLD.closed_at, OLD.close_reason, OLD.profit, OLD.fees_quote, OLD.entry_price, OLD.entry_quantity,
        OLD.initial_stop_price, OLD.opened_at, OLD.unprotected_seconds, OLD.account_id, OLD.config_id, OLD.market_id
    ) IS DISTINCT FROM (
        NEW.status, NEW.closed_at, NEW.close_reason, NEW.profit, NEW.fees_quote, NEW.entry_price, NEW.entry_quantity,
        NEW.initial_stop_price, NEW.opened_at, NEW.unprotected_seconds, NEW.account_id, NEW.config_id, NEW.market_id
    )) EXECUTE FUNCTION algo_deal_day_keep();

INSERT INTO algo_dealday (
    account_id, config_id, market_id, day, close_reason, deals, wins, losses, profit, won, lost, fees, notional,
    hold_seconds, unprotected_seconds, r_sum, r_deals
) SELECT * FROM algo_deal_days_sum();
"""
BACK = """
DROP TRIGGER deal_day_kept ON algo_deal;
DROP TRIGGER deal_day_kept_deleted ON algo_deal;
DROP TRIGGER deal_day_kept_inserted ON algo_deal;
DROP FUNCTION algo_deal_day_keep();
DROP FUNCTION algo_deal_day_book(algo_deal, integer);
DROP FUNCTION algo_deal_days_sum();
DROP FUNCTION algo_deal_risk_multiple(algo_deal);
DROP FUNCTION algo_trading_day(timestamptz);
DROP FUNCTION algo_trading_day_zone();
"""


def zone_set(apps: object, schema_editor: object) -> None:
    """Which is checked to be a known zone as the settings are read; quoted all the same."""
    zone = settings.TRADING_DAY_TIME_ZONE.replace("'", "''")
    schema_editor.execute(  # type: ignore[attr-defined]
        f"CREATE FUNCTION algo_trading_day_zone() RETURNS text LANGUAGE sql STABLE AS $$ SELECT '{zone}'::text $$"
    )


def amount(**more: object) -> algo.models.fields.AmountField:
    return algo.models.fields.AmountField(**more)


def parent(to: str) -> models.ForeignKey:
    return models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name="+", to=to)


REASONS = [
    ("stop_loss", "Stop loss"),
    ("take_profit", "Take profit"),
    ("trailing_stop", "Trailing stop"),
    ("signal", "Opposite signal"),
    ("manual", "By hand"),
    ("kill_switch", "Kill switch"),
    ("emergency", "Emergency exit"),
]


class Migration(migrations.Migration):
    dependencies = [("algo", "0014_acts_by_hand")]

    operations = [
        migrations.CreateModel(
            name="DealDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "day",
                    models.DateField(
                        help_text="Trading day of the end, in the zone that `algo_trading_day_zone()` states."
                    ),
                ),
                ("close_reason", models.CharField(choices=REASONS, max_length=16)),
                ("deals", models.BigIntegerField()),
                ("wins", models.BigIntegerField()),
                ("losses", models.BigIntegerField()),
                ("profit", amount()),
                ("won", amount(help_text="Profits of the winners.")),
                ("lost", amount(help_text="Losses of the losers, as a positive amount.")),
                ("fees", amount()),
                ("notional", amount(help_text="Entry price x entry quantity.")),
                ("hold_seconds", amount()),
                ("unprotected_seconds", amount()),
                ("r_sum", amount(help_text="Profits in multiples of what the first stop risked.")),
                ("r_deals", models.BigIntegerField(help_text="Deals that have such a multiple.")),
                ("account", parent("algo.account")),
                ("config", parent("algo.strategyconfig")),
                ("market", parent("algo.market")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("account", "config", "market", "day", "close_reason"), name="deal_day_once"
                    )
                ]
            },
        ),
        migrations.RunPython(zone_set, migrations.RunPython.noop),
        migrations.RunSQL(FUNCTIONS, BACK),
    ]
