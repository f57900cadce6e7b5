from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.app_session import TOOL


def check(folder, command, *options):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTERHUB", "CUPOLA"))}
    env |= {"CUPOLA_COMMAND": json.dumps(command), "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "cupola.lab.app.check", *options],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_a_tool_that_works_passes(tmp_path):
    done = check(tmp_path, [sys.executable, str(TOOL), "{port}"], "--words", '"path"')
    assert done.returncode == 0, done.stderr
    assert "the sign-in stands in front, and the page is there" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("the check passed")


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        (
            [sys.executable, str(TOOL), "{port}"],
            ["--words", "TOPCAT"],
            "the page does not have the words 'TOPCAT'",
        ),
        ([sys.executable, str(TOOL), "{port}"], ["--window", "Mars"], "there are 0 X servers instead of one"),
        (["no-such-tool"], [], "the session ended with exit code 127 before it was ready"),
    ],
)
def test_a_tool_that_does_not_work_is_found(tmp_path, command, options, sentence):
    done = check(tmp_path, command, *options)
    assert done.returncode == 1
    assert f"the check failed: {sentence}" in done.stderr
