"""How numbers are shown, in tables, captions and figures alike: shares, counts, bytes and seconds as texts."""

import pandas as pd

NONE = "–"
"""Shown if there is no number."""


def percent(share: float, interval: float = float("nan")) -> str:
    """A share in percent, with the half width of its interval if there is one.

    >>> percent(0.9052, 0.0021), percent(0.9052), percent(float("nan"))
    ('90.52 ± 0.21', '90.52', '–')
    """
    if pd.isna(share):
        return NONE
    text = f"{100 * share:.2f}".replace("-0.00", "0.00")
    return text if pd.isna(interval) else f"{text} ± {100 * interval:.2f}"


def measure(value: float, interval: float = float("nan")) -> str:
    """A real number, with the half width of its interval if there is one.

    >>> measure(0.123456, 0.05), measure(2048.0, float("nan"))
    ('0.1235 ± 0.05', '2048')
    """
    if pd.isna(value):
        return NONE
    return f"{value:.4g}" if pd.isna(interval) else f"{value:.4g} ± {interval:.4g}"


def number(value: float) -> str:
    """A count, or a mean of counts.

    >>> number(20.0), number(19.5), number(2500)
    ('20', '19.5', '2,500')
    """
    return NONE if pd.isna(value) else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def bytes_(count: float) -> str:
    """Bytes in decimal units.

    >>> bytes_(16), bytes_(197144), bytes_(195.18e6)
    ('16 B', '197.1 kB', '195.2 MB')
    """
    if pd.isna(count):
        return NONE
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Seconds, with one decimal below 100.

    >>> seconds(0.304), seconds(8.39), seconds(3600)
    ('0.3', '8.4', '3,600')
    """
    return NONE if pd.isna(value) else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
