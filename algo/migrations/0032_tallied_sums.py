from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("algo", "0031_balance_readings"),
    ]

    operations = [
        migrations.CreateModel(
            name="TalliedSum",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80)),
                ("labels", models.CharField(help_text="As JSON, in the order of the labels.", max_length=240)),
                ("value", models.FloatField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("name", "labels"), name="tallied_sum_once")],
            },
        ),
        # Each row is written over every few seconds: room beside it, and vacuum by rows, not by their share.
        migrations.RunSQL(
            "ALTER TABLE algo_talliedsum SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0,"
            " autovacuum_vacuum_threshold = 1000)",
            "ALTER TABLE algo_talliedsum RESET (fillfactor, autovacuum_vacuum_scale_factor,"
            " autovacuum_vacuum_threshold)",
        ),
    ]
