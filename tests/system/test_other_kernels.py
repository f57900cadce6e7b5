"""Kernels of other languages below a guardian: they too outlive their server, and nothing that they said is lost."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from cupola.lab.guardian.folder import KernelFolder
from support.guarded import GuardedServer, Page, text_of
from support.programs import unpacked

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

LINES = [str(number) for number in range(1, 61)]


@dataclass(frozen=True)
class Language:
    """What the tests say in it.

    `lines` prints ``line 1`` to ``line 60`` within about ten seconds.
    """

    program: str
    kernelspec: str
    remember: str
    lines: str
    recall: str
    fail: str


R = Language(
    "r",
    "ir",
    "kept <- 42",
    'for (i in 1:60) { cat("line", i, "\\n"); flush.console(); Sys.sleep(0.15) }',
    'cat("kept is", kept)',
    'stop("on purpose")',
)
TYPESCRIPT = Language(
    "deno",
    "deno",
    "const kept: number = 42",
    "for (let i = 1; i <= 60; i++) { console.log('line', i); await new Promise(r => setTimeout(r, 150)) }",
    "console.log('kept is', kept)",
    "throw new Error('on purpose')",
)
BOTH = pytest.mark.parametrize("language", [R, TYPESCRIPT], ids=["R", "TypeScript"])


@pytest.fixture
def server(language, tmp_path):
    """A session that has its kernel."""
    made = GuardedServer(tmp_path, str(unpacked(language.program) / "share" / "jupyter"))
    try:
        made.start()
        yield made
    finally:
        made.clean()


@BOTH
def test_goes_on_without_its_server_and_no_line_is_lost(server, language):
    """The server dies in the middle of a cell, with another one queued; the next one has the same kernel and all it said."""
    kernel = server.open_notebook(language.kernelspec)
    page = Page(server, kernel)
    page.run(language.remember, "remember")
    long = page.execute(language.lines, "long")
    queued = page.execute(language.recall, "queued")
    server.until(lambda: re.search(r"line 5\s*\n", server.printed(kernel)), "the cell does not run")
    before = server.record(kernel)

    server.kill()
    at_the_crash = server.printed(kernel)
    server.until(lambda: "line 20" in server.printed(kernel), "it ended with its server")
    assert "line 20" not in at_the_crash
    server.start()

    assert server.record(kernel) == before, "it is the same process"
    assert server.get("api/sessions").json()[0]["kernel"]["id"] == kernel
    again = Page(server, kernel, page.session.session)
    told = again.until_idle(again.execute(language.lines, "long", long), again=True)
    assert re.findall(r"line (\d+)", text_of(told)) == LINES
    again.until_idle(again.execute(language.recall, "queued", queued), again=True)
    again.run(language.recall, "new")
    # In the journal, since on a busy machine Deno says now and then that it is done before it gives what was printed.
    server.until(
        lambda: server.printed(kernel).count("kept is 42") == 2, "the queue did not run, or not once"
    )
    assert re.findall(r"line (\d+)", server.printed(kernel)) == LINES


@BOTH
def test_errors_and_counts_are_in_the_journal_as_of_any_kernel(server, language):
    """What the guardian keeps is what Jupyter's protocol says, so it is the same for all."""
    kernel = server.open_notebook(language.kernelspec)
    page = Page(server, kernel)
    page.run(language.remember, "remember")
    failed = page.execute(language.fail, "fail")
    assert "on purpose" in text_of(page.until_idle(failed))
    server.until(
        lambda: any(
            one["type"] == "status" and one["content"]["execution_state"] == "idle"
            for one in server.journal(kernel)
            if one.get("id") == failed
        ),
        "the end of the cell is not in the journal",
    )
    said = [one for one in server.journal(kernel) if one.get("id") == failed]
    assert [one["type"] for one in said] == ["status", "execute_input", "error", "status"]
    assert said[1]["content"]["execution_count"] == 2
    assert "on purpose" in said[2]["content"]["evalue"]


