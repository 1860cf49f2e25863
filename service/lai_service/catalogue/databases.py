"""Which catalogue the settings ask for."""

from lai_service.catalogue.port import Catalogue
from lai_service.catalogue.sqlite import SqliteCatalogue
from lai_service.errors import SettingsError
from lai_service.settings import Settings


def open_catalogue(settings: Settings, *, make: bool = True) -> Catalogue:
    """Open the catalogue: pgstac where `database_url` is set, the SQLite file otherwise.

    Args:
        settings: where it is.
        make: make an empty one where there is none; it could be taken for the truth.

    Raises:
        SettingsError: the database cannot be opened, both kinds are asked for, or there is none.
    """
    if settings.database_url is None:
        if not make and not settings.database_path.is_file():
            raise SettingsError(
                f"there is no catalogue {settings.database_path}; name the data root of the "
                "service with --data or LAI_SERVICE_DATA"
            )
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
        settings.database_url.get_secret_value(), busy_timeout_s=settings.busy_timeout_s, make=make
    )
