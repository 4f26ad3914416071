"""What every act over REST has in common: a reason, refusals as answers, and work that is left to a worker."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import PermissionDenied as Forbidden
from django.http import QueryDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiSerializerExtension
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ErrorDetail, PermissionDenied

from algo.api.schema import told
from algo.queues import NoBroker
from algo.sentences import sentence
from algo.services.accounts import refused_key
from algo.services.control import ControlRefused
from algo.services.deal_acts import ActRefused, LooserStop
from algo.services.refused import Refused
from providers.errors import AuthFailed, ProviderError, RateLimited

MOST_NAMED = 20  # fields that are not known
AWAY_SECONDS = 15.0  # after which an exchange that did not answer is worth another question


class Conflict(APIException):
    """The act does not fit the state of things. Nothing was changed."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "refused"


class WorkersAway(APIException):
    """Nobody can be told of the work that was asked for."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "no_broker"
    default_detail = _("The workers cannot be reached now. Nothing was begun; ask again in a minute.")


class ExchangeAway(APIException):
    """An exchange was asked and did not say. Its `wait` becomes `Retry-After`, in seconds."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "exchange_away"

    def __init__(self, detail: str, *, wait: float) -> None:
        super().__init__(detail)
        self.wait = math.ceil(wait)


class KnownFields(serializers.Serializer[Any]):
    """Refuses what it does not know: a misspelt or unchangeable field must not look as if it had been taken."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields))[:MOST_NAMED] if isinstance(data, Mapping) else []
        if unknown:
            words = gettext("There is no such field here. Nothing was changed. Known are: %(fields)s.") % {
                "fields": ", ".join(self.fields)
            }
            raise serializers.ValidationError({name: [ErrorDetail(words, "unknown_field")] for name in unknown})
        if isinstance(data, Mapping) and not isinstance(data, QueryDict):  # a form has text alone
            self._of_their_types(data)
        return super().to_internal_value(data)

    def _of_their_types(self, data: Mapping[str, Any]) -> None:
        """What the framework would turn into something else: a number for a text, and a text for a number."""
        wrong = {name: wrong_type(self.fields[name], value) for name, value in data.items() if value is not None}
        if found := {name: [ErrorDetail(words, "wrong_type")] for name, words in wrong.items() if words}:
            raise serializers.ValidationError(found)


def wrong_type(field: Any, value: Any) -> str:
    """What is wrong with the type of `value` in JSON; empty where nothing is. Amounts are text: a number of JSON has
    lost digits before it is looked at."""
    match field:
        case serializers.DecimalField() if not isinstance(value, str):
            return gettext('Must be text, as "0.5".')
        case serializers.CharField() | serializers.ChoiceField() if not isinstance(value, str):
            return gettext("Must be text.")
        case serializers.BooleanField() if not isinstance(value, bool):
            return gettext("Must be true or false.")
        case serializers.IntegerField() | serializers.PrimaryKeyRelatedField() if type(value) is not int:
            return gettext("Must be a whole number.")
        case serializers.ListField() if isinstance(value, list):
            return next(filter(None, (wrong_type(field.child, each) for each in value)), "")
    return ""


class KnownFieldsSchema(OpenApiSerializerExtension):
    target_class = KnownFields
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
        found = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**found, "additionalProperties": False} if direction == "request" else found


class ReasonSerializer(KnownFields):
    reason = serializers.CharField(
        max_length=400, required=False, default="", allow_blank=True, help_text="Why: kept in the audit log."
    )


CONFLICT = told(
    409,
    "It does not fit the state of things: the text says why and what does. Nothing was changed. Its code is "
    "`refused`, `looser_stop`, `key_refused` or `changed_meanwhile`.",
    code="refused",
    detail="Deal 7 has ended on 2026-11-02 10:00 UTC: closed. Nothing was changed.",
)
NO_WORKERS = told(
    503,
    "Nobody can be told of the work that was asked for.",
    code=WorkersAway.default_code,
    detail=str(WorkersAway.default_detail),
)
EXCHANGE_AWAY = told(
    503,
    "The exchange did not answer. Nothing was changed; ask again after `Retry-After` seconds.",
    code=ExchangeAway.default_code,
    detail="Wallex did not answer within 10 seconds. Nothing was changed; ask again later.",
)


@contextmanager
def exchange_answers() -> Iterator[None]:
    """What an exchange did not say, as answers: 409 for a refused key, 503 with `Retry-After` for silence."""
    try:
        yield
    except AuthFailed as exc:
        raise Conflict(refused_key(str(exc)), code="key_refused") from exc
    except RateLimited as exc:
        raise ExchangeAway(str(exc), wait=max(exc.retry_after, 1.0)) from exc
    except ProviderError as exc:
        raise ExchangeAway(
            gettext("%(sentence)s Nothing was changed; ask again later.") % {"sentence": sentence(str(exc))},
            wait=AWAY_SECONDS,
        ) from exc


@contextmanager
def refusals() -> Iterator[None]:
    """What services refuse, as answers: 403 for who may not, 400 for a field that is to be corrected, 409 for what does
    not fit, 503 without workers."""
    try:
        yield
    except LooserStop as exc:
        raise Conflict(str(exc), code="looser_stop") from exc
    except Forbidden as exc:
        raise PermissionDenied(str(exc) or None) from exc
    except Refused as exc:
        if exc.field:
            raise serializers.ValidationError({exc.field: [str(exc)]}) from exc
        raise Conflict(str(exc)) from exc
    except (ActRefused, ControlRefused) as exc:
        raise Conflict(str(exc)) from exc
    except NoBroker as exc:
        raise WorkersAway from exc


def reason_of(data: Any) -> str:
    """The reason that was sent. Raises ValidationError."""
    given = ReasonSerializer(data=data)
    given.is_valid(raise_exception=True)
    return str(given.validated_data["reason"])
