"""Is it the database that is gone, or a statement that was wrong?"""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError, OperationalError

# Told by a session that lives: 40001 serialization, 40P01 deadlock, 55P03 lock_timeout, 57014 statement_timeout.
_STATEMENTS_OWN = frozenset({"40001", "40P01", "55P03", "57014"})


def is_lost(exc: BaseException) -> bool:
    """Whether an exception says that the session with the database is gone. The driver says so in three ways; the
    plainest, a bare DatabaseError, comes when a server crashes in the middle of a statement. A row that somebody else
    holds is the trouble of whoever needs that row."""
    if getattr(exc.__cause__, "pgcode", None) in _STATEMENTS_OWN:
        return False
    return isinstance(exc, OperationalError | InterfaceError) or type(exc) is DatabaseError
