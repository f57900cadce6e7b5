"""Outputs are folded as JupyterLab's own output area does it."""

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.lab.guardian.journal.fold import Fold, Limits, overwrite, same_outputs


def stream(text, name="stdout"):
    return "stream", {"name": name, "text": text}


def shown(text, display_id="", kind="display_data"):
    content = {"data": {"text/plain": text}, "metadata": {}}
    return kind, content | ({"transient": {"display_id": display_id}} if display_id else {})


def fold(*messages, limits=None):
    folded = Fold(limits)
    for kind, content in messages:
        folded.feed(kind, content)
    return folded


def texts(folded):
    return [one.get("text") or one["data"]["text/plain"] for one in folded.outputs]


def as_jupyterlab(text):
    """``processText`` of JupyterLab 4.6's output area model."""
    shown, at = "", 0
    for char in text:
        if char == "\b":
            if at > 0 and shown[at - 1] != "\n":
                shown, at = shown[: at - 1] + shown[at + 1 :], at - 1
        elif char == "\r":
            while at > 0 and shown[at - 1] != "\n":
                at -= 1
        elif char == "\n":
            shown += "\n"
            at = len(shown)
        else:
            shown, at = shown[:at] + char + shown[at + 1 :], at + 1
    return shown


TERMINAL = st.text(st.sampled_from("abc\n\r\b é"), max_size=60)


@given(TERMINAL)
def test_text_stands_as_in_jupyterlab(text):
    assert overwrite(text) == as_jupyterlab(text)


@given(st.lists(TERMINAL, max_size=8))
def test_how_a_stream_is_cut_into_messages_does_not_matter(parts):
    cut = fold(*[stream(part) for part in parts if part])
    whole = fold(*[stream("".join(parts))])
    assert texts(cut) == texts(whole)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("10%\r20%\r100%\n", "100%\n"),
        ("abc\rx", "xbc"),
        ("a\r\nb", "a\nb"),
        ("ab\b\bc", "c"),
        ("a\n\bb", "a\nb"),
    ],
)
def test_progress_bars_stay_one_line(text, seen):
    assert overwrite(text) == seen


def test_streams_join_while_they_are_neighbours_of_one_name():
    folded = fold(stream("a"), stream("b"), stream("!", "stderr"), stream("c"), shown("x"), stream("d"))
    assert texts(folded) == ["ab", "!", "c", "x", "d"]


def test_clear_at_once_and_with_the_next_output():
    assert texts(fold(stream("a"), ("clear_output", {"wait": False}), stream("b"))) == ["b"]
    assert texts(fold(stream("a"), ("clear_output", {"wait": True}))) == ["a"]
    assert texts(fold(stream("a"), ("clear_output", {"wait": True}), stream("b"), stream("c"))) == ["bc"]
    assert texts(fold(shown("a"), ("clear_output", {"wait": True}), shown("b"))) == ["b"]


def test_all_displays_of_an_id_are_changed():
    folded = fold(shown("a", "1"), stream("-"), shown("b", "1"), shown("c", "2"))
    assert texts(folded) == ["b", "-", "b", "c"]
    assert folded.update(shown("d", "1")[1])
    assert texts(folded) == ["d", "-", "d", "c"]
    assert [folded.display_id(one) for one in folded.outputs] == ["1", "", "1", "2"]
    folded.feed("clear_output", {})
    assert not folded.update(shown("e", "1")[1])


def test_what_is_kept_is_a_valid_notebook():
    folded = fold(
        stream("a"),
        ("display_data", {"data": {"text/html": ["<b>\n", "</b>"], "application/x+json": [1, 2]}}),
        ("execute_result", {"data": {"text/plain": "1"}, "metadata": {}, "execution_count": 3}),
        ("error", {"ename": "E", "evalue": "v"}),
        (
            "display_data",
            {"data": {"application/vnd.none": "?"}, "metadata": {}, "transient": {"display_id": "x"}},
        ),
        ("something_new", {"data": 1}),
    )
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.from_dict(one) for one in folded.copy()])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
    assert folded.outputs[1]["data"] == {"text/html": "<b>\n</b>", "application/x+json": [1, 2]}
    assert all("transient" not in one for one in folded.outputs)
    assert folded.outputs[2]["execution_count"] == 3


@given(st.lists(st.text(st.sampled_from("ab\n\r"), max_size=9), max_size=40), st.integers(2, 9))
def test_of_too_much_the_beginning_and_the_end_stay(parts, lines):
    limits = Limits(lines=lines, characters=40)
    folded = fold(*[stream(part) for part in parts if part], limits=limits)
    whole = overwrite("".join(parts))
    cut = fold(stream("".join(parts)), limits=limits)
    assert texts(cut) == texts(folded)
    kept = texts(folded)
    if folded.spills:
        assert whole.startswith(kept[0]) or "left out" in kept[0]
        assert whole.endswith(kept[-1]) or "left out" in kept[-1]
        assert folded.spilled(whole=True) == whole
    else:
        assert "".join(kept) == whole


def test_200_000_lines_in_small_messages_are_folded_in_bounded_memory():
    folded = Fold()
    for number in range(200_000):
        folded.feed(*stream(f"line {number}\n"))
        if number % 1000 == 0:
            folded.spilled()
    first, cut, last = folded.outputs
    assert first["text"].startswith("line 0\n")
    assert last["text"].endswith("line 199999\n")
    assert (first["text"] + last["text"]).count("\n") == 5000
    assert "195,000 lines" in cut["data"]["text/plain"]


def test_a_line_without_end_is_bounded():
    folded = Fold(Limits(characters=1 << 20))
    for _ in range(4096):
        folded.feed(*stream("x" * 1024))
        folded.spilled()
    assert sum(map(len, texts(folded))) < 2 << 20


def test_pictures_beyond_what_a_page_can_bear_are_named():
    limits = Limits(rich=5000)
    png = {"data": {"image/png": "p" * 2000}, "metadata": {}, "transient": {"display_id": "p"}}
    folded = fold(*[("display_data", png | {"transient": {}})] * 4, limits=limits)
    kinds = [next(iter(one["data"])) for one in folded.outputs]
    assert kinds == ["image/png", "image/png", "text/plain", "text/plain"]
    changed = fold(("display_data", png), limits=limits)
    for _ in range(20):
        changed.feed("update_display_data", png)
    assert [next(iter(one["data"])) for one in changed.outputs] == ["image/png"]


def test_outputs_are_compared_however_they_are_written_down():
    ours = fold(stream("a\nb\n"), shown("x", "1")).outputs
    theirs = [
        {"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]},
        {"output_type": "stream", "name": "stdin", "text": "typed"},
        {"output_type": "display_data", "data": {"text/plain": ["x"]}, "metadata": {}},
    ]
    assert same_outputs(ours, theirs)
    assert not same_outputs(ours, theirs[:1])
