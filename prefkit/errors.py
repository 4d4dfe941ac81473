"""Errors a user can cause or meet, each told in one line: subject, got, expected, remedy.

    PrefkitError
    ├── RecipeError        (ValueError)     a recipe, option or argument that cannot be obeyed
    ├── SourceError        (ValueError)     input data or a model folder that cannot be read
    ├── WorkspaceError     (RuntimeError)   the workspace is missing, newer, busy, read-only or full
    ├── NotFoundError      (LookupError)    a version, tag, row or outcome that does not exist
    ├── MissingExtraError  (ImportError)    an optional dependency is not installed
    ├── EndpointError      (ConnectionError) a judge's endpoint is unreachable, refuses the key or is no chat endpoint
    ├── SyncError          (RuntimeError)   a sampler does not hold the weights it is meant to hold
    ├── NotBuiltError      (RuntimeError)   the recipe asks for a stage this release does not have
    ├── RankError          (RuntimeError)   another process of the same training has stopped
    ├── LedgerError        (RuntimeError)   the accounts do not add up: the build is refused
    └── DamageError        (RuntimeError)   stored bytes are not the bytes that were written

The command line prints the message of a PrefkitError and exits with its `exit_code`; anything else is a bug and
keeps its traceback. To add one: inherit from PrefkitError and the standard error it refines, and draw it above.
"""

from difflib import get_close_matches
from typing import ClassVar

_MOST_NAMES = 12
"""So many known names are listed."""


class PrefkitError(Exception):
    """Root of every error prefkit raises on purpose."""

    exit_code: ClassVar[int] = 2


class RecipeError(PrefkitError, ValueError):
    """A recipe, option or argument that cannot be obeyed."""


class SourceError(PrefkitError, ValueError):
    """Input data or a model folder that cannot be read."""


class WorkspaceError(PrefkitError, RuntimeError):
    """The workspace is missing, of a newer format, in use by another process, read-only or full."""


class NotFoundError(PrefkitError, LookupError):
    """A version, tag, row or outcome that does not exist."""


class MissingExtraError(PrefkitError, ImportError):
    """An optional dependency that the requested work needs is not installed."""


class EndpointError(PrefkitError, ConnectionError):
    """An endpoint that cannot be used: unreachable, another key or model expected, or no chat endpoint at all."""


class SyncError(PrefkitError, RuntimeError):
    """A sampler does not hold the weights it is meant to hold: nothing is sampled from it."""

    exit_code: ClassVar[int] = 1


class NotBuiltError(PrefkitError, RuntimeError):
    """The recipe is valid but asks for a stage this release does not have."""


class RankError(PrefkitError, RuntimeError):
    """Another process of the same training has stopped, so this one does."""

    exit_code: ClassVar[int] = 1


class LedgerError(PrefkitError, RuntimeError):
    """Planned keys and outcomes do not add up; no version is written."""

    exit_code: ClassVar[int] = 1


class DamageError(PrefkitError, RuntimeError):
    """Stored bytes are not the bytes that were written."""

    exit_code: ClassVar[int] = 1


def suggestion(got: str, known: list[str]) -> str:
    """`; did you mean 'x'?` when a known name is close to `got`, else the known names or the first of many."""
    close = get_close_matches(got, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - _MOST_NAMES:,} more" if len(known) > _MOST_NAMES else ""
    return f"; known: {', '.join(sorted(known)[:_MOST_NAMES])}{more}" if known else ""
