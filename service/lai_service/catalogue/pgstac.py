"""The catalogue in PostgreSQL, by the functions of pgstac.

Search, filter, sort order, paging and collections are pgstac's functions, those that
stac-fastapi-pgstac calls; items are stored by its loader and put together by its `hydrate_py`, six
times as fast as in the database. So other programs of pgstac may share a database. Ours is what
pgstac lacks: writes of which all or nothing is stored and that return what they did, a change
under a lock, counts by class, and extents that follow the items.

A `Search` becomes the request that pgstac's functions take: JSON in, no SQL of ours. What pgstac
reads otherwise than CQL2, or not at all, is written in operators that it has: boxes (across ±180°
too), a literal before the footprint, days, empty lists, arithmetic, `a_containedBy` and `a_equals`.
What is left different is listed in `service/README.md`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import shapely
from psycopg.types.json import Jsonb
from pypgstac.db import PgstacDB
from pypgstac.hydration import dehydrate, hydrate_py
from pypgstac.load import Loader, Methods
from shapely.geometry import mapping

from lai_service.catalogue.cql2 import SPATIAL, geometry_of, sides_of
from lai_service.catalogue.cql2_sql import ARITHMETIC, Sql, checked_text, filter_to_sql, value_of
from lai_service.catalogue.items import Document, dump_json, facts_of, from_microseconds
from lai_service.catalogue.pgstac_schema import NUMBER, NUMBERS, errors, open_pool, prepare_schema
from lai_service.catalogue.port import Catalogue, Connection, Page, Search
from lai_service.catalogue.search_sql import next_token, order_of, place_of, read_token
from lai_service.errors import BadRequestError, InvalidItemError
from lai_udf.longitudes import Bounds, bounding_box, box_holds, enclosing_box

_TURNED_S = 60.0
"""So long another program's items may stay unknown to the extent of a collection at ±180°."""
_COUNTABLE = 5000
"""Where the planner expects more items, counting takes longer than `QUICK_MS`: it is not tried."""


