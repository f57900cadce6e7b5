from __future__ import annotations

import json

import pytest

from cupola.lab.jobs.failure import describe, remember_sources


def raised(function, *arguments):
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever the function raises is wanted
        function(*arguments)
    return caught.value


def cell(text, name="/nowhere/cell-1.py"):
    space = {}
    exec(compile(text, name, "exec"), space)  # noqa: S102 - as a notebook runs a cell
    remember_sources({name: text})
    return space


def test_the_line_is_the_users_own_also_when_a_library_raised():
    def broken(text):
        return json.loads(text)

    told = describe(raised(broken, "{"))
    assert told.error == "JSONDecodeError"
    assert told.line.startswith("broken:")
    assert told.line.endswith("return json.loads(text)")


def test_the_users_frames_come_first_and_all_frames_after_them():
    def broken(text):
        return json.loads(text)

    text = describe(raised(broken, "{")).traceback
    own, _, everything = text.partition("With the frames of libraries:")
    assert "json/decoder.py" not in own
    assert "json.loads(text)" in own
    assert "json/decoder.py" in everything


def test_without_library_frames_the_traceback_is_told_once():
    space = cell("def divide(x):\n    return 1 / x\n")
    told = describe(raised(space["divide"], 0))
    assert told.traceback.count("ZeroDivisionError") == 1


def test_text_of_a_notebook_cell_is_shown():
    space = cell("def divide(x):\n    return 1 / x  # my line\n", "/nowhere/cell-2.py")
    assert describe(raised(space["divide"], 0)).line == "divide:2: return 1 / x  # my line"


def test_a_cause_is_told_too():
    def broken():
        try:
            json.loads("{")
        except ValueError as error:
            raise RuntimeError("no metadata") from error

    text = describe(raised(broken)).traceback
    assert "JSONDecodeError" in text
    assert "RuntimeError: no metadata" in text


def test_leaving_python_is_told_in_words():
    assert "sys.exit(3)" in describe(SystemExit(3)).message


def test_an_error_whose_text_is_broken_is_still_told():
    class Awkward(Exception):  # noqa: N818
        def __str__(self):
            raise ValueError("no text")

    assert "cannot be shown" in describe(Awkward()).message


def test_a_huge_message_is_shortened_in_its_middle():
    message = describe(ValueError("a" * 50_000 + "the end")).message
    assert len(message) < 2_200
    assert message.endswith("the end")
