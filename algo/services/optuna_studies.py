"""Where the sampler keeps its trials: a schema of its own beside our tables, which nothing of Django's looks into.

Several processes may work at one study. A trial that a killed process left unfinished is never counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from django.db import connection

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage

Directions = Sequence[Literal["minimize", "maximize"]]

SCHEMA = "optuna"
_MAKING = 7_130_019  # advisory lock: two processes that make the tables at once would trip over each other


class StudyUnavailable(Exception):
    """The sampler's storage cannot be used; the message says why and what to do."""


@contextmanager
def study_storage() -> Iterator[RDBStorage]:
    """The storage, its tables made where they are missing. Its connections are closed at the end."""
    import optuna  # noqa: PLC0415 - over a second of start-up that only a search needs to pay
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - as above

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = _opened()
    except SQLAlchemyError as exc:
        # The text of the driver may name host and user, never the password; ours names neither.
        raise StudyUnavailable(
            f"The schema {SCHEMA!r} of the database, in which trials are kept, cannot be used "
            f"({type(getattr(exc, 'orig', None) or exc).__name__}). Nothing was changed. The database user needs the "
            f"right to make it (GRANT CREATE ON DATABASE), or make it: CREATE SCHEMA {SCHEMA}."
        ) from None
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def open_study(name: str, *, directions: Directions, seed: int) -> Iterator[Study]:
    """The study of that name, made where there is none. The sampler starts from `seed` and the trials there are."""
    import optuna  # noqa: PLC0415 - as above

    from algo.backtest.search import sampler  # noqa: PLC0415 - as above

    with study_storage() as storage:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        study.sampler = sampler(seed + len(study.get_trials(deepcopy=False)))
        yield study


def study_forget_unfinished(name: str, *, directions: Directions) -> int:
    """Give up trials that a killed process left behind. Only while nobody works at the study. Returns how many."""
    from optuna.trial import TrialState  # noqa: PLC0415 - as above

    with open_study(name, directions=directions, seed=0) as study:
        left = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in left:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return len(left)


def study_delete(name: str) -> None:
    """Forget a study and its trials; nothing happens where there is none."""
    import optuna  # noqa: PLC0415 - as above

    with study_storage() as storage:
        if name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)


def _opened() -> RDBStorage:
    from optuna.storages import RDBStorage  # noqa: PLC0415 - as above
    from sqlalchemy import create_engine, text  # noqa: PLC0415 - as above

    url, options = _url(), _options()
    engine = create_engine(url, connect_args=options)
    try:
        with engine.begin() as making:
            making.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})
            if making.execute(text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar() is None:
                making.execute(
                    text(f"CREATE SCHEMA {SCHEMA}")
                )  # asked first: IF NOT EXISTS needs the right all the same
            making.commit()
        with engine.connect() as held:  # the lock of the session: optuna makes its tables through another one
            held.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MAKING})
            try:
                return RDBStorage(url, engine_kwargs={"connect_args": options, "pool_size": 2, "pool_pre_ping": True})
            finally:
                held.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MAKING})
    finally:
        engine.dispose()


def _url() -> str:
    """Of the database Django talks to. Holds the password: it is handed to the driver and shown to nobody."""
    from sqlalchemy import URL  # noqa: PLC0415 - as above

    known = connection.settings_dict
    host, port = str(known["HOST"] or ""), str(known["PORT"] or "")
    socket = host.startswith("/")
    url = URL.create(
        "postgresql+psycopg2",
        username=known["USER"] or None,
        password=known["PASSWORD"] or None,
        host=None if socket else host or None,
        port=int(port) if port and not socket else None,
        database=known["NAME"],
        query={"host": host, **({"port": port} if port else {})} if socket else {},
    )
    return url.render_as_string(hide_password=False)


def _options() -> dict[str, Any]:
    """Django's own connection options, with another place for tables and without its short lock timeout."""
    known = {name: value for name, value in connection.settings_dict["OPTIONS"].items() if name != "options"}
    allowed = {
        name: value for name, value in known.items() if not name.startswith(("pool", "server_side", "isolation"))
    }
    return {
        **allowed,
        "options": f"-c search_path={SCHEMA} -c timezone=UTC -c idle_in_transaction_session_timeout=60000",
    }
