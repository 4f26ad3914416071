"""Reports of live against backtest: one for each strategy and trading day."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("algo", "0009_strategy_checks")]

    operations = [
        migrations.CreateModel(
            name="ParityReport",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField(help_text="In the trading day's time zone.")),
                ("computed_at", models.DateTimeField()),
                (
                    "unexplained",
                    models.PositiveIntegerField(help_text="Differences without a known reason: the figure to watch."),
                ),
                ("summary", models.JSONField(default=dict)),
                (
                    "differences",
                    models.JSONField(default=list, help_text="The first of them, oldest first."),
                ),
                (
                    "config",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parity_reports",
                        to="algo.strategyconfig",
                    ),
                ),
            ],
            options={
                "ordering": ("-day", "config"),
                "verbose_name": "live day against backtest",
                "verbose_name_plural": "live days against backtest",
            },
        ),
        migrations.AddConstraint(
            model_name="parityreport",
            constraint=models.UniqueConstraint(fields=("config", "day"), name="parity_once_per_day"),
        ),
    ]
