"""Which catalogue the settings ask for."""

from lai_service.catalogue.port import Catalogue
from lai_service.catalogue.sqlite import SqliteCatalogue
from lai_service.errors import SettingsError
from lai_service.settings import Settings

__all__ = ["existing_catalogue", "open_catalogue"]


def open_catalogue(settings: Settings) -> Catalogue:
    """Open the catalogue: pgstac where `database_url` is set, the SQLite file otherwise.

    Raises:
        SettingsError: the database cannot be opened, or both kinds are asked for.
    """
    if settings.database_url is None:
        return SqliteCatalogue(
            settings.database_path,
            busy_timeout_s=settings.busy_timeout_s,
            read_only=settings.read_only,
        )
    if settings.database is not None:
        raise SettingsError(
            "LAI_SERVICE_DATABASE (SQLite) and LAI_SERVICE_DATABASE_URL (PostgreSQL) exclude each "
            "other; unset one"
        )
    try:
        from lai_service.catalogue.pgstac import PgstacCatalogue
    except ImportError as error:
        raise SettingsError(
            f"PostgreSQL needs more packages ({error}): pip install 'sentinel2-lai[service,pgstac]'"
        ) from error
    return PgstacCatalogue(
        settings.database_url.get_secret_value(), busy_timeout_s=settings.busy_timeout_s
    )


def existing_catalogue(settings: Settings) -> Catalogue:
    """Open a catalogue that is there; an empty one in its place would be taken for the truth.

    Raises:
        SettingsError: there is none, or it cannot be opened.
    """
    if settings.database_url is not None:
        if not _holds_pgstac(settings.database_url.get_secret_value()):
            raise SettingsError(
                "there is no catalogue in the database of LAI_SERVICE_DATABASE_URL: it holds no "
                "pgstac; name that of the service"
            )
    elif not settings.database_path.is_file():
        raise SettingsError(
            f"there is no catalogue {settings.database_path}; name the data root of the service "
            "with --data or LAI_SERVICE_DATA"
        )
    return open_catalogue(settings)


def _holds_pgstac(url: str) -> bool:
    """Return False where a database answers and lacks pgstac; opening tells all other faults."""
    try:
        import psycopg

        with psycopg.connect(url, connect_timeout=10) as connection:
            found = connection.execute("select to_regclass('pgstac.items') is not null").fetchone()
    except (ImportError, psycopg.Error):
        return True
    return found == (True,)
