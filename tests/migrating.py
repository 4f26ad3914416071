"""Going back and forth along the migrations in a test."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from algo.management.commands.migrate import unhurried


def latest() -> tuple[str, str]:
    (leaf,) = MigrationExecutor(connection).loader.graph.leaf_nodes("algo")
    return leaf


def migrate_to(target: tuple[str, str]) -> Any:
    """The models of `target`, the database being there. A loaded machine may take its time, as `migrate` does."""
    with unhurried(connection):
        MigrationExecutor(connection).migrate([target])
    return MigrationExecutor(connection).loader.project_state([target]).apps
