"""Versions made of imported completions and of what others said about them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from prefkit.errors import NotFoundError, RecipeError
from prefkit.pipeline.build import build
from prefkit.pipeline.imports.importing import import_tables
from prefkit.pipeline.rebuild import rebuild
from prefkit.pipeline.recipe import Recipe
from prefkit.records import COMPLETIONS, SCORES
from prefkit.sources.config import ImportConfig
from prefkit.store.gc import collect
from prefkit.store.versions import Version
from prefkit.store.workspace import Workspace

MODELS = ("ann", "bob", "cyd")
PROMPTS = ("p", "q")
Row = Mapping[str, object]


def written(models: Sequence[str] = MODELS) -> list[Row]:
    return [{"id": p, "model": m, "text": f"{m} on {p}"} for p in PROMPTS for m in models]


def score(prompt: str, model: str, value: object, by: str = "eve", aspect: str = "overall") -> Row:
    return {"id": prompt, "of": model, "by": by, "aspect": aspect, "score": value}


def compared(prompt: str, a: str, b: str, value: object, by: str = "eve") -> Row:
    return {"id": prompt, "a": a, "b": b, "by": by, "preference": value}


def imported(
    workspace: Workspace,
    completions: Sequence[Row] | None = None,
    scores: Sequence[Row] = (),
    comparisons: Sequence[Row] = (),
) -> None:
    folder = workspace.root.parent
    prompts = [{"id": p, "prompt": f"Question {p}", "answer": f"ann on {p}"} for p in PROMPTS]
    key = {"key": "id"}
    said = {"of": "of", "scorer": "by", "aspect": "aspect", "score": "score"}
    preferred = {"a": "a", "b": "b", "scorer": "by", "preference": "preference"}
    tables: list[tuple[str, Sequence[Row], Row]] = [
        ("prompts", prompts, {"prompt": {"text": "prompt", "key": "id", "answer": "answer"}}),
        (
            "completions",
            written() if completions is None else completions,
            {"prompt": key, "completions": {"it": {"text": "text", "model": "model"}}},
        ),
        ("scores", scores, {"prompt": key, "scores": [said]}),
        ("comparisons", comparisons, {"prompt": key, "comparisons": [preferred]}),
    ]
    config: list[Row] = []
    for name, rows, what in tables:
        if rows:
            path = folder / f"{name}.jsonl"
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            config.append({"path": str(path), **what})
    import_tables(workspace.facts, ImportConfig.model_validate({"name": "words", "tables": config}))


def version_of(workspace: Workspace, **blocks: object) -> Version:
    base: dict[str, object] = {
        "name": "words",
        "prompts": {"imported": "words"},
        "score": [{"kind": "imported", "scorer": "eve"}],
        "select": {"kind": "best_vs_worst"},
    }
    return build(Recipe.model_validate(base | blocks), workspace, workspace.root.parent).version


def pairs(version: Version) -> dict[str, tuple[str, str, float]]:
    """Question to the writers of chosen and rejected, and the margin."""
    rows = version.frame().select("prompt", "chosen", "rejected", "score_margin").collect().rows()
    return {
        prompt[0]["content"][-1]: (chosen[0]["content"][:3], rejected[0]["content"][:3], margin)
        for prompt, chosen, rejected, margin in rows
    }


def outcomes(version: Version, stage: str) -> Mapping[str, int]:
    return next(a.outcomes for a in version.ledger if a.stage == stage)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path)


def test_scores_of_a_judge_become_pairs_and_what_it_left_out_is_unrated(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 5), score("q", "cyd", 1)])
    version = version_of(workspace)
    assert pairs(version) == {"p": ("bob", "ann", 3.0)}
    assert outcomes(version, "score") == {"scored": 3, "unrated": 3}
    assert outcomes(version, "select") == {"selected": 1, "one_completion": 1}


def test_reply_that_could_not_be_read_is_a_failure_and_never_the_lowest_score(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", "ann", 4), score("p", "bob", "I cannot say"), score("p", "cyd", 3)])
    version = version_of(workspace)
    assert pairs(version) == {"p": ("ann", "cyd", 1.0)}
    assert outcomes(version, "imported scores") == {"rated": 2, "unparsable": 1}
    assert outcomes(version, "score")["unparsable"] == 1


def test_annotators_stand_side_by_side_and_weights_decide(workspace: Workspace) -> None:
    said = [score("p", "ann", 1), score("p", "bob", 0), score("p", "ann", 0, "fay"), score("p", "bob", 1, "fay")]
    imported(workspace, scores=said)
    both = [{"kind": "imported", "scorer": "eve"}, {"kind": "imported", "scorer": "fay"}]
    eve = version_of(workspace, score=both, aggregate={"kind": "weights", "weights": {"eve": 3, "fay": 1}})
    fay = version_of(workspace, score=both, aggregate={"kind": "weights", "weights": {"eve": 1, "fay": 3}})
    assert (pairs(eve), pairs(fay)) == ({"p": ("ann", "bob", 0.5)}, {"p": ("bob", "ann", 0.5)})
    row = eve.frame().collect().row(0, named=True)
    assert (row["chosen_scores"], row["rejected_scores"]) == ({"eve": 1, "fay": 0}, {"eve": 0, "fay": 1})


def test_pattern_pools_all_annotators_and_aspects_stay_apart(workspace: Workspace) -> None:
    said = [score("p", "ann", v, f"worker_{i}", "style") for i, v in enumerate([1, 2, 6])]
    said += [score("p", "bob", 2, "worker_1", "style"), score("p", "bob", 9, "worker_1", "truth")]
    imported(workspace, scores=said)
    pooled = [{"kind": "imported", "scorer": "worker_*", "aspect": "style"}]
    assert pairs(version_of(workspace, score=pooled)) == {"p": ("ann", "bob", 1.0)}


def test_comparisons_are_pooled_over_judges_and_ties_are_no_pairs(workspace: Workspace) -> None:
    said = [
        compared("p", "ann", "bob", 0.9), compared("p", "bob", "ann", 0.3, "fay"),  # 0.9 and 0.7 for ann
        compared("p", "cyd", "ann", 0.5), compared("q", "ann", "bob", 0.2), compared("q", "ann", "bob", 0.8, "fay"),
    ]  # fmt: skip
    imported(workspace, comparisons=said)
    both = [{"kind": "imported", "scorer": "eve"}, {"kind": "imported", "scorer": "fay"}]
    version = version_of(workspace, score=both, select={"kind": "comparisons", "per_prompt": None})
    assert pairs(version) == {"p": ("ann", "bob", pytest.approx(0.6))}
    assert outcomes(version, "select rows") == {"selected": 1, "tie": 2}
    row = version.frame().collect().row(0, named=True)
    assert row["chosen_scores"] == {"eve": 0.9, "fay": pytest.approx(0.7)}
    assert row["rejected_scores"] == {"eve": pytest.approx(0.1), "fay": 0.3}
    assert row["chosen_score"] is None


def test_judge_that_left_a_pair_out_does_not_count_for_it(workspace: Workspace) -> None:
    imported(workspace, comparisons=[compared("p", "ann", "bob", 0.9), compared("q", "ann", "bob", 0.4, "fay")])
    both = [{"kind": "imported", "scorer": "eve"}, {"kind": "imported", "scorer": "fay"}]
    weights = {"kind": "weights", "weights": {"eve": 1, "fay": 5}}
    version = version_of(workspace, score=both, aggregate=weights, select={"kind": "comparisons"})
    assert pairs(version) == {"p": ("ann", "bob", pytest.approx(0.8)), "q": ("bob", "ann", pytest.approx(0.2))}


def test_scores_against_one_model_never_pool_two_baselines(workspace: Workspace) -> None:
    said = [
        compared("p", "ann", "cyd", 0.9), compared("p", "bob", "cyd", 0.4),
        compared("p", "ann", "bob", 0.0), compared("q", "cyd", "bob", 0.3),
    ]  # fmt: skip
    imported(workspace, comparisons=said)
    against = {"kind": "imported", "scorer": "eve", "against": "cyd"}
    version = version_of(workspace, score=[against])
    assert pairs(version) == {"p": ("ann", "bob", 0.5)}
    assert outcomes(version, "imported scores") == {"rated": 3, "other_baseline": 1}
    without = version_of(workspace, score=[against], completions={"exclude": ["cyd"]})
    assert pairs(without) == pairs(version)


def test_models_left_out_give_no_rows_and_are_counted(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", m, v) for v, m in enumerate(MODELS)])
    version = version_of(workspace, completions={"models": ["*"], "exclude": ["cy*"]})
    assert pairs(version) == {"p": ("bob", "ann", 1.0)}
    assert outcomes(version, "imported completions") == {"imported": 4, "other_model": 2}
    assert outcomes(version, "imported scores") == {"rated": 2, "dropped_completion": 1}


def test_rating_of_an_exact_copy_counts_for_the_text_that_was_kept(workspace: Workspace) -> None:
    texts = [{"id": "p", "model": m, "text": "same" if m != "cyd" else "other"} for m in MODELS]
    imported(workspace, texts, scores=[score("p", "ann", 1), score("p", "bob", 3), score("p", "cyd", 5)])
    version = version_of(workspace)
    (row,) = version.frame().collect().rows(named=True)
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("other", "same")
    assert row["score_margin"] == 5 - (1 + 3) / 2
    assert outcomes(version, "completion hygiene") == {"kept": 2, "duplicate": 1}


def test_verifier_scores_imported_completions_against_their_gold_answers(workspace: Workspace) -> None:
    imported(workspace)
    version = version_of(
        workspace, score=[{"kind": "verifier", "name": "exact"}], select={"kind": "correct_vs_incorrect"}
    )
    assert {chosen for chosen, _, _ in pairs(version).values()} == {"ann"}
    again = version_of(
        workspace, score=[{"kind": "verifier", "name": "exact"}], select={"kind": "correct_vs_incorrect"}
    )
    assert again.label == version.label


def test_sampled_and_imported_completions_compete(workspace: Workspace) -> None:
    imported(workspace)
    version = version_of(
        workspace,
        sample={"backend": "fake", "n": 3},
        completions={"models": ["ann"]},
        score=[{"kind": "verifier", "name": "exact"}],
        select={"kind": "correct_vs_incorrect"},
    )
    rows = version.frame().collect()
    assert rows.height == 2
    assert set(rows["chosen_policy_id"]) == {"imported:ann"}
    assert all(not policy.startswith("imported:") for policy in rows["rejected_policy_id"])
    assert outcomes(version, "completion hygiene") == {"kept": 8}


def test_corrected_rating_turns_the_pair_and_the_old_version_stays(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 5)])
    first = version_of(workspace)
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 1)])
    second = version_of(workspace)
    assert (pairs(first), pairs(second)) == ({"p": ("bob", "ann", 3.0)}, {"p": ("ann", "bob", 1.0)})
    assert rebuild(first, workspace) == rebuild(second, workspace) == []


def test_unchanged_import_builds_nothing_new(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 5)])
    first = version_of(workspace)
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 5)])
    assert version_of(workspace).label == first.label == "words@v1"


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ({"score": [{"kind": "imported", "scorer": "evi"}]}, "did you mean 'eve'"),
        ({"score": [{"kind": "imported", "scorer": "eve", "aspect": "style"}]}, "comparisons of 'overall'"),
        ({"score": [{"kind": "imported", "scorer": "eve"}]}, "set `against`"),
    ],
)
def test_scorer_that_gave_nothing_of_the_kind_is_told_with_what_there_is(
    workspace: Workspace, blocks: dict[str, object], told: str
) -> None:
    imported(workspace, comparisons=[compared("p", "ann", "bob", 1.0)])
    with pytest.raises(NotFoundError, match=told):
        version_of(workspace, **blocks)


def test_source_without_completions_and_no_sample_block_is_a_mistake(workspace: Workspace) -> None:
    imported(workspace, completions=[])
    with pytest.raises(RecipeError, match="add a `sample` block, or import completions"):
        version_of(workspace, score=[{"kind": "verifier", "name": "exact"}])


GRADES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, None, "??"])
SIDES = st.tuples(st.sampled_from(PROMPTS), st.sampled_from((*MODELS, "zoe")), st.sampled_from((*MODELS, "zoe")))
JUDGMENTS = st.lists(st.tuples(SIDES, st.sampled_from(["eve", "fay"]), GRADES), max_size=25)


@settings(max_examples=25, phases=[Phase.generate])
@given(said=JUDGMENTS)
def test_any_judgments_are_accounted_for_and_every_pair_obeys_them(
    said: list[tuple[tuple[str, str, str], str, object]],
) -> None:
    rows = [compared(p, a, b, grade, by) for (p, a, b), by, grade in said]
    rows += [compared("p", "ann", "bob", 1.0, by) for by in ("eve", "fay")]  # so that both are known
    distinct: dict[tuple[str, str, str, str], set[float]] = defaultdict(set)
    for row in rows:
        p, a, b, by, grade = (row[name] for name in ("id", "a", "b", "by", "preference"))
        if isinstance(grade, float) and a != b and "zoe" not in (a, b):
            first, second = sorted((str(a), str(b)))
            distinct[str(p), first, second, str(by)].add(grade if a == first else 1 - grade)
    expected: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for (p, first, second, _), grades in distinct.items():
        expected[p, first, second].append(sum(grades) / len(grades))
    with TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder))
        imported(workspace, comparisons=rows)
        both = [{"kind": "imported", "scorer": "eve"}, {"kind": "imported", "scorer": "fay"}]
        version = version_of(workspace, score=both, select={"kind": "comparisons", "per_prompt": None})
        for account in version.ledger:
            account.check()
        found = version.frame().select("prompt", "chosen", "rejected", "score_margin").collect().rows()
    winners: dict[tuple[str, str], float] = {}
    for prompt, chosen, rejected, margin in found:
        question = prompt[0]["content"][-1]
        assert chosen[0]["content"].endswith(question)
        assert rejected[0]["content"].endswith(question)
        winners[chosen[0]["content"], rejected[0]["content"]] = margin
    wanted: dict[tuple[str, str], float] = {}
    for (p, first, second), grades in expected.items():
        mean = sum(grades) / len(grades)
        sides = (f"{first} on {p}", f"{second} on {p}")
        if mean != 0.5:
            wanted[sides if mean > 0.5 else sides[::-1]] = pytest.approx(abs(2 * mean - 1))
    assert winners == wanted


def test_gc_facts_keeps_what_was_imported(workspace: Workspace) -> None:
    imported(workspace, scores=[score("p", "ann", 2), score("p", "bob", 5), score("q", "cyd", 1)])
    held = workspace.facts.heads()
    counts = {table.name: workspace.facts.count(table, held[table.name]) for table in (COMPLETIONS, SCORES)}
    assert all(counts.values())
    collect(workspace, facts=True)
    now = workspace.facts.heads()
    assert {t.name: workspace.facts.count(t, now[t.name]) for t in (COMPLETIONS, SCORES)} == counts
