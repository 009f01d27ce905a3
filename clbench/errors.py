"""The one exception for bad input, and the one warning for what a person should know about a result."""

import difflib
import warnings
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: one sentence that says what is wrong and what to do.

    The command line prints the sentence and exits with code 2; from Python it is an ordinary ``ValueError``.
    """


class Notice(UserWarning):
    """What readers of a result must know: one sentence.

    The command line prints it once on standard error; from Python it is an ordinary warning. Runs record it
    (``clbench.engine.store.add_notes``).
    """


def tell(sentences: Iterable[str]) -> None:
    """Give each sentence as a warning, a ``Notice``."""
    for sentence in sentences:
        warnings.warn(sentence, Notice, stacklevel=2)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``known``: it suggests the nearest of them, and lists all."""
    names = sorted(known)
    # Names are compared in lower case, so that SupSup and NNS find supsup and NNs.
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = f" Did you mean {next(n for n in names if n.lower() == close[0])}?" if close else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")
