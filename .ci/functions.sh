# What .ci/run is made of: the totals, Pythons, programs that tests need, README's test command in a copy of the tree.
# shellcheck shell=bash disable=SC2154  # work, passed, failed, skipped, newest: .ci/run has them

# Add the totals of a unittest run, as its log says them. Its exit status comes second: a run that failed in another way.
count() {
    local log=$1 status=${2:-0} good bad skip
    read -r good bad skip < <("$python" .ci/unittest_totals.py "$log")
    [ "$status" != 0 ] && [ "$bad" = 0 ] && bad=1
    add "$good" "$bad" "$skip"
}

add() {
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# Run a command for so many seconds at most; show the end of what it says, and all failures; count it.
counted() {
    local title=$1 seconds=$2 status
    shift 2
    echo "-- $title --"
    timeout --kill-after=10 "$seconds" "$@" >"$work/step.log" 2>&1 </dev/null
    status=$?
    [ $status = 124 ] && echo "not done after $seconds seconds"
    if [ $status = 0 ]; then tail -n 15 "$work/step.log"; else tail -n 400 "$work/step.log"; fi
    count "$work/step.log" $status
}

# A step that is no unittest run: its failure counts as one.
checked() {
    local title=$1 seconds=$2
    shift 2
    echo "-- $title --"
    if timeout --kill-after=10 "$seconds" "$@" 2>&1 </dev/null; then add 1 0 0; else
        echo "FAILED: $title"
        add 0 1 0
    fi
}

# The first Python at hand whose version is one of those given, best first.
find_python() {
    local version candidate
    for version in "$@"; do
        for candidate in "$HOME"/.pyenv/versions/"$version".*/bin/python3 "python$version" python3; do
            "$candidate" -c "import sys; print(sys.executable); sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null >"$work/found" || continue
            cat "$work/found"
            return
        done
    done
}

# Install a Debian package unless the file that it brings is there.
need() {
    local file=$1 package=$2
    compgen -G "$file" >/dev/null && return
    (timeout 300 apt-get update && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y --no-install-recommends "$package") >"$work/apt.log" 2>&1 </dev/null
    compgen -G "$file" >/dev/null || { echo "$package cannot be installed"; tail -n 5 "$work/apt.log"; }
}

# README's command that runs the tests, in a copy of this tree, with `python3` being the one given.
run_with() {
    local with=$1 name=$2 tree="$work/$2"
    echo "== $("$with" --version) =="
    mkdir -p "$tree" "$tree.bin"
    git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$tree"
    ln -s "$with" "$tree.bin/python3"
    counted "README's second command" 1200 env -C "$tree" PATH="$tree.bin:$PATH" bash -c "$(grep -E '^python3 -m venv .*unittest$' README.md)"
}

# The tests of the storage on PostgreSQL, then as the server's loop makes the calls, on both databases: there on the newest
# PostgreSQL and through pgbouncer, where they can be had.
run_on_postgresql() {
    # Programs from registries need not run again: they have databases of their own.
    local tree="$work/old" url running once=(-u NODE_PATH -u NODE_ENGINES -u JAVA_SDK -u WALINE -u TWIKOO) storage=(-m unittest discover -s tests/leanstorage -t .)
    # Inline, those whose calls the server's loop can make: the others would do again what they did before.
    local inline
    read -r -a inline <<<"-m unittest $(grep -l service_support tests/leanstorage/test_*.py | sed 's/\.py$//; s#/#.#g' | tr '\n' ' ')"
    echo "== the storage on PostgreSQL =="
    need "/usr/lib/postgresql/*/bin/postgres" postgresql
    chmod 755 "$work"
    if url=$(compat/postgresql.sh start "$work/pg" </dev/null); then
        counted "PostgreSQL" 1500 env "${once[@]}" -C "$tree" LEANSTORAGE_TEST_POSTGRESQL="$url" .venv/bin/python -m coverage run "${storage[@]}"
        counted "the documents' commands, PostgreSQL" 300 env -C "$tree" LEANSTORAGE_TEST_POSTGRESQL="$url" .venv/bin/python -m unittest tests.repository.test_docs_commands
        running=pg
        if [ -n "$newest" ]; then
            compat/postgresql.sh stop "$work/pg"
            export POSTGRESQL_BIN="$newest"
            running=newest
            url=$(compat/postgresql.sh start "$work/newest" </dev/null)
        fi
        local pooled
        pooled=$(compat/pgbouncer.sh start "$work/pooler" "$url" session default_pool_size=60 server_idle_timeout=5 </dev/null) && url=$pooled
        counted "PostgreSQL ${newest:+18}${pooled:+ through pgbouncer}, calls inline" 1200 env "${once[@]}" -C "$tree" LEANSTORAGE_TEST_QUICK=1 LEANSTORAGE_TEST_POSTGRESQL="$url" .venv/bin/python "${inline[@]}" tests.leanstorage.test_database_trouble
        compat/pgbouncer.sh stop "$work/pooler"
        compat/postgresql.sh stop "$work/$running"
        unset POSTGRESQL_BIN
    else
        echo "PostgreSQL did not start"
        add 0 1 0
    fi
    counted "SQLite, calls inline" 1200 env "${once[@]}" -C "$tree" LEANSTORAGE_TEST_QUICK=1 .venv/bin/python "${inline[@]}"
}

# The branches that the tests of the storage (on PostgreSQL, see above) and of the app reach.
measure_coverage() {
    local tree="$work/old" folder
    echo "== coverage =="
    for folder in app leanengine leanwsgi; do
        counted "tests/$folder" 600 env -C "$tree" .venv/bin/python -m coverage run --append -m unittest discover -s "tests/$folder" -t .
    done
    checked "as many branches are covered as pyproject.toml asks for" 120 env -C "$tree" .venv/bin/python -m coverage report --format=total
}

# Small faults in what the last commit touched, and whether the tests notice: said, and never a failure, as it is a sample.
show_mutants() {
    git rev-parse --verify --quiet HEAD~1 >/dev/null || return 0
    echo "== mutants of the last commit =="
    timeout --kill-after=10 120 "$work/old/.venv/bin/python" bench/mutants.py --changed HEAD~1 --nearest --count 15 --seconds 80 2>/dev/null </dev/null ||
        echo "not done"
}

run_on_bare_machines() {
    need /usr/sbin/debootstrap debootstrap
    "$python" .ci/bare_machines </dev/null 2>&1 | tee "$work/bare.log"
    local totals
    totals=$(tail -n 1 "$work/bare.log" | grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$')
    # shellcheck disable=SC2046
    if [ -n "$totals" ]; then add $(grep -oE '[0-9]+' <<<"$totals"); else add 0 1 0; fi
}
