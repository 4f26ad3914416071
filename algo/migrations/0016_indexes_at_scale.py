"""The orders in which lists are read, so that a page of fifty costs fifty rows. The models say which list needs which."""

from __future__ import annotations

from django.db import migrations, models


def index(model: str, name: str, *fields: str) -> migrations.AddIndex:
    return migrations.AddIndex(model, models.Index(fields=fields, name=name))


class Migration(migrations.Migration):
    dependencies = [("algo", "0015_performance_by_day")]

    operations = [
        index("deal", "deal_newest", "-created_at", "-id"),
        index("deal", "deal_newest_of_market", "market", "-created_at", "-id"),
        index("deal", "deal_by_profit", "-profit", "-id"),
        index("order", "order_newest", "-created_at", "-id"),
        index("order", "order_newest_of_status", "status", "-created_at", "-id"),
        index("order", "order_by_end", "-closed_at", "-id"),
        index("fill", "fill_newest", "-executed_at", "-id"),
        index("decision", "decision_newest", "-bar_open_at", "-id"),
        index("signal", "signal_newest", "-created_at", "-id"),
        index("signal", "signal_newest_of_config", "config", "-created_at", "-id"),
    ]
