"""How a build tells what it is doing. The command line draws bars or writes log lines; a library call is silent."""

from typing import Protocol


class Progress(Protocol):
    """Receives the stages of a build as they begin, and the keys as they are acknowledged."""

    def stage(self, name: str, planned: int, missing: int) -> None:
        """A stage begins: it needs `planned` keys, of which `missing` must be computed."""
        ...

    def advance(self, keys: int) -> None:
        """This many keys of the current stage are durable now."""
        ...


class Silent:
    """Tells nothing."""

    def stage(self, name: str, planned: int, missing: int) -> None:
        """See Progress."""

    def advance(self, keys: int) -> None:
        """See Progress."""
