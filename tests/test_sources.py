"""Digests of other people's code: what they cover, and that edited code is imported again."""

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clbench import networks, registry, sources
from clbench.errors import UserError


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of people's modules on Python's path; what was imported of it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# What a digest covers


def test_a_file_that_imports_nothing_of_its_author_has_the_digest_of_its_text(project: Path) -> None:
    text = "import os\nimport torch.nn\nfrom clbench.scenarios import GG\nimport nowhere_at_all\n"
    write(project, {"own.py": text})
    digests = sources.of_file("own.py", project / "own.py")
    assert digests == {"own.py": sha(text)}
    assert sources.digest(digests) == sha(text)
    assert sources.digest({}) is None


def test_modules_that_are_imported_count_wherever_the_import_stands(project: Path) -> None:
    files = {
        "plain.py": "import deep\n",
        "deep.py": "",
        "lazy.py": "",
        "named.py": "",
        "package/__init__.py": "",
        "package/inner.py": "from . import beside\nfrom .below import thing\n",
        "package/beside.py": "",
        "package/below/__init__.py": "from ..above import thing\n",
        "package/above.py": "thing = 1\n",
        "package/unused.py": "",
        "space/part.py": "",
        "circle.py": "import plain, circle\n",
    }
    own = """
import plain, circle
from package import inner
from space.part import *

def later():
    import importlib
    from lazy import anything
    return importlib.import_module("named")
"""
    write(project, files | {"own.py": own})
    digests = sources.of_file("own.py", project / "own.py")
    modules = {"plain", "deep", "lazy", "named", "circle", "space.part"}
    modules |= {"package", "package.inner", "package.beside", "package.below", "package.above"}
    assert set(digests) == modules | {"own.py"}
    assert digests["deep"] == sha("")
    assert digests["package.above"] == sha("thing = 1\n")
    assert not modules & set(sys.modules), "to find a module is not to import it"
    whole = sources.digest(digests)
    for name in modules:
        file = project / f"{name.replace('.', '/')}.py"
        file = file if file.exists() else project / name.replace(".", "/") / "__init__.py"
        text = file.read_text()
        file.write_text(text + "# edited\n")
        assert sources.digest(sources.of_file("own.py", project / "own.py")) != whole, name
        file.write_text(text)
    assert sources.digest(sources.of_file("elsewhere.py", project / "own.py")) == whole


def test_the_digest_of_several_is_written_down(project: Path) -> None:
    """It stands in hashes: a change of how it is made would rename runs."""
    write(project, {"own.py": "import helper\n", "helper.py": "x = 1\n"})
    expected = sha(json.dumps([sha("import helper\n"), [["helper", sha("x = 1\n")]]]))
    assert sources.digest(sources.of_file("own.py", project / "own.py")) == expected


def test_a_dotted_name_stands_for_its_module(project: Path) -> None:
    write(project, {"zoo/__init__.py": "", "zoo/nets.py": "import helper\nclass Outer:\n    make = None\n", "helper.py": ""})
    digests = sources.of_dotted("zoo.nets:Outer.make")
    assert list(digests) == ["zoo.nets", "helper", "zoo"]
    assert sources.of_dotted("zoo.nets.Outer.make") == digests
    assert sources.of_dotted("no_such_module:net") == {}


def test_an_installed_package_counts_by_its_release() -> None:
    import torch

    assert sources.of_dotted("torch.nn:Linear") == {"torch": f"torch {torch.__version__}"}
    assert sources.digest(sources.of_dotted("torch.nn.Linear")) == f"torch {torch.__version__}"
    assert sources.of_dotted("os.path:join") == {}
    assert networks.code("clbench.networks.resnets:resnet_50") == {}
    assert networks.code("lenet-300-100") == {}


