"""``python watch.py FOLDER KERNEL_NAME LANGUAGE -- COMMAND...``: the guardian of one kernel.

It starts the kernel, writes down all that it says, and ends with it. It depends on nobody: the Jupyter server may die and
come back meanwhile. It stands alone (standard library and pyzmq), so that it is small: there is one for each kernel.
"""

from __future__ import annotations

import binascii
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import zmq

KEPT = frozenset(
    ("stream", "display_data", "execute_result", "error", "execute_input", "status", "update_display_data")
    + ("clear_output", "comm_open", "comm_msg", "comm_close")
)
SEGMENT = 8 << 20
"""Bytes of a segment of the journal."""
MOST_WAITING = 8 << 20
"""Bytes kept in memory while the disk is full; what comes after is lost, and the journal says so."""
SYNC_SECONDS = 1.0
LOOK_SECONDS = 0.3
GRACE_SECONDS = 4.0
"""For a kernel that is told to end."""
BATCH = 500
DELIMITER = b"<IDS|MSG>"


class Journal:
    """Appends records to segments; a full disk loses nothing that fits into memory.

    Parameters
    ----------
    folder
        Of the segments.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        there = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl"))
        self.segment = int(there[-1].split(".")[0]) if there else 0
        self.number = self._last_number(there[-1]) if there else 0
        self.file = -1
        self.size = 0
        self.waiting: list[bytes] = []
        self.waiting_bytes = 0
        self.lost = 0
        self.problem = ""
        self.dirty = False
        self.synced = 0.0
        self._next_segment()

    def _last_number(self, name: str) -> int:
        """Return the number of the last whole record, so that numbers go on after a restart of the kernel."""
        with open(os.path.join(self.folder, name), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 20)))
            for line in reversed(file.read().split(b"\n")):
                try:
                    return int(json.loads(line)["n"])
                except (ValueError, KeyError, TypeError):
                    continue
        return self.segment * 10**9  # higher than any before

    def _next_segment(self) -> None:
        try:
            path = os.path.join(self.folder, f"{self.segment + 1:08d}.jsonl")
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self.problem = error.strerror or str(error)
            return
        if self.file >= 0:
            self.sync()
            os.close(self.file)
        self.file, self.segment = file, self.segment + 1
        self.size = os.fstat(file).st_size

    def add(self, fields: bytes) -> None:
        """Take a record, without its braces and its number."""
        self.number += 1
        line = b'{"n":%d,"t":%.3f,%s}\n' % (self.number, time.time(), fields.replace(b"\n", b" "))
        if self.waiting_bytes + len(line) > MOST_WAITING:
            self.lost += 1
            return
        self.waiting.append(line)
        self.waiting_bytes += len(line)

    def say(self, kind: str, **fields: object) -> None:
        """Take a record of the guardian's own."""
        self.add(json.dumps({"type": kind, **fields})[1:-1].encode())

    def flush(self) -> None:
        """Write what was taken."""
        if self.size > SEGMENT or self.file < 0:
            self._next_segment()
        if not self.waiting or self.file < 0:
            return
        data = b"".join(self.waiting)
        try:
            written = 0
            while written < len(data):
                written += os.write(self.file, data[written:])
        except OSError as error:
            self.problem = error.strerror or str(error)
            # What was written of it would be doubled at the next try.
            os.ftruncate(self.file, self.size)
            return
        self.size += len(data)
        self.dirty = True
        self.waiting, self.waiting_bytes = [], 0
        if self.lost:
            lost, self.lost = self.lost, 0
            self.say("gap", why=self.problem, messages=lost)

    def sync(self, *, now: bool = True) -> None:
        """Make what was written safe from a crash of the machine; not more often than every second unless `now`."""
        if self.dirty and self.file >= 0 and (now or time.monotonic() - self.synced > SYNC_SECONDS):
            self.dirty = False
            self.synced = time.monotonic()
            try:
                os.fsync(self.file)
            except OSError as error:
                self.problem = error.strerror or str(error)