class PgstacCatalogue(Catalogue):
    """A `Catalogue` in a PostgreSQL database with pgstac.

    Args:
        url: `postgresql://user:password@host:port/name`.
        busy_timeout_s: how long a writer waits for another, a request for a connection.
        make: install pgstac where it is missing.

    Raises:
        SettingsError: the database does not answer, or holds another version of pgstac.
    """

    MONTH = Sql("""to_char(datetime at time zone 'UTC', 'YYYY-MM-01"T00:00:00Z"')""")

    def __init__(self, url: str, *, busy_timeout_s: float = 30.0, make: bool = True) -> None:
        self._pool = open_pool(url, busy_timeout_s=busy_timeout_s)
        self._turned: dict[str, tuple[float, Bounds]] = {}  # until when, by collection
        try:
            self._versions = prepare_schema(self._pool, url, make=make)
        except BaseException:
            self._pool.close()
            raise

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Connection]:
        with errors(BadRequestError), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def _writing(self, collection_id: str) -> Iterator[psycopg.Connection]:
        """Lend a connection inside a transaction; writers of one collection queue at a lock."""
        with (
            errors(InvalidItemError),
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))",
                (f"lai-service collection {collection_id}",),
            )
            yield connection

    def _ask(self, query: Sql) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(query.text.encode(), query.params or None).fetchall()

    def _collections(self, connection: Connection, collection_id: str | None) -> list[Document]:
        found = connection.execute(
            'select content from collections where id = coalesce(%s, id) order by id collate "C"',
            (collection_id,),
        )
        return [document for (document,) in found]

    def _with_extent(self, connection: Connection, document: Document) -> Document:
        start, end, *box = connection.execute(  # each from the end of an index
            "select min(datetime), max(end_datetime), min(ST_XMin(geometry)), "
            "min(ST_YMin(geometry)), max(ST_XMax(geometry)), max(ST_YMax(geometry)) "
            "from items where collection = %s",
            (document["id"],),
        ).fetchone()
        if start is None:
            return document
        if box[2] - box[0] >= 360:
            west, _, east, _ = self._shorter_way(connection, document["id"])
            box = [west, box[1], east, box[3]]
        interval = [moment.isoformat().replace("+00:00", "Z") for moment in (start, end)]
        extent = {"spatial": {"bbox": [box]}, "temporal": {"interval": [interval]}}
        return {**document, "extent": {**document.get("extent", {}), **extent}}

    def _shorter_way(self, connection: Connection, collection_id: str) -> Bounds:
        """Return a box with west > east where that is narrower, which all items show: kept a while.

        Looking at 100,000 items takes a second or two.
        """
        until, whole = self._turned.get(collection_id, (0.0, None))
        if whole is None or until < time.monotonic():
            spans = connection.execute(
                "select distinct ST_XMin(part.geom), ST_XMax(part.geom) "
                "from items, ST_Dump(geometry) as part where collection = %s",
                (collection_id,),
            )
            whole = enclosing_box((west, -90.0, east, 90.0) for west, east in spans)
            self._turned[collection_id] = (time.monotonic() + _TURNED_S, whole)
        return whole

    def _store_collection(self, connection: Connection, document: Document, is_new: bool) -> None:
        connection.execute("select upsert_collection(%s::jsonb)", (dump_json(document),))

    def _drop_collection(self, connection: Connection, collection_id: str) -> None:
        self._turned.pop(collection_id, None)
        connection.execute("select delete_collection(%s)", (collection_id,))

    def _items(
        self, connection: Connection, collection_id: str, ids: list[str]
    ) -> dict[str, Document]:
        rows = connection.execute(
            "select content_nonhydrated(i) from items i where collection = %s and id = any(%s)",
            (collection_id, ids),
        )
        return {item["id"]: _whole(item) for (item,) in rows}

    def _checked(self, document: Document) -> Document:
        facts = facts_of(document)
        if facts.footprint is None:
            raise InvalidItemError(
                f"item {facts.id} has no geometry; pgstac stores none without one"
            )
        for name in NUMBERS & document["properties"].keys():
            value = document["properties"][name]
            if not isinstance(value, int | float | None):
                raise InvalidItemError(f"item {facts.id}: {name} must be a number, not {value!r}")
        dump_json(document)
        return {**document, "type": "Feature"}

    def _store_items(
        self,
        connection: Connection,
        collection_id: str,
        items: list[Document],
        old: Mapping[str, Document],
    ) -> None:
        if items:
            assert isinstance(connection, psycopg.Connection)
            self._check_assets(connection, collection_id, items)
            loader = Loader(PgstacDB(pool=self._pool, connection=connection))
            method = Methods.delsert if old else Methods.insert
            if collection_id in self._turned:
                _, whole = self._turned[collection_id]
                places = filter(None, (facts_of(item).footprint for item in items))
                if old or not all(box_holds(whole, bounding_box(place)) for place in places):
                    self._turned.pop(collection_id, None)
            try:
                loader.load_items(iter(items), method, chunksize=len(items))
            except TypeError as error:  # of orjson
                raise InvalidItemError(f"pgstac cannot store the item: {error}") from error

    def _check_assets(
        self, connection: Connection, collection_id: str, items: list[Document]
    ) -> None:
        """Raise InvalidItemError where pgstac would give back other assets than it was given.

        It stores what differs from `item_assets` of the collection, and takes null, `[]`, a truth
        value beside a number and an object beside a plain value for no difference, or a wrong one.
        """
        query = "select base_item from current_base_item(%s)"
        ((base,),) = connection.execute(query, (collection_id,))
        base = {"assets": base["assets"]} if base and "assets" in base else {}
        for item in items:
            given = {"assets": item["assets"]} if "assets" in item else {}
            try:
                kept = dump_json(hydrate_py(base, dehydrate(base, given)))
            except (AttributeError, TypeError):  # a key is looked up in a plain value, or is one
                kept = None
            if kept != dump_json(given):
                raise InvalidItemError(
                    f"item {item['id']}: pgstac cannot store its assets beside `item_assets` "
                    "of the collection: null, [], or values of another kind"
                )

    def _drop_item(self, connection: Connection, collection_id: str, item_id: str) -> None:
        self._turned.pop(collection_id, None)
        connection.execute("select delete_item(%s, %s)", (item_id, collection_id))

    def search(self, search: Search) -> Page:
        """Return one page of the items that match."""
        ((found,),) = self._ask(Sql("select search(%s)", (Jsonb(request_of(search)),)))
        links = {link["rel"]: link["href"] for link in found["links"]}
        following = parse_qs(urlsplit(links.get("next", "")).query).get("token")
        token = next_token(search, (following[0],)) if following else None
        return Page([_whole(item) for item in found["features"]], token)

    def count(self, search: Search) -> int:
        """Return how many items match, whatever the limit and the token."""
        return int(self._count(search, context="on") or 0)

    def quick_count(self, search: Search) -> int | None:
        """Return the same, or None where it takes more than `QUICK_MS` milliseconds."""
        return self._count(
            search,
            context="auto",
            context_estimated_count=str(_COUNTABLE),
            context_estimated_cost="0",
        )

    def _count(self, search: Search, **conf: str) -> int | None:
        conf |= {"context_stats_ttl": "0 seconds"}  # counts that others wrote down may be old
        ((count,),) = self._ask(
            Sql(
                "select (where_stats(stac_search_to_where(%s), false, %s)).total_count",
                (Jsonb(request_of(search)), Jsonb(conf)),
            )
        )
        return None if count is None else int(count)

    def _where(self, search: Search) -> Sql:
        query = Sql("select stac_search_to_where(%s)", (Jsonb(request_of(search)),))
        return Sql(self._ask(query)[0][0])  # literals are quoted in it

    def _class_of(self, field: str, edges: tuple[float, ...]) -> Sql:
        value_of(field)  # refuses what cannot be a name
        ((value,),) = self._ask(Sql("select (queryable(%s)).expression", (field,)))
        return Sql(f"width_bucket({value}, array{[float(edge) for edge in edges]}::float8[])")

    def _server(self) -> dict[str, str]:
        return {"catalogue": "pgstac", **self._versions}

    def close(self) -> None:
        """Give back connections."""
        self._pool.close()


