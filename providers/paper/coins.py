"""Coins that do not exist, for an exchange with more markets than the ten real names give (`--coins`).

Each is a function of its number: a larger market holds all coins of a smaller one, unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

REAL = 10
MOST = 80  # a Nobitex wallet's number has two digits for its coin
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KINDS = (  # price in USDT, tick in USDT, smallest amount
    (0.2, "0.00001", "0.1"),
    (150.0, "0.01", "0.001"),
    (2.2, "0.0001", "0.1"),
    (4_000.0, "0.01", "0.00001"),
    (0.6, "0.00001", "0.1"),
    (90.0, "0.01", "0.001"),
)


@dataclass(frozen=True, slots=True)
class MadeUpCoin:
    """`price` in USDT; `phase`: seconds by which its swings come later than those of BTC."""

    code: str
    price: float
    tick_size: Decimal
    step_size: Decimal
    phase: int

    @property
    def pairs(self) -> tuple[str, str]:
        return f"{self.code}/USDT", f"{self.code}/IRT"


def _coin(number: int) -> MadeUpCoin:
    price, tick, step = _KINDS[number % len(_KINDS)]
    code = f"P{_LETTERS[number // len(_LETTERS)]}{_LETTERS[number % len(_LETTERS)]}"
    # Prices apart from each other, so that no market is taken for another; swings spread over the common cycle.
    return MadeUpCoin(code, round(price * (1 + 0.01 * number), 6), Decimal(tick), Decimal(step), 37 * number % 600)


ALL = tuple(_coin(number) for number in range(MOST - REAL))


def made_up(coins: int) -> tuple[MadeUpCoin, ...]:
    """Those of an exchange with so many coins in all. Raises ValueError for a number it cannot have."""
    if not REAL <= coins <= MOST:
        raise ValueError(f"the synthetic market has {REAL} to {MOST} coins, not {coins}")
    return ALL[: coins - REAL]
