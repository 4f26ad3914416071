"""How much of a result may be luck: Sharpe ratios deflated for the number of trials, deals in another order, and
markets put together anew out of pieces of the real one.

Sharpe ratios in here are per observation (per trading day), never per year, unless the name says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from algo.backtest.engine import BacktestResult
from algo.indicators import Series
from algo.strategies.interface import Candles

EULER_MASCHERONI = 0.5772156649015329
QUANTILES = (5, 25, 50, 75, 95)
_NORMAL = NormalDist()
_CELLS = 4_000_000  # numbers of a Monte Carlo kept in memory at once


@dataclass(frozen=True, slots=True)
class ReturnShape:
    """Moments of a series of returns. `kurtosis` is not the excess: a normal distribution has 3."""

    sharpe: float
    skew: float
    kurtosis: float
    count: int


@dataclass(frozen=True, slots=True)
class DeflatedSharpe:
    """`probability`: that the true Sharpe ratio is above what the best of `trials` sets without any skill would show,
    which is `expected_best`. `undeflated`: the same against 0, as if there had been one trial."""

    sharpe: float
    expected_best: float
    probability: float
    undeflated: float
    trials: int
    trial_variance: float
    shape: ReturnShape

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def return_shape(returns: Series) -> ReturnShape | None:
    """None for fewer than three returns, or for returns that are all the same."""
    if returns.size < 3 or not float(returns.std(ddof=1)) > 1e-12:
        return None
    mean, deviation = float(returns.mean()), float(returns.std())
    z = (returns - mean) / deviation
    return ReturnShape(mean / float(returns.std(ddof=1)), float((z**3).mean()), float((z**4).mean()), returns.size)


def probabilistic_sharpe(shape: ReturnShape, benchmark: float) -> float:
    """Probability that the true Sharpe ratio is above `benchmark`, given the length and the shape of the record.

    PSR(SR*) = Z[(SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1)/4 SR^2)]. Bailey and López de Prado (2012), "The
    Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), equation 11.
    """
    spread = 1 - shape.skew * shape.sharpe + (shape.kurtosis - 1) / 4 * shape.sharpe**2
    # Moments of one sample always give a spread of at least 0; at 0 the estimate has no error.
    error = math.sqrt(max(spread, 1e-12) / (shape.count - 1))
    return _NORMAL.cdf((shape.sharpe - benchmark) / error)


def expected_best_sharpe(variance: float, trials: int) -> float:
    """What the best of `trials` independent sets is expected to show where none has any skill, given the variance of
    their Sharpe ratios.

    SR0 = sqrt(V) ((1 - e) Z^-1[1 - 1/N] + e Z^-1[1 - 1/(N exp(1))]), e the Euler-Mascheroni constant. Bailey and López
    de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), equation 1.
    """
    if trials < 2:
        return 0.0
    first, second = (_NORMAL.inv_cdf(1 - 1 / (trials * scale)) for scale in (1.0, math.e))
    return math.sqrt(variance) * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)


def deflated_sharpe(returns: Series, trial_sharpes: Sequence[float], trials: int) -> DeflatedSharpe | None:
    """The best set's returns judged by how many sets were tried and how far their Sharpe ratios spread.

    `trials` counts every set that was judged; `trial_sharpes` may be fewer: a set without a deal has none. None where
    the returns have no Sharpe ratio. Bailey and López de Prado (2014), as above.
    """
    shape = return_shape(returns)
    if shape is None:
        return None
    variance = float(np.var(trial_sharpes, ddof=1)) if len(trial_sharpes) > 1 else 0.0
    bar = expected_best_sharpe(variance, trials)
    return DeflatedSharpe(
        shape.sharpe,
        bar,
        probabilistic_sharpe(shape, bar),
        probabilistic_sharpe(shape, 0.0),
        trials,
        variance,
        shape,
    )


# --- the order of the deals -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class MonteCarlo:
    """`drawdowns` (percent) of the same deals in other orders: the end of the account does not depend on the order.
    `finals` (equity as a multiple of the start) and `resampled_drawdowns` of as many deals drawn out of them with
    replacement: other deals of the same kind might have come."""

    deals: int
    drawdowns: Series
    finals: Series
    resampled_drawdowns: Series

    def as_dict(self) -> dict[str, Any]:
        """Quantiles, and the share of futures that end below where they began."""
        return {
            "deals": self.deals,
            "paths": int(self.drawdowns.size),
            "max_drawdown_percent": quantiles(self.drawdowns),
            "final_equity": quantiles(self.finals),
            "resampled_max_drawdown_percent": quantiles(self.resampled_drawdowns),
            "loss_probability": float((self.finals < 1).mean()),
        }


def quantiles(values: Series) -> dict[str, float]:
    """By percent, as text: {"5": ..., "50": ..., "95": ...}."""
    return {str(q): float(v) for q, v in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}


def deal_returns(result: BacktestResult) -> Series:
    """Profit of each deal as a share of the equity before it."""
    opened = result.deals["open_index"].astype(np.int64)
    before = result.equity[np.maximum(opened - 1, 0)]
    return result.deals["profit"] / before


def monte_carlo(returns: Series, *, paths: int, seed: int) -> MonteCarlo | None:
    """`paths` other fates of an account that made these deals, each with its share of the equity. None for no deal."""
    if not returns.size:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, min(paths, _CELLS // returns.size))
    shuffled, finals, drawn = [], [], []
    for start in range(0, paths, rows):
        count = min(rows, paths - start)
        shuffled.append(_drawdowns(rng.permuted(np.tile(returns, (count, 1)), axis=1))[1])
        ends, falls = _drawdowns(rng.choice(returns, (count, returns.size)))
        finals.append(ends)
        drawn.append(falls)
    return MonteCarlo(returns.size, *(np.concatenate(parts) for parts in (shuffled, finals, drawn)))


def _drawdowns(returns: NDArray[np.float64]) -> tuple[Series, Series]:
    """Final equity (start 1) and deepest fall in percent of each row of returns."""
    equity = np.cumprod(1 + np.hstack((np.zeros((returns.shape[0], 1)), returns)), axis=1)
    peaks = np.maximum.accumulate(equity, axis=1)
    falls = np.asarray(1 - equity / peaks, dtype=np.float64)
    return np.asarray(equity[:, -1], dtype=np.float64), falls.max(axis=1) * 100


# --- markets made of pieces of the real one -------------------------------------------------------------------------


class Blocks(StrEnum):
    """How pieces are cut: of random length (Politis and Romano), or all of one length (Künsch)."""

    STATIONARY = "stationary"
    MOVING = "moving"


@dataclass(frozen=True, slots=True)
class ShuffledBest:
    """`p_value`: how often the best set does as well on shuffled markets as it did on the real one.
    `(1 + worlds that reach it) / (1 + worlds)`, so never 0."""

    best: float
    worlds: tuple[float, ...]
    sets: int
    block: int

    @property
    def p_value(self) -> float:
        return (1 + sum(each >= self.best for each in self.worlds)) / (1 + len(self.worlds))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "worlds": list(self.worlds), "p_value": self.p_value}


def block_index(count: int, block: int, kind: Blocks, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` indexes into a series of `count`: runs of neighbours, `block` long (on average), the end followed by the
    beginning.

    Stationary: lengths are geometric with mean `block`: Politis and Romano (1994), "The Stationary Bootstrap", JASA
    89. Moving: every length is `block`: Künsch (1989), "The Jackknife and the Bootstrap for General Stationary
    Observations", Annals of Statistics 17, here on a circle, so that no candle is rarer than another.
    """
    if kind is Blocks.MOVING:
        fresh = np.arange(count) % block == 0
    else:
        fresh = rng.random(count) < 1 / block
        fresh[0] = True
    starts = np.flatnonzero(fresh)
    begins = rng.integers(count, size=starts.size)
    which = np.cumsum(fresh) - 1
    return np.asarray((begins[which] + np.arange(count) - starts[which]) % count, dtype=np.int64)