class Guardian:
    """One kernel and its journal.

    Parameters
    ----------
    folder
        Of the kernel.
    name, language
        Of its kernelspec.
    command
        Starts it.
    """

    def __init__(self, folder: str, name: str, language: str, command: list[str]) -> None:
        self.folder = folder
        self.lock = self._take_lock()
        self.before = self._record_before()
        self.journal = Journal(os.path.join(folder, "journal"))
        self.epoch = int(self.before.get("epoch", 0)) + 1
        self.told = 0
        self.name, self.language = name, language
        self.kernel = subprocess.Popen(command, preexec_fn=_as_a_kernel)  # noqa: PLW1509 - no threads here yet
        signal.signal(signal.SIGTERM, self._tell)
        self._sign()

    def _take_lock(self) -> int:
        lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{self.folder} has a guardian already") from None
        except OSError:
            pass  # a file system without locks
        return lock

    def _record_before(self) -> dict[str, object]:
        try:
            with open(os.path.join(self.folder, "kernel.json")) as file:
                return dict(json.load(file))
        except (OSError, ValueError, TypeError):
            return {}

    def _sign(self) -> None:
        """Write down who guards what."""
        record = {
            "kernel_id": os.path.basename(self.folder),
            "kernel_name": self.name,
            "language": self.language,
            "session": os.environ.get("CUPOLA_SESSION", ""),
            "connection": os.path.join(self.folder, "connection.json"),
            "guardian": os.getpid(),
            "kernel": self.kernel.pid,
            "started": time.time(),
            "epoch": self.epoch,
        }
        place = os.path.join(self.folder, "kernel.json")
        with open(place + ".part", "w") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(place + ".part", place)

    def _tell(self, *_: object) -> None:
        """Begin to end the kernel; the second time at once."""
        self.told += 1
        self.deadline = time.monotonic() + GRACE_SECONDS
        self.kernel.send_signal(signal.SIGTERM if self.told == 1 else signal.SIGKILL)

    def run(self) -> int:
        """Write down what the kernel says until it has ended; return its exit code, as a shell would."""
        self.journal.say("start", epoch=self.epoch)
        self.journal.flush()
        context = zmq.Context()
        sockets = self._listen(context)
        poller = zmq.Poller()
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        while True:
            ended = self.kernel.poll() is not None
            heard = bool(poller.poll(LOOK_SECONDS * 1000))
            finished = any([self._hear(socket) for socket in sockets])
            self.journal.flush()
            self.journal.sync(now=finished)
            if ended and not heard:
                break
            if self.told and time.monotonic() > self.deadline:
                self.kernel.kill()
        code = self.kernel.returncode
        self.journal.say("end", code=code, **({"signal": -code} if code < 0 else {}))
        self.journal.flush()
        self.journal.sync()
        return code if code >= 0 else 128 - code

    def _listen(self, context: zmq.Context[zmq.Socket[bytes]]) -> list[zmq.Socket[bytes]]:
        with open(os.path.join(self.folder, "connection.json")) as file:
            info = json.load(file)
        iopub = context.socket(zmq.SUB)
        iopub.setsockopt(zmq.RCVHWM, 0)
        iopub.setsockopt(zmq.SUBSCRIBE, b"")
        # All requests of pages go out under this name, so the kernel's questions come here, whoever asked.
        stdin = context.socket(zmq.DEALER)
        stdin.setsockopt(zmq.ROUTING_ID, b"cupola-" + os.path.basename(self.folder).encode())
        for socket, port in ((iopub, "iopub_port"), (stdin, "stdin_port")):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(_address(info, port))
        return [iopub, stdin]

    def _hear(self, socket: zmq.Socket[bytes]) -> bool:
        """Take what a socket has; say whether an execution has ended with it."""
        finished = False
        for _ in range(BATCH):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                finished |= self._take(parts)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                continue  # not a message of Jupyter's protocol
        return finished

    def _take(self, parts: list[bytes]) -> bool:
        at = parts.index(DELIMITER)
        header, parent = json.loads(parts[at + 2]), json.loads(parts[at + 3])
        kind, asked = header["msg_type"], parent.get("msg_type", "")
        if kind not in KEPT and kind != "input_request":
            return False
        if kind == "status" and asked != "execute_request":
            return False
        fields = {"type": kind, "id": parent.get("msg_id", ""), "session": parent.get("session", "")}
        if asked != "execute_request":
            fields["parent"] = asked
        text = json.dumps(fields)[1:-1].encode() + b',"content":' + parts[at + 5]
        if parts[at + 4] not in {b"{}", b""}:
            text += b',"metadata":' + parts[at + 4]
        if buffers := parts[at + 6 :]:
            kept = b",".join(b'"' + binascii.b2a_base64(one, newline=False) + b'"' for one in buffers)
            text += b',"buffers":[' + kept + b"]"
        self.journal.add(text)
        return kind == "status" and b'"idle"' in parts[at + 5]


def _as_a_kernel() -> None:
    """In the new process: interrupts are meant for the kernel, the guardian ignores them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _address(info: dict[str, object], port: str) -> str:
    between = "-" if info["transport"] == "ipc" else ":"
    return f"{info['transport']}://{info['ip']}{between}{info[port]}"


def main(arguments: list[str]) -> int:
    """Guard a kernel until it has ended."""
    split = arguments.index("--")
    folder, name, language = arguments[:split]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Guardian(folder, name, language, arguments[split + 1 :]).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
