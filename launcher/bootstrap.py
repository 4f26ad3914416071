"""Makes `.venv` from the lock files: with uv where it can be had, with pip otherwise.

A stamp in `.venv` holds the hashes of what was installed, so that the next start only compares. While an installation
runs, a mark lies there: one that was interrupted is thrown away and made again.

The places packages come from are the user's: UV_DEFAULT_INDEX, PIP_INDEX_URL, pip's configuration files, and
otherwise the default of the tool itself. Everything installed is checked against a sha256 in a lock file.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

from launcher import ROOT, RUN_DIR
from launcher.console import LauncherError, say
from launcher.processes import child_environment, remove_tree

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed.json"
UNFINISHED = VENV / ".installing"
RUN_LOCKS = ("requirements.lock", "requirements-embedded.lock")
TEST_LOCKS = (*RUN_LOCKS, "requirements-dev.lock")
UV_LOCK = ROOT / "launcher" / "uv.lock"
HEARTBEAT_SECONDS = 10.0
WHAT_TO_DO_OFFLINE = (
    "If this machine is offline, connect it; if it needs a mirror or a proxy, set UV_DEFAULT_INDEX (or PIP_INDEX_URL) "
    "or HTTPS_PROXY; if a proxy inspects TLS, set SSL_CERT_FILE. Then start again: what is there already is kept."
)


class _InstallFailed(Exception):
    """One way of installing did not work; its last words are the message."""


def ensure(locks: Sequence[str] = RUN_LOCKS) -> None:
    """`.venv` holds at least what `locks` pin when this returns; raises LauncherError with a sentence otherwise."""
    if _holds(locks):
        return
    with _one_at_a_time():
        if not _holds(locks):  # a `./test` beside us may have done it while we waited
            stamped = _read_stamp()
            _make([name for name in TEST_LOCKS if name in locks or name in stamped])


def _holds(locks: Sequence[str]) -> bool:
    if UNFINISHED.exists() or not PYTHON.exists():
        return False
    wanted = {name: _sha256(ROOT / name) for name in locks} | {"root": str(ROOT)}
    return wanted.items() <= _read_stamp().items()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    try:
        RUN_DIR.mkdir(exist_ok=True)
        with (RUN_DIR / "setup.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Waiting for another ./run or ./test that is making .venv …")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as failure:
        raise LauncherError(
            f"The environment could not be made: {failure}. The checkout may belong to another user, or the disk be "
            "full. Nothing was started."
        ) from failure


def _make(locks: Sequence[str]) -> None:
    began = time.monotonic()
    _refuse_missing(locks)
    if UNFINISHED.exists():
        say("The last installation was interrupted: making .venv again.")
        remove_tree(VENV)
    STAMP.unlink(missing_ok=True)
    reasons: list[str] = []
    for install in (_install_with_uv, _install_with_pip):
        try:
            install(locks)
        except _InstallFailed as failure:
            reasons.append(str(failure))
            UNFINISHED.unlink(missing_ok=True)  # it gave up by itself: what stands can be built upon
            continue
        _finish(locks)
        say(f"Packages are in .venv ({time.monotonic() - began:.0f} s).")
        return
    raise LauncherError(
        "The packages could not be installed, nothing was started. What happened:\n- "
        + "\n- ".join(reasons)
        + f"\n{WHAT_TO_DO_OFFLINE}"
    )


def _refuse_missing(locks: Sequence[str]) -> None:
    missing = [name for name in locks if not (ROOT / name).is_file()]
    if missing:
        raise LauncherError(
            f"{', '.join(missing)} is missing in {ROOT}: the checkout is incomplete. Nothing was started."
        )


def _finish(locks: Sequence[str]) -> None:
    """Let every tool of `.venv` find the project, then write the stamp: from here on the installation counts."""
    found = next(VENV.glob("lib/python3.*/site-packages"))
    (found / "algo_trade_checkout.pth").write_text(f"{ROOT}\n")
    stamp = {name: _sha256(ROOT / name) for name in locks} | {"root": str(ROOT)}
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps(stamp))
    draft.replace(STAMP)
    UNFINISHED.unlink(missing_ok=True)


def _read_stamp() -> dict[str, str]:
    try:
        return dict(json.loads(STAMP.read_text()))
    except (OSError, ValueError):
        return {}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


# --- uv -----------------------------------------------------------------------------------------------------------


def _install_with_uv(locks: Sequence[str]) -> None:
    uv = find_uv()
    env = uv_environment()
    if not _venv_is_usable():
        say(f"Making .venv (Python {platform.python_version()}) with uv …")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV], env, "uv venv")
    UNFINISHED.touch()
    say("Installing the pinned packages with uv …")
    _run([uv, "pip", "install", "--python", PYTHON, "--require-hashes", *_requirements(locks)], env, "uv pip install")


def find_uv() -> str:
    """uv on the PATH, or the pinned one, downloaded once into `.run/tools` and checked against launcher/uv.lock."""
    on_path = shutil.which("uv")
    if on_path and _answers(on_path):
        return on_path
    version = re.search(r"^uv==(\S+)", UV_LOCK.read_text(), re.MULTILINE)
    assert version is not None  # noqa: S101 - the lock is part of the project
    kept = RUN_DIR / "tools" / f"uv-{version[1]}" / "uv"
    if not _answers(str(kept)):
        say(f"Fetching uv {version[1]} …")
        _fetch_uv(kept)
    if not _answers(str(kept)):
        raise _InstallFailed("uv was fetched but does not run on this machine")
    return str(kept)


def _answers(uv: str) -> bool:
    try:
        return subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _fetch_uv(target: Path) -> None:
    RUN_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RUN_DIR) as folder:
        wheel = _download_uv(Path(folder))
        if _sha256(wheel) not in pinned_hashes():
            raise _InstallFailed("the downloaded uv does not have a sha256 of launcher/uv.lock; it was not used")
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
            binary = Path(archive.extract(member, folder))
        binary.chmod(0o755)
        target.parent.mkdir(parents=True, exist_ok=True)
        binary.replace(target)


def pinned_hashes() -> set[str]:
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", UV_LOCK.read_text()))


def _download_uv(folder: Path) -> Path:
    pip = _pip()
    if pip:
        words = ["download", "--quiet", "--disable-pip-version-check", "--retries", "1", "--no-deps"]
        _run(
            [*pip, *words, "--only-binary", ":all:", "--require-hashes", "-r", UV_LOCK, "-d", folder],
            None,
            "uv: pip download",
        )
        return next(folder.glob("uv-*.whl"))
    index = configured_index()
    if index is None:
        raise _InstallFailed(
            "this Python has no pip, uv is not installed, and no package index is configured: install one of them "
            "(for example: apt install python3-venv; or put the uv program on the PATH), or set UV_DEFAULT_INDEX to "
            "the address of a package index"
        )
    return _download_from_index(index, folder)


def _download_from_index(index: str, folder: Path) -> Path:
    """For a Python without pip: the wheel that fits this machine, from the index's JSON or HTML list (PEP 691, 503)."""
    try:
        page = urljoin(index.rstrip("/") + "/", "uv/")
        links = _links(page)
        name, link = next((name, link) for name, link in links.items() if fits_this_machine(name))
        wheel = folder / name
        with urllib.request.urlopen(link, timeout=60) as answer:  # noqa: S310 - the user's own index
            wheel.write_bytes(answer.read())
    except StopIteration:
        raise _InstallFailed(f"the package index lists no pinned uv for {platform.machine()}") from None
    except (OSError, ValueError) as failure:
        raise _InstallFailed(f"uv could not be downloaded from the configured package index ({failure})") from failure
    return wheel


