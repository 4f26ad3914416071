"""The settings of the platform, for a server under measurement: requests are counted as ever, and never refused."""

from algo_trade.settings import *  # noqa: F403
from algo_trade.settings import REST_FRAMEWORK

REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = {
    name: "1000000/sec"
    for name in REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]  # type: ignore[attr-defined]
}
