"""What became of a row in a version: its verdict, the version's rows it is in, and where things ended. Ids are hex."""

from dataclasses import dataclass
from enum import StrEnum

from prefkit.identity import Json


class RowKind(StrEnum):
    """What a row id can name."""

    PROMPT = "prompt"
    """What is asked: messages."""
    TASK = "task"
    """A prompt with its gold answer and source."""
    COMPLETION = "completion"
    """One draw, or one imported text."""
    SCORE = "score"
    """One label of a completion."""
    COMPARISON = "comparison"
    """What was said about two completions of a prompt."""
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
class Use:
    """What became of an imported rating in a version that asks for it, as `entry` of its recipe: `rated` counts."""

    version: str
    entry: str
    outcome: str


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
