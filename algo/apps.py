from django.apps import AppConfig


class AlgoConfig(AppConfig):
    name = "algo"
    verbose_name = "Trading"
