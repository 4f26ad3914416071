"""Where packages come from, and when there is nothing to do."""

import fcntl
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from launcher import ROOT, bootstrap, lock
from launcher.console import LauncherError

INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL", "PIP_CONFIG_FILE")


@pytest.fixture
def no_index(monkeypatch, tmp_path):
    for name in INDEXES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A checkout of two small locks, with an installer that notes what it was asked for."""
    for name in bootstrap.TEST_LOCKS:
        (tmp_path / name).write_text(f"{name}==1\n")
    venv = tmp_path / ".venv"
    places = {"ROOT": tmp_path, "RUN_DIR": tmp_path / ".run", "VENV": venv, "PYTHON": venv / "bin/python"}
    places |= {"STAMP": venv / ".installed.json", "UNFINISHED": venv / ".installing"}
    for name, value in places.items():
        monkeypatch.setattr(bootstrap, name, value)
    asked: list[list[str]] = []

    def install(locks):
        asked.append(list(locks))
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "lib/python3.11/site-packages").mkdir(parents=True, exist_ok=True)
        (venv / "bin/python").touch()
        (venv / ".installing").touch()

    monkeypatch.setattr(bootstrap, "_install_with_uv", install)
    return tmp_path, asked


def test_the_second_start_installs_nothing_and_is_quick(checkout):
    _, asked = checkout
    bootstrap.ensure()
    began = time.process_time()  # what others do on this machine meanwhile does not count
    bootstrap.ensure()
    assert time.process_time() - began < 0.3
    assert asked == [list(bootstrap.RUN_LOCKS)]


def test_a_changed_lock_is_installed_with_all_that_was_there(checkout):
    folder, asked = checkout
    bootstrap.ensure(bootstrap.TEST_LOCKS)
    bootstrap.ensure()  # the run needs less than is there
    (folder / "requirements.lock").write_text("changed==2\n")
    bootstrap.ensure()
    assert asked == [list(bootstrap.TEST_LOCKS)] * 2


def test_an_interrupted_installation_is_thrown_away_and_made_again(checkout):
    folder, asked = checkout
    bootstrap.ensure()
    half = folder / ".venv/lib/python3.11/site-packages/half_a_package"
    half.mkdir()
    (folder / ".venv/.installing").touch()
    bootstrap.ensure()
    assert len(asked) == 2
    assert not half.exists()
    assert not (folder / ".venv/.installing").exists()


def test_when_every_way_fails_the_sentence_says_what_happened_and_what_to_do(checkout, monkeypatch):
    def fail(locks):
        raise bootstrap._InstallFailed("name resolution failed")

    monkeypatch.setattr(bootstrap, "_install_with_uv", fail)
    monkeypatch.setattr(bootstrap, "_install_with_pip", fail)
    with pytest.raises(
        LauncherError, match=r"(?s)nothing was started.*name resolution failed.*offline.*UV_DEFAULT_INDEX"
    ):
        bootstrap.ensure()


def test_two_setups_at_once_install_once(checkout):
    folder, asked = checkout
    (folder / ".run").mkdir()
    with (folder / ".run/setup.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        waiting = Thread(target=bootstrap.ensure)
        waiting.start()
        time.sleep(0.1)
        assert asked == []
        bootstrap._make(bootstrap.RUN_LOCKS)  # what the other one does meanwhile
        fcntl.flock(other, fcntl.LOCK_UN)
        waiting.join(5)
    assert not waiting.is_alive()
    assert len(asked) == 1


def test_a_missing_lock_is_told(checkout):
    folder, _ = checkout
    (folder / "requirements-embedded.lock").unlink()
    with pytest.raises(LauncherError, match=r"requirements-embedded\.lock is missing"):
        bootstrap.ensure()


def test_the_credentials_of_an_index_are_never_repeated():
    said = bootstrap.last_words("noise\nERROR: https://me:hidden@mirror.test/packages failed\ncause: refused\n")
    assert said == "ERROR: https://***@mirror.test/packages failed\n  cause: refused"


@pytest.mark.parametrize("joint", ["-", "_"])
def test_the_index_is_the_users_own(no_index, tmp_path, joint):
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text(f"[global]\nindex{joint}url = https://file.test/packages\n")
    assert bootstrap.configured_index() == "https://file.test/packages"
    no_index.setenv("PIP_INDEX_URL", "https://pip.test/simple")
    assert bootstrap.uv_environment()["UV_DEFAULT_INDEX"] == "https://pip.test/simple"
    no_index.setenv("UV_DEFAULT_INDEX", "https://uv.test/simple")
    assert bootstrap.configured_index() == "https://uv.test/simple"


def test_uv_trusts_what_the_system_trusts_and_downloads_no_python(no_index):
    env = bootstrap.uv_environment()
    assert (env["UV_SYSTEM_CERTS"], env["UV_PYTHON_DOWNLOADS"]) == ("1", "never")


def test_without_pip_and_index_the_way_out_is_named(no_index, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "_pip", list)
    monkeypatch.setattr(bootstrap, "configured_index", lambda: None)
    with pytest.raises(bootstrap._InstallFailed, match="apt install python3-venv"):
        bootstrap._download_uv(tmp_path)


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_python_without_pip_finds_the_wheel_in_the_users_index(kind, tmp_path, monkeypatch):
    version = next(line for line in bootstrap.UV_LOCK.read_text().splitlines() if line.startswith("uv==")).split()[0][
        4:
    ]
    wheel = f"uv-{version}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(bootstrap.sys, "platform", "linux")
    pages = {
        "json": json.dumps(
            {"files": [{"filename": "uv-0.1.tar.gz", "url": "/x"}, {"filename": wheel, "url": "../../f/" + wheel}]}
        ),
        "html": f'<a href="/x">uv-0.1.tar.gz</a><a href="../../f/{wheel}#sha256=00">{wheel}</a>',
    }

    class Index(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"the wheel" if self.path == f"/f/{wheel}" else pages[kind].encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json" if kind == "json" else "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        found = bootstrap._download_from_index(f"http://127.0.0.1:{server.server_port}/simple", tmp_path)
        server.shutdown()
    assert found.read_bytes() == b"the wheel"
    assert bootstrap._sha256(found) not in bootstrap.pinned_hashes()  # and so `_fetch_uv` would refuse it


def test_locks_are_compiled_in_order_each_held_to_the_former():
    first, second, third = lock.commands()
    assert first[-3:] == ["requirements.txt", "-o", "requirements.lock"]
    assert second[-5:-3] == ["-c", "requirements.lock"]
    assert third[-7:-3] == ["-c", "requirements.lock", "-c", "requirements-embedded.lock"]


def test_what_runs_before_any_package_is_installed_imports_the_standard_library_only():
    modules = [
        path.stem for path in (ROOT / "launcher").glob("*.py") if path.stem not in ("pytest_plugin", "test_runner")
    ]
    code = "import sys; [__import__('launcher.' + name) for name in sys.argv[1:] if name != '__init__']"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}", *modules],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
