"""The software and the machine of a run."""

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from clbench.engine import processor


def environment() -> dict[str, Any]:
    """Versions of packages, git commit (and whether files were changed since), machine, and the present use of its cores."""
    return _fixed() | processor.record()


@cache
def _fixed() -> dict[str, Any]:
    import torch

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
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


DECISIVE = {"instructions": "the instructions of the processor", "threads": "the number of threads", "torch": "PyTorch"}
"""What of an environment changes results by rounding, in words."""


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """How two environments differ in what may change a result, in words. What one of them does not say is left out."""
    one, other = (environment | environment.get("packages", {}) for environment in map(dict, (before, after)))
    changed = [key for key in DECISIVE if None not in (one.get(key), other.get(key)) and one[key] != other[key]]
    return [f"{DECISIVE[key]}: {other[key]} instead of {one[key]}" for key in changed]


def _git(*arguments: str) -> str | None:
    """The output of git in the checkout of clbench; None if there is none."""
    try:
        folder = Path(__file__).parent
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=True
        )
        return result.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
