from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from algo.api import (
    accounts,
    backtests,
    channels,
    deals,
    deliveries,
    inbound,
    journal,
    markets,
    optimisations,
    performance,
    strategies,
    system,
    tickets,
    tokens,
    views,
    webhooks,
)

router = SimpleRouter()
router.trailing_slash = "/?"  # with or without: the same address
router.register("accounts", accounts.AccountViewSet)
router.register("deals", deals.DealViewSet)
router.register("orders", deals.OrderViewSet)
router.register("fills", views.FillViewSet)
router.register("signals", journal.SignalViewSet)
router.register("decisions", journal.DecisionViewSet)
router.register("strategies", strategies.StrategyViewSet)
router.register("markets", markets.MarketViewSet)
router.register("candle-fetches", markets.CandleFetchViewSet)
router.register("inbound-keys", inbound.InboundKeyViewSet)
router.register("inbound-signals", inbound.InboundAlertViewSet)
router.register("tickets", tickets.TicketViewSet)
router.register("backtests", backtests.BacktestViewSet)
router.register("optimisations", optimisations.OptimisationViewSet)
router.register("auth/tokens", tokens.TokenViewSet)
router.register("channels", channels.ChannelViewSet)
router.register("deliveries", deliveries.DeliveryViewSet)
router.register("webhooks/deliveries", webhooks.OperatorsDeliveryViewSet, basename="operators-delivery")
router.register("system/audit", system.AuditViewSet)

v1 = [
    re_path(r"^auth/login/?$", tokens.LoginView.as_view(), name="login"),
    re_path(r"^auth/logout/?$", tokens.LogoutView.as_view(), name="logout"),
    re_path(r"^inbound/(?P<id>[0-9a-f-]{36})/?$", inbound.InboundView.as_view(), name="inbound"),
    re_path(r"^system/health/?$", views.HealthView.as_view(), name="health"),
    re_path(r"^system/kill-switch/?$", system.KillSwitchView.as_view(), name="kill-switch"),
    re_path(r"^performance/strategies/?$", performance.ByStrategyView.as_view(), name="performance-strategies"),
    re_path(r"^performance/markets/?$", performance.ByMarketView.as_view(), name="performance-markets"),
    re_path(r"^performance/days/?$", performance.ByDayView.as_view(), name="performance-days"),
    re_path(r"^performance/equity/?$", performance.EquityView.as_view(), name="performance-equity"),
    re_path(r"^performance/risk/?$", performance.RiskView.as_view(), name="performance-risk"),
    re_path(r"^webhooks/?$", webhooks.WebhooksView.as_view(), name="webhooks"),
    re_path(r"^webhooks/test/?$", webhooks.WebhookTestView.as_view(), name="webhook-test"),
    re_path(r"^system/version/?$", system.VersionView.as_view(), name="version"),
    *router.urls,
    re_path(r"^.*$", views.UnknownAddressView.as_view(), name="unknown"),
]
urlpatterns = [
    path("", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    path(
        "redoc/",
        SpectacularRedocView.as_view(url_name="api-schema", template_name="algo/api/redoc.html"),
        name="api-redoc",
    ),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("v1/", include((v1, "v1"))),
]
