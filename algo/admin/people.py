"""Users, groups and API tokens, in the theme, for Admins. Of a token only its hash is kept; it can be revoked here, not
read. What is done here is in the audit log."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from algo.admin.base import NOTHING, AdminsOnly, Audited, KeptRowsAdmin
from algo.models import TokenGrant, TokenScope
from algo.selectors.rights import Role
from algo.services.tokens import token_details

for _model in (User, Group, AuthToken):
    admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(AdminsOnly, Audited, KeptRowsAdmin, DjangoUserAdmin, ModelAdmin):
    list_per_page = 25
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()  # two lists side by side are wider than the page

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """An Admin gives roles. What goes beyond them, only a superuser gives."""
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, "is_superuser", "user_permissions")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, user: Any) -> bool:
        """Whose password one may set, one may become."""
        return bool(request.user.is_superuser) or user is None or not user.is_superuser

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        kept = [
            gettext("%(user)s is a superuser.") % {"user": user} for user in objs if not self._may_touch(request, user)
        ]
        return ([], {}, set(), kept) if kept else super().get_deleted_objects(objs, request)

    def audit_details(self, row: Any) -> dict[str, Any]:
        """What the user may from now on."""
        roles = sorted(row.groups.values_list("name", flat=True)) if row.pk else []
        return {"roles": roles, "active": row.is_active, "staff": row.is_staff, "superuser": row.is_superuser}

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with transaction.atomic():
            return super().user_change_password(request, *args, **kwargs)


@admin.register(Group)
class GroupAdmin(AdminsOnly, Audited, DjangoGroupAdmin, ModelAdmin):
    """The platform's own roles are looked at: every upgrade sets what they permit. Other groups may be made."""

    filter_horizontal = ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_role(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_role(obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        kept = [gettext("%(group)s is a role of the platform.") % {"group": group} for group in objs if _is_role(group)]
        return ([], {}, set(), kept) if kept else super().get_deleted_objects(objs, request)

    def audit_details(self, row: Any) -> dict[str, Any]:
        return {"permissions": sorted(row.permissions.values_list("codename", flat=True))}


def _is_role(group: Any) -> bool:
    return group is not None and group.name in set(Role)


@admin.register(AuthToken)
class AuthTokenAdmin(AdminsOnly, Audited, ModelAdmin):
    list_per_page = 25
    list_display = ("token_key", "user", "scope", "label", "created", "expiry", "last_used")
    list_select_related = ("user", "grant")
    list_filter = ("grant__scope",)
    search_fields = ("user__username", "grant__label")
    fields = readonly_fields = ("user", "scope", "label", "created_by", "created", "expiry", "last_used")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the API gives one to its owner, and to nobody else

    @display(description=_("scope"), ordering="grant__scope")
    def scope(self, token: Any) -> str:
        grant = self._grant(token)
        return (grant.get_scope_display() if grant else TokenScope.READ.label) or NOTHING

    @display(description=_("label"), ordering="grant__label")
    def label(self, token: Any) -> str:
        return getattr(self._grant(token), "label", "") or NOTHING

    @display(description=_("given by"))
    def created_by(self, token: Any) -> str:
        return str(getattr(self._grant(token), "created_by", None) or NOTHING)

    @display(description=_("last used"), ordering="grant__last_used_at")
    def last_used(self, token: Any) -> Any:
        return getattr(self._grant(token), "last_used_at", None) or NOTHING

    def _grant(self, token: Any) -> TokenGrant | None:
        return getattr(token, "grant", None)

    def audit_act(self, what: str, fields: Any) -> str:
        return "token.revoke"

    def audit_subject(self, row: Any) -> Any:
        return row.user

    def audit_details(self, row: Any) -> dict[str, Any]:
        grant = self._grant(row)
        return {"token": row.token_key} if grant is None else token_details(grant)
