"""One real process for all tests of the faces; tests that stop or kill it start their own."""

from __future__ import annotations

import pytest

from tests.paper.world import Server, running


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Server:
    with running(tmp_path_factory.mktemp("paper"), "--seed", "4", "--no-rate-limits") as server:
        yield server
