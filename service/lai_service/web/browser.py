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
from lai_service.ops.browser_build import cache_folder, fields_config, is_built
from lai_service.settings import Settings
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
        if is_built(folder):
            return await built.get_response(path or ".", request.scope)
        if path:
            raise HTTPException(404)
        page = _PAGE.replace("{title}", html.escape(settings.title))
        return HTMLResponse(page.replace("{hosted}", HOSTED + get_base_url(request)))


# `config.js` is read when the page opens, so one build serves any address. Tiles come from this
# service, in the colours of the thumbnails; the legend stands where maps have their attribution.
# STAC Browser shows fields in the order of the document, which is stored with its keys sorted.
_CONFIG = """const base = {base};
const styles = {styles};
const order = {order};
const keyOf = shown => shown.rel === 'xyz' ? 'lai' : shown.getKey ? shown.getKey() : shown.key;
const styleOf = shown => shown.getAbsoluteUrl().startsWith(base) && styles[keyOf(shown)] || {};
const ordered = fields => Object.fromEntries(
  Object.entries(fields).sort(([a], [b]) => order.indexOf(a) - order.indexOf(b)));
window.STAC_BROWSER_CONFIG = {
  catalogUrl: base,
  allowExternalAccess: true,
  displayGeoTiffByDefault: true,
  useTileLayerAsFallback: false,
  buildTileUrlTemplate: asset => base + {tiles} + '?'
    + (styleOf(asset).query || '') + 'url=' + encodeURIComponent(asset.getAbsoluteUrl()),
  getMapSourceOptions: (type, options, shown) => Object.assign(options, styleOf(shown).legend
    ? { attributions: styleOf(shown).legend, attributionsCollapsible: false } : {}),
  preprocessSTAC: stac => {
    for (const part of ['properties', 'summaries'].filter(name => stac[name])) {
      stac[part] = ordered(stac[part]);
    }
    return stac;
  },
};
"""


def _config(base_url: str) -> str:
    """Return `config.js` for a service at an address."""
    styles = {key: {"query": style.query, "legend": style.legend} for key, style in STYLES.items()}
    order = re.findall(r"^  '((?:laiq|unc):\w+)':", fields_config(), re.MULTILINE)
    values = {"base": base_url, "tiles": TILES, "styles": styles, "order": order}
    text = _CONFIG
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", json.dumps(value, ensure_ascii=False))
    return text


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}
td,th{padding:.2rem .8rem .2rem 0;text-align:left}img{max-width:10rem}</style>
<h1>{title}</h1>
<p><a href="../">STAC API</a> · <a href="../api.html">documentation</a> ·
<a href="{hosted}">open in the hosted STAC Browser</a> ·
<code>lai-service browser</code> builds a browser of your own for this page.</p>
<table><thead><tr><th></th><th>Item</th><th>Time</th><th>Mean LAI</th><th>Valid</th></tr></thead>
<tbody id="items"></tbody></table>
<script>
const cell = (row, ...nodes) => row.insertCell().append(...nodes);
const link = (href, text) => Object.assign(document.createElement('a'), {href, textContent: text});
const number = (value) => value === undefined ? '' : value.toFixed(2);
fetch('../search?limit=100').then(r => r.json()).then(found => {
  for (const item of found.features) {
    const row = document.getElementById('items').insertRow();
    const thumbnail = item.assets.thumbnail;
    const image = thumbnail ? Object.assign(new Image(), {src: thumbnail.href, alt: ''}) : '';
    cell(row, image);
    cell(row, link(item.links.find(l => l.rel === 'self').href, item.id));
    cell(row, item.properties.datetime || item.properties.start_datetime || '');
    cell(row, number(item.properties['laiq:lai_mean']));
    cell(row, number(item.properties['laiq:valid_fraction']));
  }
});
</script></html>
"""
