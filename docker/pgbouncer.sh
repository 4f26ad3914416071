#!/bin/sh
# PgBouncer before the database, for the web application: sessions are shared between transactions (DATABASE_POOLED).
# Where the database is comes by PGHOST, PGPORT, PGDATABASE and PGUSER; the password from the file PGPASSWORD_FILE; it is
# asked of clients too. POOL_ADDRESS and POOL_PORT: where it listens. CONF_DIR: where its configuration is written.
set -eu
umask 077

: "${PGHOST:?}" "${PGPASSWORD_FILE:?}" "${PGPORT:=5432}" "${PGDATABASE:=algo_trade}" "${PGUSER:=algo_trade}"
: "${POOL_ADDRESS:=0.0.0.0}" "${POOL_PORT:=6432}" "${CONF_DIR:=/tmp}"
password=$(cat "$PGPASSWORD_FILE")

printf '"%s" "%s"\n' "$PGUSER" "$password" >"$CONF_DIR/userlist.txt"
# connect_query: what settings.py tells a session of its own by `options`, which a shared one does not take. A client that
# sends options all the same is refused, not ignored: it would work on under other bounds, or in another schema.
cat >"$CONF_DIR/pgbouncer.ini" <<CONF
[databases]
$PGDATABASE = host=$PGHOST port=$PGPORT dbname=$PGDATABASE user=$PGUSER password=$password connect_query='SET lock_timeout = 4000; SET idle_in_transaction_session_timeout = 10000; SET timezone = ''UTC'''

[pgbouncer]
listen_addr = $POOL_ADDRESS
listen_port = $POOL_PORT
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $CONF_DIR/userlist.txt
pool_mode = transaction
default_pool_size = 15
reserve_pool_size = 5
reserve_pool_timeout = 2
max_client_conn = 500
query_wait_timeout = 10
server_connect_timeout = 5
server_login_retry = 1
server_lifetime = 3600
server_idle_timeout = 300
tcp_keepidle = 5
tcp_keepintvl = 2
tcp_keepcnt = 3
log_connections = 0
log_disconnections = 0
CONF
exec pgbouncer "$CONF_DIR/pgbouncer.ini"
