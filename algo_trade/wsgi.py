import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
application = get_wsgi_application()

from django.urls import get_resolver  # noqa: E402 - Django has to be set up before these

from algo.live.join import join_other_processes  # noqa: E402
from algo.live.streamed import prefer_streams  # noqa: E402
from algo.monitoring.web import watch_requests  # noqa: E402
from algo_trade.requests import TextRequest  # noqa: E402

application.request_class = TextRequest
join_other_processes()
prefer_streams()
watch_requests()

# All code is read now, not by the first request, and left out of every later search for garbage: looking through it
# stopped a process for up to 0.2 s at a time, which one request in twenty met.
list(get_resolver().url_patterns)
gc.collect()
gc.freeze()
