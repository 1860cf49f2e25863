"""The pgstac schema of a PostgreSQL database: connections, installation, queryables, errors.

The schema is installed where it is missing (that needs a role that may create extensions), used
where it has the version of the installed `pypgstac`, and refused otherwise: migrating a database
that others use is the operator's decision.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

import psycopg
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from lai_service.catalogue.cql2_sql import INDEXED
from lai_service.catalogue.queryables import PROPERTIES
from lai_service.errors import CatalogueBusyError, ConflictError, LaiServiceError, SettingsError

NUMBERS = frozenset(INDEXED)
"""Properties that pgstac indexes as numbers; it cannot store a text there."""

NUMBER = "lai_number"
"""Operator of filters that we add to pgstac's: its argument, in brackets, as a number."""
Pool = ConnectionPool[psycopg.Connection]
_INDEXES = {
    "lai_items_west": "ST_XMin(geometry)",
    "lai_items_south": "ST_YMin(geometry)",
    "lai_items_east": "ST_XMax(geometry)",
    "lai_items_north": "ST_YMax(geometry)",
    "lai_items_end": "end_datetime",
}
"""What the extent of a collection is read from, beside the indexes that pgstac makes."""
_REFUSALS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,  # what pgstac raises of its own
    UnicodeEncodeError,
)
_LOCK = 0x6C6169  # "lai": one process at a time prepares the schema


def open_pool(url: str, *, busy_timeout_s: float) -> Pool:
    """Connect to a database.

    Args:
        url: `postgresql://user:password@host:port/name`, or any libpq connection string.
        busy_timeout_s: how long a statement waits for a lock, and a request for a connection.

    Raises:
        SettingsError: the database does not answer.
    """

    def configure(connection: psycopg.Connection) -> None:
        set_json_dumps(json.dumps, connection)  # pypgstac sets others for the whole process
        set_json_loads(partial(json.loads, parse_int=_integer), connection)
        connection.execute(
            "select set_config('search_path', 'pgstac,public', false),"
            " set_config('timezone', 'UTC', false), set_config('jit', 'off', false),"
            " set_config('lock_timeout', %s, false),"
            " set_config('pgstac.readonly', 'true', false)",  # searches write no statistics
            (f"{round(busy_timeout_s * 1000)}ms",),
        )
        connection.execute(  # a fifth less work in a bulk load, where the server was built with it
            "select set_config(name, 'lz4', false) from pg_settings"
            " where name = 'default_toast_compression' and 'lz4' = any(enumvals)"
        )

    # Never prepared: a plan made for any box is a bad plan for most.
    options = {"autocommit": True, "prepare_threshold": None, "application_name": "lai-service"}
    pool: Pool = ConnectionPool(
        url,
        min_size=1,
        max_size=10,
        timeout=busy_timeout_s,
        kwargs=options,
        configure=configure,
        open=False,
    )
    try:
        with psycopg.connect(url, connect_timeout=10):  # raises at once what is wrong
            pass
        pool.open(wait=True, timeout=10)
    except (psycopg.Error, PoolTimeout) as error:
        pool.close()
        raise SettingsError(
            f"the catalogue's database cannot be opened (LAI_SERVICE_DATABASE_URL): {_first(error)}"
        ) from error
    return pool


def _integer(digits: str) -> float:
    """Read a number without a point; PostgreSQL writes 1.5e300 so, with all its zeros."""
    return int(digits) if len(digits.lstrip("-")) < 20 else float(digits)


def prepare_schema(pool: Pool, url: str, *, make: bool) -> dict[str, str]:
    """Register our queryables; where pgstac is missing, install it first if asked to.

    Returns:
        The versions of pgstac and of the server, named as in the answer to `/_mgmt/health`.

    Raises:
        SettingsError: none or another version is there, or the role may not do what is needed.
    """
    try:
        with pool.connection() as connection:
            connection.execute("select pg_advisory_lock(%s)", (_LOCK,))
            try:
                found = _version(connection)
                if found is None and not make:
                    raise SettingsError(
                        "there is no catalogue in the database of LAI_SERVICE_DATABASE_URL: it "
                        "holds no pgstac; name that of the service"
                    )
                found = found or _install(url)
                wanted = version("pypgstac")
                if found != wanted:
                    raise SettingsError(
                        f"the database holds pgstac {found}, this program works with {wanted}; "
                        f"migrate it: pypgstac migrate --toversion {wanted}"
                    )
                _register_queryables(connection)
                _create_indexes(connection)
                server = connection.info.parameter_status("server_version") or ""
            finally:
                connection.execute("select pg_advisory_unlock(%s)", (_LOCK,))
    except psycopg.Error as error:
        raise SettingsError(f"the pgstac schema cannot be prepared: {_first(error)}") from error
    return {"pgstac_version": found, "postgresql_version": server}


def _version(connection: psycopg.Connection) -> str | None:
    (there,) = _row(connection, "select to_regclass('pgstac.migrations') is not null")
    if not there:
        return None
    (found,) = _row(connection, "select pgstac.get_version()")
    return None if found is None else str(found)


def _row(connection: psycopg.Connection, query: str) -> tuple[object, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def _install(url: str) -> str:
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    database = PgstacDB(dsn=url)
    try:
        return str(Migrate(database).run_migration())
    finally:
        pool = database.pool
        database.disconnect()
        if pool is not None:
            pool.close()


def _register_queryables(connection: psycopg.Connection) -> None:
    """Register the types of our properties, which of them to index, and our operator."""
    cursor = connection.execute("select name, definition, property_index_type from queryables")
    known = {name: (definition, index) for name, definition, index in cursor}
    for name, definition in PROPERTIES.items():
        index = "BTREE" if name in INDEXED else None
        if name in ("id", "collection", "geometry", "datetime") or known.get(name) == (
            definition,
            index,
        ):
            continue
        wrapper = "to_float" if definition.get("type") == "number" else "to_text"
        connection.execute(
            "select upsert_queryable(%s, %s, %s, %s)", (name, Jsonb(definition), wrapper, index)
        )
    connection.execute(
        "insert into cql2_ops (op, template) values (%s, '(%%s)::float8') on conflict do nothing",
        (NUMBER,),
    )


def _create_indexes(connection: psycopg.Connection) -> None:
    for name, expression in _INDEXES.items():
        (there,) = _row(connection, f"select to_regclass('pgstac.{name}') is not null")
        if not there:
            connection.execute(f"create index {name} on items ({expression})".encode())


@contextmanager
def errors(refused: type[LaiServiceError]) -> Iterator[None]:
    """Turn errors of the database into ours.

    Args:
        refused: the error where it cannot compute or store what it was given.
    """
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise ConflictError(f"it exists already: {_first(error)}") from error
    except _REFUSALS as error:
        raise refused(f"the database refuses this: {_first(error)}") from error
    except (psycopg.OperationalError, PoolTimeout) as error:
        raise CatalogueBusyError(
            f"the database does not answer; try again: {_first(error)}"
        ) from error


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
