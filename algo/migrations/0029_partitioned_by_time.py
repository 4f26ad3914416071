"""Candles, the journal and the histories of orders and deals become tables that are partitioned by time.

Nothing is copied: what is there becomes the first partition of the new table, as it stands. It is read once to see that
it fits, and its primary key is made anew, with the time in it. What can still go wrong leaves everything as it was: all
of it is one transaction.
"""

from importlib import import_module

from django.db import migrations

# By table: the time that decides, and how long a partition is. Every write to an order or a deal reads its history
# through an index of each partition: years keep those few.
TABLES = {
    "algo_candle": ("open_time", "quarter"),
    "algo_decision": ("bar_open_at", "month"),
    "algo_orderevent": ("at", "year"),
    "algo_dealevent": ("at", "year"),
}
CHAINED = {"algo_orderevent": "ORDER_EVENTS", "algo_dealevent": "DEAL_EVENTS"}

_ROWS = ",\n        ".join(f"('{table}', '{column}', '{period}')" for table, (column, period) in TABLES.items())
FUNCTIONS = f"""
CREATE FUNCTION algo_partitioned() RETURNS TABLE (parent text, field text, period text) LANGUAGE sql IMMUTABLE AS $$
    VALUES {_ROWS}
$$;

CREATE FUNCTION algo_period_end(moment timestamptz, period text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT (date_trunc(period, moment AT TIME ZONE 'UTC')
        + CASE period WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || period)::interval END) AT TIME ZONE 'UTC'
$$;

-- The partitions of a table from the oldest to the newest, each up to, not including, the beginning of the next. The one
-- whose end is infinite holds what lies beyond all that were prepared.
CREATE FUNCTION algo_partitions(of_table text) RETURNS TABLE (part text, ends timestamptz) LANGUAGE sql STABLE AS $$
    SELECT child.relname::text,
        COALESCE(substring(pg_get_expr(child.relpartbound, child.oid) FROM $r$TO \\('(.*)'\\)$r$), 'infinity')::timestamptz
    FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = of_table::regclass
    ORDER BY 2
$$;

-- TRUNCATE of a partition fires the triggers of that partition alone.
CREATE FUNCTION algo_partition_guard(of_table text, part text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF of_table IN ('algo_orderevent', 'algo_dealevent') THEN
        EXECUTE format($sql$
            CREATE TRIGGER history_is_not_erased BEFORE TRUNCATE ON %I FOR EACH STATEMENT
            WHEN (current_setting('algo.may_erase_history', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION algo_keep()
        $sql$, part);
    END IF;
END $$;

-- Make the partitions of all tables up to `until`. What had gone beyond them is in the partition without an end: that one
-- gets its end, as it stands, and an empty one takes its place. Returns how many were made.
CREATE FUNCTION algo_partitions_prepare(until timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    kind record;
    reached timestamptz;
    beyond timestamptz;
    fresh text;
    made integer := 0;
BEGIN
    FOR kind IN SELECT * FROM algo_partitioned() LOOP
        SELECT max(ends) INTO reached FROM algo_partitions(kind.parent) WHERE ends < 'infinity';
        EXECUTE format('SELECT max(%I) FROM %I', kind.field, kind.parent || '_beyond') INTO beyond;
        IF beyond IS NOT NULL THEN
            beyond := algo_period_end(beyond, kind.period);
            fresh := kind.parent || to_char(beyond AT TIME ZONE 'UTC', '_"until"_YYYY_MM_DD');
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', kind.parent, kind.parent || '_beyond');
            EXECUTE format('ALTER TABLE %I RENAME TO %I', kind.parent || '_beyond', fresh);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                kind.parent, fresh, reached, beyond);
            EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', kind.parent || '_beyond', kind.parent);
            PERFORM algo_partition_guard(kind.parent, kind.parent || '_beyond');
            reached := beyond;
            made := made + 1;
        END IF;
        WHILE reached < until LOOP
            beyond := algo_period_end(reached, kind.period);
            fresh := kind.parent || to_char(beyond AT TIME ZONE 'UTC', '_"until"_YYYY_MM_DD');
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', fresh, kind.parent);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                kind.parent, fresh, reached, beyond);
            PERFORM algo_partition_guard(kind.parent, fresh);
            reached := beyond;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- Write every partition of the journal that ended by `before` anew without the rows that said nothing, once. A table that
-- is written anew leaves nothing to vacuum. Returns how many rows went.
CREATE FUNCTION algo_journal_shrink(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    begins text := 'MINVALUE';
    each record;
    stored bigint;
    kept bigint;
    gone bigint := 0;
BEGIN
    FOR each IN SELECT part, ends, obj_description(part::regclass) AS told FROM algo_partitions('algo_decision')
        WHERE ends <= before ORDER BY ends
    LOOP
        IF each.told IS DISTINCT FROM 'shrunk' THEN
            EXECUTE format('SELECT count(*) FROM %I', each.part) INTO stored;
            CREATE TABLE algo_decision_kept (LIKE algo_decision INCLUDING ALL);
            EXECUTE format('INSERT INTO algo_decision_kept SELECT * FROM %I WHERE outcome <> %L', each.part, 'no_signal');
            GET DIAGNOSTICS kept = ROW_COUNT;
            EXECUTE format('ALTER TABLE algo_decision DETACH PARTITION %I', each.part);
            EXECUTE format('DROP TABLE %I', each.part);
            EXECUTE format('ALTER TABLE algo_decision_kept RENAME TO %I', each.part);
            EXECUTE format('ALTER TABLE algo_decision ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%L)',
                each.part, begins, each.ends);
            EXECUTE format('COMMENT ON TABLE %I IS %L', each.part, 'shrunk');
            gone := gone + stored - kept;
        END IF;
        begins := quote_literal(each.ends);
    END LOOP;
    RETURN gone;
END $$;

-- Drop every partition of candles that ended by `before`. Returns how many went. What is stored of those times later
-- goes into the partition that takes their place, an empty one.
CREATE FUNCTION algo_candles_drop(before timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    each record;
    newest record;
    gone integer := 0;
BEGIN
    SELECT * INTO newest FROM algo_partitions('algo_candle') WHERE ends <= before ORDER BY ends DESC LIMIT 1;
    IF newest IS NULL OR obj_description(newest.part::regclass) = 'dropped' THEN
        RETURN 0;
    END IF;
    FOR each IN SELECT * FROM algo_partitions('algo_candle') WHERE ends <= before LOOP
        EXECUTE format('DROP TABLE %I', each.part);
        gone := gone + 1;
    END LOOP;
    EXECUTE format('CREATE TABLE %I (LIKE algo_candle INCLUDING ALL)', newest.part);
    EXECUTE format('ALTER TABLE algo_candle ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
        newest.part, newest.ends);
    EXECUTE format('COMMENT ON TABLE %I IS %L', newest.part, 'dropped');
    RETURN gone;
END $$;
"""
NO_FUNCTIONS = """
DROP FUNCTION algo_candles_drop(timestamptz);
DROP FUNCTION algo_journal_shrink(timestamptz);
DROP FUNCTION algo_partitions_prepare(timestamptz);
DROP FUNCTION algo_partition_guard(text, text);
DROP FUNCTION algo_partitions(text);
DROP FUNCTION algo_period_end(timestamptz, text);
DROP FUNCTION algo_partitioned();
"""


