"""A row's whole story: what it is, where it came from, how it was judged, and what became of it in every version.

A story holds everything that is known, as plain data (`to_json`) and told for a terminal (`lines`). Ids are hex digits.
A draw or a score is told with every try; of several rows of one key exactly one counts, the others are `superseded`.
Texts were written by models: control characters are shown escaped, so no text can steer the terminal.
"""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

from prefkit.identity import Json
from prefkit.sampling.protocol import Message

WIDTH = 96
SHORT = 12
"""Digits of an id as shown in lines; enough to trace it in its turn."""


class RowKind(StrEnum):
    """What a row id can name."""

    PROMPT = "prompt"
    """What is asked: messages."""
    TASK = "task"
    """A prompt with its gold answer and source."""
    COMPLETION = "completion"
    """One draw."""
    SCORE = "score"
    """One label of a completion."""
    PAIR = "pair"
    """Chosen and rejected."""


class Verdict(StrEnum):
    """What became of a row in one version."""

    SELECTED = "selected"
    """It is in the dataset, or a row of it is."""
    DROPPED = "dropped"
    """A stage dropped it, or all that was made of it."""
    NOT_SELECTED = "not_selected"
    """It came as far as selection, and others came first."""
    NOT_PLANNED = "not_planned"
    """The version's recipe and source do not ask for it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sampler or scorer id stands for; `values` is None when it is not on record."""

    id: int
    name: str | None
    values: Json


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt as a source has it."""

    id: str
    answer: str | None
    source: str
    split: str | None
    metadata: Json
    when: str


@dataclass(frozen=True, slots=True)
class Draw:
    """One try at a completion. `when` is the time of its commit, UTC."""

    attempt: int
    when: str
    superseded: bool
    completion: Sequence[Message] | None
    finish_reason: str | None
    tokens: int | None
    failure: str | None
    detail: str | None
    transient: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One try at a score."""

    attempt: int
    when: str
    superseded: bool
    score: float | None
    failure: str | None
    detail: str | None
    transient: bool
    rationale: str | None
    raw: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class ScoreStory:
    """A score with every call that was made for it."""

    id: str
    scorer: Settings
    aspect: str
    repeat: int
    input_id: int
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """A row of a version. A pair has `chosen_id` and `rejected_id`, a single completion has `completion_id`."""

    split: str
    pair_id: str | None = None
    chosen_id: str | None = None
    rejected_id: str | None = None
    chosen_score: float | None = None
    rejected_score: float | None = None
    score_margin: float | None = None
    completion_id: str | None = None
    score: float | None = None
    label: bool | None = None
    weight: float | None = None

    @property
    def completion_ids(self) -> set[str]:
        """The completions in the row."""
        return {i for i in (self.chosen_id, self.rejected_id, self.completion_id) if i}


@dataclass(frozen=True, slots=True)
class Ending:
    """Where something ended that is not in the version: its kind and id, the stage, and the outcome.

    `chosen_id` and `rejected_id` are the sides of a pair, where the prompt's completions tell them.
    """

    kind: RowKind
    id: str | None
    stage: str
    outcome: str
    detail: str | None
    chosen_id: str | None = None
    rejected_id: str | None = None

    @property
    def completion_ids(self) -> set[str]:
        """The sides of a pair."""
        return {i for i in (self.chosen_id, self.rejected_id) if i}


@dataclass(frozen=True, slots=True)
class InVersion:
    """What became of a row in one version, and how that version selects."""

    version: str
    verdict: Verdict
    placements: tuple[Placement, ...]
    endings: tuple[Ending, ...]
    select: Json


@dataclass(frozen=True, slots=True)
class CompletionKey:
    """Which draw a completion is, beside its prompt."""

    id: str
    policy_id: str
    policy_version: int
    sampler_id: int
    sample_index: int


