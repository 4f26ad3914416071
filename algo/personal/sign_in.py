"""The page on which people sign in: name, password, and a code where they have a second factor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from unfold.forms import AuthenticationForm
from unfold.widgets import BASE_INPUT_CLASSES

from algo.services.second_factor import CodeRefused, factor_check
from algo.services.sign_in import is_locked_out, locked_seconds, locked_words


class SignInForm(AuthenticationForm):
    """Who has a second factor gets no session without it: there is no half of a sign-in."""

    code = forms.CharField(
        label=_("Code of the second factor"),
        help_text=_("Of your authenticator app, or a recovery code. Leave it empty if you have set up none."),
        max_length=32,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "dir": "ltr", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean()
        user = self.get_user()
        if user is not None:
            user.otp_device = self._proved(user, cleaned.get("code") or "")
        return cleaned

    def get_invalid_login_error(self) -> ValidationError:
        return self._locked() if is_locked_out(self.request) else super().get_invalid_login_error()

    def _proved(self, user: Any, code: str) -> Any:
        """What the session will be proved with; None where the user has no second factor."""
        try:
            return factor_check(user, code, now=timezone.now())
        except CodeRefused as exc:
            self.user_cache = None
            if exc.reason == "wrong":  # a code is guessed at like a password, and counts like one
                user_login_failed.send(
                    sender=__name__, credentials={"username": user.get_username()}, request=self.request
                )
            if is_locked_out(self.request):
                raise self._locked() from exc
            raise ValidationError(str(exc), code=exc.reason) from exc

    def _locked(self) -> ValidationError:
        username = str(self.cleaned_data.get("username") or "")
        return ValidationError(locked_words(locked_seconds(self.request, username)), code="locked")
