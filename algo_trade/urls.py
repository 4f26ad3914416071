from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("algo.api.urls")),
    path("", include("algo.dashboard.urls")),
]
