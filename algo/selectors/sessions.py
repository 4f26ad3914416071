"""Is it the database that is gone, or a statement that was wrong?"""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError, OperationalError


def is_lost(exc: BaseException) -> bool:
    """Whether an exception says that the session with the database is gone. The driver says so in three ways; the
    plainest, a bare DatabaseError, comes when a server crashes in the middle of a statement."""
    return isinstance(exc, OperationalError | InterfaceError) or type(exc) is DatabaseError