def _whole(item: Document) -> Document:
    """Put together an item and what its collection stores for all items."""
    base = item.pop("pgstac:base_item", None)
    item = hydrate_py(base, item) if base else item
    # some writers of pgstac leave this null out, which the item schema demands
    item["properties"] = {"datetime": None, **item.get("properties", {})}
    return item


_TRUE: Document = {"op": "=", "args": [1, 1]}
_FALSE: Document = {"op": "=", "args": [1, 0]}
_AS_SETS = {"a_containedby": ("a_contained_by",), "a_equals": ("a_contains", "a_contained_by")}
_DAYS = {
    "=": ("t_intersects", False),
    "<>": ("t_intersects", True),
    "!=": ("t_intersects", True),
    "<": ("t_before", False),
    ">=": ("t_before", True),
    ">": ("t_after", False),
    "<=": ("t_after", True),
}
"""Comparison with a day, as an operator on times and whether it is negated."""


def request_of(search: Search) -> Document:
    """Return a search as pgstac takes it.

    Raises:
        BadRequestError: place, order or token make no sense.
        FilterError: the filter is outside the white list (`cql2_sql`), or pgstac cannot compute it.
    """
    order_of(search)  # refuses what cannot be sorted by
    request: Document = {
        "limit": search.limit,
        "filter-lang": "cql2-json",
        "conf": {"context": "off", "nohydrate": True},
    }
    for name, values in (("collections", search.collections), ("ids", search.ids)):
        if values is not None:
            request[name] = [checked_text(value) for value in values]
    if search.start_us is not None or search.end_us is not None:
        ends = (search.start_us, search.end_us)
        request["datetime"] = "/".join(".." if t is None else from_microseconds(t) for t in ends)
    place = place_of(search)
    if place is not None:
        request["intersects"] = mapping(shapely.from_wkb(place))
    if search.filter is not None:
        filter_to_sql(search.filter)
        request["filter"] = _as_pgstac(search.filter)
    if search.sort:
        request["sortby"] = [
            {"field": key.field, "direction": "desc" if key.descending else "asc"}
            for key in search.sort
        ]
    if search.token is not None:
        (request["token"],) = read_token(search, 1)
    return request


def _as_pgstac(node: Any) -> Any:  # noqa: ANN401 (CQL2 JSON that passed the white list)
    """Write a filter in operators that pgstac has."""
    if isinstance(node, bool):
        return _TRUE if node else _FALSE
    if not isinstance(node, Mapping) or "op" not in node:
        return node
    operator, args = node["op"].lower(), list(node["args"])
    if operator in SPATIAL:
        predicate, literal = sides_of(SPATIAL[operator], args, operator)
        return {
            "op": f"s_{predicate}",
            "args": [{"property": "geometry"}, mapping(geometry_of(literal))],
        }
    if operator in ("and", "or"):
        parts = [_as_pgstac(arg) for arg in args]
        return {"op": operator, "args": parts} if parts else _as_pgstac(operator == "and")
    if operator == "not":
        return {"op": "not", "args": [_as_pgstac(args[0])]}
    if operator == "between":
        value, low, high = [args[0], *args[1]] if len(args) == 2 else args
        bounds = [{"op": ">=", "args": [value, low]}, {"op": "<=", "args": [value, high]}]
        return _as_pgstac({"op": "and", "args": bounds})
    if operator == "in" and (not args[1] or any(map(_is_day, args[1]))):
        return _as_pgstac(
            {"op": "or", "args": [{"op": "=", "args": [args[0], one]} for one in args[1]]}
        )
    if operator in _DAYS and any(map(_is_day, args)):
        temporal, negated = _DAYS[operator]
        comparison = {"op": temporal, "args": args}
        return {"op": "not", "args": [comparison]} if negated else comparison
    if operator in _AS_SETS:
        both = [{"op": name, "args": args} for name in _AS_SETS[operator]]
        return {"op": "and", "args": both}
    if any(isinstance(arg, Mapping) and arg.get("op") in ARITHMETIC for arg in args):
        args = [_computed(arg) for arg in args]
    return {"op": operator, "args": args}


def _computed(node: Any) -> Document:  # noqa: ANN401
    """Write a side of a calculation, in brackets and as a number, which pgstac 0.10 leaves out."""
    if isinstance(node, Mapping) and node.get("op") in ARITHMETIC:
        node = {"op": node["op"], "args": [_computed(arg) for arg in node["args"]]}
    return {"op": NUMBER, "args": [node]}


def _is_day(node: object) -> bool:
    return isinstance(node, Mapping) and "date" in node
