"""The installed package: all folders are in it, and it claims no name but clbench."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A top-level folder and the package as which it is installed.
INSTALLED_AS = {"clbench": "clbench", "methods": "clbench.methods", "scenarios": "clbench.scenarios"}


def python_folders() -> Iterator[tuple[Path, str]]:
    """Every folder with Python files, and the name of the package that it becomes."""
    for top, package in INSTALLED_AS.items():
        for folder in {file.parent for file in (ROOT / top).rglob("*.py")}:
            yield folder, ".".join([package, *folder.relative_to(ROOT / top).parts])


def test_every_folder_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(package for _, package in python_folders())
    assert [str(folder) for folder, _ in python_folders() if not (folder / "__init__.py").exists()] == []


def test_mypy_sees_folders_under_their_installed_names() -> None:
    for top, package in INSTALLED_AS.items():
        if top != package:
            assert (ROOT / "stubs" / package.replace(".", "/")).resolve() == ROOT / top


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy because setuptools leaves build/ and *.egg-info in the tree that it builds."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for top in INSTALLED_AS:
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tree)], check=True)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    suffixes = {".py", ".css", ".html", ".js", ".toml"}
    expected = {"clbench/py.typed"} | {
        str(Path(package.replace(".", "/"), file.relative_to(ROOT / top)))
        for top, package in INSTALLED_AS.items()
        for file in (ROOT / top).rglob("*")
        if file.suffix in suffixes
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_wheel_ignores_folders_of_the_same_names_where_it_is_run(wheel: Path, tmp_path: Path) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    zipfile.ZipFile(wheel).extractall(site)
    for name in ("methods", "scenarios"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    program = "import clbench.methods as methods, clbench.scenarios.gg as gg; print(methods.__file__, gg.__file__)"
    run = subprocess.run(
        [sys.executable, "-c", program],  # -c puts the current folder first on the path
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    package = site / "clbench"
    assert run.stdout.split() == [str(package / "methods" / "__init__.py"), str(package / "scenarios" / "gg.py")]
