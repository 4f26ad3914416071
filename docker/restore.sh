#!/bin/sh
# Restore a backup into an EMPTY database: restore.sh FILE
#
# Refuses where there are tables already, so that nothing is overwritten by mistake. All of it or nothing: one
# transaction. Where the database is: as in backup.sh. Nothing of the platform may run against it meanwhile.
set -eu

[ $# = 1 ] || { echo "usage: restore.sh FILE" >&2; exit 2; }
[ -r "$1" ] || { echo "$1 cannot be read. Nothing was changed." >&2; exit 1; }
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi
export PGCONNECT_TIMEOUT=10

tables=$(psql --no-psqlrc -Atc "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
if [ "$tables" != 0 ]; then
    echo "The database ${PGDATABASE:-} has $tables tables: it is not empty. Nothing was changed." >&2
    exit 1
fi
pg_restore --exit-on-error --single-transaction --no-owner --no-privileges --dbname="${PGDATABASE:-algo_trade}" "$1"
psql --no-psqlrc -qAtc ANALYZE
echo "restored: $1"
