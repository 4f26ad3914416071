"""The second factor of a sign-in: an authenticator app's secret, and codes for when the app is gone."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from typing import ClassVar

from django.db import models
from django_otp.models import Device, DeviceManager, ThrottlingMixin
from django_otp.oath import TOTP

from algo.models.fields import seal, unseal

TOLERANCE = 1  # steps of 30 s before and after: clocks differ


class SecondFactor(ThrottlingMixin, Device):
    """What an authenticator app shows for one user (TOTP, RFC 6238: SHA-1, 6 digits, 30 s), one of each. Only a
    `confirmed` one counts. Its secret is sealed into this row: who has the database has no codes."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    secret_sealed = models.TextField(editable=False)
    last_step = models.BigIntegerField(default=-1, editable=False, help_text="A code counts once, and no older one.")
    confirmed_at = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[DeviceManager] = DeviceManager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=("user",), name="second_factor_one_per_user")]

    def __str__(self) -> str:
        return f"second factor of user {self.user_id}"

    def set_secret(self, secret: bytes) -> None:
        """Seal the secret into this row (not saved)."""
        self.secret_sealed = seal(secret.hex(), owner=str(self.public_id))

    def secret(self) -> bytes:
        """The secret in clear. Raises SecretUnreadable."""
        return bytes.fromhex(unseal(self.secret_sealed, owner=str(self.public_id)))

    def step_of(self, code: str, at: datetime) -> int | None:
        """The step whose code this is, where it was not used before; None for any other text."""
        if len(code) != 6 or not code.isdecimal():
            return None
        totp = TOTP(self.secret())
        totp.time = at.timestamp()
        return totp.t() if totp.verify(int(code), TOLERANCE, self.last_step + 1) else None

    def get_throttle_factor(self) -> int:
        """Seconds after the first wrong code; twice as many after each further one."""
        return 1


class RecoveryCode(models.Model):
    """Opens once, instead of the app. Of the code only a hash is kept: it has 80 random bits."""

    factor = models.ForeignKey(SecondFactor, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=("factor", "digest"), name="recovery_code_once")]

    def __str__(self) -> str:
        return f"recovery code {self.pk}"

    @staticmethod
    def digest_of(code: str) -> str:
        return hashlib.sha256(code.encode()).hexdigest()
