"""What was last found of a version of a strategy."""

from __future__ import annotations

from django.db.models import Prefetch, QuerySet

from algo.models import StrategyCheck, StrategyConfig

_PREFETCHED = "newest_checks"


def newest_check(config: StrategyConfig, fingerprint: str) -> StrategyCheck | None:
    """The newest check of that version of the config; None where it was never checked."""
    return StrategyCheck.objects.filter(config=config, fingerprint=fingerprint).first()


def with_newest_check(configs: QuerySet[StrategyConfig]) -> QuerySet[StrategyConfig]:
    """For lists: one query more for all of them, which `last_check` then needs no more."""
    newest = StrategyCheck.objects.order_by("config_id", "-checked_at", "-id").distinct("config_id")
    return configs.prefetch_related(Prefetch("checks", queryset=newest, to_attr=_PREFETCHED))


def last_check(config: StrategyConfig) -> StrategyCheck | None:
    """The newest check of any version."""
    found = getattr(config, _PREFETCHED, None)
    if found is None:
        return config.checks.first()
    return found[0] if found else None
