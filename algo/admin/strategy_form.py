"""A form field for every parameter of a strategy, made from its schema; the schema also judges what was typed."""

from __future__ import annotations

import types
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from django import forms
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from algo.localised import listed, number
from algo.models import StrategyConfig
from algo.phrases import told
from algo.selectors.strategy_changes import version_count
from algo.sentences import capitalised
from algo.services.strategy_configs import parameters_clean, parameters_to_store, venue_problems
from algo.strategies.schemas import WHOLE_FORM, InvalidParameters, StrategySchema
from algo.strategies.strategy_factory import schema_for, strategy_names
from providers.types import Resolution

PREFIX = "parameter_"
PREVIEW = "_preview"  # the button that shows what it would have done


class StrategyConfigForm(forms.ModelForm):
    """Base of the form; `form_for` adds the fields of one strategy's parameters."""

    parameters_of = ""  # the strategy whose parameters this form shows
    shown_parameters = forms.CharField(label=_("Shown parameters"), widget=forms.HiddenInput, required=False)
    seen_version = forms.IntegerField(label=_("Seen version"), widget=forms.HiddenInput, required=False)

    class Meta:
        model = StrategyConfig
        exclude = ("parameters",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["shown_parameters"] = self.parameters_of
        self.initial["seen_version"] = version_count(self.instance)
        self.stored = dict(self.instance.parameters)
        if "strategy" in self.fields:
            self.fields["strategy"] = forms.ChoiceField(
                label=_("Strategy"),
                choices=[(name, name) for name in strategy_names()],
                initial=self.parameters_of,
                widget=UnfoldAdminSelectWidget(attrs={"data-reloads": "strategy"}),
                help_text=gettext("Choosing another one shows its parameters."),
            )
        if "resolution" in self.fields:
            options = [(each.value, resolution_label(each)) for each in Resolution]
            self.fields["resolution"] = forms.ChoiceField(
                label=gettext("Candles"), choices=options, initial=Resolution.M1.value, widget=UnfoldAdminSelectWidget
            )
        for name, field in self.fields.items():
            if name.startswith(PREFIX):
                field.initial = _shown(self.instance.parameters.get(name.removeprefix(PREFIX), field.initial))

    def is_valid(self) -> bool:
        """A preview is never saved, whatever was typed; its errors stand beside the fields all the same."""
        return super().is_valid() and PREVIEW not in self.data

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for field, problems in self._venue_problems(data).items():
            self.add_error(field if field in self.fields else None, problems)
        if self._shows_other_parameters(data):
            raise forms.ValidationError(
                gettext(
                    "The parameters below are now those of %(parameters_of)s; what was typed for the one "
                    "before is gone. Nothing was saved. Look through them and save again."
                )
                % {"parameters_of": self.parameters_of}
            )
        if data.get("seen_version") not in (None, self.initial["seen_version"]):
            raise forms.ValidationError(
                gettext(
                    "It was changed by somebody else since this page was opened: History tells by whom and "
                    "how. Nothing was saved. Open the page again and decide anew."
                )
            )
        self._clean_parameters(data)
        return data

    def _venue_problems(self, data: Mapping[str, Any]) -> dict[str, list[str]]:
        return venue_problems(data.get("account"), data.get("data_market"), data.get("market"))

    def _shows_other_parameters(self, data: Mapping[str, Any]) -> bool:
        """Without JavaScript the page still shows the fields of the strategy that was chosen before."""
        return bool(data.get("shown_parameters")) and data["shown_parameters"] != self.parameters_of

    def _clean_parameters(self, data: Mapping[str, Any]) -> None:
        unknown = [name for name in self.data if name.startswith(PREFIX) and name not in self.fields]
        if unknown:
            names = ", ".join(sorted(name.removeprefix(PREFIX) for name in unknown))
            self.add_error(
                None,
                gettext("%(parameters_of)s has no parameter %(names)s. Nothing was saved.")
                % {"parameters_of": self.parameters_of, "names": names},
            )
        try:
            parameters = parameters_clean(self.parameters_of, self._typed(data))
        except InvalidParameters as exc:
            for name, messages in exc.errors.items():
                self.add_error(
                    PREFIX + name if name != WHOLE_FORM else None, [capitalised(told(each)) for each in messages]
                )
        else:
            self.instance.parameters = parameters_to_store(parameters)

    def _typed(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What was typed, by parameter; an empty field leaves the schema its default."""
        typed = {name.removeprefix(PREFIX): value for name, value in data.items() if name.startswith(PREFIX)}
        return {name: value for name, value in typed.items() if value != ""}


def form_for(strategy: str) -> type[StrategyConfigForm]:
    """The form that also edits the parameters of `strategy`. Raises UnknownStrategy."""
    fields = {PREFIX + name: form_field(name, info) for name, info in schema_for(strategy).model_fields.items()}
    return type("StrategyConfigForm", (StrategyConfigForm,), {"parameters_of": strategy, **fields})


def parameter_sections(strategy: str) -> dict[str, list[str]]:
    """Names of the form's parameter fields under the headings they are shown under."""
    names = list(schema_for(strategy).model_fields)
    risk = [name for name in names if name in StrategySchema.model_fields]
    own = [name for name in names if name not in StrategySchema.model_fields]
    sections = {gettext("Rules of %(strategy)s") % {"strategy": strategy}: own, gettext("Risk and protection"): risk}
    return {title: [PREFIX + name for name in group] for title, group in sections.items() if group}


def resolution_label(resolution: Resolution) -> str:
    """`15 minutes`, `4 hours`, `1 day`."""
    for seconds in (86_400, 3600, 60):
        count, rest = divmod(resolution.seconds, seconds)
        if count and not rest:
            return _length(count, seconds) % {"count": number(count)}
    raise AssertionError(resolution)


def _length(count: int, seconds: int) -> str:
    if seconds == 86_400:
        return ngettext("%(count)s day", "%(count)s days", count)
    if seconds == 3600:
        return ngettext("%(count)s hour", "%(count)s hours", count)
    return ngettext("%(count)s minute", "%(count)s minutes", count)


@display(description=_("candles"), ordering="resolution")
def candle_length(row: Any) -> str:
    """A column: how long the candles are that a strategy, a backtest or a search reads."""
    return resolution_label(Resolution(row.resolution))


def parameter_title(name: str, info: FieldInfo | None) -> str:
    return gettext((info.title if info else None) or name.replace("_", " ").capitalize())


def form_field(name: str, info: FieldInfo) -> forms.Field:
    """One parameter as a form field. It only carries text: bounds and types are judged by the schema."""
    kind = _kind(info.annotation)
    words: dict[str, Any] = {
        "label": parameter_title(name, info),
        "help_text": _help(info, kind),
        "required": False,
        "initial": _default(info),
    }
    if kind is bool:
        return forms.BooleanField(widget=UnfoldBooleanSwitchWidget, **words)
    if options := _options(kind):
        return forms.ChoiceField(choices=options, widget=UnfoldAdminSelectWidget, **words)
    if kind in (int, float, Decimal):
        return forms.CharField(widget=UnfoldAdminDecimalFieldWidget(attrs=_bounds_of_input(info, kind)), **words)
    return forms.CharField(widget=UnfoldAdminTextInputWidget, **words)


def _kind(annotation: Any) -> Any:
    """The type of a parameter; of `X | None` it is X."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((each for each in get_args(annotation) if each is not type(None)), str)
    return annotation


def _options(kind: Any) -> list[tuple[str, str]]:
    if get_origin(kind) is Literal:
        return [(str(each), str(each)) for each in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [(str(each.value), str(each.value)) for each in kind]
    return []


def _default(info: FieldInfo) -> Any:
    default = info.get_default(call_default_factory=True, validated_data={})
    return None if default is PydanticUndefined else _shown(default)


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return str(value.value if isinstance(value, Enum) else value)


def _bounds(info: FieldInfo) -> list[str]:
    signs = {annotated_types.Gt: ("gt", ">"), annotated_types.Ge: ("ge", "≥")}
    signs |= {annotated_types.Lt: ("lt", "<"), annotated_types.Le: ("le", "≤")}
    return [
        f"{sign} {getattr(bound, attribute)}"
        for bound in info.metadata
        for kind, (attribute, sign) in signs.items()
        if isinstance(bound, kind)
    ]


def _help(info: FieldInfo, kind: Any) -> str:
    facts = _bounds(info)
    default = _default(info)
    if default is not None and kind is not bool:
        facts.append(gettext("default %(default)s") % {"default": default})
    return " ".join(
        part
        for part in (gettext(info.description) if info.description else "", f"({listed(facts)})" if facts else "")
        if part
    )


def _bounds_of_input(info: FieldInfo, kind: Any) -> dict[str, Any]:
    limits = {"ge": "min", "le": "max"}
    attrs = {
        limits[name]: str(getattr(bound, name))
        for bound in info.metadata
        for name in limits
        if getattr(bound, name, None) is not None
    }
    return {"step": "1" if kind is int else "any", **attrs}
