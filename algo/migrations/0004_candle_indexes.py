import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Cast

AMOUNTS = ("open", "high", "low", "close", "volume")

# One statement: PostgreSQL writes the table anew once, not five times.
ADD = "ALTER TABLE algo_candle " + ", ".join(
    f'ADD COLUMN "{name}_float" double precision GENERATED ALWAYS AS (("{name}")::double precision) STORED'
    for name in AMOUNTS
)
REMOVE = "ALTER TABLE algo_candle " + ", ".join(f'DROP COLUMN "{name}_float"' for name in AMOUNTS)


def as_float(name):
    return migrations.AddField(
        model_name='candle',
        name=f'{name}_float',
        field=models.GeneratedField(
            db_persist=True, expression=Cast(name, models.FloatField()), output_field=models.FloatField()
        ),
    )


class Migration(migrations.Migration):

    dependencies = [
        ('algo', '0003_probes_and_balances'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(ADD, REMOVE)],
            state_operations=[as_float(name) for name in AMOUNTS],
        ),
        migrations.AlterField(
            model_name='candle',
            name='market',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='candles', to='algo.market'),
        ),
    ]
