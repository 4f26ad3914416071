"""What a token of the API may be used for."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def grant_what_was(apps: Any, schema_editor: Any) -> None:
    """Tokens that are there already keep what they could do: the scope that the role of their user allows. New ones
    are given `admin` only when it is asked for."""
    Token, Grant = apps.get_model("knox", "AuthToken"), apps.get_model("algo", "TokenGrant")
    for token in Token.objects.filter(grant=None).select_related("user").iterator():
        roles = set(token.user.groups.values_list("name", flat=True))
        scope = "trade" if "Trader" in roles else "read"
        if token.user.is_superuser or "Admin" in roles:
            scope = "admin"
        Grant.objects.create(token=token, scope=scope)


class Migration(migrations.Migration):
    dependencies = [
        ("algo", "0018_history_of_strategies"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("knox", "0009_extend_authtoken_field"),
    ]

    operations = [
        migrations.CreateModel(
            name="TokenGrant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "scope",
                    models.CharField(
                        choices=[("read", "Read"), ("trade", "Read and trade"), ("admin", "Everything an Admin may do")],
                        max_length=8,
                    ),
                ),
                ("label", models.CharField(blank=True, help_text="What uses it.", max_length=80)),
                ("last_used_at", models.DateTimeField(blank=True, help_text="To the minute.", null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "token",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="grant", to=settings.KNOX_TOKEN_MODEL
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("scope__in", ["read", "trade", "admin"])), name="token_scope_known"
                    )
                ],
            },
        ),
        migrations.RunPython(grant_what_was, migrations.RunPython.noop),
    ]
