"""A row's whole story: what it is, where it came from, how it was judged, and what became of it in every version.

A story holds everything that is known, as plain data (`to_json`); `telling` makes lines of it. Ids are hex digits. A
completion or a rating is told with every try; of several rows of one key exactly one counts, the others are
`superseded`. What was imported has no tries: each of its rows is one commit that brought it.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from prefkit.identity import Json
from prefkit.pipeline.tracing.verdicts import InVersion, RowKind, Use
from prefkit.sampling.protocol import Message


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sampler or scorer id stands for; `values` is None when it is not on record.

    `annotator` is the person or judge whose ratings were imported, None for a scorer of ours.
    """

    id: int
    name: str | None
    values: Json
    annotator: str | None = None


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
class Try:
    """One row of a fact. `when` is the time of its commit, UTC."""

    attempt: int | None
    when: str
    superseded: bool
    failure: str | None
    detail: str | None
    transient: bool


@dataclass(frozen=True, slots=True)
class Draw(Try):
    """One try at a completion."""

    completion: Sequence[Message] | None
    finish_reason: str | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Call(Try):
    """One try at a score, or at a comparison."""

    rationale: str | None
    raw: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    score: float | None = None
    preference: float | None = None
    """In [0, 1]: 1 prefers `completion_a`, 0 `completion_b`."""


@dataclass(frozen=True, slots=True)
class ScoreStory:
    """A score with every call that was made for it. `uses` are those of an imported one."""

    id: str
    completion_id: str
    scorer: Settings
    aspect: str
    repeat: int
    input_id: int
    calls: tuple[Call, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class ComparisonStory:
    """A comparison with every row of it. `order` is how the two were shown: ab, ba or unknown."""

    id: str
    completion_a: str
    completion_b: str
    scorer: Settings
    aspect: str
    order: str
    repeat: int
    input_id: int
    calls: tuple[Call, ...]
    uses: tuple[Use, ...]

    @property
    def completion_ids(self) -> set[str]:
        """Its two sides."""
        return {self.completion_a, self.completion_b}

    def is_between(self, one: Collection[str], other: Collection[str]) -> bool:
        """Whether one side is among these completions and the other among those."""
        a, b = self.completion_a, self.completion_b
        return (a in one and b in other) or (b in one and a in other)


@dataclass(frozen=True, slots=True)
class CompletionKey:
    """Which draw or imported text a completion is, beside its prompt."""

    id: str
    policy_id: str
    policy_version: int
    sampler_id: int
    sample_index: int


@dataclass(frozen=True, slots=True)
class CompletionStory:
    """A completion with every try, score and version.

    A drawn one has a `sampler`, and `policy` says where its weights came from, if known. An imported one has neither:
    its `model` says who wrote it. `copies` are imported completions of the prompt with the same text: of these a
    version keeps one, and what was said of the others counts for it, so their imported scores are told here too.
    """

    key: CompletionKey
    model: str | None
    policy: Json
    sampler: Settings | None
    copies: tuple[str, ...]
    draws: tuple[Draw, ...]
    scores: tuple[ScoreStory, ...]
    versions: tuple[InVersion, ...]

    @property
    def texts(self) -> set[str]:
        """Its id and those of its copies."""
        return {self.key.id, *self.copies}


@dataclass(frozen=True, slots=True)
class Story:
    """The story of one row: its prompt with all tasks, and the completions it is about.

    Those are both sides of a pair (chosen first) or comparison, the completion itself or that of a score, or all of a
    prompt or task. `comparisons` are all that such a completion is a side of, those between both sides first.
    `versions` says what became of the pair (of a comparison: of either pair of its sides) or, for every other kind, of
    the prompt.
    """

    kind: RowKind
    id: str
    prompt_id: str
    messages: Sequence[Message]
    tasks: tuple[Task, ...]
    completions: tuple[CompletionStory, ...]
    comparisons: tuple[ComparisonStory, ...]
    versions: tuple[InVersion, ...]

    @property
    def between(self) -> list[ComparisonStory]:
        """The comparisons of both sides of a pair or comparison with each other."""
        if self.kind not in (RowKind.PAIR, RowKind.COMPARISON):
            return []
        one, other = (side.texts for side in self.completions)
        return [c for c in self.comparisons if c.is_between(one, other)]

    def to_json(self) -> dict[str, Json]:
        """Everything, as plain data."""
        return cast("dict[str, Json]", asdict(self))
