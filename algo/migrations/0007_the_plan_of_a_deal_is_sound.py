"""A plan whose stop or target stands on the wrong side of its price is refused, whoever asks."""

from __future__ import annotations

from decimal import Decimal

from django.db import migrations, models
from django.db.models import F, Q

NAN = Decimal("1E+20")  # larger than NUMERIC(38, 18) holds, smaller than its NaN


class Migration(migrations.Migration):
    dependencies = [("algo", "0006_the_database_refuses")]

    operations = [
        migrations.AddConstraint(
            model_name="deal",
            constraint=models.CheckConstraint(
                condition=Q(signal=None)
                | Q(opened_at__isnull=False)
                | Q(
                    side="BUY",
                    initial_stop_price__gt=0,
                    planned_price__gt=F("initial_stop_price"),
                    target_price__gt=F("planned_price"),
                )
                | Q(
                    side="SELL",
                    target_price__gt=0,
                    planned_price__gt=F("target_price"),
                    initial_stop_price__gt=F("planned_price"),
                ),
                name="deal_plan_is_sound",
            ),
        ),
        migrations.AddConstraint(
            model_name="deal",
            constraint=models.CheckConstraint(
                condition=Q(planned_price__gt=0)
                & Q(
                    planned_quantity__lt=NAN,
                    planned_price__lt=NAN,
                    initial_stop_price__lt=NAN,
                    stop_price__lt=NAN,
                    target_price__lt=NAN,
                ),
                name="deal_amounts_are_numbers",
            ),
        ),
    ]
