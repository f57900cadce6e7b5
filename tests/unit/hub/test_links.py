from __future__ import annotations

import json
import stat
import threading
from datetime import timedelta

from cupola.hub.links import Links


def test_a_link_signs_in_once(tmp_path):
    links = Links(tmp_path / "links")
    token = links.create("ada")
    assert links.peek(token) == "ada"
    assert links.use(token) == "ada"
    assert links.use(token) is None
    assert links.peek(token) is None


def test_an_expired_link_is_worth_nothing_and_is_removed(tmp_path):
    links = Links(tmp_path)
    token = links.create("ada", timedelta(seconds=-1))
    assert links.peek(token) is None
    assert links.use(token) is None
    assert list(tmp_path.iterdir()) == []


def test_the_disk_does_not_know_the_token(tmp_path):
    folder = tmp_path / "links"
    token = Links(folder).create("ada")
    (file,) = folder.iterdir()
    assert token not in file.name
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_of_many_who_use_a_link_at_once_one_gets_in(tmp_path):
    links, got = Links(tmp_path), []
    for _ in range(20):
        token = links.create("ada")
        start = threading.Barrier(8)

        def use(token=token, start=start):
            start.wait()
            got.append(links.use(token))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got.count("ada") == 20


def test_no_token_reaches_out_of_the_folder(tmp_path):
    links = Links(tmp_path / "links")
    links.create("ada")
    (tmp_path / "secret").write_text(json.dumps({"user": "eve", "expires": "2999-01-01T00:00:00+00:00"}))
    for token in ("", "../secret", "a" * 10_000, "ü" * 40, "x" * 40 + "\n", "\0" * 43):
        assert links.peek(token) is None
        assert links.use(token) is None


def test_a_damaged_link_is_worth_nothing(tmp_path):
    links = Links(tmp_path)
    token = links.create("ada")
    (file,) = tmp_path.iterdir()
    for content in (
        "",
        "[]",
        "{}",
        '{"user": "ada"}',
        '{"user": 7, "expires": "2999-01-01T00:00:00+00:00"}',
        "\xff",
    ):
        file.write_text(content)
        assert links.peek(token) is None


def test_making_a_link_removes_what_nobody_can_use_but_no_strangers_file(tmp_path):
    links = Links(tmp_path)
    links.create("ada", timedelta(seconds=-1))
    (tmp_path / "README").write_text("not a link")
    good = links.create("ada")
    assert len(list(tmp_path.iterdir())) == 2
    assert links.peek(good) == "ada"
    assert (tmp_path / "README").exists()
