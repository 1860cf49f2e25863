"""Addresses and control groups: what a worker may reach, and where limits are set."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from lai_backend import access, limits
from lai_backend.errors import AccessError
from lai_backend.reading import read_grid
from lai_backend.sources import BandSource


@pytest.fixture
def public_only(monkeypatch):
    monkeypatch.setitem(access._only, "public", True)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/item.json",
        "http://localhost:8080/item.json",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.7/a.tif",
        "https://[::1]/a.tif",
        "http://[fd00::1]/a.tif",
        "http://0x7f000001/",
    ],
)
def test_private_addresses_are_refused(public_only, address):
    with pytest.raises(AccessError):
        access.check_address(address)


def test_public_addresses_and_unknown_hosts_are_not_refused(public_only):
    access.check_address("https://93.184.216.34/a.tif")
    access.check_address("https://no-such-host.invalid/a.tif")


@pytest.fixture
def redirecting(monkeypatch, public_only):
    """An address, taken for a public one, that redirects into a private network."""

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "http://10.0.0.7/secret.tif")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirects)
    Thread(target=server.serve_forever, daemon=True).start()
    check = access.check_address
    here = f"http://127.0.0.1:{server.server_port}/a.tif"
    monkeypatch.setattr(access, "check_address", lambda a: None if a == here else check(a))
    yield here
    server.shutdown()
    server.server_close()


def test_a_redirect_to_a_private_address_is_refused(redirecting):
    with pytest.raises(AccessError):
        access.get(redirecting)


def test_a_raster_that_redirects_to_a_private_address_is_not_opened(redirecting):
    with pytest.raises(AccessError):
        read_grid(BandSource(redirecting, 1, None))


@pytest.fixture
def unified(tmp_path, monkeypatch):
    """Control groups of version 2: that of this process, and the one above it, which has limits."""
    own = tmp_path / "cgroup" / "user.slice" / "app.scope"
    own.mkdir(parents=True)
    for folder, controllers in ((own, ""), (own.parent, "cpu memory pids")):
        (folder / "cgroup.subtree_control").write_text(controllers)
    (tmp_path / "self").write_text("0::/user.slice/app.scope\n")
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OWN_GROUPS", tmp_path / "self")
    return own.parent


def test_limits_of_version_2_are_set_beside_the_group_of_the_server(unified, monkeypatch):
    group = limits.ControlGroup("job")
    made = unified / "lai-backend-job"
    mkdir = type(made).mkdir

    def mkdir_as_the_kernel(path, *args, **kwargs):
        mkdir(path, *args, **kwargs)
        for name in ("memory.max", "pids.max", "cgroup.procs"):
            (path / name).touch()

    monkeypatch.setattr(type(made), "mkdir", mkdir_as_the_kernel)
    group.create(2**30, 64)
    group.add(7)
    assert (made / "memory.max").read_text() == str(2**30)
    assert (made / "pids.max").read_text() == "64"
    assert (made / "cgroup.procs").read_text() == "7"


def test_without_controllers_there_is_no_group(unified):
    (unified / "cgroup.subtree_control").write_text("cpu")
    with pytest.raises(OSError, match="no control groups"):
        limits.ControlGroup("job").create(None, 8)
    assert not limits.control_groups_work()
