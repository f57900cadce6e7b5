from __future__ import annotations

import pytest

from cupola.config import Config
from cupola.config.database import postgresql_address, schema_url
from cupola.exceptions import ConfigError


def settings(tmp_path, text):
    file = tmp_path / "database"
    if text is not None:
        file.write_text(text)
    return Config.model_validate({"state": str(tmp_path), "database": {"url_file": str(file)}})


def test_without_a_file_there_is_no_postgresql(tmp_path):
    assert postgresql_address(Config.model_validate({"state": str(tmp_path)})) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgresql://a:b@db/cupola\n", "postgresql://a:b@db/cupola"),
        ("postgres://a:b@db/cupola?sslmode=require", "postgresql://a:b@db/cupola?sslmode=require"),
        ("postgresql:///cupola?host=/run/postgresql", "postgresql:///cupola?host=/run/postgresql"),
    ],
)
def test_addresses(tmp_path, text, wanted):
    assert postgresql_address(settings(tmp_path, text)) == wanted


@pytest.mark.parametrize("text", ["mysql://a:secret@db/x", "postgresql://a:secret@db", "", None])
def test_what_is_no_address_is_told_without_what_is_in_it(tmp_path, text):
    with pytest.raises(ConfigError, match="url_file") as told:
        postgresql_address(settings(tmp_path, text))
    assert "secret" not in str(told.value)


def test_each_part_has_its_schema_and_little_patience():
    url = schema_url("postgresql://a:b@db/cupola?sslmode=require", "cupola_hub")
    assert url.startswith(
        "postgresql+psycopg://a:b@db/cupola?sslmode=require&options=-csearch_path%3Dcupola_hub&"
    )
    assert "connect_timeout=5" in url
    assert schema_url("postgresql:///cupola?host=/run", "x").startswith(
        "postgresql+psycopg:///cupola?host=/run&"
    )
