"""What an exchange says a key may do, kept beside its expiry."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("algo", "0021_every_order_has_an_index")]

    operations = [
        migrations.AddField(
            model_name="account",
            name="key_scopes",
            field=models.JSONField(
                editable=False,
                help_text="What its exchange last said the key may do: read, trade, withdraw.",
                null=True,
            ),
        ),
    ]
