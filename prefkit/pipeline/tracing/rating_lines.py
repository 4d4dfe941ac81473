"""Scores and comparisons as lines: by whom, what they said, and in which versions they counted."""

from collections.abc import Iterator, Mapping, Sequence

from prefkit.pipeline.ratings import RATED
from prefkit.pipeline.tracing.story import Call, ComparisonStory, CompletionStory, ScoreStory
from prefkit.pipeline.tracing.verdicts import Use
from prefkit.pipeline.tracing.wording import failed, number, settings, short, spent, text, try_title


def score_lines(story: ScoreStory, completion_id: str) -> Iterator[str]:
    """A score of a completion, or of a copy of it."""
    imported = story.scorer.annotator is not None
    copy = "" if story.completion_id == completion_id else f", of the copy {short(story.completion_id)}"
    yield f"  score {short(story.id)}: {story.aspect}, repeat {story.repeat}, by {settings(story.scorer)}{copy}"
    for call in story.calls:
        yield f"    {try_title('call', call, imported)}: {_scored(call, imported)}{spent(call)}"
        yield from _reply(call, imported)
    yield from _used(story.uses, imported)


def score_briefly(story: ScoreStory, call: Call) -> str:
    """A score in a word or two."""
    annotator = story.scorer.annotator
    by = f" by {annotator}" if annotator is not None else ""
    return f"{story.aspect} {_scored(call, annotator is not None)}{by}"


def comparison_lines(story: ComparisonStory, names: Mapping[str, str], own: str) -> Iterator[str]:
    """A comparison as told by one of its sides, `own`; `names` are what sides are called that have a name."""
    imported = story.scorer.annotator is not None
    yield f"  comparison {short(story.id)}: {story.aspect}, repeat {story.repeat}, by {settings(story.scorer)}"
    shown = {"ab": own == story.completion_a, "ba": own == story.completion_b}.get(story.order)
    place = "order unknown" if shown is None else f"shown {'first' if shown else 'second'}"
    for call in story.calls:
        said = failed(call, imported) if call.failure else _preferred(story, call, names, own)
        yield f"    {try_title('call', call, imported)}: {said}, {place}{spent(call)}"
        yield from _reply(call, imported)
    yield from _used(story.uses, imported)


def comparisons_briefly(stories: Sequence[ComparisonStory]) -> Iterator[str]:
    """A line for each pair of completions that were compared: every preference for the first."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for story in stories:
        imported = story.scorer.annotator is not None
        by = story.scorer.annotator if imported else story.scorer.name
        for call in (c for c in story.calls if not c.superseded):
            said = failed(call, imported) if call.failure else number(call.preference)
            told = f"{story.aspect} {said} by {by or story.scorer.id}"
            pairs.setdefault((story.completion_a, story.completion_b), []).append(told)
    for (first, second), told in pairs.items():
        yield f"  preference for {short(first)} over {short(second)}: {'; '.join(told)}"


def own_side(story: ComparisonStory, completion: CompletionStory) -> str:
    """The side of a comparison that a completion is or, where it is none, that is a copy of it."""
    sides = (story.completion_a, story.completion_b)
    return completion.key.id if completion.key.id in sides else next(s for s in sides if s in completion.copies)


def _preferred(story: ComparisonStory, call: Call, names: Mapping[str, str], own: str) -> str:
    if call.preference is None:
        return "no preference"
    is_a = own == story.completion_a
    other = story.completion_b if is_a else story.completion_a
    preference = call.preference if is_a else 1 - call.preference
    me, them = names.get(own, f"the copy {short(own)}"), names.get(other, short(other))
    if preference == 0.5:
        said = f"no preference between {me or 'it'} and {them}"
    elif preference > 0.5:
        said = f"{me} preferred {number(preference)} over {them}"
    else:
        said = f"{me} not preferred, {number(preference)} against {them}"
    return said.strip()


def _scored(call: Call, imported: bool) -> str:
    return failed(call, imported) if call.failure else number(call.score)


def _reply(call: Call, imported: bool) -> Iterator[str]:
    if call.rationale is not None:
        yield from text("      rationale: ", call.rationale)
    value = number(call.preference if call.score is None else call.score)
    if call.raw is not None and call.raw != value:
        yield from text(f"      {'raw cell' if imported else 'raw reply'}: ", call.raw)


def _used(uses: Sequence[Use], imported: bool) -> Iterator[str]:
    """A line per outcome with the versions and what they call the rating, those that counted it first."""
    versions: dict[tuple[bool, str], list[str]] = {}
    for use in uses:
        versions.setdefault((use.outcome != RATED, use.outcome), []).append(f"{use.version} as {use.entry}")
    for (dropped, outcome), named in sorted(versions.items()):
        yield f"    {f'ended as {outcome}' if dropped else 'counted'} in {', '.join(named)}"
    if imported and not uses:
        yield "    no version asks for it"
