"""Keeping how somebody wants to read."""

from __future__ import annotations

from typing import Any

from algo.models import UserPreference


def language_choose(user: Any, language: str) -> UserPreference:
    """From now on `user` reads `language`; what else he chose stays."""
    return UserPreference.objects.update_or_create(user=user, defaults={"language": language})[0]
