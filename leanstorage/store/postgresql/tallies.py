"""Kept counts in PostgreSQL: rows of one table, which triggers add, so that no writer ever waits for another one.

A count is the sum of its rows. Now and then a writer puts many rows of one value together as one.
"""
from collections.abc import Sequence

from leanstorage.store.fragments import index_name, quoted
from leanstorage.store.postgresql.compiler import INDEXED_CHARACTERS
from leanstorage.store.postgresql.wire import Connection

FOLDED = 500  # about how many rows of one value there are
# The key is the trigger's second argument; null is what is missing. Of a text its beginning is kept, which fits an index.
VALUE = (
    "coalesce(CASE WHEN jsonb_typeof({body} -> {key}) = 'string' "
    f"THEN to_jsonb(left({{body}} ->> {{key}}, {INDEXED_CHARACTERS})) ELSE {{body}} -> {{key}} END, 'null'::jsonb)"
)
FUNCTION = f"""
CREATE OR REPLACE FUNCTION leanstorage_tally() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept jsonb := 'null'::jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF TG_NARGS > 1 THEN kept := {VALUE.format(body="OLD.body", key="TG_ARGV[1]")}; END IF;
        INSERT INTO tallies VALUES (TG_ARGV[0], kept, OLD.readers IS NULL, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF TG_NARGS > 1 THEN kept := {VALUE.format(body="NEW.body", key="TG_ARGV[1]")}; END IF;
        INSERT INTO tallies VALUES (TG_ARGV[0], kept, NEW.readers IS NULL, 1);
        IF random() < {1 / FOLDED} THEN
            WITH gone AS (
                DELETE FROM tallies WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM tallies WHERE name = TG_ARGV[0] AND value = kept AND is_public = (NEW.readers IS NULL)
                    LIMIT {20 * FOLDED} FOR UPDATE SKIP LOCKED
                )) RETURNING n
            )
            INSERT INTO tallies SELECT TG_ARGV[0], kept, NEW.readers IS NULL, sum(n) FROM gone HAVING sum(n) <> 0;
        END IF;
    END IF;
    RETURN NULL;
END $$
"""
EVENTS = (("INSERT", "NEW", ""), ("DELETE", "OLD", ""), ("UPDATE", "OLD", " AND ({old}, OLD.readers IS NULL) IS DISTINCT FROM ({new}, NEW.readers IS NULL)"))


def build(connection: Connection, class_name: str, keys: Sequence[str]) -> None:
    """Go on counting, and count what was there before: writers wait for no more than the making of the triggers."""
    name, key = index_name(class_name, keys), f"'{keys[1]}'" if len(keys) > 1 else ""
    old, new, own = (VALUE.format(body=body, key=key) if key else "'null'::jsonb" for body in ("OLD.body", "NEW.body", "o.body"))
    if connection.execute("SELECT 1 FROM pg_trigger WHERE tgname = %s AND tgrelid = 'objects'::regclass", [f"{name}_0"]).fetchone() is None:
        with connection.transaction():
            connection.execute(FUNCTION)
            for number, (event, row, changed) in enumerate(EVENTS):
                connection.execute(
                    f"CREATE TRIGGER {name}_{number} AFTER {event} ON objects FOR EACH ROW "
                    f"WHEN ({row}.class = {quoted(class_name)}{changed.format(old=old, new=new)}) "
                    f"EXECUTE FUNCTION leanstorage_tally('{name}'{', ' + key if key else ''})"
                )
    # The objects of one snapshot less what the triggers have counted of them: right however often it is done.
    connection.execute(
        "INSERT INTO tallies SELECT %s, value, is_public, sum(n) FROM ("
        f"SELECT {own} AS value, o.readers IS NULL AS is_public, count(*) AS n FROM objects o WHERE o.class = {quoted(class_name)} GROUP BY 1, 2 "
        "UNION ALL SELECT value, is_public, -n FROM tallies WHERE name = %s) all_of_them GROUP BY value, is_public HAVING sum(n) <> 0",
        [name, name],
    )
    connection.execute("VACUUM ANALYZE tallies")  # so that its index alone answers


def drop(connection: Connection, class_name: str, keys: Sequence[str]) -> None:
    name = index_name(class_name, keys)
    for number in range(len(EVENTS)):
        connection.wire.command(f"DROP TRIGGER IF EXISTS {name}_{number} ON objects".encode())
    connection.wire.command(f"DELETE FROM tallies WHERE name = '{name}'".encode())