def test_what_is_in_memory_only_counts_by_its_text(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    """A function of a script, whose module is ``__main__``, or of a notebook."""
    write(project, {"script.py": "import helper\n", "helper.py": ""})
    script = type(sys)("a_script")
    monkeypatch.setitem(sys.modules, "a_script", script)
    script.__file__ = str(project / "script.py")
    assert sources.of_dotted("a_script:net") == {"a_script": sha("import helper\n"), "helper": sha("")}
    cell = type(sys)("a_cell")
    monkeypatch.setitem(sys.modules, "a_cell", cell)
    cell.net = write  # type: ignore[attr-defined]
    assert list(sources.of_dotted("a_cell:net")) == ["a_cell:net"]
    cell.net = sha  # type: ignore[attr-defined]
    assert sources.of_dotted("a_cell:net") == {"a_cell:net": sha(inspect.getsource(sha))}


def test_methods_and_streams_of_installed_packages_count_by_their_release(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        name, value = "theirs", "pandas.core:Theirs"

    import pandas as pd

    registry._entries.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry] if group == "clbench.streams" else [])
    try:
        assert registry.source_digest("theirs") == f"pandas {pd.__version__}"
        assert registry.source_digest("permuted-mnist") is None
    finally:
        registry._entries.cache_clear()


# Edited code is imported anew

NET = """
from torch import nn
from sizes import UNITS

def net(outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, UNITS), nn.Linear(UNITS, outputs))
"""


def units(name: str = "mynet:net") -> int:
    module = networks.resolve(name, (4,))(2)
    return int(module[1].weight.shape[0])  # type: ignore[index, union-attr]


def test_an_edited_network_and_an_edited_helper_are_imported_again(project: Path) -> None:
    """Several times within a second, to a text of the same length: too fast for Python's own bytecode files."""
    write(project, {"mynet.py": NET, "sizes.py": "UNITS = 64\n"})
    assert units() == 64
    for number in (32, 16, 48):
        (project / "sizes.py").write_text(f"UNITS = {number}\n")
        assert units() == number
    (project / "mynet.py").write_text(NET.replace("UNITS)", "UNITS + 1)").replace("(UNITS,", "(UNITS + 1,"))
    assert units() == 49


def test_two_networks_with_one_helper_are_both_imported_again(project: Path) -> None:
    """Whichever of them comes first after the edit."""
    write(project, {"mynet.py": NET, "other.py": NET, "sizes.py": "UNITS = 64\n"})
    assert (units(), units("other:net")) == (64, 64)
    (project / "sizes.py").write_text("UNITS = 32\n")
    assert (units("other:net"), units()) == (32, 32)
    (project / "sizes.py").write_text("UNITS = 64\n")
    assert (units("other:net"), units()) == (64, 64)


def test_a_module_that_others_imported_before_is_imported_again_only_if_it_may_have_changed(project: Path) -> None:
    write(project, {"mynet.py": NET, "sizes.py": "UNITS = 64\n"})
    theirs = __import__("mynet")
    (project / "sizes.py").write_text("UNITS = 32\n")
    assert units() == 32
    assert sys.modules["mynet"] is not theirs
    ours = sys.modules["mynet"]
    assert units() == 32
    assert sys.modules["mynet"] is ours


def test_a_method_whose_helper_was_edited_is_loaded_again(project: Path) -> None:
    text = """
import helper
from clbench.methods.naive import Naive

class Mine(Naive):
    name = "mine"
    marker = helper.MARKER
"""
    write(project, {"mine.py": text, "helper.py": "MARKER = 1\n"})
    name = f"{project / 'mine.py'}:Mine"
    first, digest = registry.method(name), registry.source_digest(name)
    assert registry.method(name) is first
    (project / "helper.py").write_text("MARKER = 2\n")
    assert registry.method(name).marker == 2  # type: ignore[attr-defined]
    assert first.marker == 1  # type: ignore[attr-defined]
    assert registry.source_digest(name) != digest
    (project / "helper.py").write_text("MARKER = 1\n")
    assert registry.source_digest(name) == digest
    assert registry.method(name).marker == 1  # type: ignore[attr-defined]


# Errors of other people's code


def test_an_error_is_one_sentence_with_its_place(project: Path) -> None:
    write(
        project,
        {"own.py": "import helper\n\ndef run():\n    helper.fails([])\n", "helper.py": "def fails(x):\n\n    return x[3]\n"},
    )
    own = __import__("own")
    with pytest.raises(UserError) as caught, sources.naming("The thing"):
        own.run()
    place = os.fspath(project / "helper.py")
    caller = os.fspath(project / "own.py")
    message = str(caught.value)
    assert message.startswith(f"The thing failed in line 3 of {place}, called from line 4 of {caller}, called from line ")
    assert message.endswith(f" of {__file__} (IndexError: list index out of range): correct it there.")
    with pytest.raises(UserError, match=r"^A sentence\.$"), sources.naming("The thing"):
        raise UserError("A sentence.")
