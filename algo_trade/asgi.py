import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
application = get_asgi_application()

from algo_trade.requests import TextASGIRequest  # noqa: E402

application.request_class = TextASGIRequest

from algo.live.join import join_other_processes  # noqa: E402 - Django has to be set up before
from algo.live.streamed import prefer_streams  # noqa: E402
from algo.monitoring.web import watch_requests  # noqa: E402

join_other_processes()
prefer_streams()
watch_requests()
