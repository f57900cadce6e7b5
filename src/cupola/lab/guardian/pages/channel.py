"""The websocket between a page and a kernel: notes what is asked, and gives again what was said already."""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClosedError
from traitlets import Any as AnyTrait
from traitlets import Bool, Bytes, Dict, Instance, Int, Set, Unicode
from typing_extensions import override

from cupola.lab.guardian.journal.ledger import Execution
from cupola.lab.guardian.journal.widgets import turns_outputs
from cupola.lab.guardian.kernels.voice import Voice
from cupola.lab.guardian.kernels.wire import Port
from cupola.lab.guardian.pages.away import attendance
from cupola.lab.guardian.pages.replay import MOST_TEXT, TOLD, Replay

if TYPE_CHECKING:
    from cupola.lab.guardian.journal.ledger import Ledger, Record

__all__ = ["SurvivingConnection"]

V1 = "v1.kernel.websocket.jupyter.org"
ANSWERED = "cupola_answered"
"""A message of ours to pages: somebody else has answered a question."""
UNNOTED = "cupola_unnoted"
"""A message of ours to pages: what they run is not written down."""
CONTROL = "jupyter.widget.control"
"""The target of the comm by which a page asks for all widgets."""
CAUGHT_UP_S = 0.2
DEAF_S = 1.0
"""What a kernel has said for so long, and this page's own line has not brought, it never will: the journal has it."""
_VOICE = "cupola_voice"
_CONTENT = 4
"""Of a message's parts: after its signature and three heads."""
_MOST_OVER = 200


class SurvivingConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel."""

    replays = Dict()
    """What comes from the journal, by execution."""
    questions = Dict()
    """Which executions asked this page and when, by the id of the question."""
    controls = Set()
    """The comms by which this page asked for all widgets while the kernel was busy: we answer them."""
    _flowing = Bytes(b"")
    _volume = Int(0)
    sent = Dict()
    """Headers of the requests that this page has passed on and has not heard the end of, by their ids."""
    over = Instance(deque, args=((), _MOST_OVER))
    """Executions whose end this page has heard lately, by their ids."""
    heard = Set()
    """Those of them of which it has heard something."""
    _checking = Bool(False)
    joined = AnyTrait(None)
    """The ledger whose questions this page hears."""
    watching = Unicode("")
    """The notebook that somebody looks at over this connection."""

    @property
    def ledger(self) -> Ledger:
        """The kernel's."""
        found: Ledger = self.multi_kernel_manager.ledger(self.kernel_id)
        return found

    @property
    def voice(self) -> Voice:
        """The kernel's; one for all pages."""
        manager = self.kernel_manager
        if not hasattr(manager, _VOICE):
            setattr(manager, _VOICE, Voice(self.ledger.folder))
        voice: Voice = getattr(manager, _VOICE)
        return voice

    @override
    def _finish_kernel_info(self, info: dict[str, Any]) -> None:
        super()._finish_kernel_info(info)  # type: ignore[no-untyped-call]
        if info:
            self.multi_kernel_manager.keep_info(self.kernel_id, info)

    @override
    def create_stream(self) -> None:
        wire = self.multi_kernel_manager.wire(self.kernel_id)
        self.channels["iopub"] = iopub = self.kernel_manager.connect_iopub(identity=self.session.bsession)
        iopub.channel = "iopub"
        for channel in ("shell", "control", "stdin"):
            self.channels[channel] = Port(wire, channel, self.session.session)
        self._join()

    def _join(self) -> None:
        self._leave()
        self.joined = self.ledger
        self.joined.askers.add(self._hear_question)
        self.watching = attendance().came(self.multi_kernel_manager.path_of(self.kernel_id))

    def _leave(self) -> None:
        if self.joined is not None:
            self.joined.askers.discard(self._hear_question)
            attendance().left(self.watching)
        self.joined = None

    # -- from the page ----------------------------------------------------------------------------------------

    @override
    def handle_incoming_message(self, incoming_msg: Any) -> None:
        if self.channels and self.subprotocol == V1:
            channel, parts = deserialize_msg_from_ws_v1(incoming_msg)  # type: ignore[no-untyped-call]
            if channel == "shell" and self._is_answered(parts):
                return
            if channel == "stdin" and self._is_late(parts):
                return
        super().handle_incoming_message(incoming_msg)

    def _is_answered(self, parts: list[Any]) -> bool:
        """Whether a request needs no kernel: it was executed already, or we know the answer."""
        header = json.loads(bytes(parts[0]))
        kind = header["msg_type"]
        if kind == "execute_request":
            return self._is_known(header, parts)
        # Asked over a subshell, a busy kernel answers by itself.
        if kind == "kernel_info_request" and not header.get("subshell_id") and self._is_busy():
            return self._tell_about_kernel(header)
        if kind == "comm_info_request" and not header.get("subshell_id") and self._is_busy():
            return self._tell_about_comms(header, json.loads(bytes(parts[3])))
        if kind.startswith("comm_"):
            return self._is_control(header, json.loads(bytes(parts[3])))
        return False

    def _is_control(self, header: dict[str, Any], content: dict[str, Any]) -> bool:
        """Whether a page asks a busy kernel for its widgets: it would get them after the cell only."""
        name, kind = content.get("comm_id"), header["msg_type"]
        if kind == "comm_open" and content.get("target_name") == CONTROL:
            alone = header.get("subshell_id") or not self._is_busy()
            # The kernel does not know what its output widgets caught while no page was there.
            if alone and not self.ledger.widgets.has_caught:
                return False
            self.controls.add(name)
        if name not in self.controls:
            return False
        if kind == "comm_msg" and content.get("data", {}).get("method") == "request_states":
            # What was on its way to this page just now is in the journal by then; the page takes what comes later itself.
            IOLoop.current().call_later(CAUGHT_UP_S, self._tell_widgets, name, header)
        return True

    def _tell_widgets(self, name: str, header: dict[str, Any]) -> None:
        if not self.channels:
            return
        self.ledger.poll()
        models = self.ledger.widgets.open_ones()
        buffers = [(model_id, one) for model_id, model in models.items() for one in model.pop("buffers", [])]
        data = {
            "method": "update_states",
            "states": models,
            "buffer_paths": [[model_id, "state", *one["path"]] for model_id, one in buffers],
        }
        message = self.session.msg("comm_msg", {"comm_id": name, "data": data}, parent={"header": header})
        self._send(message, "iopub", [base64.b64decode(one["data"]) for _, one in buffers])

    def _is_busy(self) -> bool:
        self.ledger.poll()
        return self.ledger.busy or self.kernel_manager.execution_state == "busy"

    def _is_known(self, header: dict[str, Any], parts: list[Any]) -> bool:
        metadata = json.loads(bytes(parts[2]))
        cell = metadata.get("cellId")
        if not cell:
            return False
        ledger = self.ledger
        ledger.poll()
        known = ledger.executions.get(header["msg_id"])
        if known is not None and self._was_sent(known):
            self._resume(known, header)
            return True
        content = json.loads(bytes(parts[3]))
        path = self.multi_kernel_manager.path_of(self.kernel_id)
        try:
            ledger.note(
                Execution(header["msg_id"], header["session"], path, cell, content["code"], _after(metadata))
            )
        except OSError as exc:
            self._warn(exc, header)
        self.sent[header["msg_id"]] = header
        self._check_later()
        return False

    def _was_sent(self, known: Execution) -> bool:
        """Whether the kernel got the request; a server may have ended between noting it and passing it on."""
        return known.began or self.ledger.was_sent(known.id)

    def _warn(self, problem: OSError, header: dict[str, Any]) -> None:
        """Say once to each page that what it runs is executed and not written down."""
        self.log.warning("cupola: requests cannot be noted: %s", problem)
        if not getattr(self, "_warned", False):
            self._warned = True
            self._say(UNNOTED, {"why": problem.strerror or str(problem)}, header)

    def _tell_about_kernel(self, header: dict[str, Any]) -> bool:
        info = self.multi_kernel_manager.info_of(self.kernel_id)
        if not info:
            return False
        self._say("kernel_info_reply", info, header, channel="shell")
        self._say("status", {"execution_state": "idle"}, header)
        self._say_busy(header)
        return True

    def _say_busy(self, header: dict[str, Any]) -> None:
        name = self.ledger.busy_with
        of = {**header, "msg_id": name, "msg_type": "execute_request"} if name else {}
        self._say("status", {"execution_state": "busy"}, of)

    def _tell_about_comms(self, header: dict[str, Any], content: dict[str, Any]) -> bool:
        """Tell which widgets there are, as far as the journal knows."""
        wanted = content.get("target_name")
        found = {
            name: {"target_name": target}
            for name, target in self.ledger.comms().items()
            if not wanted or target == wanted
        }
        self._say("comm_info_reply", {"status": "ok", "comms": found}, header, channel="shell")
        self._say("status", {"execution_state": "idle"}, header)
        self._say_busy(header)
        return True

    # -- from the journal -------------------------------------------------------------------------------------

    def _resume(self, known: Execution, header: dict[str, Any], *, flood: bool = False) -> None:
        """Tell the page what an execution has put out so far, and go on with what follows."""
        self._stop(known.id)
        self.sent.pop(known.id, None)
        self.heard.discard(known.id)
        replay = Replay(known, header, self._say, IOLoop.current().call_later)
        # Before it starts: it may be over at once.
        self.replays[known.id] = replay
        replay.start(flood=flood)
        self.multi_kernel_manager.look_often()

    def _check_later(self) -> None:
        if not self._checking:
            self._checking = True
            IOLoop.current().call_later(DEAF_S, self._check)

    def _check(self) -> None:
        """Look whether something was said that never came: a kernel that has just started speaks before all lines are there."""
        self._checking = False
        if not self.channels or not self.sent:
            return
        ledger = self.ledger
        ledger.poll()
        for name, header in tuple(self.sent.items()):
            known = ledger.executions.get(name)
            if known is not None and _is_missed(known, heard=name in self.heard):
                self.log.info("cupola: what %s has put out did not come: it is told from the journal", name)
                self._resume(known, header)
            elif known is not None and known.state.over and not known.began:
                del self.sent[name]  # it said nothing, and will not
        if self.sent:
            self._check_later()

    def _note_heard(self, parts: list[Any]) -> None:
        """Note what came of this page's own requests."""
        name = json.loads(bytes(parts[2])).get("msg_id")
        if name in self.sent:
            self.heard.add(name)
            if (
                json.loads(bytes(parts[1]))["msg_type"] == "status"
                and json.loads(bytes(parts[4])).get("execution_state") == "idle"
            ):
                del self.sent[name]
                self.heard.discard(name)

    def _stop(self, name: str) -> None:
        replay = self.replays.pop(name, None)
        if replay is not None:
            replay.stop()

    def _say(
        self,
        kind: str,
        content: dict[str, Any],
        parent: dict[str, Any],
        *,
        channel: str = "iopub",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        message = self.session.msg(kind, content, parent={"header": parent}, metadata=metadata)
        if kind == "input_request":
            self.questions[message["header"]["msg_id"]] = (parent.get("msg_id", ""), time.time())
        self._send(message, channel)

    def _send(self, message: dict[str, Any], channel: str, buffers: list[bytes] | None = None) -> None:
        """Say something in the kernel's place."""
        self.voice.sign(message)
        try:
            data = self._packed(message, channel, buffers or [])
            self.write_message(data, binary=isinstance(data, bytes))
        except WebSocketClosedError:
            self.log.debug("cupola: a page has gone meanwhile")

    def _packed(self, message: dict[str, Any], channel: str, buffers: list[bytes]) -> bytes | str:
        """Return what goes over the websocket, as its other end asked for it: JupyterLab in parts, other clients in JSON."""
        if self.subprotocol != V1:
            whole = {**message, "buffers": buffers}
            said: bytes | str = self._reserialize_reply(whole, channel=channel)  # type: ignore[no-untyped-call]
            return said
        parts = [
            self.session.pack(message[name]) for name in ("header", "parent_header", "metadata", "content")
        ]
        packed: bytes = serialize_msg_to_ws_v1(parts + buffers, channel)  # type: ignore[no-untyped-call]
        return packed

    # -- questions --------------------------------------------------------------------------------------------

    def _hear_question(self, record: Record) -> None:
        """Pass a question on to the page that asked for the execution, or follows it; or take it back."""
        name, session = record.get("id", ""), record.get("session", "")
        replay = self.replays.get(name)
        if record["type"] == ANSWERED:
            if any(asked == name for asked, _ in self.questions.values()) and record["by"] is not self:
                self._say(ANSWERED, {}, {"msg_id": name, "session": session})
        elif replay is not None:
            replay.flush()
            replay.say("input_request", record["content"], channel="stdin")
        elif session == self.session.session:
            header = {"msg_id": name, "msg_type": "execute_request", "session": session, "username": ""}
            self._say("input_request", record["content"], header, channel="stdin")

    def _is_late(self, parts: list[Any]) -> bool:
        """Whether somebody else has answered already; a kernel would take the answer for that to its next question."""
        if json.loads(bytes(parts[0]))["msg_type"] != "input_reply":
            return False
        ledger = self.ledger
        ledger.poll()
        name, said = self.questions.pop(json.loads(bytes(parts[1])).get("msg_id", ""), ("", time.time()))
        known = ledger.executions.get(name) or (None if name else ledger.running)
        if known is None:  # of a console
            return False
        if known.question is None or known.answered >= said:
            return True
        ledger.note_answer(known)
        for asker in tuple(ledger.askers):
            asker({"type": ANSWERED, "id": known.id, "session": known.session, "by": self})
        return False

    # -- to the page ------------------------------------------------------------------------------------------

    @override
    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        _, parts = self.session.feed_identities(outgoing_msg)
        if len(parts) > 1:
            self.voice.hear(bytes(parts[1]))  # type: ignore[arg-type] # a frame of zmq is one of bytes
        if self.sent and stream is self.channels.get("iopub"):
            self._note_heard(parts)
        if self._is_late_echo(parts) or (self.replays and self._is_told_by_journal(parts)):
            return
        super().handle_outgoing_message(stream, outgoing_msg)
        if stream is self.channels.get("iopub"):
            self._say_what_it_does(parts)

    def _say_what_it_does(self, parts: list[Any]) -> None:
        """Say what the kernel does, where pages would take its own last word for something else.

        JupyterLab takes any "idle" for the kernel's, though a cell runs, and it goes on showing "starting" until it asks for
        something itself.
        """
        if len(parts) <= _CONTENT or b'"status"' not in bytes(parts[1]):
            return
        state = json.loads(bytes(parts[_CONTENT])).get("execution_state")
        if state not in {"idle", "starting"}:
            return
        parent = json.loads(bytes(parts[2]))
        if state == "idle" and parent.get("msg_type") == "execute_request":
            self.over.append(parent.get("msg_id"))
            return
        self.ledger.poll()
        # The journal may be behind what this page has heard.
        if self.ledger.busy_with and self.ledger.busy_with not in self.over:
            self._say_busy(parent)
        elif state == "starting":
            self._say("status", {"execution_state": "idle"}, parent)

    def _is_late_echo(self, parts: list[Any]) -> bool:
        """Whether the kernel repeats what another page, which may be gone, told of an output widget: this one has more."""
        content = bytes(parts[_CONTENT]) if len(parts) > _CONTENT else b""
        if b'"echo_update"' not in content or b'"outputs"' not in content:
            return False
        told = json.loads(content)
        return (
            self.ledger.widgets.is_output(str(told.get("comm_id")))
            and json.loads(bytes(parts[2])).get("session") != self.session.session
        )

    def _is_told_by_journal(self, parts: list[Any]) -> bool:
        replay = self.replays.get(json.loads(bytes(parts[2])).get("msg_id"))
        if replay is None:
            return False
        kind = json.loads(bytes(parts[1]))["msg_type"]
        if kind == "execute_reply":
            replay.reply = json.loads(bytes(parts[4]))
            return True
        return kind in TOLD or (kind == "comm_msg" and turns_outputs(kind, json.loads(bytes(parts[4]))))

    @override
    def _limit_rate(self, channel: str, msg: dict[str, Any], msg_list: list[Any]) -> bool:
        """Go over to the journal, which loses nothing, where there is more than a page can bear."""
        dropped = bool(super()._limit_rate(channel, msg, msg_list))  # type: ignore[no-untyped-call]
        if dropped or (
            channel == "iopub" and msg["header"]["msg_type"] == "stream" and self._is_much(msg_list)
        ):
            parent: dict[str, Any] = (
                self.get_part("parent_header", msg["parent_header"], msg_list) or {}  # type: ignore[no-untyped-call]
            )
            known = self._execution_of(parent)
            if known is not None and known.id not in self.replays:
                self._resume(known, parent, flood=True)
                return True
        return dropped

    def _is_much(self, parts: list[Any]) -> bool:
        """Whether an execution has put out more text than a page should have."""
        parent = bytes(parts[1])
        if parent != self._flowing:
            self._flowing, self._volume = parent, 0
        self._volume += len(parts[3])
        return self._volume > MOST_TEXT

    @override
    def write_stderr(self, error_message: str, parent_header: Any) -> None:
        if self._execution_of(parent_header or {}) is None:
            super().write_stderr(error_message, parent_header)  # type: ignore[no-untyped-call]

    def _execution_of(self, parent: dict[str, Any]) -> Execution | None:
        ledger = self.ledger
        ledger.poll()
        return ledger.executions.get(parent.get("msg_id", ""))

    @override
    def disconnect(self) -> None:  # type: ignore[override]
        self._leave()
        self.sent.clear()
        for name in tuple(self.replays):
            self._stop(name)
        super().disconnect()  # type: ignore[no-untyped-call]


def _after(metadata: dict[str, Any]) -> str:
    """Return the cell before the one that is run, where the page told."""
    told = metadata.get("cupola")
    after = told.get("after") if isinstance(told, dict) else None
    return after if isinstance(after, str) else ""


def _is_missed(known: Execution, *, heard: bool) -> bool:
    """Whether what the kernel said of an execution should have come to the page by now."""
    since = known.ended if known.state.over else None if heard else known.started
    return known.began and since is not None and time.time() - since > DEAF_S
