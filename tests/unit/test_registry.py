"""The registry of public data sets, over a server on this machine; nothing here uses the network."""

import errno
import hashlib
import http.server
import lzma
import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from course_lib.data import readers, registry
from course_lib.data.registry import DataFile, DataSet, DataUnavailable
from course_lib.runtime import CourseError

CONTENT = {"a.txt": b"the river runs\n" * 400, "b.txt": b"past the mill\n" * 300}


class Server:
    """A file server whose answers a test can spoil: ``spoilt[file]`` is a status, bytes, or "truncate"."""

    def __init__(self):
        self.spoilt: dict[str, int | bytes | str] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                file = self.path.lstrip("/")
                outer.asked.append(file)
                spoilt = outer.spoilt.get(file)
                if isinstance(spoilt, int):
                    self.send_error(spoilt)
                    return
                body = spoilt if isinstance(spoilt, bytes) else CONTENT[file]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if spoilt == "truncate" else body)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def row(url, name="mill"):
    """Return a data set of two files that lie at ``url``."""
    files = tuple(
        DataFile(file, url + file, len(body), hashlib.sha256(body).hexdigest())
        for file, body in CONTENT.items()
    )
    return DataSet(name, "The mill", (4,), "CC0", "A. Miller (2001). The mill.", "", "", files)


@pytest.fixture
def mill(server, tmp_path, monkeypatch):
    """The set ``mill`` in the table, an empty cache folder, and no second attempts."""
    # A proxy set in the environment would swallow the requests to this machine.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "table", lambda: (row(server.url),))
    monkeypatch.setattr(registry, "RETRIES", 0)
    monkeypatch.setattr(registry, "_told", set())
    return tmp_path / "cache" / "mill"


