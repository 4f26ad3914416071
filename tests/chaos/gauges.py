"""What running processes use and say: memory, processor time, lines of logs. Reads /proc and files; changes nothing."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
KILOBYTE = 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """What one service uses together with all processes it started. `own` is memory that belongs to it alone and is not
    in a file (a page that several share counts in parts); `whole` adds files and shared memory. Bytes; seconds of
    processor time, those of children that ended included."""

    own: int = 0
    whole: int = 0
    processor: float = 0.0
    processes: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.own + other.own,
            self.whole + other.whole,
            self.processor + other.processor,
            self.processes + other.processes,
        )


# What stands in a command line, and how the launcher calls such a service. The first that fits counts.
NAMES: tuple[tuple[str, str], ...] = (
    ("providers.paper", "paper"),
    ("gunicorn", "web"),
    ("algo_trade.live", "live"),
    ("run_guardian", "guardian"),
    ("stream_market_data --provider nobitex", "stream_nobitex"),
    ("stream_market_data --provider wallex", "stream_wallex"),
    ("worker -Q orders ", "worker-orders"),
    ("worker -Q notifications ", "worker-notify"),
    ("worker -Q backtests ", "worker-backtests"),
    ("worker -Q ", "worker"),
    ("algo_trade beat", "beat"),
    ("algo_trade flower", "flower"),
    ("valkey", "valkey"),
    ("postgres", "postgres"),
)


def service_name(argv: str) -> str:
    """What `./run` calls the service of a command line; the line's first word where it knows none."""
    return next((name for words, name in NAMES if words in argv), Path(argv.partition(" ")[0]).name or "unknown")


def services_of(launcher: int) -> dict[str, Use]:
    """By service, what the children of the launcher and all their descendants use now; of the launcher itself too."""
    children: dict[int, list[int]] = defaultdict(list)
    for pid, parent in _parents():
        children[parent].append(pid)
    used = {"launcher": _use(launcher)}
    for pid in children[launcher]:
        name = service_name(_command_line(pid))
        used[name] = used.get(name, Use()) + sum((_use(each) for each in _family(pid, children)), Use())
    return used


def _family(pid: int, children: Mapping[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _family(child, children)


def _parents() -> Iterator[tuple[int, int]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            yield int(entry.name), int(fields[1])


def _stat(pid: int) -> list[str]:
    """The fields behind the name: state, parent, …; none of a process that has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command_line(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _use(pid: int) -> Use:
    """Nothing of a process that has gone."""
    try:
        own, whole = memory_of((PROC / str(pid) / "smaps_rollup").read_text())
    except OSError:
        return Use()
    fields = _stat(pid)
    processor = sum(map(int, fields[11:15])) / TICKS if fields else 0.0  # utime, stime, and the same of its children
    return Use(own, whole, processor, 1)


def memory_of(rollup: str) -> tuple[int, int]:
    """(own, whole) in bytes, of the text of /proc/PID/smaps_rollup."""
    found = {name: int(size) * KILOBYTE for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", rollup, re.MULTILINE)}
    return found.get("Pss_Anon", 0), found.get("Pss", 0)


# --- logs ------------------------------------------------------------------------------------------------------------

TRACEBACK = "Traceback (most recent call last)"
# How a record begins: ours and the paper exchange's, gunicorn's, Flower's, PostgreSQL's, Valkey's.
BEGINS = re.compile(r"^(?:\d{4}-\d\d-\d\d[ T]|\[\d{4}-\d\d-\d\d |\[[DIWEC] \d{6} |\d+:[A-Z] )")
SERIOUS = re.compile(r"^[^:]*:[^ ]* ?.{0,40}?\b(?:ERROR|CRITICAL|FATAL|PANIC)\b|^\[[EC] \d{6} ")
WARNED = re.compile(r"^[^:]*:[^ ]* ?.{0,40}?\bWARNING\b|^\[W \d{6} ")
DONE = re.compile(r"Task (?:algo\.tasks\.)?(\S+)\[\S+\] succeeded in ([\d.e-]+)s")
LONGEST_RECORD = 200  # lines


@dataclass(slots=True)
class _File:
    """How far one log was read, and the record that may still grow."""

    at: int = 0
    rest: bytes = b""
    record: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Logs:
    """Reads what was added to the logs of a folder since the last look, also over a log that was emptied meanwhile.

    `serious`: (log, record) of every error and traceback; `warnings`: how often each was said, numbers left out;
    `tasks`: (when it was read, seconds) of every task that Celery says is done, by name.
    """

    folder: Path
    serious: list[tuple[str, str]] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    tasks: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    lines: int = 0
    _files: dict[str, _File] = field(default_factory=lambda: defaultdict(_File))

    def look(self, now: float, *, at_end: bool = False) -> None:
        """`now`: kept beside what is found. `at_end`: nothing more will come, so the last records are whole."""
        for path in sorted(self.folder.glob("*.log")):
            file = self._files[path.name]
            for line in self._lines(path, file, at_end):
                self._take(path.name, file, line, now)
            if at_end:
                self._judge(path.name, file)

    def _lines(self, path: Path, file: _File, at_end: bool) -> Iterator[str]:
        added = b""
        if path.stat().st_size < file.at:  # its former content is in NAME.log.1 now
            added = _read(path.with_name(path.name + ".1"), file.at)
            file.at = 0
        added += (fresh := _read(path, file.at))
        file.at += len(fresh)
        whole, _, file.rest = (file.rest + added).rpartition(b"\n")
        if at_end:
            whole, file.rest = whole + b"\n" + file.rest, b""
        return iter(whole.decode(errors="replace").splitlines())

    def _take(self, log: str, file: _File, line: str, now: float) -> None:
        self.lines += 1
        if BEGINS.match(line):
            self._judge(log, file)
            if done := DONE.search(line):
                self.tasks[done[1]].append((now, float(done[2])))
        if len(file.record) < LONGEST_RECORD:
            file.record.append(line)

    def _judge(self, log: str, file: _File) -> None:
        record, file.record = file.record, []
        if not record:
            return
        if SERIOUS.search(record[0]) or any(TRACEBACK in line for line in record):
            self.serious.append((log, "\n".join(record)))
        elif WARNED.search(record[0]):
            self.warnings[f"{log}: {without_numbers(record[0])}"] += 1


def _read(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read()


def without_numbers(line: str) -> str:
    """A line as what it says: its time cut off, numbers and ids replaced, so that equal ones count together."""
    said = re.sub(r"^\S+ \S+ ", "", line) if BEGINS.match(line) else line
    said = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[A-Z0-9_]{12,}\b", "…", said)
    return re.sub(r"\d+(?:\.\d+)?", "N", said)[:240]


def unexplained(
    serious: Iterable[tuple[str, str]], allowed: Sequence[tuple[str, str, str]]
) -> tuple[list[str], dict[str, int]]:
    """(those that nothing explains, as sentences; how often each reason explained one). `allowed`: the name of a log,
    a pattern that the whole record must hold, and why it is no trouble."""
    wrong: list[str] = []
    explained: Counter[str] = Counter()
    for log, record in serious:
        why = next((why for name, pattern, why in allowed if log == name and re.search(pattern, record)), None)
        if why is None:
            head, _, more = record.partition("\n")
            wrong.append(f"{log}: {head[:300]}" + (f" … {more.splitlines()[-1][:200]}" if more else ""))
        else:
            explained[why] += 1
    return wrong, dict(explained)
