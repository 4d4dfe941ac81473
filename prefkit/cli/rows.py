"""Rows of a version to read: pairs side by side with their differences marked, single completions below their prompt.

What only one side says is coloured on a terminal that has colours, and stands between ⟦ and ⟧ everywhere else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from rich.box import MINIMAL
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from prefkit.cli.console import counted, harmless, number
from prefkit.cli.differences import Part, common_share, differences
from prefkit.cli.folding import Fold, Kind, Piece, folded, folded_sides
from prefkit.cli.texts import Turn, said, short_id

Row = Mapping[str, object]

SIDE_BY_SIDE = 80
"""Columns that a screen needs for chosen and rejected to stand side by side."""
_MARKED_FROM = 0.2
"""Pairs with less than this in common are not marked: everything would be."""
_IMPORTED = "imported:"
_VISIBLE_SPACE = str.maketrans({" ": "·", "\t": "→\t", "\n": "↵\n"})
_COLOURS = {"chosen": "green", "rejected": "red"}
_FIRST_TURNS, _LAST_TURNS = 1, 4


@dataclass(frozen=True, slots=True)
class Look:
    """How rows are to be shown."""

    width: int
    colours: bool
    fold: Fold
    sorted_by: str | None = None
    """A column that is shown beside what always is."""

    @classmethod
    def on(cls, screen: Console, fold: Fold, sorted_by: str | None = None) -> "Look":
        """What suits a screen."""
        return cls(screen.width, screen.color_system is not None and not screen.no_color, fold, sorted_by)


def pair_parts(row: Row, place: int, look: Look) -> Iterator[RenderableType]:
    """A pair: what it is, its prompt, and chosen beside rejected, or below it on a narrow screen."""
    texts = [said(_turns(row, side)) for side in _COLOURS]
    parts = differences(*texts)
    share = common_share(parts)
    marked = share >= _MARKED_FROM
    about = (f"margin {_number(row, 'score_margin')}", _in_common(parts, share))
    yield _title(row, "pair_id", place, look, *about)
    yield from _prompt(row, look)
    pieces = folded_sides(parts, look.fold) if marked else [folded(text, look.fold) for text in texts]
    sides = [_drawn(own, look, f"bold {colour}") for own, colour in zip(pieces, _COLOURS.values(), strict=True)]
    headings = [_heading(row, side, text) for side, text in zip(_COLOURS, texts, strict=True)]
    yield from _beside(headings, sides) if look.width >= SIDE_BY_SIDE else _below(headings, sides)


def completion_parts(row: Row, place: int, look: Look) -> Iterator[RenderableType]:
    """A single completion: what it is, its prompt, and what the model said."""
    label = row["label"]
    judged = "" if label is None else " desirable" if label else " undesirable"
    weight = "" if row["weight"] is None else f", weight {_number(row, 'weight')}"
    about = f"score {_number(row, 'score')} ({_scores(row['scores'])}){judged}{weight}"
    yield _title(row, "completion_id", place, look, about)
    yield from _prompt(row, look)
    text = said(_turns(row, "completion"))
    yield Text.assemble("> ", _drawn(folded(text, look.fold), look, ""))
    yield ""


def _title(row: Row, id_column: str, place: int, look: Look, *about: str) -> RenderableType:
    named = [f"{place:,}", short_id(cast(str, row[id_column])), str(row["split"]), str(row["source"]), *about]
    named += _order(row, look.sorted_by)
    title = Text(harmless(" | ".join(named)), style="bold")
    return Rule(title, align="left", style="dim") if len(title) + len("  ─") <= look.width else title


def _order(row: Row, column: str | None) -> list[str]:
    """The number, or yes or no, by which the row has its place."""
    match row[column] if column else None:
        case bool() as value:
            return [f"{column} {'yes' if value else 'no'}"]
        case (int() | float()) as value if column != "score_margin":
            return [f"{column} {number(value)}"]
        case _:
            return []


def _in_common(parts: Sequence[Part], share: float) -> str:
    if all(part.same for part in parts):
        return "both the same"
    if share == 1.0:
        return "the same but for white space"
    return f"{min(share, 0.99):.0%} in common" + (": not marked" if share < _MARKED_FROM else "")


def _prompt(row: Row, look: Look) -> Iterator[RenderableType]:
    turns = _turns(row, "prompt")
    if len(turns) == 1 and turns[0]["role"] == "user":
        yield _drawn(folded(turns[0]["content"], _prompt_fold(look)), look, "")
    else:
        yield _conversation(turns, look)
    if row["answer"] is not None:
        answer = _drawn(folded(str(row["answer"]), _prompt_fold(look)), look, "")
        yield Text.assemble(("answer: ", "bold"), answer)


def _conversation(turns: Sequence[Turn], look: Look) -> RenderableType:
    """The turns, each with its role; of a long conversation the first, the last, and those that hold what is sought."""
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    hidden = 0
    for index, turn in enumerate(turns):
        last = index == len(turns) - 1
        if not (_is_near(index, len(turns)) or look.fold.full or _holds(turn["content"], look.fold.find)):
            hidden += 1
            continue
        if hidden:
            grid.add_row("", Text(f"… {counted(hidden, 'turn')} …", style="dim italic"))
            hidden = 0
        pieces = folded(turn["content"], _prompt_fold(look) if last else replace(look.fold, head=200, tail=100))
        grid.add_row(Text(harmless(f"{turn['role']}:"), style="bold"), _drawn(pieces, look, ""))
    return grid


def _is_near(index: int, turns: int) -> bool:
    return index < _FIRST_TURNS or index >= turns - _LAST_TURNS


def _holds(text: str, find: str | None) -> bool:
    return find is not None and find.lower() in text.lower()


def _prompt_fold(look: Look) -> Fold:
    return replace(look.fold, head=500, tail=200)


def _heading(row: Row, side: str, text: str) -> Text:
    """Score and scores of a side, how long it is, and who wrote it where that is not one policy for both."""
    policies = [(row[f"{s}_policy_id"], row[f"{s}_policy_version"]) for s in _COLOURS]
    about = [short_id(cast(str, row[f"{side}_id"])), counted(len(text), "character")]
    if policies[0] != policies[1]:
        about.append(_policy(cast(str, row[f"{side}_policy_id"]), cast(int, row[f"{side}_policy_version"])))
    scores = f"{side} {_number(row, f'{side}_score')} ({_scores(row[f'{side}_scores'])})"
    return Text.assemble((harmless(scores), f"bold {_COLOURS[side]}"), (harmless("\n" + ", ".join(about)), "dim"))


def _policy(policy_id: str, version: int) -> str:
    if policy_id.startswith(_IMPORTED):
        return f"by {policy_id.removeprefix(_IMPORTED)}"
    return f"by {short_id(policy_id)}" + (f" step {version}" if version else "")


def _beside(headings: Sequence[Text], sides: Sequence[Text]) -> Iterator[RenderableType]:
    table = Table(box=MINIMAL, pad_edge=False, show_edge=False, expand=True, header_style="")
    for heading in headings:
        table.add_column(heading, ratio=1, overflow="fold")
    table.add_row(*sides)
    yield table
    yield ""


def _below(headings: Sequence[Text], sides: Sequence[Text]) -> Iterator[RenderableType]:
    for heading, side in zip(headings, sides, strict=True):
        yield ""
        yield heading
        yield side
    yield ""


def _drawn(pieces: Iterable[Piece], look: Look, style: str) -> Text:
    """The pieces as one text, what was searched for stands out."""
    drawn = Text(overflow="fold")
    for text, kind in pieces:
        match kind:
            case Kind.HIDDEN:
                drawn.append(f"\n{text}\n", style="dim italic")
            case Kind.MARKED if text:
                drawn.append(_marked(text, look), style=style)
            case _:
                drawn.append(harmless(text))
    if look.fold.find and look.colours:
        drawn.highlight_words([look.fold.find], "reverse", case_sensitive=False)
    return drawn


def _marked(text: str, look: Look) -> str:
    if not text.strip():
        shown = harmless(text.translate(_VISIBLE_SPACE))
        return shown if look.colours else f"⟦{shown}⟧"
    if look.colours:
        return harmless(text)
    core = text.strip()
    before, _, after = text.partition(core)
    return harmless(f"{before}⟦{core}⟧{after}")


def _turns(row: Row, column: str) -> list[Turn]:
    return cast("list[Turn]", row[column])


def _scores(scores: object) -> str:
    return ", ".join(
        f"{aspect} {number(score)}" for aspect, score in cast("Mapping[str, float | None]", scores).items()
    )


def _number(row: Row, column: str) -> str:
    return number(cast("float | None", row[column]))