def put(folder, **spoilt):
    """Write the files of ``mill`` into a folder, with ``a=…`` or ``b=…`` in place of the true content."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, body in CONTENT.items():
        (folder / file).write_bytes(spoilt.get(file[0], body))


def sentence(error):
    """Return the message of a caught error, after checking that it is one line and ends as a sentence."""
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


# --- fetching ---


def test_fetch_downloads_checks_and_does_not_ask_again(mill, server):
    assert not registry.available("mill")
    assert registry.fetch("mill", progress=False) == mill
    assert {file: (mill / file).read_bytes() for file in CONTENT} == CONTENT
    assert registry.available("mill")
    assert [status.state for status in registry.verify("mill")] == ["ok", "ok"]
    assert registry.path("mill", "a.txt") == mill / "a.txt"
    server.asked.clear()
    registry.fetch("mill", progress=False)
    assert server.asked == []


def test_fetch_shows_one_bar_that_ends_full(mill, capfd):
    registry.fetch("mill")
    shown = capfd.readouterr().err
    assert "mill" in shown
    assert "100%" in shown
    total = sum(map(len, CONTENT.values()))
    assert f"{total / 1000:.1f}k/{total / 1000:.1f}k" in shown


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permission bits")
def test_fetched_files_can_be_read_by_others(mill):
    registry.fetch("mill", progress=False)
    assert all((mill / file).stat().st_mode & 0o444 == 0o444 for file in CONTENT)


def test_a_corrupt_download_is_deleted_and_named(mill, server):
    server.spoilt["b.txt"] = b"someone else's text\n"
    with pytest.raises(DataUnavailable) as error:
        registry.fetch("mill", progress=False)
    assert "mill/b.txt" in sentence(error)
    assert "damaged" in sentence(error)
    assert "course data fetch mill" in sentence(error)
    assert not (mill / "b.txt").exists()
    assert set(os.listdir(mill)) <= {"a.txt"}  # no temporary file is left either


def test_a_truncated_download_is_not_kept(mill, server):
    server.spoilt["a.txt"] = "truncate"
    with pytest.raises(DataUnavailable, match=r"mill/a\.txt"):
        registry.fetch("mill", progress=False)
    assert set(os.listdir(mill)) <= {"b.txt"}
    assert not registry.available("mill")


def test_a_second_fetch_asks_only_for_what_is_missing(mill, server, monkeypatch):
    monkeypatch.setattr(registry, "DOWNLOADS_AT_ONCE", 1)
    server.spoilt["b.txt"] = "truncate"
    with pytest.raises(DataUnavailable):
        registry.fetch("mill", progress=False)
    assert (mill / "a.txt").read_bytes() == CONTENT["a.txt"]
    server.spoilt.clear()
    server.asked.clear()
    registry.fetch("mill", progress=False)
    assert server.asked == ["b.txt"]
    assert registry.available("mill")


def test_a_failed_attempt_is_tried_once_more(mill, server, monkeypatch):
    monkeypatch.setattr(registry, "RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: server.spoilt.clear())
    server.spoilt["a.txt"] = "truncate"
    registry.fetch("mill", progress=False)
    assert registry.available("mill")


def test_offline_is_one_sentence(mill, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(registry, "table", lambda: (row(f"http://127.0.0.1:{port}/"),))
    with pytest.raises(DataUnavailable) as error:
        registry.fetch("mill", progress=False)
    assert "check the network connection" in sentence(error)
    assert "course data fetch mill" in sentence(error)


def test_a_refusal_by_the_server_gives_its_status(mill, server):
    server.spoilt["a.txt"] = 404
    with pytest.raises(DataUnavailable, match="404"):
        registry.fetch("mill", progress=False)


def test_a_cache_that_is_no_folder_is_one_sentence(mill, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(DataUnavailable) as error:
        registry.fetch("mill", progress=False)
    assert "cannot be written" in sentence(error)
    assert "COURSE_DATA_DIR" in sentence(error)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="the administrator may write into any folder"
)
def test_a_read_only_cache_is_one_sentence(mill, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o555)
    with pytest.raises(DataUnavailable, match="cannot be written"):
        registry.fetch("mill", progress=False)


def test_a_full_disk_is_one_sentence(mill, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.core.shutil.move", full)
    with pytest.raises(DataUnavailable) as error:
        registry.fetch("mill", progress=False)
    assert "No space left on device" in sentence(error)
    assert os.listdir(mill) == []


def test_a_damaged_file_is_replaced(mill, server):
    put(mill, a=b"scratched")
    registry.fetch("mill", progress=False)
    assert server.asked == ["a.txt"]
    assert registry.available("mill")


# --- what lies in the cache ---


def test_a_missing_set_says_where_it_was_looked_for_and_what_to_do(mill):
    with pytest.raises(DataUnavailable) as error:
        registry.read_bytes("mill", "a.txt")
    for part in ("mill", str(mill), "course data fetch mill", "10 kB", "default data"):
        assert part in sentence(error)
    assert {status.state for status in registry.verify("mill")} == {"missing"}


def test_a_damaged_file_is_named_with_what_to_do(mill):
    put(mill, b=CONTENT["b.txt"][:-1])
    assert not registry.available("mill")
    for use in (registry.read_bytes, registry.path):
        assert use("mill", "a.txt")
        with pytest.raises(DataUnavailable) as error:
            use("mill", "b.txt")
        assert str(mill / "b.txt") in sentence(error)
        assert "delete it and run `course data fetch mill`" in sentence(error)
    assert {s.file: s.state for s in registry.verify("mill")} == {"a.txt": "ok", "b.txt": "corrupt"}


def test_verify_sees_a_change_that_leaves_size_and_time(mill):
    put(mill)
    assert registry.available("mill")
    stat = (mill / "a.txt").stat()
    (mill / "a.txt").write_bytes(CONTENT["a.txt"].swapcase())
    os.utime(mill / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert registry.verify("mill")[0].state == "corrupt"
    assert not registry.available("mill")


def test_available_hashes_a_file_once(mill, monkeypatch):
    put(mill)
    assert registry.available("mill")
    monkeypatch.setattr(registry, "_content", lambda place: pytest.fail(f"{place} was read again"))
    assert registry.available("mill")


def test_a_mirror_may_hold_files_compressed(mill, server):
    put(mill)
    (mill / "a.txt").unlink()
    (mill / "a.txt.xz").write_bytes(lzma.compress(CONTENT["a.txt"]))
    assert registry.available("mill")
    assert registry.read_bytes("mill", "a.txt") == CONTENT["a.txt"]
    assert registry.path("mill", "a.txt") == mill / "a.txt.xz"
    registry.fetch("mill", progress=False)
    assert server.asked == []


@pytest.mark.parametrize(
    "stored",
    [b"not xz at all", lzma.compress(CONTENT["a.txt"])[:-20], lzma.compress(b"another text")],
    ids=["no xz", "truncated", "another text"],
)
def test_a_damaged_compressed_file_is_named(mill, stored):
    put(mill)
    (mill / "a.txt").unlink()
    (mill / "a.txt.xz").write_bytes(stored)
    assert not registry.available("mill")
    with pytest.raises(DataUnavailable, match=r"a\.txt\.xz is damaged"):
        registry.read_bytes("mill", "a.txt")


def test_the_cache_folder_is_the_users_own_unless_named(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    assert "transformers-course" in str(registry.cache_dir())
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    assert registry.cache_dir() == tmp_path


def test_messages_write_the_home_folder_as_a_tilde(mill, monkeypatch, tmp_path):
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    with pytest.raises(DataUnavailable, match="looked in ~/cache/mill"):
        registry.read_bytes("mill", "a.txt")


# --- loading ---


def test_load_hands_over_what_the_reader_returns(mill, monkeypatch):
    put(mill)
    monkeypatch.setattr(
        readers, "mill", lambda: len(registry.read_bytes("mill", "a.txt")), raising=False
    )
    assert registry.load("mill") == len(CONTENT["a.txt"])
    assert registry.load_or_none("mill") == len(CONTENT["a.txt"])


def test_load_or_none_says_why_once(mill, monkeypatch, capsys):
    monkeypatch.setattr(
        readers, "mill", lambda: registry.read_bytes("mill", "a.txt"), raising=False
    )
    with pytest.raises(DataUnavailable):
        registry.load("mill")
    assert registry.load_or_none("mill") is None
    assert capsys.readouterr().out.count("course data fetch mill") == 1
    assert registry.load_or_none("mill") is None
    assert capsys.readouterr().out == ""


def test_a_reader_that_is_ready_but_malformed_is_not_hidden(mill, monkeypatch):
    def broken():
        raise registry.MalformedData("mill/a.txt, line 3: expected a river.")

    monkeypatch.setattr(readers, "mill", broken, raising=False)
    with pytest.raises(ValueError, match="line 3"):
        registry.load_or_none("mill")


def test_unknown_names_list_what_there_is(mill):
    for use in (registry.fetch, registry.available, registry.verify, registry.load):
        with pytest.raises(CourseError, match="no data set named 'mil': choose one of mill"):
            use("mil")
    with pytest.raises(CourseError, match=r"no file 'c.txt': it has a.txt, b.txt"):
        registry.read_bytes("mill", "c.txt")


# --- the table ---


def test_every_set_is_described_and_has_a_reader():
    rows = registry.table()
    assert len({each.name for each in rows}) == len(rows) == 20
    for each in rows:
        assert callable(getattr(readers, each.name)), each.name
        assert each.title, each.name
        assert each.licence, each.name
        assert each.size, each.name
        assert re.search(r"\b(1[89]|20)\d\d\b", each.citation), each.name
        assert all(0 <= lesson <= 27 for lesson in each.lessons), each.name
        names = [file.name for file in each.files]
        assert len(set(names)) == len(names) > 0, each.name
        for file in each.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256), file
            assert file.url.startswith("https://"), file
            assert file.url.endswith("/" + file.name), file
            assert file.bytes is None or file.bytes > 0, file


def test_sets_that_can_hurt_carry_a_warning():
    assert "Offensive content" in registry.dataset("hh_rlhf").warning
    assert "social-media" in registry.dataset("wnut17").warning


def test_the_digits_are_six_speakers_by_ten_digits_by_ten_takes():
    files = {file.name for file in registry.dataset("free_spoken_digits").files}
    speakers = {name.split("_")[1] for name in files}
    assert len(speakers) == 6
    assert files == {f"{d}_{s}_{t}.wav" for d in range(10) for s in speakers for t in range(10)}


def test_looking_at_the_table_imports_no_download_tools():
    code = (
        "import sys; from course_lib.data import registry; registry.available('wnut17'); "
        "print(sorted({'pooch', 'requests', 'conllu', 'course_lib.data.readers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
