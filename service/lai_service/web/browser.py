"""STAC Browser: built from npm into a cache folder, served at `/browser`.

Where it has not been built, `/browser` is a small page of our own that lists the collections and
links to the hosted STAC Browser, which reads this service from outside (CORS is open for it).
"""

import html
import json
import re

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from stac_fastapi.types.requests import get_base_url
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from lai_service.api.documents import TILES
from lai_service.ops.browser_build import cache_folder, is_built
from lai_service.settings import Settings
from lai_service.web import web_file
from lai_service.web.colours import STYLES

HOSTED = "https://radiantearth.github.io/stac-browser/#/external/"


def add_browser(app: FastAPI, settings: Settings) -> None:
    """Serve STAC Browser, or the small page in its place, at `/browser`.

    Whether it has been built is looked at for every page, so that it appears without a restart.
    """
    folder = settings.browser or cache_folder()
    built = StaticFiles(directory=folder, html=True, check_dir=False)

    @app.get("/browser/config.js", include_in_schema=False)
    def config(request: Request) -> Response:
        return Response(_config(get_base_url(request)), media_type="text/javascript")

    @app.get("/browser/{path:path}", include_in_schema=False)
    async def browser(request: Request, path: str) -> Response:
        if is_built(folder) and not settings.root_path:  # it is built for /browser
            return await built.get_response(path or ".", request.scope)
        if path:
            raise HTTPException(404)
        page = web_file("browser.html").replace("{title}", html.escape(settings.title))
        return HTMLResponse(page.replace("{hosted}", HOSTED + get_base_url(request)))


def _config(base_url: str) -> str:
    """Return `config.js` for a service at an address; it is read when the page opens."""
    styles = {key: {"query": style.query, "legend": style.legend} for key, style in STYLES.items()}
    order = re.findall(r"^  '((?:laiq|unc):\w+)':", web_file("fields.config.js"), re.MULTILINE)
    values = {"base": base_url, "tiles": TILES, "styles": styles, "order": order}
    stated = [f"const {k} = {json.dumps(v, ensure_ascii=False)};\n" for k, v in values.items()]
    return "".join([*stated, web_file("browser.config.js")])
