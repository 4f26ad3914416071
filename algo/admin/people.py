"""Users, groups and API tokens, in the theme. Of a token only its hash is kept; it can be revoked here, not read."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from algo.admin.base import KeptRowsAdmin

for _model in (User, Group, AuthToken):
    admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(KeptRowsAdmin, DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(AuthToken)
class AuthTokenAdmin(ModelAdmin):
    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    fields = readonly_fields = ("user", "created", "expiry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # POST /api/v1/auth/login gives one to its owner, and to nobody else
