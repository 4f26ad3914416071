from django.urls import path

from algo.personal.views import language, preferences

urlpatterns = [
    path("language/", language, name="set_language"),
    path("preferences/", preferences, name="preferences"),
]
