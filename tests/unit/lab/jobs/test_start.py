from __future__ import annotations

import pytest

import cupola
from cupola.exceptions import InputError, NotSignedInError, UnavailableError


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    for name in ("CUPOLA_API_URL", "CUPOLA_TOKEN", "JUPYTERHUB_API_TOKEN", "CUPOLA_JOB"):
        monkeypatch.delenv(name, raising=False)


def test_outside_a_session_there_are_no_jobs():
    for call in (lambda: cupola.map(abs, [1]), cupola.jobs, lambda: cupola.job("ndvi")):
        with pytest.raises(NotSignedInError, match="no session"):
            call()


def test_a_task_starts_no_jobs(monkeypatch):
    monkeypatch.setenv("CUPOLA_JOB", "job-1")
    with pytest.raises(UnavailableError, match="A task cannot start or see jobs"):
        cupola.map(abs, [1])


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "There are no inputs"),
        ("scene.tif", "The inputs are one text"),
        (3, "The inputs are one int, which is no list"),
        (range(100_001), "at most 100,000"),
    ],
)
def test_inputs_that_are_none(inputs, text):
    with pytest.raises(InputError, match=text):
        cupola.map(abs, inputs)


def test_labels_must_fit_the_inputs():
    with pytest.raises(InputError, match="2 inputs and 1 labels"):
        cupola.map(abs, [1, 2], labels=["one"])


def test_a_function_or_a_command_and_what_belongs_to_it():
    for options, text in (
        ({}, "Say what to run"),
        ({"function": abs, "command": "true {input}"}, "a function or a command, not both"),
        ({"function": abs, "folder": "x"}, "are for a command"),
    ):
        with pytest.raises(InputError, match=text):
            cupola.map(inputs=[1], **options)
