"""Exchange name -> client."""

from __future__ import annotations

import pytest

from providers.errors import AuthFailed
from providers.interface import ExchangeProvider
from providers.provider_factory import (
    KNOWN_PROVIDERS,
    UnknownProvider,
    create_market_stream,
    create_order_stream,
    create_provider,
)


@pytest.mark.parametrize("name", KNOWN_PROVIDERS)
def test_every_known_exchange_gives_a_client_of_that_name(name: str) -> None:
    provider = create_provider(name, base_url="http://127.0.0.1:9100/prefix", api_key="0123456789" * 4)
    assert isinstance(provider, ExchangeProvider)
    assert provider.name == name
    assert "0123456789" not in repr(provider)


def test_both_promised_exchanges_are_known() -> None:
    assert set(KNOWN_PROVIDERS) == {"wallex", "nobitex"}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownProvider, match="'binance': known are wallex, nobitex"):
        create_provider("binance", base_url="https://x")


def test_a_base_url_that_is_none_and_a_key_that_cannot_be_one_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="base URL"):
        create_provider("wallex", base_url="api.wallex.ir")
    with pytest.raises(AuthFailed):
        create_provider("nobitex", base_url="https://x", api_key="two words")


def test_clients_of_one_address_share_a_budget() -> None:
    one, two, other = (
        create_provider("wallex", base_url=f"http://{h}/") for h in ("a.invalid", "a.invalid", "b.invalid")
    )
    budgets = [provider._http._budget for provider in (one, two, other)]  # type: ignore[attr-defined]
    assert budgets[0] is budgets[1]
    assert budgets[0] is not budgets[2]


@pytest.mark.parametrize("name", KNOWN_PROVIDERS)
def test_every_known_exchange_has_a_market_stream_and_nobitex_alone_an_order_stream(name: str) -> None:
    base_url = "http://127.0.0.1:9100/prefix"
    rest = create_provider(name, base_url=base_url, api_key="0123456789" * 4)
    market = create_market_stream(name, base_url=base_url, rest=rest)
    orders = create_order_stream(name, base_url=base_url, rest=rest)
    assert market is not None
    assert market.name == name
    assert "ws://127.0.0.1:9100/prefix/" in repr(market)
    assert (orders is not None) == (name == "nobitex")
    moved = create_market_stream(name, base_url=base_url, rest=rest, ws_url="ws://127.0.0.1:1/elsewhere")
    assert "ws://127.0.0.1:1/elsewhere" in repr(moved)


def test_a_stream_of_an_unknown_exchange_is_refused() -> None:
    rest = create_provider("wallex", base_url="https://x")
    with pytest.raises(UnknownProvider):
        create_market_stream("binance", base_url="https://x", rest=rest)
    with pytest.raises(UnknownProvider):
        create_order_stream("binance", base_url="https://x", rest=rest)
