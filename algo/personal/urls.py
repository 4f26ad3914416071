from django.urls import path

from algo.personal.second_factor import second_factor
from algo.personal.views import language, preferences

urlpatterns = [
    path("language/", language, name="set_language"),
    path("preferences/", preferences, name="preferences"),
    path("second-factor/", second_factor, name="second-factor"),
]
