"""`prefkit tag`."""

from prefkit.cli.console import say
from prefkit.cli.options import WorkspacePath, opened
from prefkit.errors import NotFoundError, RecipeError, suggestion
from prefkit.store.versions import Versions


def tag(label: str, tag: str, /, *, delete: bool = False, workspace: WorkspacePath = None) -> None:
    """Give a version a name of its own, which stands for it everywhere and keeps it from gc.

    Parameters
    ----------
    label
        A version (name@v2), a tag, or a name for its newest version.
    tag
        The tag. One that exists moves to this version.
    delete
        Take the tag away from this version.
    """
    versions = opened(workspace).versions
    version = versions.get(label)
    if not delete:
        _require_free(versions, tag)
        versions.tag(tag, version)
        say(f"{tag} is {version.label}")
        return
    if tag not in versions.tags():
        raise NotFoundError(f"tag {tag!r} does not exist{suggestion(tag, list(versions.tags()))}")
    if versions.tags()[tag] != version.label:
        raise RecipeError(f"tag {tag!r} names {versions.tags()[tag]}, got {version.label}: name the version it is on")
    versions.untag(tag)
    say(f"{tag} no longer names {version.label}")


def _require_free(versions: Versions, tag: str) -> None:
    """A tag must not hide a name or a label."""
    if tag in versions.names() or "@" in tag or not tag.strip() or not tag.isprintable():
        raise RecipeError(
            f"tag {tag!r} could be mistaken for a version, expected a word without @ that is no dataset's name"
        )
