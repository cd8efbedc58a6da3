#!/bin/bash
# A PostgreSQL of its own on a free port, in the folder given: `compat/postgresql.sh start DIR` prints its URL,
# `compat/postgresql.sh stop DIR` ends it. The server refuses to run as root: there it runs as the user postgres.
# POSTGRESQL_BIN is the folder of another version's programs.
set -eu
action=$1 dir=$2
bin=${POSTGRESQL_BIN:-$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1)}
as() { if [ "$(id -u)" = 0 ]; then su postgres -s /bin/bash -c "$1"; else bash -c "$1"; fi; }
if [ "$action" = start ]; then
    mkdir -p "$dir"
    [ "$(id -u)" = 0 ] && chown postgres "$dir"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    as "$bin/initdb -D $dir/data -U postgres -A trust -E UTF8 --locale=C.UTF-8 >$dir/initdb.log"
    as "$bin/pg_ctl -D $dir/data -w -l $dir/log -o '-p $port -k $dir -c listen_addresses=127.0.0.1 -c max_connections=200' start >/dev/null"
    echo "postgresql://postgres@127.0.0.1:$port/postgres"
else
    as "$bin/pg_ctl -D $dir/data -m fast -w stop >/dev/null"
fi
