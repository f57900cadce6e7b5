"""The websocket between a page and a kernel: notes what is asked, and gives again what was said already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets import Dict
from typing_extensions import override

from cupola.lab.guardian.ledger import Execution, State
from cupola.lab.guardian.wire import Port

if TYPE_CHECKING:
    from cupola.lab.guardian.ledger import Ledger, Record

__all__ = ["SurvivingConnection"]

V1 = "v1.kernel.websocket.jupyter.org"
_PARENT = 1
_TOLD = frozenset(
    ("stream", "display_data", "execute_result", "error", "execute_input", "status")
    + ("update_display_data", "clear_output")
)
"""What a resumed execution gets from the journal. Widgets' messages come by the ordinary way: the page keeps their state."""


class SurvivingConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel."""

    resumed = Dict()
    """What stops the journal's way to the page, by execution."""

    @property
    def ledger(self) -> Ledger:
        """The kernel's."""
        return self.multi_kernel_manager.ledger(self.kernel_id)

    @override
    def _finish_kernel_info(self, info: dict[str, Any]) -> None:
        super()._finish_kernel_info(info)
        if info:
            self.multi_kernel_manager.keep_info(self.kernel_id, info)

    @override
    def create_stream(self) -> None:
        wire = self.multi_kernel_manager.wire(self.kernel_id)
        self.channels["iopub"] = iopub = self.kernel_manager.connect_iopub(identity=self.session.bsession)
        iopub.channel = "iopub"
        for channel in ("shell", "control", "stdin"):
            self.channels[channel] = Port(wire, channel, self.session.session)

    @override
    def handle_incoming_message(self, incoming_msg: Any) -> None:
        if self.channels and self.subprotocol == V1:
            channel, parts = deserialize_msg_from_ws_v1(incoming_msg)
            if channel == "shell" and self._is_answered(parts):
                return
        super().handle_incoming_message(incoming_msg)

    def _is_answered(self, parts: list[Any]) -> bool:
        """Whether a request needs no kernel: it was executed already, or we know the answer."""
        header = json.loads(bytes(parts[0]))
        kind = header["msg_type"]
        if kind == "kernel_info_request" and self.ledger.busy:
            return self._tell_about_kernel(header)
        if kind != "execute_request":
            return False
        cell = json.loads(bytes(parts[2])).get("cellId")
        if not cell:
            return False
        ledger = self.ledger
        ledger.poll()
        known = ledger.executions.get(header["msg_id"])
        if known is not None:
            self._resume(known, header)
            return True
        content = json.loads(bytes(parts[3]))
        path = self.multi_kernel_manager.path_of(self.kernel_id)
        ledger.note(Execution(header["msg_id"], header["session"], path, cell, content["code"]))
        return False

    def _tell_about_kernel(self, header: dict[str, Any]) -> bool:
        info = self.multi_kernel_manager.info_of(self.kernel_id)
        if info is None:
            return False
        self._say("kernel_info_reply", info, header, channel="shell")
        self._say("status", {"execution_state": "idle"}, header)
        running = self.ledger.running
        if running is not None:
            self._say("status", {"execution_state": "busy"}, _header_of(running))
        return True

    # -- resume -----------------------------------------------------------------------------------------------

    def _resume(self, known: Execution, header: dict[str, Any]) -> None:
        """Tell the page what an execution has put out so far, and go on with what follows."""
        self._stop(known)
        parent = {**header, "session": header["session"]}
        if known.state is not State.QUEUED:
            self._say("status", {"execution_state": "busy"}, parent)
        if known.count is not None:
            self._say("execute_input", {"code": known.code, "execution_count": known.count}, parent)
        for output in known.fold.outputs:
            self._say_output(output, known.fold.display_id(output), parent)
        if known.question is not None:
            self._say("input_request", known.question, parent, channel="stdin")
        if known.state.over:
            self._finish(known, parent)
            return

        def listen(record: Record) -> None:
            self._pass_on(known, record, parent)

        known.listeners.add(listen)
        self.resumed[known.id] = listen
        self.multi_kernel_manager.look_often()

    def _say_output(self, output: dict[str, Any], display_id: str, parent: dict[str, Any]) -> None:
        content = {key: value for key, value in output.items() if key != "output_type"}
        if display_id:
            content["transient"] = {"display_id": display_id}
        self._say(output["output_type"], content, parent)

    def _pass_on(self, known: Execution, record: Record, parent: dict[str, Any]) -> None:
        kind = record["type"]
        if kind in _TOLD:
            self._say(kind, record["content"], parent, metadata=record.get("metadata"))
        elif kind == "input_request":
            self._say(kind, record["content"], parent, channel="stdin")
        if known.state.over:
            self._stop(known)
            self._finish(known, parent)

    def _finish(self, known: Execution, parent: dict[str, Any]) -> None:
        status = {State.DONE: "error" if known.failed else "ok", State.ABORTED: "aborted"}.get(
            known.state, "error"
        )
        content: dict[str, Any] = {"status": status, "execution_count": known.count}
        if status == "ok":
            content |= {"payload": [], "user_expressions": {}}
        else:
            content |= {"ename": "", "evalue": "", "traceback": []}
        self._say("execute_reply", content, parent, channel="shell")
        self._say("status", {"execution_state": "idle"}, parent)

    def _stop(self, known: Execution) -> None:
        known.listeners.discard(self.resumed.pop(known.id, None))

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
        self.write_message(serialize_msg_to_ws_v1(message, channel, self.session.pack), binary=True)

    @override
    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        if self.resumed and self._is_told_by_journal(outgoing_msg):
            return
        super().handle_outgoing_message(stream, outgoing_msg)

    def _is_told_by_journal(self, message: list[Any]) -> bool:
        _, parts = self.session.feed_identities(message)
        parent = json.loads(bytes(parts[2]))
        if parent.get("msg_id") not in self.resumed:
            return False
        kind = json.loads(bytes(parts[1]))["msg_type"]
        return kind in _TOLD or kind == "execute_reply"

    @override
    def disconnect(self) -> None:
        for name in tuple(self.resumed):
            known = self.ledger.executions.get(name)
            if known is not None:
                self._stop(known)
        super().disconnect()


def _header_of(one: Execution) -> dict[str, Any]:
    return {
        "msg_id": one.id,
        "msg_type": "execute_request",
        "session": one.session,
        "username": "",
        "version": "5.3",
    }