@BOTH
def test_is_ended_and_started_anew_by_a_server_that_did_not_start_it(server, language):
    """A restart gives an empty kernel below a new guardian; the journal goes on. A shutdown leaves nobody behind."""
    kernel = server.open_notebook(language.kernelspec)
    page = Page(server, kernel)
    page.run(language.remember, "remember")
    before = server.record(kernel)
    server.kill()
    server.start()

    assert server.post(f"api/kernels/{kernel}/restart").status_code == 200
    after = server.until(
        lambda: (record := server.record(kernel))["epoch"] == 2 and record, "there is no new guardian"
    )
    assert after["kernel"] != before["kernel"]
    assert not psutil.pid_exists(before["kernel"])
    assert "42" not in Page(server, kernel).run(language.recall, "recall")

    assert server.delete(f"api/kernels/{kernel}").status_code == 204
    server.until(lambda: not KernelFolder(server.runtime / "kernels" / kernel).alive, "it lives on")
    kinds = [one["type"] for one in server.journal(kernel)]
    assert kinds.count("start") == 2
    assert kinds[-1] == "end"
    assert not psutil.pid_exists(after["kernel"])


@pytest.mark.parametrize("language", [R], ids=["R"])
def test_an_interrupt_reaches_the_kernel_and_not_its_guardian(server, language):
    """Also from a server that did not start it."""
    kernel = server.open_notebook(language.kernelspec)
    page = Page(server, kernel)
    page.run(language.remember, "remember")
    server.kill()
    server.start()
    page = Page(server, kernel)
    endless = page.execute("repeat Sys.sleep(0.1)", "endless")
    server.until(
        lambda: any(one.get("id") == endless for one in server.journal(kernel)), "the cell does not run"
    )
    assert server.post(f"api/kernels/{kernel}/interrupt").status_code == 204
    page.until_idle(endless)
    assert page.run(language.recall, "recall") == "kept is 42"


@pytest.mark.parametrize("language", [TYPESCRIPT], ids=["TypeScript"])
def test_a_kernel_that_an_interrupt_ends_is_started_anew_and_the_journal_says_so(server, language):
    """Deno does not know interrupts: with plain Jupyter it ends likewise."""
    kernel = server.open_notebook(language.kernelspec)
    page = Page(server, kernel)
    page.execute("while (true) await new Promise(r => setTimeout(r, 100))", "endless")
    server.until(
        lambda: "execute_input" in {one["type"] for one in server.journal(kernel)}, "it does not run"
    )
    assert server.post(f"api/kernels/{kernel}/interrupt").status_code == 204
    server.until(lambda: server.record(kernel)["epoch"] == 2, "it is not started anew")
    ends = [one for one in server.journal(kernel) if one["type"] == "end"]
    assert [one.get("signal") for one in ends] == [2]
    assert psutil.pid_exists(server.record(kernel)["kernel"])
    assert KernelFolder(server.runtime / "kernels" / kernel).alive


@BOTH
def test_variables_are_kept_for_python_only_and_nothing_claims_otherwise(server, language):
    """No snapshot is promised: the folder has none, and the kernel's command line is left as its makers wrote it."""
    kernel = server.open_notebook(language.kernelspec)
    Page(server, kernel).run(language.remember, "remember")
    specs = KernelSpecManager(kernel_dirs=[str(unpacked(language.program) / "share" / "jupyter" / "kernels")])
    wanted = specs.get_kernel_spec(language.kernelspec).argv
    found = psutil.Process(server.record(kernel)["kernel"]).cmdline()
    connection = str(server.runtime / "kernels" / kernel / "connection.json")
    assert found[-len(wanted) + 1 :] == [word.replace("{connection_file}", connection) for word in wanted[1:]]
    assert server.record(kernel)["language"] in {"R", "typescript"}
    assert not list((server.runtime / "kernels" / kernel / "variables").glob("*.pkl"))
