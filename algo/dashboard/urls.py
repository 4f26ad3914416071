"""The address `/`: the dashboard's room."""

from django.urls import path

from algo.dashboard import views

urlpatterns = [
    path("", views.home, name="home"),
    path("dashboard/state", views.state, name="dashboard-state"),
    path("dashboard/equity", views.equity, name="dashboard-equity"),
    path("dashboard/quotes", views.quotes, name="dashboard-quotes"),
    path("dashboard/charts/<int:pk>", views.chart, name="dashboard-chart"),
]
