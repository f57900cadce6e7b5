# ruff: noqa: ARG005 - the functions stand for people's own, which take all bands
from __future__ import annotations

import hashlib
import subprocess
import sys
import threading

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from cupola.exceptions import InputError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains import Chain, store
from cupola.lab.chains.functions import Function, function_from

BANDS = [np.ones((3, 4), "float32"), np.zeros((3, 4), "float32")]


def plus(one, two):
    return helper(one) + two


def helper(band):
    return band * 10


def test_result_may_be_one_array_many_or_a_stack():
    assert function_from(lambda a, b: a - b)(BANDS).shape == (1, 3, 4)
    assert function_from(lambda a, b: (a, b, a))(BANDS).shape == (3, 3, 4)
    assert function_from(lambda a, b: np.stack([a, b]))(BANDS).shape == (2, 3, 4)
    assert function_from(lambda a, b: (a > b).astype(bool))(BANDS).dtype == np.float32


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda a, b: None, "returned nothing"),
        (lambda a, b: a[1:], r"array of 2 x 4 for bands of 3 x 4"),
        (lambda a, b: a.mean(), r"array of no dimension|float32"),
        (lambda a, b: 3, r"int '3'"),
        (lambda a, b: "text", r"str 'text'"),
        (lambda a, b: (a, b[1:]), r"tuple of 2 \(3x4, 2x4\)"),
        (lambda a, b: (), r"empty tuple"),
        (lambda a, b: a[np.newaxis, np.newaxis], r"1 x 1 x 3 x 4"),
        (lambda a, b: {"a": a}, r"dict"),
    ],
)
def test_wrong_result_names_the_function_and_what_it_returned(function, words):
    function.__name__ = "my_filter"
    with pytest.raises(InputError, match=words) as caught:
        function_from(function)(BANDS)
    assert "my_filter" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_own_error_comes_through():
    with pytest.raises(ZeroDivisionError):
        function_from(lambda a, b: 1 / 0)(BANDS)


def test_division_by_zero_is_no_warning():
    assert np.isnan(function_from(lambda a, b: b / b)(BANDS)).all()


def test_what_cannot_be_pickled_is_told():
    lock = threading.Lock()

    def uses_lock(band):
        with lock:
            return band

    with pytest.raises(InputError, match="uses_lock cannot be sent"):
        function_from(uses_lock)


def test_other_python_is_refused():
    made = function_from(plus)
    with pytest.raises(InputError, match=r"Python 2\.7"):
        Function(made.name, made.source, made.pickled, "2.7")(BANDS)


def test_installed_functions_and_partials():
    from functools import partial

    assert function_from(np.hypot)(BANDS).max() == 1
    assert function_from(partial(np.clip, a_min=0, a_max=0.5))(BANDS[:1]).max() == 0.5


def test_functions_of_own_modules_run_where_the_module_is_not(tmp_path, write_image):
    """The tile workers and tasks do not have the notebook's folder on their path."""
    image = collections.open(write_image(tmp_path / "i.tif", np.ones((2, 4, 4), "uint8")))
    (tmp_path / "chain.json").write_text(image["b1", "b2"].map(plus).to_json())
    code = (
        "import sys, numpy as np; from pathlib import Path; from cupola.lab.chains import Chain\n"
        "chain = Chain.from_json(Path(sys.argv[1]).read_text())\n"
        "print(chain.compute().values.max())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "chain.json")], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "11.0"


def test_missing_module_is_named(tmp_path):
    module = tmp_path / "gone_module.py"
    module.write_text("def f(a):\n    return a\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cloudpickle, base64, gone_module, types\n"
        "gone_module.__file__ = types.__file__\n"
        "print(base64.b64encode(cloudpickle.dumps(gone_module.f)).decode())"
    )
    pickled = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    with pytest.raises(InputError, match="'gone_module', which is not installed"):
        Function("f", "", pickled, "")(BANDS)


def test_store_keeps_and_finds(tmp_path, write_image):
    image = collections.open(write_image(tmp_path / "i.tif", np.ones((4, 4), "uint8")))
    chain = image["b1"].map(np.sqrt)
    name = store.save(chain)
    assert store.save(chain) == name == chain.hash
    assert store.load(name).to_json() == chain.to_json()
    assert [path.name for path in store.folder().iterdir()] == [f"{name}.json"]
    assert store.folder().stat().st_mode & 0o077 == 0
    path = store.folder() / f"{name}.json"
    path.write_text(path.read_text().replace('"b1"', '"b2"'))
    with pytest.raises(InputError, match="was changed"):
        store.load(name)


@pytest.mark.parametrize("name", ["0" * 64, "../../secret", "", "A" * 64, "0" * 63])
def test_store_has_no_other_files(name):
    with pytest.raises(NotFoundError):
        store.load(name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_function_of_a_notebook_cell_keeps_its_text(tmp_path, write_image):
    path = write_image(tmp_path / "i.tif", np.full((4, 4), 3, "uint8"))
    cells = [
        f"import cupola\nimage = cupola.open({str(path)!r})\noffset = 4",
        "def shifted(band):\n    # from a cell\n    return band + offset",
        "chain = image['b1'].map(shifted)\nprint(chain.to_json())",
        "offset = 5\nprint(image['b1'].map(shifted).hash != chain.hash)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    chain = Chain.from_json(notebook.cells[2].outputs[0].text)
    assert "# from a cell" in chain.source
    assert chain.compute().values.max() == 7
    assert notebook.cells[3].outputs[0].text.strip() == "True"


def test_store_finds_what_an_earlier_version_kept():
    """Its JSON was another one, and its tiles are still asked for by that name."""
    text = (
        '{"collection":{"bbox":null,"datetime":null,"source":"/x"},"steps":[{"names":["b1"],"op":"bands"}],'
        '"type":"cupola-chain","version":1}'
    )
    name = hashlib.sha256(text.encode()).hexdigest()
    store.folder().mkdir(parents=True)
    (store.folder() / f"{name}.json").write_text(text)
    chain = store.load(name)
    assert chain.bands == ("b1",)
    assert chain.hash != name
