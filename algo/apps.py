from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy


class AlgoConfig(AppConfig):
    name = "algo"
    verbose_name = gettext_lazy("Trading")

    def ready(self) -> None:
        from algo import checks  # noqa: F401, PLC0415 - registers them
        from algo.monitoring.tasks import carry_trail  # noqa: PLC0415 - models are there from here on
        from algo.monitoring.telemetry import telemetry_start  # noqa: PLC0415
        from algo.services import sign_in  # noqa: F401, PLC0415 - hears of locks
        from algo.services.roles import roles_ensure  # noqa: PLC0415 - models are there from here on
        from algo.typed import typed_digits_read  # noqa: PLC0415

        # The permissions of a new model are made after the migrations, so those of the roles are given after them too.
        post_migrate.connect(roles_ensure, sender=self, dispatch_uid="algo.roles")
        carry_trail()
        telemetry_start()
        typed_digits_read()
