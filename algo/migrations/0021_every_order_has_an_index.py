"""An index for every order in which the lists of deals and signals are read, and for the filters that find few rows."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


def index(model: str, name: str, *fields: str, condition: Q | None = None) -> migrations.AddIndex:
    return migrations.AddIndex(model, models.Index(fields=fields, name=name, condition=condition))


class Migration(migrations.Migration):
    dependencies = [("algo", "0020_answers_kept_for_repetition")]

    operations = [
        migrations.AlterField("deal", "closed_at", models.DateTimeField(null=True)),  # deal_by_end serves instead
        index("deal", "deal_newest_of_account", "account", "-created_at", "-id"),
        index("deal", "deal_by_begin", "-opened_at", "-id"),
        index("deal", "deal_by_end", "-closed_at", "-id"),
        index("deal", "deal_by_unprotected", "-unprotected_seconds", "-id"),
        index("order", "order_newest_of_account", "account", "-created_at", "-id"),
        index("decision", "decision_newest_of_outcome", "outcome", "-bar_open_at", "-id"),
        index("signal", "signal_newest_denied", "-created_at", "-id", condition=~Q(denial_code="")),
    ]
