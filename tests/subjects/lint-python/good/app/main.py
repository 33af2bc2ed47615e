"""Greets."""

import sys


def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}"


if __name__ == "__main__":
    sys.stdout.write(greet("you"))
