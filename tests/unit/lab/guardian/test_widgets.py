"""Widgets are kept as their kernel described them."""

import pytest

from cupola.lab.guardian.journal import widgets as kept
from cupola.lab.guardian.journal.widgets import VIEW, Widgets, needed


@pytest.fixture
def widgets(tmp_path):
    return Widgets(tmp_path / "widgets.json")


def opened(name, number=1, buffers=(), paths=(), target="jupyter.widget", **state):
    data = {"state": state, "buffer_paths": list(paths)}
    content = {"comm_id": name, "target_name": target, "data": data}
    return {"n": number, "type": "comm_open", "content": content, "buffers": list(buffers)}


def updated(name, number=2, buffers=(), paths=(), **state):
    data = {"method": "update", "state": state, "buffer_paths": list(paths)}
    return {
        "n": number,
        "type": "comm_msg",
        "content": {"comm_id": name, "data": data},
        "buffers": list(buffers),
    }


def closed(name):
    return {"n": 9, "type": "comm_close", "content": {"comm_id": name, "data": {}}}


def view(name):
    return {"output_type": "display_data", "data": {VIEW: {"model_id": name}}, "metadata": {}}


def test_the_state_is_what_was_said_last(widgets):
    widgets.feed(opened("w", _model_name="M", value=1, other="x"))
    widgets.feed(updated("w", value=2))
    widgets.feed({"n": 3, "type": "comm_msg", "content": {"comm_id": "w", "data": {"method": "custom"}}})
    widgets.feed(updated("unknown", value=2))
    found = widgets.shown_by([view("w")])
    assert found["w"]["state"] == {"_model_name": "M", "value": 2, "other": "x"}
    assert found["w"]["model_name"] == "M"


def test_buffers_go_with_their_values(widgets):
    widgets.feed(opened("w", buffers=["YQ=="], paths=[["data"]]))
    assert widgets.shown_by([view("w")])["w"]["buffers"] == [
        {"encoding": "base64", "path": ["data"], "data": "YQ=="}
    ]
    widgets.feed(updated("w", buffers=["Yg=="], paths=[["data"]]))
    assert [one["data"] for one in widgets.shown_by([view("w")])["w"]["buffers"]] == ["Yg=="]
    widgets.feed(updated("w", data="now without"))
    assert "buffers" not in widgets.shown_by([view("w")])["w"]


def test_what_a_widget_is_made_of_comes_with_it(widgets):
    widgets.feed(opened("child"))
    widgets.feed(opened("box", children=["IPY_MODEL_child"], layout="IPY_MODEL_layout", me="IPY_MODEL_box"))
    widgets.feed(opened("layout"))
    widgets.feed(opened("link", source=["IPY_MODEL_child", "value"]))
    widgets.feed(opened("alone"))
    found = widgets.shown_by(
        [view("box"), view("unknown"), {"output_type": "stream", "name": "stdout", "text": ""}]
    )
    assert sorted(found) == ["box", "child", "layout", "link"]
    assert sorted(needed(found | {"old": {"state": {}}}, [view("child")])) == ["box", "child", "link"]


def test_comms_that_are_open_are_told_and_their_state_outlives_them(widgets):
    widgets.feed(opened("w"))
    widgets.feed(opened("c", target="other"))
    assert widgets.comms() == {"w": "jupyter.widget", "c": "other"}
    widgets.feed(closed("w"))
    assert widgets.comms() == {"c": "other"}
    assert list(widgets.shown_by([view("w")])) == ["w"]
    widgets.end()
    assert widgets.comms() == {}


def test_many_and_large_ones_are_bounded(widgets, monkeypatch):
    monkeypatch.setattr(kept, "MOST_MODELS", 10)
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    widgets.feed(opened("live"))
    for number in range(50):
        widgets.feed(opened(f"w{number}"))
        widgets.feed(closed(f"w{number}"))
    assert sorted(widgets.shown_by([view("live")])) == ["live"]
    assert len(widgets.shown_by([view(f"w{number}") for number in range(50)])) == 9
    widgets.feed(opened("large", data="x" * 5000))
    assert not widgets.shown_by([view("large")])


def test_what_is_kept_over_a_restart_is_not_taken_twice(widgets, tmp_path):
    widgets.feed(opened("w", value=1))
    widgets.feed(updated("w", number=5, value=5))
    assert widgets.save(5)
    again = Widgets(tmp_path / "widgets.json")
    again.feed(updated("w", number=3, value=3))
    assert again.shown_by([view("w")])["w"]["state"]["value"] == 5
    again.feed(updated("w", number=6, value=6))
    assert again.shown_by([view("w")])["w"]["state"]["value"] == 6
    assert again.comms() == {"w": "jupyter.widget"}


def test_a_damaged_file_is_no_error(tmp_path):
    (tmp_path / "widgets.json").write_text("{")
    assert Widgets(tmp_path / "widgets.json").comms() == {}


# -- output widgets ---------------------------------------------------------------------------------------------


def catching(name, asked):
    return updated(name, msg_id=asked)


def printed(text, asked="x1", number=5):
    content = {"name": "stdout", "text": text}
    return {"n": number, "type": "stream", "id": asked, "content": content}


def outputs(widgets, name="out"):
    return [one["text"] for one in widgets.open_ones()[name]["state"]["outputs"]]


@pytest.fixture
def output(widgets):
    """One with an output widget."""
    widgets.feed(opened("out", _model_name="OutputModel", msg_id="", outputs=[]))
    return widgets


def test_an_output_widget_takes_what_it_names(output):
    assert not output.take(printed("before"))
    output.feed(catching("out", "x1"))
    assert output.catches("x1")
    assert output.take(printed("one "))
    assert not output.take(printed("of another", "x2"))
    assert output.take(printed("two"))
    output.feed(catching("out", ""))
    assert not output.take(printed("after"))
    assert outputs(output) == ["one two"]
    assert output.has_caught


def test_the_innermost_of_several_takes_it(output):
    output.feed(opened("inner", _model_name="OutputModel", msg_id="", outputs=[]))
    output.feed(catching("out", "x1"))
    output.feed(catching("inner", "x1"))
    output.take(printed("inside"))
    output.feed(catching("inner", ""))
    output.take(printed("outside"))
    assert (outputs(output, "inner"), outputs(output)) == (["inside"], ["outside"])


def test_what_a_page_tells_late_takes_nothing_away_and_what_the_kernel_sets_counts(output):
    output.feed(catching("out", "x1"))
    output.take(printed("one two"))
    late = updated("out", outputs=[{"output_type": "stream", "name": "stdout", "text": "one"}])
    late["content"]["data"]["method"] = "echo_update"
    output.feed(late)
    assert outputs(output) == ["one two"]
    output.feed(updated("out", outputs=[{"output_type": "stream", "name": "stdout", "text": "set"}]))
    assert outputs(output) == ["set"]
    assert not output.has_caught
    output.take(printed(" and more"))
    assert outputs(output) == ["set and more"]


def test_output_widgets_outlive_the_server(output, tmp_path):
    output.feed(catching("out", "x1"))
    output.take(printed("one", number=5))
    assert output.save(5)
    again = Widgets(tmp_path / "widgets.json")
    assert again.take(printed("one", number=5)), "it is the widget's, and there already"
    assert again.take(printed(" two", number=6))
    assert outputs(again) == ["one two"]
    again.end()
    assert not again.take(printed("of the next kernel", number=7))
