from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from algo.api import backtests, optimisations, system, tickets, views

router = SimpleRouter()
router.trailing_slash = "/?"  # with or without: the same address
router.register("deals", views.DealViewSet)
router.register("orders", views.OrderViewSet)
router.register("fills", views.FillViewSet)
router.register("signals", views.SignalViewSet)
router.register("strategies", views.StrategyViewSet)
router.register("tickets", tickets.TicketViewSet)
router.register("backtests", backtests.BacktestViewSet)
router.register("optimisations", optimisations.OptimisationViewSet)

v1 = [
    re_path(r"^auth/login/?$", views.LoginView.as_view(), name="login"),
    re_path(r"^auth/logout/?$", views.LogoutView.as_view(), name="logout"),
    re_path(r"^system/health/?$", views.HealthView.as_view(), name="health"),
    re_path(r"^system/kill-switch/?$", system.KillSwitchView.as_view(), name="kill-switch"),
    *router.urls,
    re_path(r"^.*$", views.UnknownAddressView.as_view(), name="unknown"),
]
urlpatterns = [
    path("", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    path(
        "redoc/",
        SpectacularRedocView.as_view(url_name="api-schema", template_name="algo/api/redoc.html"),
        name="api-redoc",
    ),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("v1/", include((v1, "v1"))),
]
