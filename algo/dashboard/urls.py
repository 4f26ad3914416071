"""The address `/`: the dashboard's room. Until it is furnished it leads to the admin."""

from django.urls import path
from django.views.generic import RedirectView

urlpatterns = [path("", RedirectView.as_view(url="/admin/"), name="home")]
