from __future__ import annotations

import re

import yaml

from cupola.config import Config, environments_source, load
from cupola.config.fields import settings
from cupola.config.template import template
from cupola.models.datalab import Datalab


def test_the_file_as_written_gives_the_defaults(tmp_path):
    file = tmp_path / "cupola.yaml"
    file.write_text(template(), encoding="utf-8")
    assert load(file).model_dump() == Config(state=tmp_path / "cupola-state").model_dump()


def test_every_line_can_be_switched_on(tmp_path):
    file = tmp_path / "cupola.yaml"
    text = re.sub(r"^(\s*)#(?! )", r"\1", template(), flags=re.MULTILINE)
    text = re.sub(r"^#  (  |- )", r"  \1", text, flags=re.MULTILINE)  # the entry of the list
    file.write_text(text, encoding="utf-8")
    config = load(file)
    assert [volume.name for volume in config.volumes] == ["mars-archive"]
    for entry in (entry for top in settings() for entry in top.walk()):
        if not entry.below and "[]" not in entry.key:
            value = config
            for part in entry.key.split("."):
                value = getattr(value, part)
            expected = entry.default if entry.default is not None else entry.example
            if isinstance(value, list):  # a list of folders shows them otherwise
                value, expected = [str(one) for one in value], [str(one) for one in expected]
            assert str(value) == str(expected), entry.key


def test_every_setting_is_described():
    for entry in (entry for top in settings() for entry in top.walk()):
        assert entry.title, entry.key
        assert entry.description.endswith("."), entry.key
        if not entry.below:
            assert entry.expects, entry.key
            assert entry.example is not None, entry.key
            if not entry.required and entry.default is None and "[]" not in entry.key:
                assert entry.default_text, entry.key


def test_every_shipped_datalab_is_described_as_the_model_wants():
    folders = [file.parent for file in environments_source().glob("*/datalab.yaml")]
    assert "lab" in {folder.name for folder in folders}
    for folder in folders:
        fields = yaml.safe_load((folder / "datalab.yaml").read_text(encoding="utf-8"))
        assert "versions" not in fields
        assert Datalab(name=folder.name, **fields).summary
