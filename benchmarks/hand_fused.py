"""The floor: indicators, signals and long trades of the default rules in one loop, written for nothing else.

No tick sizes, minimums, order of refusals, events or equity: only what such a loop cannot leave out. What it takes is
what the machine needs; how much more the engine takes is the price of everything that makes it an engine.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@njit(cache=True)
def fused(  # noqa: C901, PLR0912, PLR0915 - one loop is the point
    times: NDArray[np.int64], opens: Floats, highs: Floats, lows: Floats, closes: Floats, volumes: Floats
) -> tuple[int, float]:
    """Deals and final balance of BreakoutStrategy's default parameters with a trailing stop of 0.3 %."""
    n, count, quote, base = opens.size, 0, 10_000.0, 0.0
    weight_fast, weight_slow = 2.0 / 6.0, 2.0 / 14.0
    fast = slow = gain = loss = true_range = volume_sum = 0.0
    gap = before = older = strength = strength_before = 0.0
    top = bottom = 0
    entry = stop = target = best = 0.0
    fee, slip = 0.001, 0.0005
    signal, confidence, last_entry, day, trades, day_loss, day_equity = 0, 0.0, -(2**62), -1, 0, 0.0, quote
    paid = 0.0
    for i in range(n):
        # trades first: what the candle before said is done at this open
        today = (times[i] + 12_600) // 86_400
        if today != day:
            day, trades, day_loss, day_equity = today, 0, 0.0, quote + base * closes[max(i - 1, 0)]
        allowed = trades < 10 and day_loss < 0.05 * day_equity and times[i] - last_entry >= 1800
        if base == 0.0 and signal > 0 and allowed:
            entry = opens[i] * (1.0 + slip)
            bought = quote * 0.5 * confidence / entry
            paid = bought * entry
            quote, base = quote - paid, bought * (1.0 - fee)
            stop, target, best, last_entry = entry * 0.997, entry * 1.006, entry, times[i]
            trades += 1
        if base > 0.0:
            price = 0.0
            if lows[i] <= stop:
                price = min(stop, opens[i]) * (1.0 - slip)
            elif highs[i] > target:
                price = target
            if price > 0.0:
                got = base * price * (1.0 - fee)
                quote, base, count, day_loss = quote + got, 0.0, count + 1, day_loss + paid - got
            else:
                best = max(best, highs[i])
                if best * 0.997 >= stop * 1.001:
                    stop = best * 0.997
        # indicators of this candle
        close = closes[i]
        older, before = before, gap
        if i < 5:
            fast += close / 5.0
        else:
            fast += weight_fast * (close - fast)
        if i < 13:
            slow += close / 13.0
        else:
            slow += weight_slow * (close - slow)
        gap = fast - slow
        strength_before = strength
        if i > 0:
            change = close - closes[i - 1]
            up, down = max(change, 0.0), max(-change, 0.0)
            span = max(highs[i] - lows[i], abs(highs[i] - closes[i - 1]), abs(lows[i] - closes[i - 1]))
            if i <= 14:
                gain, loss, true_range = gain + up / 14.0, loss + down / 14.0, true_range + span / 14.0
            else:
                gain, loss = (gain * 13.0 + up) / 14.0, (loss * 13.0 + down) / 14.0
                true_range = (true_range * 13.0 + span) / 14.0
            strength = 50.0 if gain + loss == 0.0 else 100.0 * gain / (gain + loss)
        signal = 0
        if i > 220:
            ratio = volumes[i] * 20.0 / volume_sum
            move = close - closes[i - 3]
            up_now = gap > 0.0
            if close > highs[top] and up_now and strength < 75.0 and ratio >= 1.2:
                signal, confidence = 1, 0.8
            elif close < lows[bottom] and gap < 0.0 and strength > 25.0 and ratio >= 1.2:
                signal, confidence = -1, 0.8
            else:
                rising, falling = strength > strength_before, strength < strength_before
                if up_now and (before <= 0.0 or older <= 0.0) and move > 0.5 * true_range and rising:
                    signal, confidence = int(50.0 <= strength < 75.0), 0.7
                elif gap < 0.0 and (before >= 0.0 or older >= 0.0) and -move > 0.5 * true_range and falling:
                    signal, confidence = -int(25.0 < strength <= 50.0), 0.7
        # windows of the candles up to this one, for the next
        volume_sum += volumes[i] - (volumes[i - 20] if i >= 20 else 0.0)
        if highs[i] >= highs[top]:
            top = i
        elif top <= i - 20:
            top = i - 19
            for j in range(i - 18, i + 1):
                if highs[j] >= highs[top]:
                    top = j
        if lows[i] <= lows[bottom]:
            bottom = i
        elif bottom <= i - 20:
            bottom = i - 19
            for j in range(i - 18, i + 1):
                if lows[j] <= lows[bottom]:
                    bottom = j
    return count, quote + base * closes[n - 1]
