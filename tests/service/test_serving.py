"""The service listens at the address it is given, and answers at once."""

import socket

import pytest

from lai_service.errors import SettingsError
from lai_service.ops.serving import hold_port


def test_answers_do_not_wait_for_acknowledgements() -> None:
    # asyncio sets TCP_NODELAY where the socket names its protocol; else each answer takes 40 ms.
    with hold_port("127.0.0.1", 0) as held:
        assert held.proto == socket.IPPROTO_TCP


def test_port_that_is_taken_is_refused() -> None:
    with hold_port("127.0.0.1", 0) as held:
        held.listen()
        with pytest.raises(SettingsError):
            hold_port("127.0.0.1", held.getsockname()[1])
