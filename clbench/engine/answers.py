"""Answers that are kept as they come, so that a long ask resumes at the task that it had reached."""

import json
import zlib
from pathlib import Path
from typing import Any


class KeptAnswers(dict[str, Any]):
    """Answers by question (``lesson.Keep``), on disk too: a line for each, with its checksum. Lines that were cut off are left out.

    What a run learned decides its answers, so that they are valid whenever the same questions come again.
    """

    def __init__(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        super().__init__(filter(None, map(_read, text.splitlines())))
        self.file = file
        self.cut_off = bool(text) and not text.endswith("\n")

    def __setitem__(self, question: str, answer: Any) -> None:
        super().__setitem__(question, answer)
        content = json.dumps([question, answer])
        with self.file.open("a", encoding="ascii") as file:
            file.write("\n" * self.cut_off + f"{_checksum(content)} {content}\n")
        self.cut_off = False

    def clear(self) -> None:
        """Forget all: they are in the run's tables."""
        super().clear()
        self.file.unlink(missing_ok=True)


def _checksum(content: str) -> str:
    return f"{zlib.crc32(content.encode()):08x}"


def _read(line: str) -> tuple[str, Any] | None:
    """The question and the answer of a line; None if it was cut off."""
    checksum, _, content = line.partition(" ")
    if checksum != _checksum(content):
        return None
    question, answer = json.loads(content)
    return question, answer
