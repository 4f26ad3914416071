"""Log lines say what the work belongs to, and no secret: as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import logging.config

import pytest
from django.conf import settings as django_settings
from django.test import Client

from algo.execution.advance import _order_of
from algo.execution.decide import Rest
from algo.monitoring import tasks as watching
from algo.trail import begin, carried, current, sane_id, trail
from providers.redaction import redact, redact_tree, register_secret

SECRET = "CanaryOfTheLog0123456789"


@pytest.fixture(autouse=True)
def no_trail():
    yield
    begin()


@pytest.fixture
def written():
    """What the handler of the settings writes, in the format asked for."""

    def write(form: str, log) -> str:
        wanted = django_settings.LOGGING
        handler = {**wanted["handlers"]["stderr"], "formatter": form, "stream": (stream := io.StringIO())}
        config = {**wanted, "handlers": {"stderr": handler}, "root": {"handlers": ["stderr"], "level": "INFO"}}
        root, kept = logging.getLogger(), logging.getLogger().handlers[:]
        logging.config.dictConfig(config)
        try:
            log(logging.getLogger("algo.deals"))
        finally:
            logging.config.dictConfig(wanted)
            root.handlers[:] = kept
        return stream.getvalue()

    return write


def test_a_json_line_is_one_object_with_prefix_and_trail(written):
    def log(logger):
        with trail(request_id="4f1c2d3e", deal=7):
            logger.info("%sdeal=%s opened", django_settings.DEAL_PROCESSING_LOG_PREFIX, 7, extra={"tries": 3})

    line = json.loads(written("json", log))
    assert line["message"] == "DEAL_PROCESSOR => deal=7 opened"
    assert (line["level"], line["logger"]) == ("info", "algo.deals")
    assert (line["request_id"], line["deal"], line["tries"]) == ("4f1c2d3e", 7, 3)
    assert line["time"].endswith("Z")


def test_a_text_line_adds_what_its_message_does_not_say(written):
    def log(logger):
        with trail(request_id="4f1c2d3e", deal=7):
            logger.info("deal=%s opened", 7)

    assert written("line", log).endswith("INFO algo.deals deal=7 opened request_id=4f1c2d3e\n")


@pytest.mark.parametrize("form", ["line", "json"])
def test_no_secret_is_written_wherever_it_stands(written, form):
    register_secret(SECRET)

    def log(logger):
        try:
            int(f"refused key {SECRET}")
        except ValueError:
            with trail(request_id=SECRET):
                logger.exception("key %s", SECRET, extra={"headers": {"x": SECRET}, "api_key": "another one"})
        logger.info("with the stack", stack_info=True, extra={"note": [SECRET]})

    text = written(form, log)
    assert SECRET not in text
    assert "another one" not in text
    assert text.count("***") >= 3
    if form == "json":
        first = json.loads(text.splitlines()[0])
        assert "Traceback" in first["exception"]


def test_every_handler_masks():
    for handler in django_settings.LOGGING["handlers"].values():
        assert "redact" in handler["filters"]
    for name in ("gunicorn.error", "gunicorn.access", "uvicorn"):
        assert django_settings.LOGGING["loggers"][name] == {"handlers": [], "propagate": True}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("authorization=Token xyz", "authorization=Token ***"),
        ("'Authorization': 'Basic dXNlcg=='", "'Authorization': 'Basic ***'"),
    ],
)
def test_credentials_of_every_scheme_are_masked(text, masked):
    assert redact(text) == masked


def test_a_tree_is_masked_by_names_and_by_known_secrets():
    register_secret(SECRET)
    told = {
        "headers": [("Cookie", SECRET)],
        "Authorization": "x",
        "cookies": {"a": "b"},
        "token_id": 4,
        "ok": f"a {SECRET}",
    }
    assert redact_tree(told) == {
        "headers": [["Cookie", "***"]],
        "Authorization": "***",
        "cookies": {"a": "b"},
        "token_id": 4,
        "ok": "a ***",
    }


# --- request ids ------------------------------------------------------------------------------------------------------


def test_a_request_keeps_the_id_that_its_caller_gave():
    answer = Client().get("/health/live", headers={"X-Request-ID": "order-form.2026-11-30"})
    assert answer.headers["X-Request-ID"] == "order-form.2026-11-30"


@pytest.mark.parametrize(
    "told", ["", "short", "a" * 65, "with space in it", "line\\nbreak-123", "-begins-with-dash", "<b>12345</b>"]
)
def test_what_is_no_id_is_replaced(told):
    made = Client().get("/health/live", headers={"X-Request-ID": told}).headers["X-Request-ID"]
    assert made != told
    assert sane_id(made) == made


def test_a_request_leaves_no_trail_behind():
    Client().get("/health/live")
    assert current() == {}


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_only_what_leads_somewhere_goes_with_a_message():
    with trail(request_id="4f1c2d3e", deal=7, task="run_strategies", task_id="x"):
        headers: dict = {}
        watching._send_trail(headers=headers)
    assert headers == {"trail": {"request_id": "4f1c2d3e", "deal": 7}}
    headers = {}
    watching._send_trail(headers=headers)
    assert headers == {}


def test_the_order_of_an_action_is_part_of_the_trail():
    assert _order_of(Rest()) == {}


def test_trails_nest_and_end():
    with trail(account=1):
        with trail(deal=2):
            assert carried() == {"account": 1, "deal": 2}
        assert carried() == {"account": 1}
    assert carried() == {}
