"""Roles as groups, people who may look at an account, and the audit log."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ROLES = ("Viewer", "Trader", "Admin")

# Like the history of orders (0006): nothing in the platform may change or remove what was written. Sessions of tests
# say with `algo.may_erase_history` that they empty their own database.
KEEP = """
CREATE FUNCTION algo_keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        MESSAGE = format('%s on %s is refused: what the audit log says stays.', TG_OP, TG_TABLE_NAME),
        ERRCODE = 'restrict_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'audit_is_kept';
END $$;
CREATE TRIGGER audit_is_kept BEFORE UPDATE OR DELETE ON algo_auditrecord
    FOR EACH ROW EXECUTE FUNCTION algo_keep_audit();
CREATE TRIGGER audit_is_not_erased BEFORE TRUNCATE ON algo_auditrecord FOR EACH STATEMENT
    WHEN (current_setting('algo.may_erase_history', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION algo_keep_audit();
"""
UNKEEP = """
DROP TRIGGER audit_is_not_erased ON algo_auditrecord;
DROP TRIGGER audit_is_kept ON algo_auditrecord;
DROP FUNCTION algo_keep_audit();
"""


def make_roles(apps: Any, schema_editor: Any) -> None:
    """The groups, and every owner of an account a Trader: they keep acting on what is theirs. What the groups permit is
    given after the migrations (`roles_ensure`), when every permission exists."""
    Group, User = apps.get_model("auth", "Group"), apps.get_model("auth", "User")
    groups = {name: Group.objects.get_or_create(name=name)[0] for name in ROLES}
    owners = User.objects.filter(pk__in=apps.get_model("algo", "Account").objects.values("owner"))
    for user in owners.iterator():
        user.groups.add(groups["Trader"])


class Migration(migrations.Migration):
    dependencies = [
        ("algo", "0012_when_a_fill_was_booked"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="account",
            name="viewers",
            field=models.ManyToManyField(
                blank=True,
                help_text="Who may look at it beside its owner. They see all of it but the key, and change nothing.",
                related_name="accounts_viewed",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.CreateModel(
            name="AuditRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(help_text="Platform time.")),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "username",
                    models.CharField(
                        blank=True, help_text="Empty for the shell and the platform itself.", max_length=150
                    ),
                ),
                (
                    "door",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("api", "API"),
                            ("shell", "Shell"),
                            ("platform", "The platform itself"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "act",
                    models.CharField(
                        help_text="Dotted: deal.close, kill_switch.turn, strategy.start …", max_length=48
                    ),
                ),
                (
                    "subject_kind",
                    models.CharField(
                        blank=True, help_text="Kind of the row it was done to; empty: whole system.", max_length=48
                    ),
                ),
                ("subject_id", models.CharField(blank=True, max_length=64)),
                ("subject_name", models.CharField(blank=True, max_length=200)),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="algo.account",
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=400)),
                (
                    "details",
                    models.JSONField(default=dict, help_text="What changed, from what to what. Never a secret."),
                ),
            ],
            options={
                "ordering": ("-at", "-id"),
                "indexes": [
                    models.Index(fields=["-at", "-id"], name="audit_newest"),
                    models.Index(fields=["account", "-at"], name="audit_by_account"),
                    models.Index(fields=["subject_kind", "subject_id", "-at"], name="audit_by_subject"),
                ],
            },
        ),
        migrations.RunSQL(KEEP, UNKEEP),
        migrations.RunPython(make_roles, migrations.RunPython.noop),
    ]
