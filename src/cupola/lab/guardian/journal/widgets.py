"""The state of widgets: what a kernel said of them, for pages that were not there, and for files."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from typing import TYPE_CHECKING, Any

from cupola.lab.guardian.journal.fold import Fold

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["STATE", "VIEW", "Widgets", "needed", "turns_outputs"]

STATE = "application/vnd.jupyter.widget-state+json"
"""Where a notebook's metadata have the state of its widgets."""
VIEW = "application/vnd.jupyter.widget-view+json"
"""The type of an output that shows one."""
MOST_MODELS = 5000
MOST_BYTES = 64 << 20
"""Of the states together; a widget beyond it has no state for those who were not there."""
_REFERENCE = "IPY_MODEL_"
_OUTPUT = "OutputModel"
"""What is put out in answer to the message that it names is its own, and not the cell's: a page takes it there."""


class Widgets:
    """The widgets and other comms of one kernel.

    Parameters
    ----------
    place
        A file that has what segments of the journal said that are no more.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._targets: dict[str, str] = {}
        self._models: dict[str, dict[str, Any]] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._until = 0
        self._catching: dict[str, str] = {}
        self._caught: dict[str, Fold] = {}
        self._load()

    def comms(self) -> dict[str, str]:
        """Return the targets of the comms that are open, by their ids."""
        return dict(self._targets)

    def feed(self, record: dict[str, Any]) -> None:
        """Take a record of the journal about a comm; others are no error."""
        if record.get("n", 0) <= self._until and self._until:
            return
        kind, content = record["type"], record["content"]
        name, data = str(content["comm_id"]), content.get("data") or {}
        if kind == "comm_open":
            self._targets[name] = str(content.get("target_name", ""))
            if content.get("target_name") == "jupyter.widget":
                self._update(name, data, record.get("buffers", []))
        elif kind == "comm_close":
            # What showed it last stays for the file.
            self._targets.pop(name, None)
            self._catching.pop(name, None)
        elif kind == "comm_msg" and data.get("method") in {"update", "echo_update"} and name in self._models:
            self._update(name, data, record.get("buffers", []))

    def end(self) -> None:
        """Note that the kernel has ended."""
        self._targets.clear()
        self._catching.clear()

    # -- outputs in widgets -----------------------------------------------------------------------------------

    @property
    def has_caught(self) -> bool:
        """Whether widgets have outputs of which the kernel itself may not know: pages tell it, while there are any."""
        return bool(self._caught)

    def is_output(self, name: str) -> bool:
        """Return whether a comm is that of an output widget."""
        return name in self._models and self._models[name]["state"].get("_model_name") == _OUTPUT

    def catches(self, asked: str) -> bool:
        """Return whether a widget takes what is put out in answer to the message `asked`."""
        return asked in self._catching.values()

    def take(self, record: dict[str, Any]) -> bool:
        """Take an output of the kernel into the widget that wants it; return whether there is one."""
        # Of several the innermost, which was told last.
        name = next(
            (one for one, asked in reversed(self._catching.items()) if asked == record.get("id")), None
        )
        if name is None or record.get("n", 0) <= self._until:
            return name is not None
        if name not in self._caught:
            self._caught[name] = _folded(self._models[name]["state"].get("outputs"))
        self._caught[name].feed(record["type"], record["content"])
        return True

    def _note_output(self, name: str, state: dict[str, Any], *, of_page: bool) -> dict[str, Any]:
        """Return what counts of a change of an output widget."""
        if "msg_id" in state:
            self._catching.pop(name, None)
            if state["msg_id"]:
                self._catching[name] = str(state["msg_id"])
        if of_page:
            # A page tells what it has caught; so do we, and we are always there.
            return {key: value for key, value in state.items() if key != "outputs"}
        if "outputs" in state:
            self._caught.pop(name, None)
        return state

    def _update(self, name: str, data: dict[str, Any], buffers: list[str]) -> None:
        model = self._models.setdefault(name, {"state": {}, "buffers": {}})
        state, paths = data.get("state") or {}, data.get("buffer_paths") or []
        if _OUTPUT in {state.get("_model_name"), model["state"].get("_model_name")}:
            state = self._note_output(name, state, of_page=data.get("method") == "echo_update")
        for key in state:
            # A value that comes anew has its buffers with it.
            model["buffers"] = {at: one for at, one in model["buffers"].items() if json.loads(at)[0] != key}
        model["state"].update(copy.deepcopy(state))
        for path, buffer in zip(paths, buffers, strict=False):
            if path and path[0] not in state:
                model["buffers"] = {at: one for at, one in model["buffers"].items() if json.loads(at) != path}
            model["buffers"][json.dumps(path)] = buffer
        size = len(json.dumps(model["state"], default=str)) + sum(map(len, model["buffers"].values()))
        self._bytes += size - self._sizes.get(name, 0)
        self._sizes[name] = size
        self._bound(name)

    def _bound(self, newest: str) -> None:
        """Forget the oldest ones where there are too many, first those that are closed."""
        while self._models and (len(self._models) > MOST_MODELS or self._bytes > MOST_BYTES):
            closed = (one for one in self._models if one not in self._targets)
            name = next(closed, next(iter(self._models)))
            del self._models[name]
            self._catching.pop(name, None)
            self._caught.pop(name, None)
            self._bytes -= self._sizes.pop(name, 0)
            if name == newest:
                return

    # -- for files --------------------------------------------------------------------------------------------

    def shown_by(self, outputs: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Return the models that outputs need to be drawn, as a notebook's metadata have them.

        Parameters
        ----------
        outputs
            Of cells.
        """
        # To find them, their states are enough.
        names = _needed({name: model["state"] for name, model in self._models.items()}, outputs)
        return {name: _as_saved(self._whole(name)) for name in names}

    def open_ones(self) -> dict[str, Any]:
        """Return the models of all widgets that are open, as a notebook's metadata have them."""
        return {name: _as_saved(self._whole(name)) for name in self._models if name in self._targets}

    def _whole(self, name: str) -> dict[str, Any]:
        """Return a model with what it has caught."""
        model = self._models[name]
        if name not in self._caught:
            return model
        return {**model, "state": {**model["state"], "outputs": self._caught[name].outputs}}

    # -- across restarts of the server ------------------------------------------------------------------------

    def save(self, number: int) -> bool:
        """Write down all that is known up to a record, so that the journal before it can go; say whether that was done."""
        models = {name: self._whole(name) for name in self._models}
        known = {"n": number, "targets": self._targets, "models": models, "caught": list(self._caught)}
        part = self._place.with_suffix(".part")
        try:
            part.write_text(json.dumps(known), encoding="utf-8")
            part.replace(self._place)
        except (OSError, ValueError, TypeError):
            return False
        return True

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(self._place.read_text(encoding="utf-8"))
            self._models, self._targets = dict(known["models"]), dict(known["targets"])
            self._until = int(known["n"])
            self._sizes = {name: len(json.dumps(model)) for name, model in self._models.items()}
            self._bytes = sum(self._sizes.values())
            for name in known.get("caught", []):
                self._caught[name] = _folded(self._models[name]["state"].get("outputs"))
            for name in self._targets.keys() & self._models.keys():
                state = self._models[name]["state"]
                if state.get("_model_name") == _OUTPUT and state.get("msg_id"):
                    self._catching[name] = str(state["msg_id"])


