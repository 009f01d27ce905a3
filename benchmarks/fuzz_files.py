"""Damaged files of runs, thousands for each reader: every one is read as it was, or refused in one sentence.

``python -m benchmarks.fuzz_files [FILES]``: each file of a small run (record, tables, saved state) is changed in FILES ways (10,000 by
default): cut, bytes flipped, put in, taken out, repeated, joined with another file of the run. A run's own digests find any change, so that
half of the files are read as if they were of a run from before there were digests (schema 1). Prints a line for each file: how many were
read and refused. A traceback, a sentence of two lines, a changed value behind a digest, or 5 seconds for one file is a failure.
"""

import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from benchmarks.crashes import do, small_job
from clbench.engine.store import Run
from clbench.engine.verify import problems
from clbench.errors import UserError
from clbench.results.frames import frame

LONGEST = 5.0
"""Seconds for one damaged file."""


def damaged(content: bytes, others: list[bytes], draws: random.Random) -> bytes:
    """A file's content with one to three kinds of damage."""
    for _ in range(draws.randint(1, 3)):
        start = draws.randint(0, len(content))
        end = min(len(content), start + draws.choice((1, 1, 2, 8, 100)))
        noise = draws.randbytes(draws.choice((1, 1, 4, 40)))
        signs = draws.choice((b"[", b"]", b"{", b'"', b",", b"\n", b"-", b"e999", b"nan", b"null", b"\x00", b"9" * 400))
        content = draws.choice(
            (
                content[:start],
                content[:start] + noise + content[end:],
                content[:start] + signs + content[end:],
                content[:start] + signs + content[start:],
                content[:start] + content[end:],
                content[:end] + content[start:],
                content[:start] + draws.choice(others)[start:],
            )
        )
    return content


def without_digests(run: Run) -> None:
    """Make a run one of schema 1."""
    record = {key: value for key, value in run.record.items() if key not in ("schema", "tables", "state", "check")}
    (run.path / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run.path / "copies")


def outcome(run: Run, recorded: bool, whole: pd.DataFrame) -> str:
    """What happens when all readers read a run: read, refused, or what went wrong."""
    try:
        sentences = [problem.sentence for problem in problems(run)]
        read = frame([run])
        for name in ("learned", "progress", "generator"):
            run.state(name)
    except UserError as error:
        sentences, read = [str(error)], None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if any("\n" in sentence for sentence in sentences):
        return f"two lines: {sentences}"
    if read is None:
        return "refused"
    if recorded and not read.equals(whole):
        return "wrong values"
    return "read" if read["accuracy"].between(0, 1).all() else "wrong accuracies"


def main(files: int) -> None:
    """Fuzz every file of a run."""
    failures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        original = do(small_job("supsup", "nns"), Path(place) / "whole")
        for recorded in (True, False):
            run = Run(Path(shutil.copytree(original.path, Path(place) / str(recorded) / original.path.name)))
            if not recorded:
                without_digests(run)
            whole = frame([run])
            contents = {file: file.read_bytes() for file in sorted(run.path.rglob("*")) if file.is_file()}
            for file, content in contents.items():
                if "copies" in file.parts:
                    continue
                draws, counts = random.Random(file.name), Counter[str]()
                for _ in range(files // 2):
                    file.write_bytes(damaged(content, list(contents.values()), draws))
                    began = time.perf_counter()
                    what = outcome(run, recorded, whole)
                    counts[what if time.perf_counter() - began < LONGEST else "too slow"] += 1
                file.write_bytes(content)
                print(f"{file.relative_to(run.path)}, {'with' if recorded else 'without'} digests: {dict(counts)}", flush=True)
                failures += Counter({what: n for what, n in counts.items() if what not in ("read", "refused")})
    sys.exit(str(dict(failures)) if failures else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
