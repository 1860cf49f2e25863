"""The extent of each collection, kept up to date by its writers.

A row of `extents` covers the items of its collection; where an item changes or goes, the row goes
too, and the next reader has it made anew from all items.
"""

import sqlite3
from dataclasses import astuple, dataclass

from lai_service.catalogue.port import Document
from lai_service.catalogue.times import from_microseconds

__all__ = [
    "Extent",
    "compute_extent",
    "forget_extent",
    "keep_extent",
    "kept_extent",
]


@dataclass(frozen=True)
class Extent:
    """What some items cover; infinite the wrong way round where they are none."""

    t0: float = float("inf")
    """Earliest start, microseconds since 1970 UTC."""
    t1: float = float("-inf")
    """Latest end, microseconds since 1970 UTC."""
    west: float = float("inf")
    """Degrees."""
    east: float = float("-inf")
    """Degrees."""
    south: float = float("inf")
    """Degrees."""
    north: float = float("-inf")
    """Degrees."""

    def document(self) -> Document:
        """Return the parts of a STAC extent that are known."""
        extent: Document = {}
        if self.t0 <= self.t1:
            interval = [from_microseconds(int(t)) for t in (self.t0, self.t1)]
            extent["temporal"] = {"interval": [interval]}
        if self.west <= self.east:
            extent["spatial"] = {"bbox": [[self.west, self.south, self.east, self.north]]}
        return extent

    def joined(self, other: "Extent") -> "Extent":
        """Return an extent that covers both."""
        return Extent(
            min(self.t0, other.t0),
            max(self.t1, other.t1),
            min(self.west, other.west),
            max(self.east, other.east),
            min(self.south, other.south),
            max(self.north, other.north),
        )


_COLUMNS = "t0, t1, west, east, south, north"


def kept_extent(connection: sqlite3.Connection, collection_id: str) -> Extent | None:
    """Return the extent that is kept; None where it has to be made anew."""
    row = connection.execute(
        f"select {_COLUMNS} from extents where collection = ?", (collection_id,)
    ).fetchone()
    return None if row is None else Extent(*row)


def keep_extent(connection: sqlite3.Connection, collection_id: str, extent: Extent) -> None:
    """Write down the extent of a collection."""
    connection.execute(
        f"insert or replace into extents (collection, {_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)",
        (collection_id, *astuple(extent)),
    )


def forget_extent(connection: sqlite3.Connection, collection_id: str) -> None:
    """Let the next reader have the extent made anew."""
    connection.execute("delete from extents where collection = ?", (collection_id,))


def compute_extent(connection: sqlite3.Connection, collection_id: str) -> Extent:
    """Return the extent of all items of a collection; it takes a while where they are many."""
    found = connection.execute(
        "select min(i.t0), max(i.t1), min(r.minx), max(r.maxx), min(r.miny), max(r.maxy) "
        "from items i left join items_rtree r using (pk) where i.collection = ?",
        (collection_id,),
    ).fetchone()
    names = ("t0", "t1", "west", "east", "south", "north")
    known = {name: x for name, x in zip(names, found, strict=True) if x is not None}
    return Extent(**known)
