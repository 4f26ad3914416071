import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
application = get_wsgi_application()

from algo.live.join import join_other_processes  # noqa: E402 - Django has to be set up before
from algo.live.streamed import prefer_streams  # noqa: E402

join_other_processes()
prefer_streams()
