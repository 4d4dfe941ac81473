"""`prefkit show` on versions made to be looked at: long, strange and many rows."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len

from prefkit.cli import main
from prefkit.pipeline.rows import pair_schema, to_arrow
from prefkit.store.versions import Version, write_rows
from prefkit.store.workspace import Workspace
from tests.cli.test_commands import Captured, said, said_json

WIDE, NARROW = "100", "60"


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def shown_pairs(project: Path, pairs: Sequence[tuple[str, str]], prompt: Sequence[dict[str, str]] = ()) -> Version:
    """A version `looks@v1` of these chosen and rejected texts, in this order; the k-th row has margin k."""
    workspace = Workspace.open(project)
    manifest = workspace.versions.get("arithmetic").manifest
    ids = [index.to_bytes(16) for index in range(len(pairs))]
    sides = {
        name: [[message("assistant", pair[place])] for pair in pairs]
        for place, name in enumerate(("chosen", "rejected"))
    }
    rows = pl.DataFrame(sides).with_columns(
        pair_id=pl.Series(ids), prompt_id=pl.Series(ids), chosen_id=pl.Series(ids), rejected_id=pl.Series(ids),
        prompt=pl.Series([list(prompt) or [message("user", f"Question {k}?")] for k in range(len(pairs))]),
        score_margin=pl.Series(range(len(pairs)), dtype=pl.Float64),
        chosen_policy_id=pl.lit("imported:big"), rejected_policy_id=pl.lit("imported:small"), source=pl.lit("made up"),
    )  # fmt: skip
    schema = pair_schema(["overall"])
    absent = [name for name in schema.names if name not in rows.columns and not name.endswith("_scores")]
    scores = pl.struct(overall=pl.lit(1.0))
    rows = rows.with_columns(*(pl.lit(None).alias(n) for n in absent), chosen_scores=scores, rejected_scores=scores)
    draft = workspace.versions.draft()
    entry = write_rows(draft / "train.arrow", to_arrow(rows, schema), "pair_id")
    content = manifest["content"] | {"files": {"train": entry}, "kind": "pairs"}
    version = workspace.versions.next("looks")
    return workspace.versions.publish(version, draft, content, manifest["pins"], manifest["provenance"])


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", WIDE)


def test_show_marks_what_only_one_side_says(project: Path, capsys: Captured) -> None:
    shown_pairs(project, [("It is 4, so we are done.", "It is 5, so we are done.")])
    told = said(capsys, "show", "looks")
    assert re.search(r"It is ⟦4⟧, so we are done\. +│ It is ⟦5⟧, so we are done\.", told)
    assert "by big" in told
    assert "by small" in told


def test_show_says_when_a_pair_has_too_little_in_common_to_be_marked(project: Path, capsys: Captured) -> None:
    shown_pairs(project, [("Never in my life.", "Of course, dear friend!"), ("Same.", "Same."), ("a b", "a  b")])
    told = said(capsys, "show", "looks")
    assert "0% in common: not marked" in told
    assert "both the same" in told
    assert "the same but for white space" in told
    assert told.count("⟦") == 1


def test_show_puts_sides_one_below_the_other_on_a_narrow_screen(
    project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", NARROW)
    shown_pairs(project, [("It is 4, so we are done.", "It is 5, so we are done.")])
    told = said(capsys, "show", "looks")
    assert "│" not in told
    assert told.index("It is ⟦4⟧") < told.index("rejected") < told.index("It is ⟦5⟧")


@pytest.mark.parametrize("columns", [NARROW, "80", WIDE, "160"])
def test_show_keeps_within_the_screen_whatever_the_text(
    columns: str, project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    clear, family = "\x1b[2J\x07\x1b]0;title\x07 cleared", "\U0001f469\u200d\U0001f469\u200d\U0001f467 😀"
    strange = ["今天天气很好。" * 30, clear, family * 20, "x" * 500, "\u202eevil", "a\tb\r\n"]
    shown_pairs(project, [(text, f"{text} more") for text in strange])
    told = said(capsys, "show", "looks")
    assert max(cell_len(line) for line in told.splitlines()) <= int(columns)
    assert not {character for character in told if not character.isprintable()} - set("\n")


def test_show_folds_long_texts_around_their_differences_and_full_does_not(project: Path, capsys: Captured) -> None:
    text = "the cat sat on the mat. " * 1_250 + "It purred. " + "The dog barked all night. " * 1_250
    shown_pairs(project, [(text, text.replace("purred", "hissed"))])
    told = said(capsys, "show", "looks")
    assert "⟦purred⟧" in told
    assert "⟦hissed⟧" in told
    assert "characters the same" in told
    assert len(told.splitlines()) < 40
    whole = said(capsys, "show", "looks", "--full")
    assert "characters the same" not in whole
    assert len(whole.splitlines()) > 1_000


def test_show_of_a_long_conversation_has_its_first_and_last_turns(project: Path, capsys: Captured) -> None:
    turns = [message(role, f"{role} {k}") for k in range(6) for role in ("user", "assistant")]
    shown_pairs(project, [("Yes.", "No.")], [message("system", "Be brief."), *turns, message("user", "Really?")])
    told = said(capsys, "show", "looks")
    assert re.search(r"^system: +Be brief\.", told, re.MULTILINE)
    assert re.search(r"^user: +Really\?", told, re.MULTILINE)
    assert "… 9 turns …" in told
    assert "assistant 2" not in told
    assert "assistant 2" in said(capsys, "show", "looks", "--full")


def test_show_find_looks_in_prompts_and_both_sides_and_shows_the_place(project: Path, capsys: Captured) -> None:
    long = "word " * 1_000
    shown_pairs(project, [("nothing", "here"), (f"{long} NEEDLE {long}", "x"), ("y", "a needle"), ("z", "w")])
    told = said(capsys, "show", "looks", "--find", "needle")
    assert told.splitlines()[-1] == "2 of 2 rows of looks@v1"
    assert "NEEDLE" in told
    assert said_json(capsys, "show", "looks", "--find", "question 3")["matching"] == 1
    both = said_json(capsys, "show", "looks", "--find", "needle", "--where", "score_margin > 1")
    assert [row["score_margin"] for row in both["rows"]] == [2]


def test_show_skip_goes_on_where_the_last_page_ended(project: Path, capsys: Captured) -> None:
    shown_pairs(project, [(f"answer {k}", f"guess {k}") for k in range(300)])
    assert said(capsys, "show", "looks", "-n", "140").splitlines()[-1] == (
        "140 of 300 rows of looks@v1; more with --skip 140"
    )
    pages = [
        said_json(capsys, "show", "looks", "--sort", "score_margin", "--descending", "-n", "140", "--skip", str(skip))
        for skip in (0, 140, 280, 420)
    ]
    margins = [row["score_margin"] for page in pages for row in page["rows"]]
    assert margins == list(range(299, -1, -1))
    assert {page["matching"] for page in pages} == {300}


def test_show_page_is_left_without_making_the_rest(project: Path) -> None:
    shown_pairs(project, [(f"answer {k}", f"guess {k}") for k in range(400)])
    screen, terminal = pty.openpty()
    environment = os.environ | {"PAGER": "head -n 1", "COLUMNS": WIDE}
    command = [sys.executable, "-m", "prefkit", "show", "looks", "--page"]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    os.close(terminal)
    told = os.read(screen, 10_000).decode()
    os.close(screen)
    assert (done.returncode, done.stderr) == (0, b"")
    assert told.startswith("1 | ")
    assert len(told.splitlines()) == 1


def test_show_page_without_a_terminal_writes_every_row(project: Path, capsys: Captured) -> None:
    shown_pairs(project, [(f"answer {k}", f"guess {k}") for k in range(150)])
    assert said(capsys, "show", "looks", "--page").splitlines()[-1] == "150 of 150 rows of looks@v1"


def test_show_colours_instead_of_brackets_on_a_terminal_that_has_them(
    project: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown_pairs(project, [("It is 4, so we are done.", "It is 5, so we are done.")])
    coloured = said(capsys, "show", "looks")
    assert "⟦" not in coloured
    assert re.search(r"It is \x1b\[[\d;]+m4\x1b\[0m, so we are done\.", coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "⟦4⟧" in said(capsys, "show", "looks")


def test_show_outcome_stands_alone(project: Path, capsys: Captured) -> None:
    assert main(["show", "arithmetic", "--outcome", "duplicate", "--skip", "3"]) == 2
    assert "--outcome cannot be joined" in capsys.readouterr().err
