"""The history of strategies: a row for every change, and a first one for those that are there already."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
import providers.types
import simple_history.models
from django.conf import settings
from django.db import migrations, models

KEPT = ("name", "strategy", "parameters", "account_id", "data_market_id", "market_id", "resolution", "ordering_enabled",
        "allowed_sides")


def begin(apps: Any, schema_editor: Any) -> None:
    """As they stand now: the way back from the first change leads here."""
    History = apps.get_model("algo", "HistoricalStrategyConfig")
    rows = apps.get_model("algo", "StrategyConfig").objects.order_by("pk").iterator()
    History.objects.bulk_create(
        (
            History(
                id=row.pk,
                history_type="+",
                history_date=row.updated_at,
                history_change_reason="As it stood when its history began.",
                door="platform",
                **{name: getattr(row, name) for name in KEPT},
            )
            for row in rows
        ),
        batch_size=500,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('algo', '0017_candle_fetch'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='HistoricalStrategyConfig',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('username', models.CharField(blank=True, help_text='Empty for the shell and the platform itself.', max_length=150)),
                ('door', models.CharField(choices=[('admin', 'Admin'), ('api', 'API'), ('shell', 'Shell'), ('platform', 'The platform itself')], default='platform', max_length=8)),
                ('name', models.CharField(db_index=True, max_length=80)),
                ('strategy', models.CharField(help_text='A name registered in strategy_factory.py.', max_length=64)),
                ('parameters', models.JSONField(blank=True, default=dict)),
                ('resolution', models.CharField(choices=[('1', '1'), ('5', '5'), ('15', '15'), ('30', '30'), ('60', '60'), ('180', '180'), ('240', '240'), ('360', '360'), ('720', '720'), ('D', 'D'), ('2D', '2d'), ('3D', '3d')], default=providers.types.Resolution['M1'], max_length=4)),
                ('ordering_enabled', models.BooleanField(default=True, help_text='Off: signals are recorded, nothing is ordered.')),
                ('allowed_sides', models.CharField(choices=[('BUY', 'Buy only (long)'), ('SELL', 'Sell only (sells base that is held, buys it back)'), ('BOTH', 'Both')], default='BUY', max_length=4)),
                ('history_change_reason', models.CharField(max_length=400, null=True)),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField(db_index=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('account', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='algo.account')),
                ('data_market', models.ForeignKey(blank=True, db_constraint=False, help_text='Where the candles come from.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='algo.market')),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('market', models.ForeignKey(blank=True, db_constraint=False, help_text='Where the orders go.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='algo.market')),
            ],
            options={
                'verbose_name': 'historical strategy config',
                'verbose_name_plural': 'historical strategy configs',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.RunPython(begin, migrations.RunPython.noop),
    ]
