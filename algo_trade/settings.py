"""Django settings, all of them fed by the typed environment in env.py."""

from __future__ import annotations

import sys
import warnings
from datetime import timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dj_database_url
from pydantic import ValidationError

from algo_trade.csp import ADMIN, REDOC, SWAGGER, strict_policy
from algo_trade.env import BASE_DIR, Env, join_session
from providers.clock import clock_from_env

join_session()
try:
    env = Env()
except ValidationError as exc:
    sentences = [
        ".".join(map(str, error["loc"])) + ": " * bool(error["loc"]) + error["msg"].removeprefix("Value error, ")
        for error in exc.errors(include_input=False)
    ]
    sys.exit("Configuration error. " + " ".join(sentences))


def _files_of(package: str, folder: str) -> Path:
    """What an installed package ships there, found without importing it."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    if not places:
        sys.exit(f"Configuration error. The package {package} is not installed: install requirements.lock.")
    return Path(places[0]) / folder


CLOCK = clock_from_env()
SECRET_KEY = env.secret_key
DEBUG = env.DEBUG
ALLOWED_HOSTS = [host.strip() for host in env.ALLOWED_HOSTS.split(",") if host.strip()]
CSRF_TRUSTED_ORIGINS = [origin.strip() for origin in env.CSRF_TRUSTED_ORIGINS.split(",") if origin.strip()]

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_otp",
    "axes",
    "csp",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "drf_standardized_errors",
    "django_celery_beat",
    "simple_history",
    "algo.apps.AlgoConfig",
]
MIDDLEWARE = [
    "algo.monitoring.middleware.RequestIds",
    "algo.monitoring.middleware.Probes",  # before all that could keep it from answering
    "django.middleware.security.SecurityMiddleware",
    "algo_trade.bounds.BoundedRequests",
    "algo_trade.csp.PagesCSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "algo.api.middleware.AnswersOfTheApi",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "algo.personal.middleware.WrittenForItsReader",
    "algo.personal.gate.SecondFactorGate",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "algo_trade.urls"
WSGI_APPLICATION = "algo_trade.wsgi.application"
ASGI_APPLICATION = "algo_trade.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
# Kept for ten minutes: the first queries of a new connection are slow, and threads that began together renew together.
# These make and change tables, and work as their owner; everything else reads and writes rows.
OWNERS_COMMANDS = ("migrate", "database_role")
_is_owners = sys.argv[0].endswith("manage.py") and sys.argv[1:2] and sys.argv[1] in OWNERS_COMMANDS
_database_url = (_is_owners and env.MIGRATE_DATABASE_URL.get_secret_value()) or env.DATABASE_URL.get_secret_value()
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **dj_database_url.parse(_database_url, conn_max_age=600, conn_health_checks=True),
        "ATOMIC_REQUESTS": False,
    }
}
if DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
    sys.exit("Configuration error. DATABASE_URL must name a PostgreSQL database: money is never kept in anything less.")
# A worker that stops in the middle of a transaction (SIGSTOP, a swapped-out host) must not hold its rows for ever: its
# session is ended. A database host that is gone without a word is noticed in about ten seconds, instead of after two
# hours. Statements are bounded only while an account is held (algo/execution/locks.py): a migration or a report may
# take its time.
_SESSION = {"options": "-c lock_timeout=4000 -c idle_in_transaction_session_timeout=10000 -c timezone=UTC"}
DATABASES["default"]["OPTIONS"] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    **DATABASES["default"].get("OPTIONS", {}),
    # a pool that shares sessions sets the same itself (docker/pgbouncer.sh): it takes no options from a client
    **({} if env.DATABASE_POOLED else _SESSION),
}
DATABASE_POOLED = DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = env.DATABASE_POOLED
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.redis.url
CACHES = {
    "default": {
        "BACKEND": "algo_trade.caches.OneServerCache",
        "LOCATION": [REDIS_URL],  # Django would split a text at its commas
        "OPTIONS": {
            "pool_class": "algo.live.redis_link.CachePool",
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
        },  # a page never waits for a hanging cache
    },
    "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 500}},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    )
]
# The first makes new hashes; one of another kind is made anew when its user signs in.
PASSWORD_HASHERS = [
    f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("Argon2", "PBKDF2", "PBKDF2SHA1", "Scrypt")
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Counted in the database: see algo/services/sign_in.py.
AXES_HANDLER = "algo.services.sign_in.SignInHandler"
AXES_CLIENT_IP_CALLABLE = "algo.services.sign_in.client_address"
AXES_LOCKOUT_CALLABLE = "algo.services.sign_in.as_too_many"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_RESET_ON_SUCCESS = True
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
TWO_FACTOR = env.TWO_FACTOR or ("admins" if env.TLS else "optional")
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_AGE = 12 * 3600  # from the sign-in on; one more in a day
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # a link in a message leads to its page, not to a sign-in
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# No form of ours holds more, and there are no files to upload.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
CONTENT_SECURITY_POLICY = {"DIRECTIVES": strict_policy(env.LIVE_URL)}
# By the name of their address; the admin's are the admin's.
CSP_OF_PAGES = {"api-docs": SWAGGER, "api-redoc": REDOC, "preferences": ADMIN, "second-factor": ADMIN}
if env.TLS:
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = True
    # A browser takes these from this very host over TLS only: no neighbour of the domain can plant one.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LANGUAGE_CODE = "en"  # what is stored and logged is English; a page is in its reader's language
LANGUAGES = [("en", "English"), ("fa", "فارسی")]
LOCALE_PATHS = [BASE_DIR / "algo" / "locale"]  # ours before Django's
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_AGE = 31_536_000
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
FORMAT_MODULE_PATH = ["algo_trade.formats"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [("litecharts", _files_of("litecharts", "js"))]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True  # no collectstatic is needed to start
warnings.filterwarnings("ignore", message="No directory at", category=UserWarning)  # nor its directory

# --- exchanges and risk -------------------------------------------------------------------------------------------
WALLEX_BASE_URL = env.WALLEX_BASE_URL.rstrip("/")
NOBITEX_BASE_URL = env.NOBITEX_BASE_URL.rstrip("/")
WALLEX_WS_URL = env.WALLEX_WS_URL
NOBITEX_WS_URL = env.NOBITEX_WS_URL
WALLEX_API_KEY = env.WALLEX_API_KEY.get_secret_value()
NOBITEX_API_KEY = env.NOBITEX_API_KEY.get_secret_value()
EXCHANGE_ENVIRONMENT = env.EXCHANGE_ENVIRONMENT
PAPER_URL = env.PAPER_URL.rstrip("/")
PAPER_CONTROL_URL = env.PAPER_CONTROL_URL.rstrip("/")
PAPER_CONTROL_TOKEN = env.PAPER_CONTROL_TOKEN.get_secret_value()
FIELD_ENCRYPTION_KEYS = [key for key in env.FIELD_ENCRYPTION_KEYS.get_secret_value().split(",") if key]
DEFAULT_STOP_LOSS_PERCENT = Decimal("0.3")
DEFAULT_TAKE_PROFIT_PERCENT = Decimal("0.6")
MAX_POSITION_SIZE_PERCENT = Decimal("50.0")
TRADING_DAY_TIME_ZONE = env.TRADING_DAY_TIME_ZONE
INBOUND_SIGNALS = env.INBOUND_SIGNALS
KEEP_CANDLES_DAYS = env.KEEP_CANDLES_DAYS

# --- tasks --------------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = env.redis.broker_url
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # It must outlive any task twice over, or Redis hands a waiting one out again. Backtests run longer: theirs are
    # claimed in the database, so that a second message is one too many and does nothing.
    "visibility_timeout": 600,
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "health_check_interval": 15,
    **env.redis.transport_options(timeout=1),
}
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = env.redis.transport_options(timeout=1)
CELERY_BEAT_SCHEDULER = "algo_trade.beat:LeadingScheduler"
# Ticks look whether a candle has closed; in a replay, candles close faster. An expired tick is dropped, not caught up.
_speed = CLOCK.speed


def _every(task: str, seconds: float) -> dict[str, Any]:
    period = max(seconds / _speed, 1.0)
    return {"task": f"algo.tasks.{task}", "schedule": period, "options": {"expires": max(period * 0.9, 1.0)}}


def _to_queue(queue: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, "args": [queue], "options": {**entry["options"], "queue": queue}}


QUEUES = ("orders", "strategies", "market_data", "notifications", "backtests")
CELERY_BEAT_SCHEDULE = {
    "run strategies": _every("run_strategies", 5),
    "decide signals": _every("decide_signals", 5 * _speed),
    "sweep accounts": _every("sweep_accounts", 20 * _speed),
    "watch for alarms": _every("watch_alarms", 10 * _speed),
    "deliver events": _every("deliver_outbox", 10 * _speed),
    "refresh markets": _every("refresh_markets", 600 * _speed),
    "fetch candles": _every("fetch_candles", 5 * _speed),
    "sweep backtests": _every("sweep_backtests", 60 * _speed),
    "sweep searches": _every("sweep_optimisations", 60 * _speed),
    **{f"sign of life: {queue}": _to_queue(queue, _every("worker_alive", 20 * _speed)) for queue in QUEUES},
    "tell summaries": _every("tell_summaries", 60 * _speed),
    "watch keys": _every("watch_keys", 3600),
    "prune the journal": _every("prune_journal", 86400),
    "prune candles": _every("prune_candles", 86400),
    "prepare partitions": _every("prepare_partitions", 86400),
    "prune notifications": _every("prune_notifications", 86400),
    "prune the API": _every("prune_api", 3600 * _speed),  # tokens live in wall time
    "compare with the backtest": _every("compare_days", 3600),  # nightly: a day that has its report is left alone
}
FLOWER_URL = env.FLOWER_URL

# --- live updates -------------------------------------------------------------------------------------------------
WEB_URL = env.WEB_URL.rstrip("/")
LIVE_URL = env.LIVE_URL.rstrip("/")  # the page listens at LIVE_URL + "/live/events"
LIVE_CONNECTIONS = env.LIVE_CONNECTIONS
LIVE_CONNECTIONS_OF_USER = env.LIVE_CONNECTIONS_OF_USER

# --- REST ---------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "algo.api.access.ScopedTokenAuthentication",
        "algo.api.access.ProvedSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["algo.api.access.InScope"],
    "DEFAULT_PAGINATION_CLASS": "algo.api.pagination.Keyset",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "algo.api.schema.ProblemAutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],  # to look around there is /api/
    "DEFAULT_PARSER_CLASSES": ["algo.api.parsers.StrictJSONParser"],
    "DEFAULT_METADATA_CLASS": None,
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "EXCEPTION_HANDLER": "drf_standardized_errors.handler.exception_handler",
    # By user and by what the request needs: a screen that polls ten times a second still leaves room to close deals,
    # and more than two acts a second nobody means. What stops everybody is not turned every other second.
    "DEFAULT_THROTTLE_RATES": {
        "anon": "30/min",
        "read": "600/min",
        "trade": "120/min",
        "admin": "30/min",
        "login": "5/min",
        "health": "120/min",
        "inbound": "60/min",
        "inbound_all": "240/min",
        "backtests": "12/min",
        "exchange": "12/min",
    },
    "DEFAULT_THROTTLE_CLASSES": ["algo.api.throttling.AnonymousThrottle", "algo.api.throttling.ScopeThrottle"],
    # whose X-Forwarded-For is believed: nobody's, unless TLS says that a proxy of ours stands in front
    "NUM_PROXIES": 1 if env.TLS else 0,
    "COERCE_DECIMAL_TO_STRING": True,
}
DRF_STANDARDIZED_ERRORS = {
    "EXCEPTION_HANDLER_CLASS": "algo.api.problems.ProblemHandler",
    "EXCEPTION_FORMATTER_CLASS": "algo.api.problems.ProblemFormatter",
    "ALLOWED_ERROR_STATUS_CODES": ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429", "500"],
}
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105 - its own default, which migrations cannot ask for
REST_KNOX = {"TOKEN_TTL": timedelta(days=90), "AUTO_REFRESH": False}
SPECTACULAR_SETTINGS = {
    "TITLE": "algo_trade API",
    "DESCRIPTION": "Deals, orders, signals and strategies. Send `Authorization: Token <your token>`.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_standardized_errors.openapi_hooks.postprocess_schema_enums",
        "algo.api.schema.leave_out",
        "algo.api.examples.with_examples",
    ],
    "ENUM_NAME_OVERRIDES": {
        "CloseReasonEnum": "algo.models.CloseReason",
        "AllowedSidesEnum": "algo.models.AllowedSides",
        "DealStatusEnum": "algo.models.DealStatus",
        "AccountStateEnum": "algo.models.AccountState",
        "DeliveryStateEnum": "algo.models.DeliveryState",
        "StrategyStatusEnum": "algo.models.StrategyStatus",
        "TicketKindEnum": "algo.models.TicketKind",
        "RunStatusEnum": "algo.models.RunStatus",
        "OptimisationStatusEnum": "algo.models.OptimisationStatus",
        "SearchMethodEnum": "algo.models.SearchMethod",
        "ChannelTypeEnum": "algo.models.ChannelType",
        "QuietRuleEnum": "algo.models.QuietRule",
        "ChannelLanguageEnum": "algo.models.Language",
        "AlertStateEnum": "algo.models.AlertState",
        "AlertActionEnum": "algo.models.AlertAction",
    },
}
UNFOLD = {
    "SITE_TITLE": "algo_trade",
    "SITE_HEADER": "algo_trade",
    "SITE_SUBHEADER": "algo.admin.navigation.subheader",
    "SITE_SYMBOL": "candlestick_chart",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}algo/icon.svg"}],
    "STYLES": [f"{STATIC_URL}algo/admin.css"],
    "SHOW_LANGUAGES": True,
    "THEME": "algo.admin.navigation.theme",
    "ACCOUNT": {"navigation": "algo.admin.navigation.account_links"},
    "ENVIRONMENT": "algo.admin.navigation.environment",
    "DASHBOARD_CALLBACK": "algo.admin.home.home",
    "LOGIN": {"form": "algo.personal.sign_in.SignInForm"},
    "SIDEBAR": {"navigation": "algo.admin.navigation.sidebar"},
}

# --- notifications ------------------------------------------------------------------------------------------------
WEBHOOK_URL = env.WEBHOOK_URL
WEBHOOK_SECRET = env.WEBHOOK_SECRET.get_secret_value()
NOTIFY_PRIVATE_ADDRESSES = env.NOTIFY_PRIVATE_ADDRESSES
NOTIFY_CHAT_SERVICES = [name.strip().lower() for name in env.NOTIFY_CHAT_SERVICES.split(",") if name.strip()]
globals().update(env.mail)  # EMAIL_HOST …: no mail is sent where EMAIL_HOST is empty
EMAIL_TIMEOUT = 5

# --- who watches --------------------------------------------------------------------------------------------------
METRICS_TOKEN = env.METRICS_TOKEN.get_secret_value()
SENTRY_DSN = env.SENTRY_DSN.get_secret_value()
OTEL_EXPORTER_OTLP_ENDPOINT = env.OTEL_EXPORTER_OTLP_ENDPOINT

# --- words in the log ---------------------------------------------------------------------------------------------
STRATEGY_PROCESSOR_LOG_PREFIX = "PROCESSOR => "
DEAL_PROCESSING_LOG_PREFIX = "DEAL_PROCESSOR => "
ORDER_MANAGEMENT_LOG_PREFIX = "ORDER_MGMT => "
STOP_ORDER_MONITOR_LOG_PREFIX = "STOP_MONITOR => "
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"redact": {"()": "providers.redaction.RedactingFilter"}},
    "formatters": {"line": {"()": "algo.monitoring.logs.Lines"}, "json": {"()": "algo.monitoring.logs.json_lines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": env.LOG_FORMAT, "filters": ["redact"]}},
    "root": {"handlers": ["stderr"], "level": env.LOG_LEVEL},
    "loggers": {
        "urllib3": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        # servers bring handlers of their own, which mask nothing
        **{name: {"handlers": [], "propagate": True} for name in ("gunicorn.error", "gunicorn.access", "uvicorn")},
    },
}

TEST_RUNNER = "launcher.test_runner.PytestRunner"
