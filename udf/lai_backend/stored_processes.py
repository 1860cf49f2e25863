"""User-defined processes on the server: the endpoints over the registry."""

from collections.abc import Mapping
from typing import Any

from openeo_driver.backend import (
    UserDefinedProcesses,
    UserDefinedProcessesListing,
    UserDefinedProcessMetadata,
)
from openeo_driver.errors import OpenEOApiException, ProcessGraphNotFoundException

from lai_backend.listing import process_specs
from lai_backend.store import Store


class StoredProcess(UserDefinedProcessMetadata):
    """A user-defined process that keeps fields openeo-driver does not know, as job options."""

    spec: Mapping[str, Any]

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> "StoredProcess":
        """Wrap a stored definition."""
        process: StoredProcess = cls.from_dict(dict(spec))
        process.spec = spec
        return process

    def to_api_dict(self, *, full: bool = True) -> dict[str, Any]:
        """Return the definition as it was stored."""
        short = {"id", "summary", "description", "parameters", "returns"}
        return {key: value for key, value in self.spec.items() if full or key in short}


class StoredProcesses(UserDefinedProcesses):
    """User-defined processes in the registry."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def get(self, user_id: str, process_id: str) -> UserDefinedProcessMetadata | None:
        """Return one process."""
        spec = self._store.process(user_id, process_id)
        return None if spec is None else StoredProcess.read(spec)

    def list_for_user(self, user_id: str) -> UserDefinedProcessesListing:
        """List the processes of a user."""
        return UserDefinedProcessesListing(
            udps=[StoredProcess.read(spec) for spec in self._store.processes_of(user_id)]
        )

    def save(self, user_id: str, process_id: str, spec: dict[str, Any]) -> None:
        """Store a process; predefined ones cannot be replaced."""
        if process_id in process_specs():
            raise OpenEOApiException(
                code="PredefinedProcessExists",
                status_code=400,
                message=f"{process_id!r} is a predefined process; choose another name.",
            )
        self._store.save_process(user_id, process_id, spec)

    def delete(self, user_id: str, process_id: str) -> None:
        """Forget a process."""
        if not self._store.remove_process(user_id, process_id):
            raise ProcessGraphNotFoundException(process_id)