def turns_outputs(kind: str, content: dict[str, Any]) -> bool:
    """Return whether a message changes where outputs go: into a widget, or no longer."""
    data = content.get("data")
    return kind == "comm_msg" and isinstance(data, dict) and "msg_id" in (data.get("state") or {})


def _folded(outputs: Any) -> Fold:
    """Return outputs, as a widget or a notebook has them, so that more can follow."""
    fold = Fold()
    for output in outputs if isinstance(outputs, (list, tuple)) else ():
        if isinstance(output, dict) and "output_type" in output:
            fold.feed(output["output_type"], output)
    return fold


def needed(models: dict[str, Any], outputs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return those of the models in a notebook's metadata that its outputs need.

    Parameters
    ----------
    models
        As there.
    outputs
        Of all cells.
    """
    names = _needed({name: model.get("state") for name, model in models.items()}, outputs)
    return {name: model for name, model in models.items() if name in names}


def _needed(states: dict[str, Any], outputs: Iterable[dict[str, Any]]) -> list[str]:
    found: dict[str, None] = {}
    wanted = [name for output in outputs if (name := _model_of(output))]
    while wanted:
        name = wanted.pop()
        if name in states and name not in found:
            found[name] = None
            wanted += _references(states[name])
    if found:
        # Links between widgets are named by nobody.
        links = [
            name
            for name in states
            if name not in found and not found.keys().isdisjoint(_references(states[name]))
        ]
        found |= dict.fromkeys(links)
    return list(found)


def _model_of(output: dict[str, Any]) -> str:
    view = output.get("data", {}).get(VIEW) if isinstance(output.get("data"), dict) else None
    return str(view.get("model_id", "")) if isinstance(view, dict) else ""


def _references(value: Any) -> list[str]:
    """Return the models that a state names."""
    if isinstance(value, str):
        return [value.removeprefix(_REFERENCE)] if value.startswith(_REFERENCE) else []
    if isinstance(value, dict):
        value = list(value.values())
    return [name for one in value for name in _references(one)] if isinstance(value, list) else []


def _as_saved(model: dict[str, Any]) -> dict[str, Any]:
    state = copy.deepcopy(model["state"])
    saved: dict[str, Any] = {
        "model_name": state.get("_model_name"),
        "model_module": state.get("_model_module"),
        "model_module_version": state.get("_model_module_version"),
        "state": state,
    }
    if model["buffers"]:
        saved["buffers"] = [
            {"encoding": "base64", "path": json.loads(at), "data": _plain_base64(data)}
            for at, data in model["buffers"].items()
        ]
    return saved


def _plain_base64(data: str) -> str:
    """Return base64 that is whole: what cannot be read is better empty than an error of the page."""
    try:
        base64.b64decode(data, validate=True)
    except ValueError:
        return ""
    return data
