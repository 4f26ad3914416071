from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("algo.api.urls")),
    path("", include("algo.personal.urls")),
    path("", include("algo.dashboard.urls")),
]

handler400 = "algo.api.problems.bad_request"
handler403 = "algo.api.problems.permission_denied"
handler404 = "algo.api.problems.page_not_found"
handler500 = "algo.api.problems.server_error"
