from __future__ import annotations

import json
import logging

import pytest
import structlog

from cupola.platform.__main__ import main
from cupola.platform.logs import configure_logs


@pytest.fixture(autouse=True)
def logs_as_before():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_without_a_hub_one_sentence_and_exit_code_2(monkeypatch, capsys, tmp_path):
    for name in ("JUPYTERHUB_API_URL", "CUPOLA_INTERNAL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUPOLA_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert capsys.readouterr().err == (
        "cupola.platform: The portal is started by the hub, and JUPYTERHUB_API_URL is not set: "
        "start everything with `cupola up`.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_told(monkeypatch, capsys, tmp_path):
    file = tmp_path / "cupola.yaml"
    file.write_text("titel: x\n")
    monkeypatch.setenv("CUPOLA_CONFIG", str(file))
    assert main() == 2
    assert "titel" in capsys.readouterr().err


def test_the_log_is_json_and_shows_no_values_of_variables(capsys, monkeypatch):
    # Other tests run uvicorn in this process, with settings of its own for its loggers.
    for name in ("uvicorn", "uvicorn.error"):
        for attribute, value in {"propagate": True, "disabled": False, "handlers": []}.items():
            monkeypatch.setattr(logging.getLogger(name), attribute, value)
        logging.getLogger(name).setLevel(logging.NOTSET)
    configure_logs("info")
    token = "a-secret-value"
    try:
        int(token[:0] + "it broke")
    except ValueError:
        structlog.get_logger("cupola.portal").exception("reconcile failed", what="sessions")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("httpx").info("GET /user")
    first, second = capsys.readouterr().err.splitlines()
    line = json.loads(first)
    assert (line["event"], line["what"], line["level"]) == ("reconcile failed", "sessions", "error")
    assert "it broke" in line["exception"]
    assert token not in first
    assert json.loads(second)["event"] == "started"