def _links(page: str) -> dict[str, str]:
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json, text/html;q=0.5"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the user's own index
        body, kind = answer.read().decode(), answer.headers.get_content_type()
    if kind.endswith("json"):
        return {entry["filename"]: urljoin(page, entry["url"]) for entry in json.loads(body)["files"]}
    found = re.findall(r'href="([^"]+)"', body)
    return {link.partition("#")[0].rpartition("/")[2]: urljoin(page, link.partition("#")[0]) for link in found}


def fits_this_machine(wheel: str) -> bool:
    """Is this file name the pinned uv for this system and processor?"""
    version = re.search(r"^uv==(\S+)", UV_LOCK.read_text(), re.MULTILINE)
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if version is None or not wheel.startswith(f"uv-{version[1]}-") or not wheel.endswith(".whl"):
        return False
    if sys.platform == "darwin":
        return "macosx" in wheel and wheel.endswith("arm64.whl" if machine == "aarch64" else "x86_64.whl")
    return "manylinux" in wheel and wheel.endswith(f"_{machine}.whl")


def configured_index() -> str | None:
    """The package index the user configured, from the environment or pip's files; None when nothing is said."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    home = Path(os.environ.get("HOME") or "/nonexistent")
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(os.environ["PIP_CONFIG_FILE"]))
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read(files)
    except configparser.Error:
        return None
    settings = config["global"] if config.has_section("global") else {}
    # pip takes dashes and underscores in its options for the same
    return {name.replace("-", "_"): value for name, value in settings.items()}.get("index_url")


def uv_environment() -> dict[str, str]:
    """uv by the user's pip settings: the same index, the same certificates; never a Python of its own."""
    settings = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    index = configured_index()
    if index:
        settings["UV_DEFAULT_INDEX"] = index
    if os.environ.get("PIP_CERT"):
        settings.setdefault("SSL_CERT_FILE", os.environ.get("SSL_CERT_FILE") or os.environ["PIP_CERT"])
    return child_environment(settings)


