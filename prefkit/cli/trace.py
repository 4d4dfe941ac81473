"""`prefkit trace`."""

from prefkit.cli.console import say, say_json
from prefkit.cli.options import AsJson, WorkspacePath, opened
from prefkit.pipeline.tracing.telling import story_lines
from prefkit.pipeline.tracing.trace import row_story


def trace(row_id: str, /, *, json: AsJson = False, workspace: WorkspacePath = None) -> None:
    """Tell the whole story of one row: its prompt, who wrote it, every score and comparison, and every version.

    Parameters
    ----------
    row_id
        The id of a prompt, task, completion, score, comparison or pair, or how it begins (six digits or more).
    json
        Print JSON.
    """
    story = row_story(opened(workspace), row_id)
    if json:
        say_json(story.to_json())
        return
    for line in story_lines(story):
        say(line)
