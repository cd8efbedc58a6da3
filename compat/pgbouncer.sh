#!/bin/bash
# A pgbouncer of its own on a free port before the PostgreSQL of a URL: `compat/pgbouncer.sh start DIR URL MODE [SETTING=VALUE...]`
# prints the URL through it, `compat/pgbouncer.sh stop DIR` ends it. Everybody is let in as the user postgres. It refuses to
# run as root: there it runs as the user postgres. PGBOUNCER is the program of another version.
set -eu
action=$1 dir=$2
program=${PGBOUNCER:-pgbouncer}
if [ "$action" = start ]; then
    server=${3#*@} mode=$4
    shift 4
    name=${server#*/} server=${server%%/*}
    mkdir -p "$dir"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    printf '%s\n' "[databases]" "* = host=${server%:*} port=${server#*:} user=postgres" "[pgbouncer]" \
        "listen_addr = 127.0.0.1" "listen_port = $port" "unix_socket_dir =" "auth_type = any" "pool_mode = $mode" \
        "max_client_conn = 1000" "server_login_retry = 1" "logfile = $dir/log" "pidfile = $dir/pid" "$@" >"$dir/pgbouncer.ini"
    as=()
    [ "$(id -u)" = 0 ] && chown postgres "$dir" && as=(-u postgres)
    "$program" -q -d "${as[@]}" "$dir/pgbouncer.ini" >/dev/null
    for _ in $(seq 100); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "postgresql://postgres@127.0.0.1:$port/$name"
            exit
        fi
        sleep 0.1
    done
    tail -n 5 "$dir/log" >&2
    exit 1
else
    # By SIGINT it would wait for its clients first.
    [ ! -e "$dir/pid" ] || kill -TERM "$(cat "$dir/pid")"
fi
