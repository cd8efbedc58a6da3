"""The lines that databases which speak PostgreSQL's protocol have in words of their own, in PostgreSQL's here."""

BY_CODE_POINT = 'COLLATE "C"'  # as SQLite compares
JSON_OPERATORS = "jsonb_path_ops"  # of a GIN index that is asked for containment alone
# Keeps other writers from a name until the end of the transaction.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0)) IS NULL"


def session(statement_ms: int, lock_ms: int, work_mb: int) -> str:
    """The statement that sets up a session; a database that does not know one of the settings passes over it."""
    settings = {
        "statement_timeout": statement_ms,
        "lock_timeout": lock_ms,
        "work_mem": f"{work_mb}MB",
        "jit": "off",  # compiling takes longer than our statements do
        # What a role, a database or an environment may have set otherwise, and our statements rely upon.
        "client_encoding": "UTF8",
        "default_transaction_isolation": "read committed",  # else a write that waited for a lock does not see what it waited for
        "standard_conforming_strings": "on",
        "gin_fuzzy_search_limit": 0,  # else long lists come incomplete
    }
    rows = ", ".join(f"('{name}', '{value}')" for name, value in settings.items())
    return f"SELECT set_config(name, value, false) FROM (VALUES {rows}) AS wanted(name, value) JOIN pg_settings USING (name)"
