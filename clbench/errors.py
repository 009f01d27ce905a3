"""The one exception that a person caused and can mend."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: one sentence that says what is wrong and what to do.

    The command line prints the sentence and exits with code 2; from Python it is an ordinary ``ValueError``.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of the ``known`` ones: it names the nearest of them, and all."""
    names = sorted(known)
    # Names are compared in lower case, so that SupSup and NNS find supsup and NNs.
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    hint = f" Did you mean {next(n for n in names if n.lower() == close[0])}?" if close else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names)}.")
