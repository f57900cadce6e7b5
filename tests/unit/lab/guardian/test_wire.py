from __future__ import annotations

import asyncio

import pytest
import zmq
import zmq.asyncio
from jupyter_client.ioloop import AsyncIOLoopKernelManager

from cupola.lab.guardian.kernels import wire as wires
from cupola.lab.guardian.kernels.wire import Port, Wire


class Kernel:
    """The kernel's end of its channels."""

    def __init__(self, context):
        self.sockets = {}
        for name in ("shell", "control", "stdin"):
            self.sockets[name] = context.socket(zmq.ROUTER)
            self.sockets[name].linger = 0
            self.sockets[name].bind_to_random_port("tcp://127.0.0.1")

    def close(self):
        for socket in self.sockets.values():
            socket.close()

    def port(self, name):
        return int(self.sockets[name].last_endpoint.decode().rsplit(":", 1)[1])

    async def hear(self, channel):
        return await asyncio.wait_for(self.sockets[channel].recv_multipart(), 60)

    async def answer(self, channel, heard, *, session, content=b"{}", buffers=()):
        parent = b'{"session": "%s"}' % session
        frames = [heard[0], b"<IDS|MSG>", b"sign", b"{}", parent, b"{}", content, *buffers]
        await self.sockets[channel].send_multipart(frames)


class Asker:
    """A page."""

    def __init__(self, wire, channel, session):
        self.heard = asyncio.Queue()
        self.port = Port(wire, channel, session)
        self.port.on_recv(lambda parts: self.heard.put_nowait([bytes(part) for part in parts]))

    def ask(self, *more):
        self.port.send_multipart([b"<IDS|MSG>", b"sign", b"{}", b"{}", b"{}", b"{}", *more])

    async def hear(self):
        return await asyncio.wait_for(self.heard.get(), 60)


@pytest.fixture
def context():
    made = zmq.asyncio.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def kernel(context):
    return Kernel(context)


@pytest.fixture
def manager_of(context):
    return lambda kernel: make_manager(kernel, context)


def make_manager(kernel, context):
    manager = AsyncIOLoopKernelManager(ip="127.0.0.1", context=context)
    manager.kernel_id = "k1"
    for name in ("shell", "control", "stdin"):
        setattr(manager, f"{name}_port", kernel.port(name))
    return manager


@pytest.mark.asyncio
async def test_each_page_hears_its_own_answers_and_the_kernel_one_name(kernel, manager_of):
    wire = Wire(manager_of(kernel))
    for channel in ("shell", "control"):
        ada, bob = Asker(wire, channel, "ada"), Asker(wire, channel, "bob")
        ada.ask()
        first = await kernel.hear(channel)
        bob.ask()
        second = await kernel.hear(channel)
        assert first[0] == second[0] == b"cupola-k1"
        await kernel.answer(channel, first, session=b"bob", content=b'{"b": 1}')
        await kernel.answer(channel, first, session=b"ada", content=b'{"a": 1}')
        assert (await bob.hear())[5] == b'{"b": 1}'
        assert (await ada.hear())[5] == b'{"a": 1}'
        assert bob.heard.empty()
    wire.close()


@pytest.mark.asyncio
async def test_large_binary_parts_pass_both_ways(kernel, manager_of):
    wire = Wire(manager_of(kernel))
    page = Asker(wire, "shell", "ada")
    large = bytes(range(256)) * 40_000
    page.ask(large, b"", b"<IDS|MSG>")
    heard = await kernel.hear("shell")
    assert heard[-3:] == [large, b"", b"<IDS|MSG>"]
    await kernel.answer("shell", heard, session=b"ada", buffers=[large, b"\xff"])
    assert (await page.hear())[-2:] == [large, b"\xff"]
    wire.close()


@pytest.mark.asyncio
async def test_a_page_that_has_gone_is_missed_by_nobody_and_one_that_came_back_hears(kernel, manager_of):
    wire = Wire(manager_of(kernel))
    gone = Asker(wire, "shell", "ada")
    gone.ask()
    heard = await kernel.hear("shell")
    again = Asker(wire, "shell", "ada")  # before the old connection is found to be dead
    gone.port.close()
    await kernel.answer("shell", heard, session=b"ada")
    await again.hear()
    assert gone.heard.empty()
    again.port.close()
    other = Asker(wire, "shell", "bob")
    await kernel.answer("shell", heard, session=b"ada")
    await kernel.answer("shell", heard, session=b"bob")
    await other.hear()
    assert again.heard.empty()
    wire.close()


