import os
import tempfile
import xml.dom.minidom
from pathlib import Path

import pytest


def test_files(tmp_path, monkeypatch):
    file = tmp_path / "a" / "b.txt"
    file.parent.mkdir()
    file.write_text("hello")
    with file.open("a") as more:
        more.write(", world")
    file.rename(tmp_path / "c.txt")
    assert not file.exists()
    assert (tmp_path / "c.txt").read_text() == "hello, world"
    monkeypatch.chdir(tmp_path)
    assert sorted(os.listdir()) == ["a", "c.txt"]


def test_temporary_files():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "x").write_bytes(b"1" * 100_000)
        assert Path(folder, "x").stat().st_size == 100_000
    assert not os.path.exists(folder)
    with tempfile.NamedTemporaryFile("w+") as file:
        file.write("abc")
        file.seek(0)
        assert file.read() == "abc"


def test_output(capfd, cache, record_property):
    print("x")
    assert capfd.readouterr().out == "x\n"
    cache.set("a/b", [1])
    record_property("a", 1)


def test_library():
    pytest.importorskip("packaging", minversion="20")
    assert xml.dom.minidom.parseString("<a/>").documentElement.tagName == "a"
