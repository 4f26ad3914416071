"""When a fill was booked, by our clock: the exchange's own stamp may be of a clock that was wrong."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("algo", "0011_optimisation_runs")]

    operations = [
        migrations.AddField(
            model_name="fill",
            name="booked_at",
            field=models.DateTimeField(
                help_text="By ours; empty where it was booked before this was kept.", null=True
            ),
        ),
        migrations.AlterField(
            model_name="fill",
            name="executed_at",
            field=models.DateTimeField(help_text="By the exchange's clock."),
        ),
    ]
