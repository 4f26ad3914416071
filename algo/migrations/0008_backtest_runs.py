"""Backtests become jobs: queued, run by a worker, watched, cancelled. What was stored before is done."""

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Figures of the runs stored so far, out of their reports; JSON's null is NULL.
STORED_RUNS_ARE_DONE = """
UPDATE algo_backtestrun SET
    status = 'done', progress = 100, created_at = started_at, finished_at = started_at,
    net_profit_percent = (summary #>> '{metrics,net_profit_percent}')::double precision,
    sharpe = (summary #>> '{metrics,sharpe}')::double precision,
    max_drawdown_percent = (summary #>> '{metrics,max_drawdown_percent}')::double precision,
    win_rate_percent = (summary #>> '{metrics,win_rate_percent}')::double precision,
    deals = (summary #>> '{metrics,deals}')::integer
"""


class Migration(migrations.Migration):

    dependencies = [
        ("algo", "0007_the_plan_of_a_deal_is_sound"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="backtestrun",
            options={"ordering": ("-created_at", "-id")},
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="asked",
            field=models.JSONField(default=dict, help_text="Period, costs, balances and sides, as they were asked for."),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="charts",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="code_version",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="created_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="deals",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="error",
            field=models.TextField(blank=True, default="", help_text="Why it failed, in a sentence."),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="finished_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="heartbeat_at",
            field=models.DateTimeField(blank=True, help_text="The worker's last sign of life.", null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="max_drawdown_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="net_profit_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="progress",
            field=models.PositiveSmallIntegerField(default=0, help_text="Percent.", validators=[django.core.validators.MaxValueValidator(100)]),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="sharpe",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="status",
            field=models.CharField(choices=[("queued", "Queued"), ("running", "Running"), ("done", "Done"), ("failed", "Failed"), ("cancelled", "Cancelled")], default="queued", max_length=9),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="strategy_fingerprint",
            field=models.CharField(blank=True, default="", help_text="SHA-256 of the strategy's source.", max_length=64),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="win_rate_percent",
            field=models.FloatField(blank=True, null=True),
        ),
        migrations.RunSQL(STORED_RUNS_ARE_DONE, migrations.RunSQL.noop),
        migrations.AlterField(
            model_name="backtestrun",
            name="created_at",
            field=models.DateTimeField(),
        ),
        migrations.AddField(
            model_name="backtestrun",
            name="config",
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="backtests", to="algo.strategyconfig"),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="candles",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="data_fingerprint",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="data_from",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="data_to",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="market",
            field=models.ForeignKey(help_text="Whose candles it reads.", on_delete=django.db.models.deletion.PROTECT, related_name="backtests", to="algo.market"),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="started_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="backtestrun",
            name="summary",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddIndex(
            model_name="backtestrun",
            index=models.Index(fields=["-created_at", "-id"], name="backtest_newest"),
        ),
        migrations.AddIndex(
            model_name="backtestrun",
            index=models.Index(condition=models.Q(("status__in", ("queued", "running"))), fields=["status"], name="backtest_unfinished"),
        ),
        migrations.AddConstraint(
            model_name="backtestrun",
            constraint=models.CheckConstraint(condition=models.Q(("progress__lte", 100)), name="backtest_progress_is_a_percent"),
        ),
        migrations.AddConstraint(
            model_name="backtestrun",
            constraint=models.CheckConstraint(condition=models.Q(models.Q(("finished_at", None), ("status__in", ("queued", "running"))), models.Q(models.Q(("status__in", ("queued", "running")), _negated=True), ("finished_at__isnull", False)), _connector="OR"), name="backtest_finished_has_its_time"),
        ),
        migrations.AddConstraint(
            model_name="backtestrun",
            constraint=models.CheckConstraint(condition=models.Q(models.Q(("status", "running"), _negated=True), models.Q(("heartbeat_at__isnull", False), ("started_at__isnull", False)), _connector="OR"), name="backtest_running_was_started"),
        ),
    ]
