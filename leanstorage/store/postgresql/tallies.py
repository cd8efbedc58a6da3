"""Kept counts in PostgreSQL: rows of one table, which triggers add, so that no writer ever waits for another one.

A count is the sum of its rows. Now and then a writer looks at a page of the table, wherever it is, and puts the rows of
each value on it together as one, or as none: so those of values that nobody writes any more do not stay.
"""
from collections.abc import Sequence

from leanstorage.store.fragments import index_name, quoted
from leanstorage.store.postgresql.compiler import INDEXED_CHARACTERS
from leanstorage.store.postgresql.wire import Connection

PERIOD = 50  # writes after which one, on average, puts rows together
MAX_ON_PAGE = 150  # rows
MOST = 10_000  # rows of one value at once
# The key is the trigger's second argument; null is what is missing. Of a text its beginning is kept, which fits an index.
VALUE = (
    "coalesce(CASE WHEN jsonb_typeof({body} -> {key}) = 'string' "
    f"THEN to_jsonb(left({{body}} ->> {{key}}, {INDEXED_CHARACTERS})) ELSE {{body}} -> {{key}} END, 'null'::jsonb)"
)
FUNCTION = f"""
CREATE OR REPLACE FUNCTION leanstorage_tally() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kept jsonb := 'null'::jsonb;
    page bigint;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        IF TG_NARGS > 1 THEN kept := {VALUE.format(body="OLD.body", key="TG_ARGV[1]")}; END IF;
        INSERT INTO tallies VALUES (TG_ARGV[0], kept, OLD.readers IS NULL, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF TG_NARGS > 1 THEN kept := {VALUE.format(body="NEW.body", key="TG_ARGV[1]")}; END IF;
        INSERT INTO tallies VALUES (TG_ARGV[0], kept, NEW.readers IS NULL, 1);
    END IF;
    IF random() < {1 / PERIOD} THEN
        page := floor(random() * greatest(1, pg_relation_size('tallies') / current_setting('block_size')::int));
        WITH seen AS (
            SELECT DISTINCT name, value, is_public FROM tallies
            WHERE ctid = ANY (ARRAY(SELECT format('(%s,%s)', page, n)::tid FROM generate_series(1, {MAX_ON_PAGE}) n))
        ), several AS (
            SELECT * FROM seen s WHERE 1 < (SELECT count(*) FROM (
                SELECT 1 FROM tallies t WHERE t.name = s.name AND t.value = s.value AND t.is_public = s.is_public LIMIT 2
            ) two)
        ), gone AS (
            DELETE FROM tallies WHERE ctid = ANY (ARRAY(
                SELECT l.ctid FROM several s CROSS JOIN LATERAL (
                    SELECT t.ctid FROM tallies t WHERE t.name = s.name AND t.value = s.value AND t.is_public = s.is_public
                    LIMIT {MOST} FOR UPDATE SKIP LOCKED
                ) l
            )) RETURNING name, value, is_public, n
        )
        INSERT INTO tallies SELECT name, value, is_public, sum(n) FROM gone GROUP BY name, value, is_public HAVING sum(n) <> 0;
    END IF;
    RETURN NULL;
END $$
"""
EVENTS = (("INSERT", "NEW", ""), ("DELETE", "OLD", ""), ("UPDATE", "OLD", " AND ({old}, OLD.readers IS NULL) IS DISTINCT FROM ({new}, NEW.readers IS NULL)"))


def build(connection: Connection, class_name: str, keys: Sequence[str]) -> None:
    """Go on counting, and count what was there before: writers wait for no more than the making of the triggers."""
    name, key = index_name(class_name, keys), f"'{keys[1]}'" if len(keys) > 1 else ""
    old, new, own = (VALUE.format(body=body, key=key) if key else "'null'::jsonb" for body in ("OLD.body", "NEW.body", "o.body"))
    connection.execute(FUNCTION)
    if connection.execute("SELECT 1 FROM pg_trigger WHERE tgname = %s AND tgrelid = 'objects'::regclass", [f"{name}_0"]).fetchone() is None:
        with connection.transaction():
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
