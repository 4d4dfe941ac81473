"""Mistakes in words: one line each, whatever raised them."""

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import CycloptsError

_REMEDIES = {
    errno.ENOSPC: "free some space and run the command again, nothing acknowledged is lost",
    errno.EDQUOT: "free some space and run the command again, nothing acknowledged is lost",
    errno.EROFS: "choose another place with --workspace",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
}


def one_line(message: str) -> str:
    """The message without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())


def usage_mistake(mistake: "CycloptsError") -> str:
    """A mistake in how a command was called, with a pointer to its help where no suggestion is made."""
    message = one_line(str(mistake)).removesuffix(".")
    message = message[:1].lower() + message[1:]
    command = " ".join(("prefkit", *(mistake.command_chain or ())))
    return message if "Did you mean" in message else f"{message}; see `{command} --help`"


def disk_mistake(trouble: OSError) -> str | None:
    """A disk that is full, read-only or forbidden; None for any other trouble."""
    if trouble.errno not in _REMEDIES:
        return None
    place = os.fsdecode(trouble.filename) if trouble.filename is not None else "the output"
    return f"cannot use {place}: {os.strerror(trouble.errno)}; {_REMEDIES[trouble.errno]}"