@dataclass(frozen=True, slots=True)
class CompletionStory:
    """A completion with every try, score and version. `policy` says where the weights came from, if known."""

    key: CompletionKey
    policy: Json
    sampler: Settings
    draws: tuple[Draw, ...]
    scores: tuple[ScoreStory, ...]
    versions: tuple[InVersion, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """The story of one row: its prompt with all tasks, and the completions it is about.

    Those are both sides of a pair (chosen first), the completion itself or that of a score, or all of a prompt or task.
    `versions` says what became of the pair or, for every other kind, of the prompt.
    """

    kind: RowKind
    id: str
    prompt_id: str
    messages: Sequence[Message]
    tasks: tuple[Task, ...]
    completions: tuple[CompletionStory, ...]
    versions: tuple[InVersion, ...]

    def to_json(self) -> dict[str, Json]:
        """Everything, as plain data."""
        return cast("dict[str, Json]", asdict(self))

    def lines(self) -> list[str]:
        """Everything for a terminal of 96 columns; the completions of a prompt or task get a line each."""
        briefly = self.kind in (RowKind.PROMPT, RowKind.TASK)
        told = [*_head(self), *_versions(self.versions, "pair" if self.kind == RowKind.PAIR else "prompt", None)]
        for index, completion in enumerate(self.completions):
            title = ("chosen", "rejected")[index] if self.kind == RowKind.PAIR else "completion"
            told += [_brief(completion)] if briefly else ["", *_completion(completion, title)]
        return [line for entry in told for line in _wrapped(_shown(entry))]


def _head(story: Story) -> Iterator[str]:
    yield f"{story.kind} {story.id}"
    if story.kind != RowKind.PROMPT:
        yield f"prompt {story.prompt_id}"
    yield from _messages(story.messages)
    for task in story.tasks:
        facts = {"answer": task.answer, "source": task.source, "split": task.split, "metadata": task.metadata}
        yield f"  task {task.id[:SHORT]}: {_values({k: v for k, v in facts.items() if v is not None})}"


def _completion(story: CompletionStory, title: str) -> Iterator[str]:
    yield f"{title} {story.key.id}"
    source = _values(story.policy) if isinstance(story.policy, Mapping) else "no model"
    yield f"  policy {story.key.policy_id}, version {story.key.policy_version} ({source})"
    yield f"  sampler {_settings(story.sampler)}; sample {story.key.sample_index}"
    for draw in story.draws:
        yield f"  {_try('draw', draw)}: {_drawn(draw)}"
        for line in _messages(draw.completion or ()):
            yield f"  {line}"
    for score in story.scores:
        yield from _score(score)
    yield from _versions(story.versions, "completion", story.key.id)


def _brief(story: CompletionStory) -> str:
    told = [_drawn(d) for d in story.draws if not d.superseded]
    told += [f"{s.aspect} {_called(c)}" for s in story.scores for c in s.calls if not c.superseded]
    for verdict in (Verdict.SELECTED, Verdict.DROPPED, Verdict.NOT_SELECTED):
        versions = [v.version for v in story.versions if v.verdict == verdict]
        told += [f"{verdict.replace('_', ' ')} in {', '.join(versions)}"] if versions else []
    return f"  completion {story.key.id[:SHORT]}: {'; '.join(told)}"


def _score(story: ScoreStory) -> Iterator[str]:
    yield f"  score {story.id[:SHORT]}: {story.aspect}, repeat {story.repeat}, by {_settings(story.scorer)}"
    for call in story.calls:
        yield f"    {_try('call', call)}: {_called(call)}{_spent(call)}"
        for name, text in (("rationale", call.rationale), ("raw reply", call.raw)):
            if text is not None:
                yield from _text(f"      {name}: ", text)


def _versions(versions: Sequence[InVersion], what: str, completion_id: str | None) -> Iterator[str]:
    for version in versions:
        if version.verdict != Verdict.NOT_PLANNED:
            yield f"  {version.version}: {what} {version.verdict.replace('_', ' ')}"
            yield from (f"    {_placed(p, completion_id)}" for p in version.placements)
            yield from (f"    {ending}" for ending in _endings(version.endings, completion_id))
            if what == "pair":
                yield f"    select {_values(version.select)}"
    absent = [v.version for v in versions if v.verdict == Verdict.NOT_PLANNED]
    if absent:
        yield f"  {what} not in the plan of {', '.join(absent)}"


def _placed(placement: Placement, completion_id: str | None) -> str:
    if placement.pair_id is None:
        values = {"score": placement.score, "label": placement.label, "weight": placement.weight}
        known = {k: v for k, v in values.items() if v is not None}
        return f"{_short(placement.completion_id)} in {placement.split}: {_values(known)}"
    scores = f"{_number(placement.chosen_score)} against {_number(placement.rejected_score)}"
    scores = f"score margin {_number(placement.score_margin)} ({scores})"
    pair = f"pair {_short(placement.pair_id)} in {placement.split}"
    match completion_id:
        case placement.chosen_id:
            return f"chosen over {_short(placement.rejected_id)}, {scores}, {pair}"
        case placement.rejected_id:
            return f"rejected for {_short(placement.chosen_id)}, {scores}, {pair}"
        case _:
            return f"{pair}: {_short(placement.chosen_id)} over {_short(placement.rejected_id)}, {scores}"


def _endings(endings: Sequence[Ending], completion_id: str | None) -> Iterator[str]:
    """A line per ending; pairs that ended alike share one, and a completion's are named by its partners."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for ending in endings:
        if ending.kind == RowKind.PAIR:
            other = ending.rejected_id if ending.chosen_id == completion_id else ending.chosen_id
            pairs.setdefault((ending.stage, ending.outcome), []).append(_short(other if completion_id else ending.id))
        else:
            detail = f" ({ending.detail})" if ending.detail else ""
            yield f"{ending.stage}: {ending.kind} {_short(ending.id)} ended as {ending.outcome}{detail}"
    for (stage, outcome), named in pairs.items():
        pair = f"pair{'s' if len(named) > 1 else ''} {'with ' if completion_id else ''}{', '.join(named)}"
        yield f"{stage}: {pair} ended as {outcome}"


def _try(name: str, tried: Draw | Call) -> str:
    return f"{name} {tried.attempt + 1} at {tried.when}{', superseded' if tried.superseded else ''}"


def _drawn(draw: Draw) -> str:
    if draw.failure:
        return _failed(draw)
    tokens = f", {draw.tokens} tokens" if draw.tokens is not None else ""
    return f"{draw.finish_reason or 'finished'}{tokens}"


def _called(call: Call) -> str:
    return _failed(call) if call.failure else _number(call.score)


def _failed(tried: Draw | Call) -> str:
    detail = f": {tried.detail}" if tried.detail else ""
    return f"failed, {tried.failure}{detail} ({'the next build tries again' if tried.transient else 'final'})"


def _spent(call: Call) -> str:
    spent = {"input tokens": call.input_tokens, "output tokens": call.output_tokens, "cost": call.cost}
    known = _values({k: v for k, v in spent.items() if v is not None})
    return f" ({known})" if known else ""


def _settings(settings: Settings) -> str:
    if settings.values is None:
        return f"{settings.id} (not on record)"
    return f"{settings.name} ({_values(settings.values)})"


def _values(values: Json) -> str:
    """`name value, name value`, without those that are not set."""
    if not isinstance(values, Mapping):
        return json.dumps(values, ensure_ascii=False)
    told = (
        (k, v if isinstance(v, str) else json.dumps(v, ensure_ascii=False))
        for k, v in values.items()
        if v not in (None, [])
    )
    return ", ".join(f"{k} {v}" for k, v in told)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


def _short(hex_id: str | None) -> str:
    return hex_id[:SHORT] if hex_id else "unknown"


def _messages(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        yield from _text(f"  {message['role']}: ", message["content"])


def _text(title: str, text: str) -> Iterator[str]:
    """The text behind its title, further lines of it below its first."""
    first, *more = text.split("\n")
    yield title + first
    yield from (" " * len(title) + line for line in more)


def _shown(line: str) -> str:
    """The line with every character that a terminal would obey, and not show, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, replace_whitespace=False, break_on_hyphens=False) or [
        ""
    ]
