from __future__ import annotations

import pytest
from pydantic import ValidationError

from cupola.config import Config, ServerSettings
from cupola.config.root import normalised


@pytest.mark.parametrize(
    ("account", "owner"),
    [
        ("maria", "maria"),
        ("Maria K", "maria-k"),
        ("DOMAIN\\maria", "domain-maria"),
        ("_apt", "apt"),
        ("müller", "m-ller"),
        ("maria-", "maria"),
        ("..", "owner"),
        ("日本", "owner"),
        ("a" * 63 + "-b", "a" * 63),
    ],
)
def test_any_account_becomes_a_name_that_the_configuration_itself_accepts(account, owner):
    assert normalised(account) == owner
    assert Config(owner=owner).owner == owner


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"address": "0.0.0.0"}, "http://127.0.0.1:8000"),  # noqa: S104
        ({"address": "::", "port": 80}, "http://[::1]:80"),
        ({"address": "lab.local"}, "http://lab.local:8000"),
    ],
)
def test_the_address_people_open(settings, url):
    assert Config(server=ServerSettings(**settings)).address == url


def test_the_public_address_goes_before_the_one_it_listens_on():
    assert Config(url="https://cupola.example.org/").address == "https://cupola.example.org"


@pytest.mark.parametrize(
    ("compute", "engines", "way_out"),
    [
        ("docker", {"slurm": {}}, "remove engines.slurm"),
        ("docker", {"htcondor": {"config": "/etc/c"}}, "set the universe to docker"),
        ("process", {"htcondor": {"config": "/etc/c", "universe": "docker"}}, "set the universe to vanilla"),
    ],
)
def test_an_engine_that_cannot_run_the_tasks_of_the_sessions_is_refused(compute, engines, way_out):
    with pytest.raises(ValidationError, match=way_out):
        Config.model_validate({"compute": compute, "engines": engines})


@pytest.mark.parametrize("compute", ["docker", "process"])
def test_an_engine_that_can_is_taken(compute):
    universe = {"docker": "container", "process": "vanilla"}[compute]
    pool = {"config": "/etc/c", "universe": universe}
    assert Config.model_validate({"compute": compute, "engines": {"htcondor": pool}}).compute == compute
