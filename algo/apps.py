from django.apps import AppConfig


class AlgoConfig(AppConfig):
    name = "algo"
    verbose_name = "Trading"

    def ready(self) -> None:
        from algo import checks  # noqa: F401, PLC0415 - registers them
