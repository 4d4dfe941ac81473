"""A story as lines for a terminal of 96 columns.

What one completion has is told whole, but for its comparisons beyond the first; the completions of a prompt or task get
a line each.
"""

from collections.abc import Iterator, Mapping, Sequence

from prefkit.pipeline.tracing.rating_lines import (
    comparison_lines,
    comparisons_briefly,
    own_side,
    score_briefly,
    score_lines,
)
from prefkit.pipeline.tracing.story import ComparisonStory, CompletionStory, Story
from prefkit.pipeline.tracing.verdicts import Ending, InVersion, Placement, RowKind, Verdict
from prefkit.pipeline.tracing.wording import (
    drawn,
    messages,
    number,
    settings,
    short,
    shown,
    try_title,
    values,
    wrapped,
)

MOST_COMPARISONS = 20
"""So many comparisons of a completion with others are told; a baseline may have thousands."""
_SIDES = {RowKind.PAIR: ["chosen", "rejected"], RowKind.COMPARISON: ["first", "second"]}
"""What the completions of a story of two are called."""


def story_lines(story: Story) -> list[str]:
    """The story, in lines of at most 96 characters with no control character."""
    what = "pair" if story.kind in _SIDES else "prompt"
    told = [*_head(story), *_versions(story.versions, what, None)]
    if story.kind in (RowKind.PROMPT, RowKind.TASK):
        told += [_brief(completion) for completion in story.completions]
        told += comparisons_briefly(story.comparisons)
    else:
        told += _whole(story)
    return [line for entry in told for line in wrapped(shown(entry))]


def _head(story: Story) -> Iterator[str]:
    yield f"{story.kind} {story.id}"
    if story.kind != RowKind.PROMPT:
        yield f"prompt {story.prompt_id}"
    yield from messages(story.messages)
    for task in story.tasks:
        facts = {"answer": task.answer, "source": task.source, "split": task.split, "metadata": task.metadata}
        yield f"  task {short(task.id)}: {values({k: v for k, v in facts.items() if v is not None})}"


def _whole(story: Story) -> Iterator[str]:
    """Comparisons between both sides, then each completion with everything of its own."""
    titles = _SIDES.get(story.kind, ["completion"])
    names = {side.key.id: title for side, title in zip(story.completions, titles, strict=True)}
    between = story.between
    yield from ["", "compared with each other"] if between else []
    for comparison in between:
        yield from comparison_lines(comparison, names, own_side(comparison, story.completions[0]))
    told = {comparison.id for comparison in between}
    for completion in story.completions:
        yield ""
        yield from _completion(completion, names[completion.key.id])
        others = [c for c in story.comparisons if c.id not in told and c.completion_ids & completion.texts]
        yield from _comparisons(others, completion)
        yield from _versions(completion.versions, "completion", completion.key.id)


def _completion(story: CompletionStory, title: str) -> Iterator[str]:
    imported = story.model is not None
    yield f"{title} {story.key.id}"
    if imported:
        yield f"  imported, written by {story.model}"
    else:
        source = values(story.policy) if isinstance(story.policy, Mapping) else "no model"
        yield f"  policy {story.key.policy_id}, version {story.key.policy_version} ({source})"
    if story.sampler:
        yield f"  sampler {settings(story.sampler)}; sample {story.key.sample_index}"
    if story.copies:
        yield f"  same text as imported {', '.join(map(short, story.copies))}"
    for draw in story.draws:
        ended = drawn(draw, imported)
        yield f"  {try_title('draw', draw, imported)}{f': {ended}' if ended else ''}"
        for line in messages(draw.completion or ()):
            yield f"  {line}"
    for score in story.scores:
        yield from score_lines(score, story.key.id)


def _comparisons(compared: Sequence[ComparisonStory], completion: CompletionStory) -> Iterator[str]:
    for comparison in compared[:MOST_COMPARISONS]:
        yield from comparison_lines(comparison, {completion.key.id: ""}, own_side(comparison, completion))
    if len(compared) > MOST_COMPARISONS:
        yield f"  and {len(compared) - MOST_COMPARISONS:,} comparisons more: all of them with --json"


def _brief(story: CompletionStory) -> str:
    imported = story.model is not None
    told = [drawn(d, imported) for d in story.draws if not d.superseded]
    own = [s for s in story.scores if s.completion_id == story.key.id]
    told += [score_briefly(s, c) for s in own for c in s.calls if not c.superseded]
    for verdict in (Verdict.SELECTED, Verdict.DROPPED, Verdict.NOT_SELECTED):
        versions = [v.version for v in story.versions if v.verdict == verdict]
        told += [f"{verdict.replace('_', ' ')} in {', '.join(versions)}"] if versions else []
    by = f", imported, written by {story.model}" if imported else ""
    return f"  completion {short(story.key.id)}{by}: {'; '.join(part for part in told if part)}"


def _versions(versions: Sequence[InVersion], what: str, completion_id: str | None) -> Iterator[str]:
    for version in versions:
        if version.verdict != Verdict.NOT_PLANNED:
            yield f"  {version.version}: {what} {version.verdict.replace('_', ' ')}"
            yield from (f"    {_placed(p, completion_id)}" for p in version.placements)
            yield from (f"    {ending}" for ending in _endings(version.endings, completion_id))
            if what == "pair":
                yield f"    select {values(version.select)}"
    absent = [v.version for v in versions if v.verdict == Verdict.NOT_PLANNED]
    if absent:
        yield f"  {what} not in the plan of {', '.join(absent)}"


def _placed(placement: Placement, completion_id: str | None) -> str:
    if placement.pair_id is None:
        known = {"score": placement.score, "label": placement.label, "weight": placement.weight}
        told = values({k: v for k, v in known.items() if v is not None})
        return f"{short(placement.completion_id)} in {placement.split}: {told}"
    scores = f"score margin {number(placement.score_margin)}"
    if placement.chosen_score is not None or placement.rejected_score is not None:
        scores += f" ({number(placement.chosen_score)} against {number(placement.rejected_score)})"
    pair = f"pair {short(placement.pair_id)} in {placement.split}"
    match completion_id:
        case placement.chosen_id:
            return f"chosen over {short(placement.rejected_id)}, {scores}, {pair}"
        case placement.rejected_id:
            return f"rejected for {short(placement.chosen_id)}, {scores}, {pair}"
        case _:
            return f"{pair}: {short(placement.chosen_id)} over {short(placement.rejected_id)}, {scores}"


def _endings(endings: Sequence[Ending], completion_id: str | None) -> Iterator[str]:
    """A line per ending; pairs that ended alike share one, and a completion's are named by its partners."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for ending in endings:
        if ending.kind == RowKind.PAIR:
            other = ending.rejected_id if ending.chosen_id == completion_id else ending.chosen_id
            pairs.setdefault((ending.stage, ending.outcome), []).append(short(other if completion_id else ending.id))
        else:
            detail = f" ({ending.detail})" if ending.detail else ""
            yield f"{ending.stage}: {ending.kind} {short(ending.id)} ended as {ending.outcome}{detail}"
    for (stage, outcome), named in pairs.items():
        pair = f"pair{'s' if len(named) > 1 else ''} {'with ' if completion_id else ''}{', '.join(named)}"
        yield f"{stage}: {pair} ended as {outcome}"