class _Table:
    """What stands around the rows of a table: constraints, indexes and triggers, as PostgreSQL writes them down."""

    def __init__(self, cursor, name):
        self._cursor, self.name = cursor, name
        self.constraints = self._ask(
            "SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = %s::regclass AND contype IN ('p', 'u', 'f', 'c')"
        )
        self.indexes = self._ask(
            "SELECT relname, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
            "WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"
        )
        self.triggers = self._ask(
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger "
            "WHERE tgrelid = %s::regclass AND NOT tgisinternal AND tgparentid = 0"
        )

    def _ask(self, query):
        self._cursor.execute(query, [self.name])
        return self._cursor.fetchall()

    def of_type(self, *types):
        return [(name, told) for name, kind, told in self.constraints if kind in types]

    def give_names_away(self, to):
        """An index has its name alone in the schema; of the table's own, checks and foreign keys keep theirs."""
        run = self._cursor.execute
        for name, _ in self.triggers:
            run(f'DROP TRIGGER "{name}" ON {self.name}')
        for name, _ in self.of_type("p"):
            run(f'ALTER TABLE {self.name} DROP CONSTRAINT "{name}"')
        for name, _ in self.of_type("u"):
            run(f'ALTER TABLE {self.name} RENAME CONSTRAINT "{name}" TO "{name[:50]}_{to}"')
        for name, _ in self.indexes:
            run(f'ALTER INDEX "{name}" RENAME TO "{name[:50]}_{to}"')

    def put_on(self, key):
        """All of it on the table that has the name now, with this primary key."""
        run = self._cursor.execute
        for name, _ in self.of_type("p"):
            run(f'ALTER TABLE {self.name} ADD CONSTRAINT "{name}" PRIMARY KEY ({key})')
        for name, told in self.of_type("u", "f"):
            run(f'ALTER TABLE {self.name} ADD CONSTRAINT "{name}" {told}')
        for _, told in self.indexes:
            run(told.replace(" ON ONLY ", " ON "))
        for _, told in self.triggers:
            run(told)


