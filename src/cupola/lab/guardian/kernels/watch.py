"""``python watch.py FOLDER KERNEL_NAME LANGUAGE -- COMMAND...``: the guardian of one kernel.

It starts the kernel, writes down all that it says, and ends with it. It depends on nobody: the Jupyter server may die and
come back meanwhile. It stands alone with its neighbour (standard library and pyzmq), so that it is small: there is one for
each kernel.

Where the guardian itself is killed, the system kills its kernel with it: a kernel that nobody listens to would be taken for
a dead one, and another would write into its journal.
"""

from __future__ import annotations

import binascii
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING or __package__:
    from .watch_journal import Journal, words_of_end
else:
    # Run as a script: the package around it would cost more memory than it has itself.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    from watch_journal import Journal, words_of_end

__all__ = ["Guardian", "main"]

KEPT = frozenset(
    (
        *("stream", "display_data", "execute_result", "error", "execute_input", "status"),
        *("update_display_data", "clear_output", "comm_open", "comm_msg", "comm_close", "input_request"),
    )
)
ESSENTIAL = frozenset(("execute_input", "status", "error", "execute_result", "input_request"))
"""Written down even where there is no more room for floods, if they are not floods themselves."""
JOURNAL_MIB = 512
"""Of all segments, where ``CUPOLA_JOURNAL_MIB`` says nothing else."""
BEHIND_BYTES = 128 << 20
BEHIND_SECONDS = 3.0
"""A guardian that is so large and so late drops what a flood says, until it has caught up."""
LOOK_MS = 300
IDLE_MS = 5000
DRAIN_MS = 200
GRACE_SECONDS = 2.0
"""For a kernel that is told to end."""
LOCK_SECONDS = 2.0
CONNECT_MS = 10
"""Between two tries to reach a kernel that is about to start. Some answer within this time what they are asked first."""
BATCH = 500
GATHER_SECONDS = 0.005
"""While the kernel talks: what comes in so short a time is taken at once. To wake for each line costs more than the line."""
DELIMITER = b"<IDS|MSG>"
CONNECTED = "inproc://connected"
_KIND = re.compile(rb'"msg_type": ?"(\w+)"')


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
        self.folder, self.name, self.language = folder, name, language
        self.lock = self._take_lock()
        record = self._record_before()
        self.epoch = _whole(record.get("epoch")) + 1
        self.journal = Journal(os.path.join(folder, "journal"), _limit())
        self.before = _ending(record, self.journal.last)
        self.started = time.time()
        self.signed = False
        self.connected = self.hears = False
        with contextlib.suppress(OSError):
            os.unlink(self._ear)
        self.told = 0
        self.deadline = 0.0
        self.code: int | None = None
        self.parents: dict[bytes, tuple[str, bytes]] = {}
        # Before the kernel, so that none is left whose guardian was ended meanwhile.
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGUSR1, self._kill)
        self.kernel = self._start(command)
        self.pid = self.kernel.pid if self.kernel else 0
        self._sign()

    # -- start ------------------------------------------------------------------------------------------------

    def _take_lock(self) -> int:
        lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Who looks whether we live holds it for a moment.
                if time.monotonic() > until:
                    raise SystemExit(f"{self.folder} has a guardian already") from None
                time.sleep(0.01)
            except OSError:
                return lock  # a file system without locks
            else:
                return lock

    def _record_before(self) -> dict[str, object]:
        """Return what the guardian wrote that had this folder before."""
        with contextlib.suppress(OSError, ValueError), open(os.path.join(self.folder, "kernel.json")) as file:
            record = json.load(file)
            return record if isinstance(record, dict) else {}
        return {}

    def _start(self, command: list[str]) -> subprocess.Popen[bytes] | None:
        guardian = os.getpid()

        def become_a_kernel() -> None:
            import ctypes

            # An interrupt is meant for the kernel, the guardian ignores it.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() != guardian:
                os._exit(1)

        # As a Jupyter server does: some kernels look whether their parent lives.
        env = {**os.environ, "JPY_PARENT_PID": str(guardian)}
        try:
            # In a group of its own: what is sent to the kernel and its children does not reach the guardian.
            return subprocess.Popen(command, env=env, process_group=0, preexec_fn=become_a_kernel)  # noqa: PLW1509 - no threads here yet
        except (OSError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"[cupola] the kernel {self.name} cannot be started: {error}\n")
            self.code = 127
            return None

    def _sign(self) -> None:
        """Write down who guards what; tried again where the disk is full."""
        record = {
            "kernel_id": os.path.basename(self.folder),
            "kernel_name": self.name,
            "language": self.language,
            "session": os.environ.get("CUPOLA_SESSION", ""),
            "connection": os.path.join(self.folder, "connection.json"),
            "guardian": os.getpid(),
            "kernel": self.pid,
            "started": self.started,
            "epoch": self.epoch,
            "before": self.before,
        }
        place = os.path.join(self.folder, "kernel.json")
        try:
            with open(place + ".new", "w") as file:
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(place + ".new", place)
            self.signed = True
        except OSError as error:
            self.journal.why = error.strerror or str(error)

    @property
    def _ear(self) -> str:
        """The file that is there as soon as nothing is missed that the kernel says: requests wait for it."""
        return os.path.join(self.folder, "hears")

    # -- signals ----------------------------------------------------------------------------------------------

    def _tell(self, *_: object) -> None:
        """Begin to end the kernel; the second time at once."""
        self.told += 1
        if self.told == 1:
            self.deadline = time.monotonic() + GRACE_SECONDS
            self._send(signal.SIGTERM)
        else:
            self._send_all(signal.SIGKILL)

    def _kill(self, *_: object) -> None:
        """End the kernel at once, and what it started."""
        self.told = 2
        self._send_all(signal.SIGKILL)

    def _send(self, number: int) -> None:
        # Until it is waited for, the pid is nobody else's.
        if self.code is None and self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)

    def _send_all(self, number: int) -> None:
        if self.code is None and self.pid:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, number)

    def _has_ended(self) -> bool:
        """Look whether the kernel has ended, and take what is left of it with it."""
        if self.code is not None or self.kernel is None:
            return True
        try:
            seen = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self.code = 0
            return True
        if seen is None:
            return False
        if seen.si_code != os.CLD_EXITED:
            # Killed: what it started would go on for nobody. Its pid is still its own.
            self._send_all(signal.SIGKILL)
        self.code = self.kernel.wait()
        return True

    # -- life -------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Write down what the kernel says until it has ended; return its exit code, as a shell would."""
        self.journal.say("start", epoch=self.epoch)
        self.journal.flush()
        if self.kernel is not None:
            self._listen()
        code = self.code or 0
        how: dict[str, object] = {"signal": -code} if code < 0 else {}
        if self.told:
            how["told"] = True
        self.journal.say("end", code=code, **how)
        self.journal.flush()
        self.journal.sync()
        return code if code >= 0 else 128 - code

    def _listen(self) -> None:
        """Hear the kernel until it has ended and nothing more comes."""
        context = zmq.Context()
        iopub, stdin = sockets = self._connect(context)
        connected = context.socket(zmq.PAIR)
        connected.connect(CONNECTED)
        ends = _end_of(self.pid)
        poller, awake = _poller(iopub, stdin), _poller(iopub, stdin, connected, ends)
        while True:
            if self._has_ended():
                if not poller.poll(DRAIN_MS):
                    return
            else:
                awake.poll(self._patience(ends))
            if not self.connected and connected.poll(0):
                self.connected = True
                # In this order: nobody would take what the monitor says.
                iopub.disable_monitor()
                awake.unregister(connected)
                connected.close()
                # What was subscribed to is on its way by now.
                time.sleep(CONNECT_MS / 1000)
            finished, more = self._hear(sockets)
            self._write(finished=finished)
            if self.told and time.monotonic() > self.deadline:
                self._send_all(signal.SIGKILL)
            if more and not finished:
                time.sleep(GATHER_SECONDS)

    def _write(self, *, finished: bool) -> None:
        """Write down what was heard, and what others wait for; tried again where the disk is full."""
        self.journal.flush(now=False)
        self.journal.sync(now=finished)
        if not self.signed:
            self._sign()
        if self.connected and not self.hears:
            with contextlib.suppress(OSError):
                os.close(os.open(self._ear, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self.hears = True

    def _patience(self, ends: int | None) -> int:
        """Return how many milliseconds to wait for the next message."""
        journal = self.journal
        if self.connected and not self.hears:
            return LOOK_MS
        if ends is None or self.told or journal.dirty or journal.waiting or not self.signed:
            return LOOK_MS
        return IDLE_MS

    def _connect(self, context: zmq.Context[zmq.Socket[bytes]]) -> list[zmq.Socket[bytes]]:
        with open(os.path.join(self.folder, "connection.json")) as file:
            info = json.load(file)
        iopub = context.socket(zmq.SUB)
        # No message is dropped for coming too fast; the journal bounds what is kept.
        iopub.setsockopt(zmq.RCVHWM, 0)
        iopub.setsockopt(zmq.SUBSCRIBE, b"")
        iopub.monitor(CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED)
        # All requests of pages go out under this name, so the kernel's questions come here, whoever asked.
        stdin = context.socket(zmq.DEALER)
        stdin.setsockopt(zmq.ROUTING_ID, b"cupola-" + os.path.basename(self.folder).encode())
        for socket, port in ((iopub, "iopub_port"), (stdin, "stdin_port")):
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, CONNECT_MS)
            if info.get("curve_publickey"):
                # Jupyter gives both sides the same pair.
                socket.curve_serverkey = socket.curve_publickey = info["curve_publickey"].encode()
                socket.curve_secretkey = info["curve_secretkey"].encode()
            socket.connect(_address(info, port))
        return [iopub, stdin]

    def _hear(self, sockets: list[zmq.Socket[bytes]]) -> tuple[bool, bool]:
        """Take what the sockets have; say whether an execution has ended with it, and whether to wait for more."""
        finished = more = False
        for socket in sockets:
            count, ended = self._hear_one(socket)
            finished |= ended
            more |= 0 < count < BATCH
        return finished, more

    def _hear_one(self, socket: zmq.Socket[bytes]) -> tuple[int, bool]:
        """Take what a socket has; return how much that was, and whether an execution has ended with it."""
        finished = late = False
        for number in range(BATCH):
            try:
                parts = _receive(socket)
            except zmq.Again:
                return number, finished
            try:
                at = parts.index(DELIMITER)
                if number == 0:
                    late = _is_large() and _is_late(parts[at + 2])
                if late and not _is_essential(parts[at + 2]):
                    self.journal.drop("the kernel said more than could be written")
                else:
                    finished |= self._take(parts, at)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                continue  # not a message of Jupyter's protocol
        return BATCH, finished

    def _take(self, parts: list[bytes], at: int) -> bool:
        kind = _kind_of(parts[at + 2])
        if kind not in KEPT:
            return False
        asked, fields = self._parent(parts[at + 3])
        if kind == "status" and asked != "execute_request":
            return False
        text = b'"type":"%s",%s,"content":%s' % (kind.encode(), fields, parts[at + 5])
        if parts[at + 4] not in {b"{}", b""}:
            text += b',"metadata":' + parts[at + 4]
        if buffers := parts[at + 6 :]:
            kept = b",".join(b'"' + binascii.b2a_base64(one, newline=False) + b'"' for one in buffers)
            text += b',"buffers":[' + kept + b"]"
        self.journal.add(text, essential=kind in ESSENTIAL)
        return kind == "status" and b'"idle"' in parts[at + 5]

    def _parent(self, header: bytes) -> tuple[str, bytes]:
        """Return what was asked, and the fields of a record that say so; the same for thousands of messages."""
        if header not in self.parents:
            parent = json.loads(header)
            asked = parent.get("msg_type", "")
            fields = {"id": parent.get("msg_id", ""), "session": parent.get("session", "")}
            if asked != "execute_request":
                fields["parent"] = asked
            self.parents = {header: (asked, json.dumps(fields)[1:-1].encode())}
        return self.parents[header]


def _poller(*what: zmq.Socket[bytes] | int | None) -> zmq.Poller:
    """Return what waits for any of these to be readable."""
    poller = zmq.Poller()
    for one in what:
        if one is not None:
            poller.register(one, zmq.POLLIN)
    return poller


def _is_large() -> bool:
    """Whether this process holds so much that it cannot have caught up with its kernel."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") > BEHIND_BYTES


def _is_late(header: bytes) -> bool:
    """Whether a message was waiting for long."""
    from datetime import datetime

    said = datetime.fromisoformat(json.loads(header)["date"])
    return time.time() - said.timestamp() > BEHIND_SECONDS


def _receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Return the frames of the next message.

    Frames know whether more follow. ``recv_multipart`` asks the socket after each, which takes as long as to read it.
    """
    frame = socket.recv(zmq.NOBLOCK, copy=False)
    parts = [frame.bytes]
    while frame.more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        parts.append(frame.bytes)
    return parts


def _kind_of(header: bytes) -> str:
    """Return what kind of message it is, without parsing all of its header where that can be."""
    found = _KIND.search(header)
    return found[1].decode() if found else str(json.loads(header)["msg_type"])


def _is_essential(header: bytes) -> bool:
    """Whether a message must be taken however late it is."""
    return _kind_of(header) in ESSENTIAL


def _end_of(pid: int) -> int | None:
    """Return what becomes readable when a process ends, where the system has that."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return None


def _address(info: dict[str, object], port: str) -> str:
    between = "-" if info["transport"] == "ipc" else ":"
    return f"{info['transport']}://{info['ip']}{between}{info[port]}"


def _whole(value: object) -> int:
    with contextlib.suppress(ValueError):
        return int(str(value))
    return 0


def _ending(record: dict[str, object], last: dict[str, object]) -> dict[str, object] | None:
    """Return how the kernel that had this folder before ended: its journal may be cut before somebody asks.

    Parameters
    ----------
    record
        Of its guardian; a server writes there who has ended it.
    last
        The last record of its journal.
    """
    if not record:
        return None
    return {"epoch": _whole(record.get("epoch")), "ended": record.get("ended", ""), **words_of_end(last)}


def _limit() -> int:
    try:
        return max(1, int(os.environ["CUPOLA_JOURNAL_MIB"])) << 20
    except (KeyError, ValueError):
        return JOURNAL_MIB << 20


def main(arguments: list[str]) -> int:
    """Guard a kernel until it has ended."""
    split = arguments.index("--")
    folder, name, language = arguments[:split]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Guardian(folder, name, language, arguments[split + 1 :]).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
