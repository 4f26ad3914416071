"""What a person does to a deal by hand: looser stops are counted, looks and cancels are asked for in rows.

The function is that of 0006 with one thing more: a stop moves away from the price only where `stop_loosened` counts it
in the same update, which nothing but a person's act does.
"""

from __future__ import annotations

from django.db import migrations, models

BEFORE = """
CREATE OR REPLACE FUNCTION algo_deal_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    move text := OLD.status || '>' || NEW.status;
    opening boolean := OLD.opened_at IS NULL AND NEW.opened_at IS NOT NULL AND NEW.status = 'OPEN';
    reopening boolean := move = ANY (ARRAY['CLOSED>OPEN', 'CANCELED>OPEN']);
BEGIN
    IF (NEW.id, NEW.config_id, NEW.account_id, NEW.market_id, NEW.signal_id, NEW.bar_open_at, NEW.side, NEW.rules,
        NEW.protection_mode, NEW.planned_quantity, NEW.planned_price, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.config_id, OLD.account_id, OLD.market_id, OLD.signal_id, OLD.bar_open_at, OLD.side, OLD.rules,
        OLD.protection_mode, OLD.planned_quantity, OLD.planned_price, OLD.created_at)
    THEN
        RAISE check_violation USING CONSTRAINT = 'deal_frozen', MESSAGE = format('Deal %s keeps what it was planned with: its rules, account, market, side and plan never change.', OLD.id);
    END IF;
    IF OLD.opened_at IS NOT NULL AND NEW.opened_at IS DISTINCT FROM OLD.opened_at THEN
        RAISE check_violation USING CONSTRAINT = 'deal_opened_once', MESSAGE = format('Deal %s was opened once, and keeps that time.', OLD.id);
    END IF;
    IF NEW.reopened <> OLD.reopened + reopening::int THEN
        RAISE check_violation USING CONSTRAINT = 'deal_reopened_counted', MESSAGE = format('Every reopening of deal %s is counted, and nothing else is (%s, reopened %s to %s).', OLD.id, move, OLD.reopened, NEW.reopened);
    END IF;
    IF NEW.status <> OLD.status AND NOT reopening AND NOT move = ANY (ARRAY['PLANNED>ENTERING', 'PLANNED>CANCELED', 'ENTERING>OPEN', 'ENTERING>CANCELED', 'ENTERING>PLANNED', 'OPEN>EXITING', 'OPEN>CLOSED', 'EXITING>CLOSED']) THEN
        RAISE check_violation USING CONSTRAINT = 'deal_transition', MESSAGE = format('Deal %s cannot go from %s to %s.', OLD.id, OLD.status, NEW.status);
    END IF;
    IF NOT opening THEN
        IF (NEW.initial_stop_price, NEW.target_price) IS DISTINCT FROM (OLD.initial_stop_price, OLD.target_price) THEN
            RAISE check_violation USING CONSTRAINT = 'deal_prices_set_at_opening', MESSAGE = format('The first stop and the target of deal %s are set when it opens, and kept.', OLD.id);
        END IF;
        IF NEW.stop_price <> OLD.stop_price AND NOT (
            OLD.status = 'OPEN' AND NEW.status = 'OPEN'
            AND CASE OLD.side WHEN 'BUY' THEN NEW.stop_price > OLD.stop_price ELSE NEW.stop_price < OLD.stop_price END)
        THEN
            RAISE check_violation USING CONSTRAINT = 'deal_stop_never_moves_back', MESSAGE = format('The stop of deal %s moves only while it is open and only in its favour (%s to %s).', OLD.id, OLD.stop_price, NEW.stop_price);
        END IF;
    END IF;
    IF NEW.unprotected_seconds < OLD.unprotected_seconds THEN
        RAISE check_violation USING CONSTRAINT = 'deal_unprotected_time_kept', MESSAGE = format('The time deal %s was unprotected never goes down (%s to %s).', OLD.id, OLD.unprotected_seconds, NEW.unprotected_seconds);
    END IF;
    RETURN NEW;
END $$;
"""
NOW = """
CREATE OR REPLACE FUNCTION algo_deal_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    move text := OLD.status || '>' || NEW.status;
    opening boolean := OLD.opened_at IS NULL AND NEW.opened_at IS NOT NULL AND NEW.status = 'OPEN';
    reopening boolean := move = ANY (ARRAY['CLOSED>OPEN', 'CANCELED>OPEN']);
    moves_back boolean := CASE OLD.side
        WHEN 'BUY' THEN NEW.stop_price < OLD.stop_price ELSE NEW.stop_price > OLD.stop_price END;
    loosened boolean := NEW.stop_loosened = OLD.stop_loosened + 1;
BEGIN
    IF (NEW.id, NEW.config_id, NEW.account_id, NEW.market_id, NEW.signal_id, NEW.bar_open_at, NEW.side, NEW.rules,
        NEW.protection_mode, NEW.planned_quantity, NEW.planned_price, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.config_id, OLD.account_id, OLD.market_id, OLD.signal_id, OLD.bar_open_at, OLD.side, OLD.rules,
        OLD.protection_mode, OLD.planned_quantity, OLD.planned_price, OLD.created_at)
    THEN
        RAISE check_violation USING CONSTRAINT = 'deal_frozen', MESSAGE = format('Deal %s keeps what it was planned with: its rules, account, market, side and plan never change.', OLD.id);
    END IF;
    IF OLD.opened_at IS NOT NULL AND NEW.opened_at IS DISTINCT FROM OLD.opened_at THEN
        RAISE check_violation USING CONSTRAINT = 'deal_opened_once', MESSAGE = format('Deal %s was opened once, and keeps that time.', OLD.id);
    END IF;
    IF NEW.reopened <> OLD.reopened + reopening::int THEN
        RAISE check_violation USING CONSTRAINT = 'deal_reopened_counted', MESSAGE = format('Every reopening of deal %s is counted, and nothing else is (%s, reopened %s to %s).', OLD.id, move, OLD.reopened, NEW.reopened);
    END IF;
    IF NEW.status <> OLD.status AND NOT reopening AND NOT move = ANY (ARRAY['PLANNED>ENTERING', 'PLANNED>CANCELED', 'ENTERING>OPEN', 'ENTERING>CANCELED', 'ENTERING>PLANNED', 'OPEN>EXITING', 'OPEN>CLOSED', 'EXITING>CLOSED']) THEN
        RAISE check_violation USING CONSTRAINT = 'deal_transition', MESSAGE = format('Deal %s cannot go from %s to %s.', OLD.id, OLD.status, NEW.status);
    END IF;
    IF NOT opening THEN
        IF (NEW.initial_stop_price, NEW.target_price) IS DISTINCT FROM (OLD.initial_stop_price, OLD.target_price) THEN
            RAISE check_violation USING CONSTRAINT = 'deal_prices_set_at_opening', MESSAGE = format('The first stop and the target of deal %s are set when it opens, and kept.', OLD.id);
        END IF;
        IF NEW.stop_price <> OLD.stop_price AND NOT (
            OLD.status = 'OPEN' AND NEW.status = 'OPEN' AND (loosened OR NOT moves_back))
        THEN
            RAISE check_violation USING CONSTRAINT = 'deal_stop_never_moves_back', MESSAGE = format('The stop of deal %s moves only while it is open and only in its favour (%s to %s).', OLD.id, OLD.stop_price, NEW.stop_price);
        END IF;
    END IF;
    IF NEW.stop_loosened <> OLD.stop_loosened AND NOT (loosened AND moves_back AND NOT opening) THEN
        RAISE check_violation USING CONSTRAINT = 'deal_loosening_counted', MESSAGE = format('Every loosening of the stop of deal %s is counted, and nothing else is (%s to %s).', OLD.id, OLD.stop_loosened, NEW.stop_loosened);
    END IF;
    IF NEW.unprotected_seconds < OLD.unprotected_seconds THEN
        RAISE check_violation USING CONSTRAINT = 'deal_unprotected_time_kept', MESSAGE = format('The time deal %s was unprotected never goes down (%s to %s).', OLD.id, OLD.unprotected_seconds, NEW.unprotected_seconds);
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("algo", "0013_roles_and_audit")]

    operations = [
        migrations.AddField(
            model_name="deal",
            name="stop_loosened",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="How often a person moved its stop away from the price; nothing else ever does."
            ),
        ),
        migrations.AddField(
            model_name="deal",
            name="look_asked_at",
            field=models.DateTimeField(help_text="When a person last asked to look at its protection.", null=True),
        ),
        migrations.AddField(
            model_name="order",
            name="cancel_asked_at",
            field=models.DateTimeField(help_text="When a person asked to cancel it.", null=True),
        ),
        migrations.AlterField(
            model_name="order",
            name="cancel_requested_at",
            field=models.DateTimeField(help_text="When its exchange was last asked to cancel it.", null=True),
        ),
        migrations.AlterField(
            model_name="dealevent",
            name="kind",
            field=models.CharField(
                help_text="status, stop_moved, exit, swap, protected, unprotected, reopened, look_asked.", max_length=24
            ),
        ),
        migrations.RunSQL(NOW, BEFORE),
    ]
