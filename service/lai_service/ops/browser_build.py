"""Build STAC Browser from its npm package, with labels for our fields (`fields.config.js`).

The recipe: `npm pack`, our `fields.config.js`, `npm install`, the `ol-stac` that STAC Browser 4.0.1
was released with (from 1.2.0 on it brings a `stac-js` of its own: the build passes, but no raster
is drawn), `npm run build:minimal`. The address of the catalogue is not built in: `browser.py`
serves a `config.js` that contains it.
"""

import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from lai_service.errors import LaiServiceError
from lai_service.web import web_file

BROWSER_VERSION = "4.0.1"
_PACKAGE = f"@radiantearth/stac-browser@{BROWSER_VERSION}"
_OL_STAC = "ol-stac@1.1.0"
_CONFIG_OFF = '<!-- <script defer="defer" src="/config.js"></script> -->'
_CONFIG_ON = '<script defer="defer" src="/browser/config.js"></script>'
_log = logging.getLogger("lai_service")


def cache_folder() -> Path:
    """Return the folder where `lai-service browser` puts the built browser."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sentinel2-lai" / "stac-browser"


def is_built(folder: Path) -> bool:
    """Return whether a folder holds a built STAC Browser."""
    return (folder / "index.html").is_file()


def build_browser(target: Path, *, rebuild: bool = False) -> Path:
    """Build STAC Browser into a folder that appears complete or not at all.

    Args:
        target: folder of the built files.
        rebuild: build again although it is there.

    Returns:
        The folder.

    Raises:
        LaiServiceError: npm is missing, or one of its steps failed.
    """
    if is_built(target) and not rebuild:
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise LaiServiceError("npm is not installed; node 20 with npm builds STAC Browser")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as work:
        package = _unpack(npm, Path(work))
        (package / "fields.config.js").write_text(web_file("fields.config.js"), encoding="utf-8")
        _read_config_at_start(package / "public" / "index.html")
        _npm(npm, package, "install", "--no-audit", "--no-fund")
        _npm(npm, package, "install", _OL_STAC, "--no-save", "--legacy-peer-deps", "--no-audit")
        options = ["--pathPrefix=/browser/", "--historyMode=hash"]
        _npm(npm, package, "run", "build:minimal", "--", *options)
        if not is_built(package / "dist"):
            raise LaiServiceError("the build of STAC Browser left no index.html")
        if target.exists():
            shutil.rmtree(target)
        os.replace(package / "dist", target)
    return target


def _unpack(npm: str, work: Path) -> Path:
    _npm(npm, work, "pack", _PACKAGE)
    (archive,) = work.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    return work / "package"


def _read_config_at_start(index: Path) -> None:
    """Switch on the script that the package has commented out, at the address we serve it."""
    text = index.read_text(encoding="utf-8")
    if _CONFIG_OFF not in text:
        raise LaiServiceError("STAC Browser no longer has the config.js line that we switch on")
    index.write_text(text.replace(_CONFIG_OFF, _CONFIG_ON), encoding="utf-8")


def _npm(npm: str, folder: Path, *arguments: str) -> None:
    _log.info("npm %s", " ".join(arguments))
    done = subprocess.run(
        [npm, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()[-5:]
        raise LaiServiceError(f"npm {' '.join(arguments)} failed: {' / '.join(lines)}")
