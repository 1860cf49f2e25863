"""Dependency archives: useful ones are unpacked, hostile ones refused whole."""

import functools
import stat
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lai_backend.archives import unpack_archives
from lai_backend.errors import AccessError, ArchiveError


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpack(work, *entries):
    return unpack_archives(list(entries), work, [work.parent.resolve()])


def test_archive_appears_under_the_name_after_the_hash(work):
    archive = make_zip(work.parent / "m.zip", {"model.json": b"{}", "deep/x.txt": b"x"})
    assert unpack(work, f"{archive.as_uri()}#lai_model") == [work / "lai_model"]
    assert (work / "lai_model" / "deep" / "x.txt").read_bytes() == b"x"


def test_plain_paths_work_too(work):
    archive = make_zip(work.parent / "m.zip", {"a": b"1"})
    unpack(work, f"{archive}#tmp/venv")
    assert (work / "tmp" / "venv" / "a").exists()


@pytest.fixture
def web(tmp_path):
    """Serve the folder around the work folder; return the address."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_archive_from_the_web_is_unpacked_and_leaves_no_copy(work, web):
    make_zip(work.parent / "m.zip", {"a": b"1"})
    unpack(work, f"{web}/m.zip#m")
    assert [path.name for path in work.iterdir()] == ["m"]
    assert (work / "m" / "a").read_bytes() == b"1"


def test_an_archive_that_is_not_on_the_web_is_refused(work, web):
    with pytest.raises(ArchiveError):
        unpack(work, f"{web}/nothing.zip#m")
    assert not list(work.iterdir())


def test_an_archive_from_the_web_that_is_too_large_is_refused(work, web, monkeypatch):
    monkeypatch.setattr("lai_backend.archives.MAX_ARCHIVE_BYTES", 10)
    make_zip(work.parent / "m.zip", {"a": b"1"})
    with pytest.raises(ArchiveError):
        unpack(work, f"{web}/m.zip#m")
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    "member", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt"]
)
def test_a_member_that_leaves_the_folder_is_refused(work, member):
    archive = make_zip(work.parent / "m.zip", {"good.txt": b"", member: b"evil"})
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m")
    assert not list(work.iterdir())
    assert not (work.parent / "evil.txt").exists()


def test_a_link_is_refused(work):
    archive = work.parent / "m.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m")


def test_a_bomb_is_refused(work):
    archive = make_zip(work.parent / "m.zip", {"zeros": bytes(30_000_000)})
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m")
    assert not (work / "m").exists()


def test_a_bomb_that_lies_about_its_size_is_refused(work):
    archive = make_zip(work.parent / "m.zip", {"zeros": bytes(30_000_000)})
    content = archive.read_bytes()
    size = (30_000_000).to_bytes(4, "little")
    assert content.count(size) == 2  # beside the member and in the directory
    archive.write_bytes(content.replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m")
    assert not list(work.rglob("*"))


def test_an_archive_of_too_many_members_is_refused(work, monkeypatch):
    monkeypatch.setattr("lai_backend.archives.MAX_MEMBERS", 3)
    archive = make_zip(work.parent / "m.zip", {str(number): b"" for number in range(4)})
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m")


@pytest.mark.parametrize("name", ["", "..", "../out", "/abs", "."])
def test_the_folder_must_lie_inside_the_work_folder(work, name):
    archive = make_zip(work.parent / "m.zip", {"a": b"1"})
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#{name}")


def test_two_archives_need_two_folders(work):
    archive = make_zip(work.parent / "m.zip", {"a": b"1"})
    with pytest.raises(ArchiveError):
        unpack(work, f"{archive}#m", f"{archive}#m")


def test_something_else_than_a_zip_is_refused(work):
    (work.parent / "m.zip").write_bytes(b"no zip")
    with pytest.raises(ArchiveError):
        unpack(work, f"{work.parent / 'm.zip'}#m")


def test_archives_outside_the_allowed_folders_are_refused(work):
    with pytest.raises(AccessError):
        unpack(work, "file:///etc/hostname#m")
    with pytest.raises(AccessError):
        unpack(work, "ftp://host/m.zip#m")


def test_a_missing_archive_is_refused(work):
    with pytest.raises(ArchiveError):
        unpack(work, f"{work.parent / 'nothing.zip'}#m")
