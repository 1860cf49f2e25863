"""What one request that anybody may send can cost: bytes, depth, vertices, pixels, and turns.

Every limit is checked before the work that it bounds, and answered with 400 or 413. Work on pixels
waits for its turn, so that many requests take longer and not more memory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from fastapi.dependencies.models import Dependant
from starlette.requests import Request

from lai_service.errors import BadRequestError

MAX_DEPTH = 48
"""Deepest nesting of JSON in a body that is read; SQLite's parser takes some 50 levels."""
MAX_VALUES = 50_000
"""Most values in a body: objects, lists and what they hold, a position being one."""
MAX_READ_BYTES = 1024 * 1024
"""Largest body of a request that needs no token."""
MAX_VERTICES = 8_000
"""Most vertices of a geometry."""
MAX_PICTURE_PX = 2048
"""Longest side of a picture."""
MAX_JP2_PX = 512
"""Longest side of a JPEG 2000, whose encoders let no other thread run."""

_SIZES = ("width", "height", "max_size", "tilesize", "buffer", "padding", "histogram_bins")
_MAX_REPEATED = 8
_MAX_EXPRESSION = 200


def check_json(value: object) -> None:
    """Check depth and number of values and positions of JSON that was read.

    Raises:
        ValueError: it is nested deeper than `MAX_DEPTH`, holds more than `MAX_VALUES` values, or
            lists of coordinates inside hold more than `MAX_VERTICES` positions.
    """
    vertices = values = 0
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"the body is nested more than {MAX_DEPTH} deep")
        values += len(level)
        if values > MAX_VALUES:
            raise ValueError(f"the body holds more than {MAX_VALUES} values")
        vertices += sum(_is_position(node) for node in level)
        if vertices > MAX_VERTICES:
            raise ValueError(f"the geometries have more than {MAX_VERTICES} vertices; simplify")
        level = [child for node in level for child in _children(node)]


def _is_position(node: object) -> bool:
    return isinstance(node, list) and len(node) in (2, 3) and isinstance(node[0], int | float)


def _children(node: object) -> Iterator[object]:
    if isinstance(node, Mapping):
        return iter(node.values())
    return iter(node) if isinstance(node, list) and not _is_position(node) else iter(())


def check_picture(request: Request) -> None:
    """Check how large a picture or a list of bands a request for tiles asks for.

    Raises:
        BadRequestError: a side is longer than `MAX_PICTURE_PX`, of a JPEG 2000 than `MAX_JP2_PX`,
            or too many bands or terms.
    """
    asked = {**request.query_params, **request.path_params}
    limit = MAX_JP2_PX if asked.get("format") == "jp2" else MAX_PICTURE_PX
    for name in _SIZES:
        if name in asked and _number(asked[name], name) > limit:
            raise BadRequestError(f"{name} is {asked[name]}, more than {limit}")
    for name in dict.fromkeys(request.query_params):
        if len(request.query_params.getlist(name)) > _MAX_REPEATED:
            raise BadRequestError(f"{name} is given more than {_MAX_REPEATED} times")
    expression = request.query_params.get("expression", "")
    if len(expression) > _MAX_EXPRESSION or expression.count(";") >= _MAX_REPEATED:
        raise BadRequestError(f"expression has more than {_MAX_EXPRESSION} characters or 8 bands")


def known_query(request: Request) -> None:
    """Check that a route has every parameter of the query: an ignored one changes the meaning.

    Raises:
        BadRequestError: it lacks one.
    """
    known = list(dict.fromkeys(_names(request.scope["route"].dependant)))
    for name in request.query_params:
        if name not in known:
            text = ", ".join(known) or "none"
            raise BadRequestError(f"{name!r} is no parameter of this request; it has {text}")


def _names(dependant: Dependant) -> Iterator[str]:
    """Yield the parameters of the query that a route, and what it depends on, takes."""
    yield from (field.alias for field in dependant.query_params)
    for one in dependant.dependencies:
        yield from _names(one)


def _number(text: Any, name: str) -> int:  # noqa: ANN401 (a parameter as given)
    try:
        return int(text)
    except ValueError as error:
        raise BadRequestError(f"{name} must be a whole number, not {text!r}") from error


def turns(at_once: int) -> Callable[[], AsyncIterator[None]]:
    """Return a dependency that lets so many requests work at once; the others wait."""
    free = asyncio.Semaphore(at_once)

    async def turn() -> AsyncIterator[None]:
        async with free:
            yield

    return turn
