"""What numbers an option takes; argparse tells of any other."""

from argparse import ArgumentTypeError


def at_least_one(value: str) -> int:
    """How many of something that there must be."""
    return _at_least(1, value)


def at_least_none(value: str) -> int:
    """How many of something that there may be none of."""
    return _at_least(0, value)


def above_none(value: str) -> float:
    """A rate or a span."""
    number = float(value)
    if not 0 < number < float("inf"):
        raise ArgumentTypeError("must be more than 0")
    return number


def share(value: str) -> float:
    """A share or a probability."""
    number = float(value)
    if not 0 <= number <= 1:
        raise ArgumentTypeError("must be between 0 and 1")
    return number


def _at_least(least: int, value: str) -> int:
    number = int(value)
    if number < least:
        raise ArgumentTypeError(f"must be at least {least}")
    return number
