"""What makes a strategy config sound: one judgement for the admin's form, the API and the start switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from algo.models import FINISHED_DEALS, Account, Market, StrategyConfig
from algo.risk.costs import target_pays_fees
from algo.sentences import sentence
from algo.strategies.schemas import InvalidParameters, StrategySchema, validate_parameters
from algo.strategies.strategy_factory import UnknownStrategy, schema_for
from providers.types import ProtectionMode

Problems = dict[str, list[str]]


def parameters_clean(strategy: str, parameters: Mapping[str, Any]) -> StrategySchema:
    """The parameters of `strategy`, defaults filled in. Raises UnknownStrategy or InvalidParameters (per field)."""
    return validate_parameters(schema_for(strategy), parameters)


def parameters_to_store(parameters: StrategySchema) -> dict[str, Any]:
    """Every value, as JSON without loss: a later change of a default leaves this config as it is."""
    return parameters.model_dump(mode="json")


def venue_problems(account: Account | None, data_market: Market | None, market: Market | None) -> Problems:
    """What keeps these three from working together, by field. What is missing is not judged here."""
    problems: Problems = {}
    if market and account and market.provider != account.provider:
        problems["market"] = [
            gettext(
                "%(market)s cannot be traded with the account %(account)s, which is at %(provider)s. "
                "Choose a market of the account's exchange, or another account."
            )
            % {"market": market, "account": account.name, "provider": account.get_provider_display()}
        ]
    if market and data_market and market.pair != data_market.pair:
        problems["data_market"] = [
            gettext("Its candles are of %(pair)s, but orders go to %(pair_2)s. Choose a market of the same pair.")
            % {"pair": data_market.pair, "pair_2": market.pair}
        ]
    return problems


def config_problems(config: StrategyConfig) -> Problems:
    """Everything that keeps `config` from running, by field; empty when it is sound."""
    problems = venue_problems(config.account, config.data_market, config.market)
    try:
        parameters_clean(config.strategy, config.parameters)
    except UnknownStrategy as exc:
        problems["strategy"] = [str(exc)]
    except InvalidParameters as exc:
        problems |= exc.errors
    return problems


def config_warnings(config: StrategyConfig) -> list[str]:
    """What a sound config should still be warned about, in sentences."""
    parameters = parameters_clean(config.strategy, config.parameters)
    unpaid = target_pays_fees(parameters, config.market.rules)
    warnings = [sentence(unpaid)] if unpaid else []
    if config.account.protection == ProtectionMode.NO_STOPS:
        warnings.append(
            gettext(
                "The account %(name)s can place no stop orders: only the running guardian protects its "
                "positions. While the platform is down, nothing does."
            )
            % {"name": config.account.name}
        )
    if not config.market.is_open:
        warnings.append(
            gettext("%(market)s is closed at the exchange: nothing will be ordered there.") % {"market": config.market}
        )
    return warnings + _live_deal_warnings(config)


def _live_deal_warnings(config: StrategyConfig) -> list[str]:
    if config.pk is None:
        return []
    live = config.deals.exclude(status__in=FINISHED_DEALS).select_related("market", "account")
    return [
        gettext(
            "Deal %(deal)s on %(symbol)s with the account %(name)s has not ended: it keeps the rules "
            "it was opened with. What is changed here counts from the next deal on."
        )
        % {"deal": deal.pk, "symbol": deal.market.symbol, "name": deal.account.name}
        for deal in live
    ]
