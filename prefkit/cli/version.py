"""`prefkit version`."""

from prefkit import __version__
from prefkit.cli.console import say


def version() -> None:
    """Print the version of prefkit."""
    say(__version__)