# --- pip ----------------------------------------------------------------------------------------------------------


def _install_with_pip(locks: Sequence[str]) -> None:
    pip = _pip()
    if not pip:
        raise _InstallFailed("this Python has no pip either")
    if not _venv_is_usable():
        say(f"Making .venv (Python {platform.python_version()}) …")
        # Without pip inside: a bare Debian has no ensurepip to put it there.
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENV], None, "python -m venv")
    UNFINISHED.touch()
    say("Installing the pinned packages with pip (a minute or two) …")
    words = ["install", "--disable-pip-version-check", "--retries", "1", "--require-hashes", *_requirements(locks)]
    runner = [str(PYTHON), *pip[1:]] if pip[1:] and pip[1] != "-m" else [*pip, "--python", str(PYTHON)]
    _run([*runner, *words], None, "pip install")


def _pip() -> list[str]:
    """How to call pip with this Python: its own, or straight out of the wheel that ensurepip or the system keeps."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    bundles = [Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/usr/share/python-wheels")]
    ensurepip = importlib.util.find_spec("ensurepip")
    if ensurepip and ensurepip.origin:
        bundles.append(Path(ensurepip.origin).parent / "_bundled")
    for bundle in bundles:
        for wheel in sorted(bundle.glob("pip-*.whl"), reverse=True):
            return [sys.executable, f"{wheel}/pip"]
    return []


# --- both ---------------------------------------------------------------------------------------------------------


def _requirements(locks: Sequence[str]) -> list[str]:
    return [word for name in locks for word in ("-r", str(ROOT / name))]


def _venv_is_usable() -> bool:
    if not PYTHON.exists() or _read_config_home_is_gone():
        return False
    check = [str(PYTHON), "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def _read_config_home_is_gone() -> bool:
    """A moved checkout keeps scripts that name the old place: make the environment again."""
    moved = _read_stamp().get("root")
    return moved is not None and moved != str(ROOT)


def _run(words: Sequence[str | Path], env: dict[str, str] | None, name: str) -> None:
    """Run one step, a sign of life every ten seconds; raises with its last lines when it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env or child_environment(),
        )
        try:
            while True:
                try:
                    code = process.wait(HEARTBEAT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  … still at it ({time.monotonic() - began:.0f} s)")
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code:
            output.seek(0)
            raise _InstallFailed(f"{name} said: {last_words(output.read().decode(errors='replace'))}")


def last_words(output: str) -> str:
    """The lines of an installer that say what went wrong, without the credentials of an index address."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(error|cause|caused by|×|├|╰)", line, re.IGNORECASE)] or lines
    return re.sub(r"//[^/@\s]+@", "//***@", "\n  ".join(telling[-4:]))