def resampled(candles: Candles, block: int, kind: Blocks, rng: np.random.Generator) -> Candles:
    """The market put together anew: the first candle and all times stay, the other candles come in blocks out of the
    whole series, each with the shape it had against the close before it. ValueError for prices that are no prices.

    Whatever does not depend on the order survives: the distribution of moves, drift, wicks, gaps, volumes, and every
    pattern shorter than a block. Whatever spans several blocks is gone.
    """
    prices = np.vstack([candles.open, candles.high, candles.low, candles.close])
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise ValueError("candles without a price cannot be resampled")
    shape = np.log(prices[:, 1:] / candles.close[:-1])  # each price against the close before
    index = block_index(len(candles) - 1, block, kind, rng)
    shape = shape[:, index]
    close = np.log(candles.close[0]) + np.concatenate(([0.0], np.cumsum(shape[3])))
    made = np.exp(close[:-1] + shape[:3])
    opens, high, low = (np.concatenate((prices[i, :1], made[i])) for i in range(3))
    closes = np.exp(close)
    # exp and log may part the last digit of prices that were equal
    high, low = np.maximum.reduce([high, opens, closes]), np.minimum.reduce([low, opens, closes])
    volume = np.concatenate((candles.volume[:1], candles.volume[1:][index]))
    return Candles(candles.open_time, opens, high, low, closes, volume)


def shuffled_scores(
    candles: Candles, best_on: Callable[[Candles], float], worlds: Sequence[int], *, block: int, kind: Blocks, seed: int
) -> list[float]:
    """`best_on`, the best score of the same sets on any market, of the shuffled markets of these numbers.

    Beside the score of the real market they make a ShuffledBest. Its null hypothesis is that the order of blocks means
    nothing. As every world is searched in the same way, the number of sets needs no correction (White (2000), "A
    Reality Check for Data Snooping", Econometrica 68).
    """
    return [best_on(resampled(candles, block, kind, np.random.default_rng((seed, number)))) for number in worlds]


def histogram(values: Sequence[float] | Series, bins: int = 30) -> Mapping[str, list[float]]:
    """Edges and counts, small enough to be kept."""
    counts, edges = np.histogram(np.asarray(values), bins=bins)
    return {"edges": edges.tolist(), "counts": counts.astype(float).tolist()}
