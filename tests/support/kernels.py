"""A cell run in a kernel over an open websocket."""

from __future__ import annotations

import json
import uuid
from typing import Any


def run_in(socket: Any, code: str) -> str:
    """Run a cell; return what it printed, its error with it."""
    message = uuid.uuid4().hex
    header = {
        "msg_id": message,
        "msg_type": "execute_request",
        "session": uuid.uuid4().hex,
        "username": "test",
    }
    request = {
        "channel": "shell",
        "header": {**header, "date": "2026-01-01T00:00:00Z", "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False, "store_history": True, "allow_stdin": False},
        "buffers": [],
    }
    socket.send(json.dumps(request))
    printed = ""
    while True:
        seen = json.loads(socket.recv(timeout=120))
        if seen["parent_header"].get("msg_id") != message:
            continue
        kind, content = seen["header"]["msg_type"], seen["content"]
        if kind == "stream":
            printed += content["text"]
        elif kind == "error":
            printed += f"{content['ename']}: {content['evalue']}"
        elif kind == "status" and content["execution_state"] == "idle":
            return printed
