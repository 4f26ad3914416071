"""docs/paper-exchange.md tells what is there: its tables equal the code, its examples work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from providers.paper.faults import KINDS, MOMENTS
from providers.paper.profiles import NOBITEX, WALLEX, meaning, switches
from tests.paper.world import ROOT, Server, running

DOCUMENT = (ROOT / "docs" / "paper-exchange.md").read_text()
GROUPS = {"requests": ("GET",), "market": tuple(set(MOMENTS) - {"WS"}), "streams": ("WS",)}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("document"), "--seed", "4") as server:
        yield server


def fault_rows(group: str) -> list[str]:
    rows = []
    for kind, spec in KINDS.items():
        if not set(spec.moments) & set(GROUPS[group]):
            continue
        params = [f"`{name}` ({told(param.default)}): {param.meaning}" for name, param in spec.params.items()]
        moment = "" if group == "requests" else f" `{spec.moments[0]}` |"
        rows.append(f"| `{kind}` |{moment} {spec.does} | {'<br>'.join(params)} |")
    return rows


def told(value: object) -> str:
    return {None: "off", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, str) else value


def switch_rows() -> list[str]:
    both = [{name: (value, section) for name, value, section in switches(profile)} for profile in (WALLEX, NOBITEX)]
    rows = []
    for name in dict.fromkeys([*both[0], *both[1]]):
        profile = WALLEX if name in both[0] else NOBITEX
        values = [json.dumps(each[name][0]) if name in each else "" for each in both]
        sections = dict.fromkeys(each[name][1] for each in both if name in each)
        rows.append(f"| `{name}` | {values[0]} | {values[1]} | {', '.join(sections)} | {meaning(profile, name)} |")
    return rows


@pytest.mark.parametrize("group", GROUPS)
def test_every_fault_stands_in_the_table_with_its_parameters(group):
    assert [row for row in fault_rows(group) if row not in DOCUMENT] == []


def test_every_moment_is_explained():
    assert [
        f"| `{name}` | {text} |" for name, text in MOMENTS.items() if f"| `{name}` | {text} |" not in DOCUMENT
    ] == []


def test_every_switch_stands_in_the_table_with_its_defaults():
    assert [row for row in switch_rows() if row not in DOCUMENT] == []


def test_no_fault_or_switch_stands_there_that_is_not():
    rows = set(re.findall(r"^\| `[a-z_0-9]+` \|.*", DOCUMENT, re.MULTILINE))
    assert rows == {*switch_rows(), *(row for group in GROUPS for row in fault_rows(group))}


EXAMPLES = re.findall(r"^\| `(GET|POST|DELETE) (/paper/\S+)` \| (?:`(\{.*?\})` )?\|", DOCUMENT, re.MULTILINE)


def test_every_address_of_the_control_api_has_its_row():
    from providers.paper.faces.control_api import ControlApi

    api = ControlApi.__new__(ControlApi)  # the table alone is asked for
    routes = {(sorted(route.methods - {"HEAD"})[0], route.path) for route in api.routes()}
    shown = {(method, re.sub(r"\?.*", "", path.removeprefix("/paper"))) for method, path, _ in EXAMPLES}
    shown = {(method, path.replace("/accounts/demo", "/accounts/{name}")) for method, path in shown}
    shown = {(method, re.sub(r"/faults/\d+", "/faults/{number:int}", path)) for method, path in shown}
    assert shown == routes


def test_the_examples_work_in_their_order(server):
    assert len(EXAMPLES) > 15
    for method, path, body in EXAMPLES:
        more = {"json": json.loads(body)} if body else {}
        answer = server.control(method, path.removeprefix("/paper"), **more)
        assert answer.status_code == 200, (method, path, body, answer.text)
