#!/bin/sh
# Backups of the database, by pg_dump in its custom format.
#
#   backup.sh once           one now, into BACKUP_DIR; prints its path
#   backup.sh every          one now, then one every BACKUP_EVERY seconds (86400); a failure is told and tried again
#   backup.sh healthy        exit code 0 when the newest backup is younger than twice BACKUP_EVERY
#
# Where the database is comes by libpq's own variables (PGHOST, PGUSER, PGDATABASE …); the password from the file
# PGPASSWORD_FILE. The newest BACKUP_KEEP (14) are kept. A backup gets its name when it is whole and can be read.
# Exchange keys in it are encrypted: without FIELD_ENCRYPTION_KEYS, which is not in it, they are lost.
set -eu
umask 077

: "${BACKUP_DIR:=/backups}" "${BACKUP_EVERY:=86400}" "${BACKUP_KEEP:=14}"
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi
export PGCONNECT_TIMEOUT=10

once() {
    name=algo_trade-$(date -u +%Y%m%dT%H%M%SZ).dump
    draft=$BACKUP_DIR/.$name.draft
    rm -f "$BACKUP_DIR"/.*.draft # of one that was interrupted
    # One snapshot: what trades meanwhile waits for nothing. --no-owner: the restored one belongs to whoever restores it.
    pg_dump --format=custom --no-owner --no-privileges --lock-wait-timeout=30000 --file="$draft"
    pg_restore --list "$draft" >/dev/null
    sync "$draft" 2>/dev/null || sync
    mv "$draft" "$BACKUP_DIR/$name"
    forget
    echo "$BACKUP_DIR/$name"
}

forget() {
    ls -1 "$BACKUP_DIR" | grep '^algo_trade-.*\.dump$' | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | while read -r old; do
        rm -f "$BACKUP_DIR/$old"
    done
}

every() {
    trap 'exit 0' TERM INT
    while :; do
        if told=$("$0" once); then
            echo "backup: $told"
            pause=$BACKUP_EVERY
        else
            echo "backup: FAILED; what was there before is kept. Trying again in 5 minutes." >&2
            pause=300
        fi
        sleep "$pause" &
        wait $! || true # a signal ends the wait at once
    done
}

healthy() {
    newest=$(ls -1 "$BACKUP_DIR" | grep '^algo_trade-.*\.dump$' | sort | tail -n 1)
    [ -n "$newest" ] || { echo "there is no backup" >&2; exit 1; }
    age=$(($(date +%s) - $(date -r "$BACKUP_DIR/$newest" +%s)))
    [ "$age" -lt $((2 * BACKUP_EVERY)) ] || { echo "the newest backup is $age seconds old" >&2; exit 1; }
}

case ${1:-} in
    once | every | healthy) "$1" ;;
    *)
        echo "usage: backup.sh once | every | healthy" >&2
        exit 2
        ;;
esac
