"""The form that starts a backtest: a config, or a strategy with its parameters as fields; the service judges it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic.fields import FieldInfo
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from algo.admin.strategy_form import PREFIX, form_field, resolution_label
from algo.backtest import FillModel
from algo.models import AllowedSides, Market, StrategyConfig
from algo.models.fields import choices
from algo.selectors.visible import strategies_visible
from algo.services.backtest_money import Money
from algo.services.backtests import BacktestAsked, BacktestRefused
from algo.strategies.strategy_factory import schema_for, strategy_names
from providers.types import Resolution

DEFAULT_DAYS = 30
AS_CONFIGURED: list[tuple[str, Any]] = [("", _("As configured"))]
AMOUNTS = ("fee_percent", "slippage_percent", "balance", "base_balance")


class DateBox(UnfoldAdminTextInputWidget):
    input_type = "date"


def _amount(label: Any, help_text: Any) -> forms.DecimalField:
    box = UnfoldAdminDecimalFieldWidget(attrs={"step": "any", "min": "0"})
    return forms.DecimalField(label=label, help_text=help_text, required=False, widget=box)


class BacktestForm(forms.Form):
    """Base of the form; `backtest_form` adds the parameters of one strategy, all of them optional."""

    config = forms.ModelChoiceField(
        StrategyConfig.objects.none(),
        label=_("Config"),
        required=False,
        empty_label=_("None: choose strategy and market yourself"),
        widget=UnfoldAdminSelectWidget,
        help_text=_(
            "Brings its strategy, parameters, market, candles and sides; what is filled in below overrules it."
        ),
    )
    strategy = forms.ChoiceField(
        label=_("Strategy"),
        widget=UnfoldAdminSelectWidget(attrs={"data-reloads": "strategy"}),
        help_text=_("Choosing another one shows its parameters."),
    )
    market = forms.ModelChoiceField(
        Market.objects.order_by("provider", "symbol"),
        label=_("Market of the candles"),
        required=False,
        empty_label=_("As configured"),
        widget=UnfoldAdminSelectWidget,
        help_text=_("Candles that are missing are downloaded."),
    )
    resolution = forms.ChoiceField(label=_("Candles"), required=False, widget=UnfoldAdminSelectWidget)
    start = forms.DateField(label=_("From (UTC)"), widget=DateBox)
    end = forms.DateField(label=_("To (UTC)"), required=False, widget=DateBox, help_text=_("Not included. Empty: now."))
    sides = forms.ChoiceField(
        label=_("Sides"),
        choices=AS_CONFIGURED + AllowedSides.choices,
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Without a config: buy only."),
    )
    fill_model = forms.ChoiceField(
        label=_("Fill model"),
        choices=choices(FillModel),
        initial=FillModel.CONSERVATIVE.value,
        widget=UnfoldAdminSelectWidget,
        help_text=_("Both are computed; this one is listed first."),
    )
    fee_percent = _amount(_("Fee (%)"), _("Of each fill. Empty: what the market states."))
    slippage_percent = _amount(_("Slippage (%)"), _("Against every market order. Empty: 0.05."))
    balance = _amount(_("Balance in quote"), _("Empty: 10,000; toman: 1,000,000,000."))
    base_balance = _amount(_("Balance in base"), _("What SELL deals sell. Empty: none."))

    def __init__(self, *args: Any, today: date, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        configs = cast("forms.ModelChoiceField[StrategyConfig]", self.fields["config"])
        configs.queryset = strategies_visible(user).order_by("name")
        lengths = [(each.value, resolution_label(each)) for each in Resolution]
        cast(forms.ChoiceField, self.fields["resolution"]).choices = [
            ("", gettext("As configured, else 1 minute")),
            *lengths,
        ]
        cast(forms.ChoiceField, self.fields["strategy"]).choices = [(name, name) for name in strategy_names()]
        self.initial.setdefault("start", today - timedelta(days=DEFAULT_DAYS))

    @property
    def settings_rows(self) -> list[Any]:
        return [self[name] for name in self.fields if not name.startswith(PREFIX)]

    @property
    def parameter_rows(self) -> list[Any]:
        return [self[name] for name in self.fields if name.startswith(PREFIX)]

    @property
    def has_parameter_errors(self) -> bool:
        return any(name.startswith(PREFIX) for name in self.errors)

    def asked(self, now: datetime) -> BacktestAsked:
        """What a valid form asks for."""
        data = self.cleaned_data
        return BacktestAsked(
            config=data["config"],
            strategy=data["strategy"],
            parameters=self._parameters(data),
            market=data["market"],
            resolution=data["resolution"],
            start=_midnight(data["start"]),
            end=_midnight(data["end"]) if data["end"] else now,
            money=Money(
                **{name: data[name] for name in AMOUNTS},
                sides=data["sides"] or None,
                fill_model=FillModel(data["fill_model"]),
            ),
        )

    def add_refusal(self, refusal: BacktestRefused) -> None:
        """Every sentence beside its field."""
        for at, texts in refusal.errors.items():
            name = at.replace("parameters.", PREFIX)
            self.add_error(name if name in self.fields else None, cast(Any, texts))

    def _parameters(self, data: Mapping[str, Any]) -> dict[str, Any]:
        typed = {name.removeprefix(PREFIX): value for name, value in data.items() if name.startswith(PREFIX)}
        return {name: value for name, value in typed.items() if value != ""}


def backtest_form(strategy: str) -> type[BacktestForm]:
    """The form with the parameters of `strategy`."""
    fields = {PREFIX + name: _optional(name, info) for name, info in schema_for(strategy).model_fields.items()}
    return type("BacktestForm", (BacktestForm,), fields)


def _optional(name: str, info: FieldInfo) -> forms.Field:
    """A parameter that may be left as it is configured: nothing is filled in, switches have a third state."""
    field = form_field(name, info)
    words: dict[str, Any] = {"label": field.label, "help_text": field.help_text, "required": False}
    if isinstance(field, forms.BooleanField):
        options = [*AS_CONFIGURED, ("true", gettext("On")), ("false", gettext("Off"))]
        return forms.ChoiceField(choices=options, widget=UnfoldAdminSelectWidget, **words)
    if isinstance(field, forms.ChoiceField):
        options = [*AS_CONFIGURED, *cast(Any, field.choices)]
        return forms.ChoiceField(choices=options, widget=UnfoldAdminSelectWidget, **words)
    field.initial = None
    return field


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
