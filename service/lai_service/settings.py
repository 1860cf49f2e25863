"""Settings of the service: environment variables with the prefix `LAI_SERVICE_`.

`LAI_SERVICE_DATA=/srv/lai LAI_SERVICE_TOKEN=... lai-service serve` is a whole configuration.
`create_app(settings)` reads nothing else.
"""

import logging
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lai_service.errors import SettingsError
from lai_service.ops.request_log import LogFormat

_log = logging.getLogger("lai_service")
_PREFIX = "LAI_SERVICE_"


def _split(value: object) -> object:
    """Read `a,b` from the environment as two entries."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """What one running service needs to know; every field has a safe default but the data root."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    data: Path = Path("lai-data")
    """Root of the published files; the service reads and serves nothing outside it."""
    database: Path | None = None
    """SQLite file of the catalogue; `<data>/.catalogue/catalogue.sqlite` where not set."""
    database_url: SecretStr | None = None
    """PostgreSQL database (`postgresql://...`) with pgstac, in place of the SQLite file."""
    allowed_roots: Paths = ()
    """Folders on this machine from which `POST /publish` may take files."""
    models: Paths = ()
    """Model bundles that may have made the results of openEO jobs; none = the shipped one."""
    token: SecretStr | None = None
    """Bearer token of writers; without a token (here or in `token_file`) writes are off."""
    token_file: Path | None = None
    """File with one token a line, read at start; empty lines and `#` lines are skipped."""
    writes_checked_by_proxy: bool = False
    """No token here: an authenticating proxy in front, the only one who can reach us, checks it."""
    max_body_bytes: int = Field(default=32 * 1024 * 1024, gt=0)
    """Largest request body; a larger one is answered 413 without being read."""
    read_only: bool = False
    """Serve and never write; so it is by itself where the data root cannot be written."""
    trusted_proxies: Words = ("127.0.0.1", "::1")
    """Addresses of proxies whose `X-Forwarded-For` and `-Proto` are believed; `*` is all."""
    root_path: Annotated[str, Field(pattern=r"^(/[\w.~-]+)*$")] = ""
    """Path that a proxy in front takes off, such as `/lai`; links begin with it."""
    busy_timeout_s: float = Field(default=30.0, gt=0)
    """How long a writer waits for another writer of the catalogue."""
    cors_origins: Words = ("*",)
    """Origins whose browsers may read; STAC Browser on another host needs this."""
    log: LogFormat = "text"
    """How `lai-service serve` writes its log: lines of text, or one JSON object a line."""
    browser: Path | None = None
    """Folder of a built STAC Browser; the cache of `lai-service browser` where not set."""
    default_collection: str = "lai"
    """Collection of published items that name none."""
    title: str = "Leaf area index from Sentinel-2"
    """Title on the landing page."""
    description: str = (
        "Leaf area index (LAI, m² m⁻²) from Sentinel-2 L2A with a calibrated interval per pixel."
    )
    """Description on the landing page."""
    landing_id: str = "sentinel2-lai"
    """Id of the root catalogue."""

    @property
    def database_path(self) -> Path:
        """Return the SQLite file of the catalogue."""
        return self.database or self.data / ".catalogue" / "catalogue.sqlite"

    def is_writable(self) -> bool:
        """Return whether the data root, or where it is to be made, can be written."""
        there = next(path for path in (self.data, *self.data.absolute().parents) if path.exists())
        return not self.read_only and os.access(there, os.W_OK)

    def check_roots(self) -> None:
        """Raise SettingsError where a root is no folder: nothing could ever come from it."""
        for root in self.allowed_roots:
            if not root.is_dir():
                raise SettingsError(
                    f"{root} is no folder; --allow (LAI_SERVICE_ALLOWED_ROOTS) names those that "
                    "may be published from"
                )

    def tokens(self) -> tuple[str, ...]:
        """Return the tokens that may write.

        Raises:
            SettingsError: the token file cannot be read, a token has fewer than 8 characters, or a
                proxy is declared to check the writers as well.
        """
        if self.writes_checked_by_proxy and (self.token or self.token_file):
            raise SettingsError(
                "a token and LAI_SERVICE_WRITES_CHECKED_BY_PROXY exclude each other: a proxy "
                "passes its own tokens on, which are not ours; set one of the two"
            )
        found = [self.token.get_secret_value()] if self.token else []
        if self.token_file is not None:
            try:
                lines = self.token_file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(
                    f"token file {self.token_file} cannot be read: {error}"
                ) from error
            found += [line.strip() for line in lines if line.strip() and line[0] != "#"]
        if any(len(token) < 8 for token in found):
            raise SettingsError("a writing token has fewer than 8 characters; use a longer one")
        return tuple(found)


def read_settings(**given: Any) -> Settings:  # noqa: ANN401  (values of any field)
    """Read the environment.

    Args:
        **given: fields that stand in place of their variable.

    Raises:
        SettingsError: a value makes no sense; the text names its variable.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"][:1])
        raise SettingsError(
            f"{_PREFIX}{name.upper()} makes no sense: {first['msg']}; it is {first['input']!r}"
        ) from error


def warn_of_unknown_variables() -> None:
    """Log every variable `LAI_SERVICE_*` that is no setting: a misspelt one would have no word."""
    known = [f"{_PREFIX}{name.upper()}" for name in Settings.model_fields]
    for name in sorted(map(str.upper, os.environ)):
        if name.startswith(_PREFIX) and name not in known:
            near = "".join(f"; {one} is one" for one in get_close_matches(name, known, n=1))
            _log.warning("%s is no setting and has no effect%s", name, near)