def _next_number(cursor, table):
    cursor.execute(f"SELECT COALESCE(max(id), 0) + 1 FROM {table}")
    highest = cursor.fetchone()[0]
    cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table])
    cursor.execute(f"SELECT last_value + is_called::int FROM {cursor.fetchone()[0]}")
    return max(highest, cursor.fetchone()[0])


def _chain(cursor, table, *, cut):
    refuses = import_module("algo.migrations.0006_the_database_refuses")
    words = getattr(refuses, CHAINED[table])
    cursor.execute((refuses._UNCHAIN if cut else refuses._CHAIN).format(**words))


def split(cursor, table, column, period):
    """The table becomes the first partition of one of its name."""
    number = _next_number(cursor, table)
    if table in CHAINED:
        _chain(cursor, table, cut=True)  # its functions are of the table's own row type
    around = _Table(cursor, table)
    around.give_names_away("former")
    cursor.execute(f"ALTER TABLE {table} ALTER COLUMN id DROP IDENTITY IF EXISTS")
    cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_former")
    cursor.execute(f"CREATE SEQUENCE {table}_id_seq START {number}")
    cursor.execute(
        f"CREATE TABLE {table} (LIKE {table}_former INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS) "
        f"PARTITION BY RANGE ({column})"
    )
    cursor.execute(f"ALTER TABLE {table} ALTER COLUMN id SET DEFAULT nextval('{table}_id_seq')")
    cursor.execute(f"ALTER SEQUENCE {table}_id_seq OWNED BY {table}.id")
    around.put_on(f"id, {column}")
    cursor.execute(f"SELECT algo_period_end(greatest(now(), (SELECT max({column}) FROM {table}_former)), %s)", [period])
    (end,) = cursor.fetchone()
    cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {table}_former FOR VALUES FROM (MINVALUE) TO (%s)", [end])
    cursor.execute(f"CREATE TABLE {table}_beyond PARTITION OF {table} DEFAULT")
    for part in ("former", "beyond"):
        cursor.execute("SELECT algo_partition_guard(%s, %s)", [table, f"{table}_{part}"])
    if table in CHAINED:
        _chain(cursor, table, cut=False)


def join(cursor, table):
    """Back to one table: the rows of all partitions are copied."""
    number = _next_number(cursor, table)
    if table in CHAINED:
        _chain(cursor, table, cut=True)
    around = _Table(cursor, table)
    around.give_names_away("split")
    cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_split")
    cursor.execute(f"CREATE TABLE {table} (LIKE {table}_split INCLUDING GENERATED INCLUDING CONSTRAINTS)")
    cursor.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''",
        [table],
    )
    (columns,) = cursor.fetchone()
    cursor.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}_split")
    cursor.execute(f"DROP TABLE {table}_split")  # and its sequence
    cursor.execute(
        f"ALTER TABLE {table} ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME {table}_id_seq "
        f"START {number})"
    )
    around.put_on("id")
    if table in CHAINED:
        _chain(cursor, table, cut=False)


def forwards(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table, (column, period) in TABLES.items():
            split(cursor, table, column, period)
        cursor.execute("SELECT algo_partitions_prepare(now() + interval '1 year')")


def backwards(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in TABLES:
            join(cursor, table)


class Migration(migrations.Migration):
    dependencies = [("algo", "0028_events_by_kind")]

    operations = [
        migrations.RunSQL(FUNCTIONS, NO_FUNCTIONS),
        migrations.RunPython(forwards, backwards),
    ]