@pytest.mark.asyncio
async def test_what_is_no_message_is_passed_over(kernel, manager_of):
    wire = Wire(manager_of(kernel))
    page = Asker(wire, "shell", "ada")
    page.ask()
    heard = await kernel.hear("shell")
    for nonsense in (
        [b"x"],
        [b"<IDS|MSG>"],
        [b"<IDS|MSG>", b"", b"", b"no json"],
        [b"<IDS|MSG>", b"", b"", b"[]"],
    ):
        await kernel.sockets["shell"].send_multipart([heard[0], *nonsense])
    await kernel.answer("shell", heard, session=b"ada")
    await page.hear()
    wire.close()


@pytest.mark.asyncio
async def test_answers_to_questions_go_out_under_another_name_than_the_guardian_has(kernel, manager_of):
    wire = Wire(manager_of(kernel))
    Asker(wire, "stdin", "ada").ask()
    assert (await kernel.hear("stdin"))[0] == b"cupola-k1-answers"
    wire.close()


@pytest.mark.asyncio
async def test_without_a_guardian_questions_come_to_the_page(kernel, manager_of):
    wire = Wire(manager_of(kernel), guarded=False)
    page = Asker(wire, "stdin", "ada")
    page.ask()
    heard = await kernel.hear("stdin")
    assert heard[0] == b"cupola-k1"
    await kernel.answer("stdin", heard, session=b"ada")
    await page.hear()
    wire.close()


@pytest.mark.asyncio
async def test_a_kernel_with_other_ports_is_reached_by_the_pages_that_were_there(kernel, context, manager_of):
    wire = Wire(manager_of(kernel))
    page = Asker(wire, "shell", "ada")
    page.ask()
    await kernel.hear("shell")
    moved = Kernel(context)
    kernel.close()
    wire.connect(manager_of(moved))
    page.ask()
    await moved.answer("shell", await moved.hear("shell"), session=b"ada")
    await page.hear()
    wire.close()
    moved.close()


class Guarded:
    """What the server knows of a guardian that does not hear the kernel yet, or never says so."""

    deaf = True

    def hears(self):
        return not self.deaf


@pytest.mark.asyncio
async def test_the_first_requests_wait_until_the_guardian_hears_what_they_bring_about(kernel, manager_of):
    manager = manager_of(kernel)
    manager.provisioner = guarded = Guarded()
    wire = Wire(manager)
    ada = Asker(wire, "shell", "ada")
    for number in range(3):
        ada.ask(b"%d" % number)
    await asyncio.sleep(0.1)
    assert not await kernel.sockets["shell"].poll(100)
    guarded.deaf = False
    # Not before those that came first.
    ada.ask(b"3")
    assert [(await kernel.hear("shell"))[-1] for _ in range(4)] == [b"0", b"1", b"2", b"3"]
    ada.ask(b"4")
    assert (await kernel.hear("shell"))[-1] == b"4"
    wire.close()
    kernel.close()


@pytest.mark.asyncio
async def test_a_guardian_that_cannot_say_that_it_hears_keeps_nobody_waiting_for_long(
    kernel, manager_of, monkeypatch
):
    monkeypatch.setattr(wires, "HEARS_S", 0.1)
    manager = manager_of(kernel)
    manager.provisioner = Guarded()
    wire = Wire(manager)
    ada = Asker(wire, "shell", "ada")
    ada.ask(b"first")
    assert (await kernel.hear("shell"))[-1] == b"first"
    assert not manager.provisioner.deaf
    wire.close()
    kernel.close()


@pytest.mark.asyncio
async def test_what_waits_when_the_kernel_is_ended_is_dropped(kernel, manager_of, caplog):
    manager = manager_of(kernel)
    manager.provisioner = guarded = Guarded()
    wire = Wire(manager)
    Asker(wire, "shell", "ada").ask(b"late")
    wire.close()
    guarded.deaf = False
    await asyncio.sleep(5 * wires.LOOK_S)
    assert not await kernel.sockets["shell"].poll(0)
    assert not caplog.records
    kernel.close()
