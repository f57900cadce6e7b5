from __future__ import annotations

import hashlib
import json
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from cupola import cli
from cupola.exceptions import InputError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains.compute.planning import plan
from cupola.lab.chains.products.crate import METADATA, write_crate
from cupola.lab.chains.runs.composite import write_piece
from cupola.lab.chains.runs.fullres import write_product


@pytest.fixture
def products(tmp_path, write_image, write_item):
    """A folder with one product per item, one of them with a space in its input's name, and a composite."""
    folder = tmp_path / "in"
    for name in ("one", "the other"):
        write_image(folder / f"{name}.tif", np.full((20, 30), len(name), "uint8"))
        write_item(
            folder / f"{name}.json",
            name=name,
            bbox=(8.9, 45.0, 9.1, 45.2),
            assets={"data": {"href": f"{name}.tif", "type": "image/tiff"}},
        )
    source = collections.open(folder)

    def halved(band):
        return band / 2

    chain, out = source["data"].map(halved), tmp_path / "out"
    for item in source:
        write_product(chain, item, out, provenance={"job": "Halves", "by": "ada", "cpus": 1})
    mean = chain.mean()
    write_piece(mean, plan(mean), (0, 0), out, name="mean", provenance={"by": "eve"})
    return out


def entities(path):
    document = json.loads(path.read_text())
    assert document["@context"] == "https://w3id.org/ro/crate/1.2/context"
    found = {one["@id"]: one for one in document["@graph"]}
    assert len(found) == len(document["@graph"])
    return found


def references(value):
    """Yield all ids that an entity refers to."""
    if isinstance(value, dict):
        if set(value) == {"@id"}:
            yield value["@id"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_every_file_is_named_with_its_hash(products):
    found = entities(write_crate(products))
    assert found[METADATA]["about"] == {"@id": "./"}
    assert found[METADATA]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    root = found["./"]
    assert (root["@type"], root["name"]) == ("Dataset", "Halves")
    assert {"name", "description", "datePublished", "license", "hasPart"} <= set(root)
    files = [one for one in found.values() if one["@type"] == "File"]
    assert {one["@id"] for one in files} == {part["@id"] for part in root["hasPart"]}
    on_disk = {path for path in products.iterdir() if path.is_file() and path.name != METADATA}
    named = {products / unquote(one["@id"]) for one in files if ":" not in one["@id"]}
    assert named == on_disk
    for one in files:
        path = (
            unquote(urlsplit(one["@id"]).path)
            if one["@id"].startswith("file:")
            else products / unquote(one["@id"])
        )
        content = (products / path).read_bytes()
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        assert one["contentSize"] == str(len(content))


def test_what_is_referred_to_is_there(products):
    found = entities(write_crate(products))
    elsewhere = ("https://w3id.org/ro/crate/", "http://schema.org/")
    for one in found.values():
        for reference in references({key: value for key, value in one.items() if key != "@id"}):
            assert reference in found or reference.startswith(elsewhere), reference


def test_each_product_has_the_action_that_made_it(products):
    found = entities(
        write_crate(products, licence="https://spdx.org/licenses/CC-BY-4.0", author="Ada Lovelace")
    )
    actions = [one for one in found.values() if one["@type"] == "CreateAction"]
    assert [part["@id"] for part in found["./"]["mentions"]] == [one["@id"] for one in actions]
    made = {one["result"][1]["@id"]: one for one in actions}
    assert set(made) == {"one.tif", "the-other.tif", "mean.tif"}
    for name, action in made.items():
        software, chain = (found[part["@id"]] for part in action["instrument"])
        assert (software["@type"], software["name"]) == ("SoftwareApplication", "Cupola")
        assert json.loads(chain["text"])["type"] == "cupola-chain"
        assert "def halved(band)" in found[chain["hasPart"][0]["@id"]]["text"]
        assert found[action["agent"]["@id"]]["name"] == ("eve" if name == "mean.tif" else "ada")
        assert action["endTime"].endswith("Z")
        used = [found[part["@id"]] for part in action["object"]]
        assert len([one for one in used if one["@type"] == "File"]) == (2 if name == "mean.tif" else 1)
        values = {one["name"]: one["value"] for one in used if one["@type"] == "PropertyValue"}
        assert values["dtype"] == "float32"
    assert found["./"]["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert found["./"]["author"] == [{"@id": "#person-Ada%20Lovelace"}]


def test_a_crate_is_no_item_of_the_collection(products):
    write_crate(products)
    write_crate(products)
    assert len(collections.open(products)) == 3
    assert not list(products.glob(".*.part*"))


def test_what_cannot_be_described_is_told(products, tmp_path):
    (products / "one.tif").write_bytes(b"other")
    with pytest.raises(InputError, match=r"changed or removed after they were written: one\.tif"):
        write_crate(products)
    assert not (products / METADATA).exists()
    with pytest.raises(NotFoundError, match="holds no products"):
        write_crate(tmp_path / "in")
    for path in products.glob("one.*"):
        path.unlink()
    with pytest.raises(InputError, match="is no address"):
        write_crate(products, licence="CC-BY-4.0")
    assert not list(products.glob(".*.part*"))


def test_command(products, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["crate", str(products), "--licence", "https://spdx.org/licenses/CC0-1.0", "--json"])
    assert not left.value.code
    assert json.loads(capsys.readouterr().out) == {"crate": str(products / METADATA)}
