"""What a run is done with: versions, git commit, machine."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clbench.engine import processor


def environment() -> dict[str, Any]:
    """What a run is done with: versions, git commit (and whether the tree was changed), machine, and how its cores are used now."""
    return _lasting() | processor.record()


@cache
def _lasting() -> dict[str, Any]:
    packages = {}
    for name in ("clbench", "torch", "torchvision", "numpy", "pandas", "scipy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": packages,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": platform.platform(),
        "processor": platform.processor() or platform.machine(),
    }


def _git(*arguments: str) -> str | None:
    """What git says of the checkout that clbench lies in; None where it lies in none."""
    try:
        where = Path(__file__).parent
        done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
