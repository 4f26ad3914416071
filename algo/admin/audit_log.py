"""The audit log, to be looked at: who did what that could cost money, when, through which door, and why."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from algo.admin.base import LedgerAdmin
from algo.models import AuditRecord


@admin.register(AuditRecord)
class AuditRecordAdmin(LedgerAdmin):
    """Admins see all of it; others what was done by them or to accounts they may see."""

    list_display = ("id", "at", "who", "act", "subject_name", "account", "reason")
    list_select_related = ("account",)
    list_filter = (
        "act",
        ("door", ChoicesDropdownFilter),
        ("user", RelatedDropdownFilter),
        ("account", RelatedDropdownFilter),
    )
    search_fields = ("username", "act", "subject_name", "reason")
    date_hierarchy = "at"
    sections = {
        "": ("at", "who", "door", "act", "subject_kind", "subject_id", "subject_name", "account", "reason"),
        "What changed": ("details",),
    }

    @display(description=_("who"), ordering="username")
    def who(self, record: AuditRecord) -> str:
        return record.username or record.get_door_display()
