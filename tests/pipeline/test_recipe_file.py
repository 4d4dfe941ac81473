import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RecipeError
from prefkit.pipeline.recipe import Recipe
from prefkit.pipeline.recipe_file import load_recipe, override_value
from prefkit.yaml_file import refuse_unwritable

GOOD = """\
name: sums
prompts: {path: p.jsonl}
sample: {backend: fake, n: 8}
score: [{kind: verifier, name: exact}]
select: {kind: best_vs_worst}
"""
PLAIN = {
    "name": "sums",
    "prompts": {"path": "p.jsonl"},
    "sample": {"backend": "fake", "n": 8},
    "score": [{"kind": "verifier", "name": "exact"}],
    "select": {"kind": "best_vs_worst"},
}


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path, overrides)


def told(folder: Path, text: str, *overrides: str) -> str:
    """The one line that refuses a recipe, behind the recipe's path."""
    with pytest.raises(RecipeError) as refused:
        load(folder, text, *overrides)
    line = str(refused.value)
    assert "\n" not in line
    return line.removeprefix(str(folder / "recipe.yaml")).removeprefix(": ").removeprefix(" ")


def test_recipe_is_what_the_same_plain_data_gives(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Recipe.model_validate(PLAIN)


@pytest.mark.parametrize(("written", "number"), [("1e-6", 1e-6), ("1.5E3", 1500.0), ("-2e+1", -20.0), (".5e1", 5.0)])
def test_number_with_an_exponent_is_a_number(written: str, number: float, tmp_path: Path) -> None:
    recipe = load(tmp_path, f"{GOOD}train: {{method: dpo, args: {{learning_rate: {written}}}}}\n")
    assert recipe.train is not None
    assert recipe.train.args == {"learning_rate": number}


def test_endless_sync_period_is_the_one_infinite_number(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD + "train: {method: dpo, sync_period: .inf}\n")
    assert recipe.train is not None
    assert recipe.train.sync_period == float("inf")
    for place in ("train: {method: dpo, sync_period: -.inf}", "train: {method: dpo, args: {x: .inf}}"):
        assert "expected a finite number" in told(tmp_path, f"{GOOD}{place}\n")


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("sample.n=12", ("sample", "n"), 12),
        ("score.0.repeats=3", ("score", 0, "repeats"), 3),
        ("split.test=1e-1", ("split", "test"), 0.1),
        ("hygiene={duplicates: 'off'}", ("hygiene", "duplicates"), "off"),
        ("prompts.limit=", ("prompts", "limit"), None),
    ],
)
def test_override_is_what_the_recipe_would_say(
    override: str, place: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    plain = json.loads(json.dumps(PLAIN))
    inner = plain
    for part in place[:-1]:
        inner = inner[part] if isinstance(inner, list) else inner.setdefault(part, {})
    inner[place[-1]] = value
    assert load(tmp_path, GOOD, override) == Recipe.model_validate(plain)


def test_override_of_a_later_time_wins(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "sample.n=2", "sample.n=3").sample[0].n == 3


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("n: 8", "n: -8"), "sample.n is -8, expected greater than or equal to 1"),
        (("n: 8", "n: many"), "sample.n is 'many', expected a valid integer, unable to parse string as an integer"),
        (("path: p.jsonl", "path: 3"), "prompts.path is 3, expected a text: put it in quotes"),
        (("name: sums\n", ""), "name is missing: add it"),
        (("name: sums", "nam: sums"), "nam is no key of a recipe; did you mean 'name'? (and 1 more mistake)"),
        (("name: exact", "name: exat"), "score.0.name is 'exat', expected one of math, exact, regex, length; did you "),
        (("name: exact", "name: exact, repeets: 2"), "score.0.repeets is no key of a recipe; did you mean 'repeats'?"),
        (("kind: best_vs_worst", "knd: best_vs_worst"), "select has no `kind`, expected one of best_vs_worst, "),
        (("[{kind: verifier, name: exact}]", "[]"), "score has no items, expected at least 1"),
        (("[{kind: verifier, name: exact}]", "3"), "score is 3, expected a list: put it in square brackets"),
        (("{backend: fake, n: 8}", "{backend: fake, policy: x}"), "sample.policy is 'x', expected a mapping"),
        (("{path: p.jsonl}", "{path: p, map: {promt: x}}"), "prompts.map.promt is 'promt', expected 'prompt', "),
        (("{path: p.jsonl}", "{path: p, hub: a/b}"), "prompts: got path and hub of path, hub and imported"),
    ],
)  # fmt: skip
def test_mistake_is_told_where_it_was_written(change: tuple[str, str], line: str, tmp_path: Path) -> None:
    assert change[0] in GOOD
    assert told(tmp_path, GOOD.replace(*change)).startswith(line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [*a]", "nested more than 50 levels deep"),
        ("[" * 1_000, "nested too deeply"),
        ("true: 1", "a key in line 1 is no text"),
        ("a:\n  b: 1\n  b: 2", "'b' is given in lines 2 and 3"),
        ("a: !!python/object/apply:os.system [ls]", "no valid YAML in line 1"),
        ("a: 2024-13-45", "no valid YAML"),
        ("\u00e4: [", "no valid YAML in line 1, column"),
    ],
)
def test_yaml_that_is_no_recipe_is_told_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    assert words in told(tmp_path, text)


SECRETS = ["sk-Tq8vX2mN4pLr7sYw", "hf_QwErTyUiOpAsDfGh", "AKIAIOSFODNN7EXAMPLE", "https://me:pass@judge/v1"]
NAMES = ["api_key", "api-key", "apiKey", "token", "secret", "password", "hf_token"]


@given(
    secret=st.sampled_from(SECRETS),
    path=st.lists(st.sampled_from(["a", "b", "system"]), min_size=1),
    listed=st.booleans(),
)
def test_secret_is_refused_wherever_it_stands_and_never_told(secret: str, path: list[str], listed: bool) -> None:
    data: dict[str, object] = {}
    override_value(data, f"{'.'.join(path)}={json.dumps([secret] if listed else secret)}")
    with pytest.raises(RecipeError, match="api_key_env") as refused:
        refuse_unwritable(data, "recipe.yaml")
    assert secret not in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_text_under_the_name_of_a_secret_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"judge.{name} holds a literal secret"):
        refuse_unwritable({"judge": {name: "open sesame"}}, "recipe.yaml")


def test_secret_as_a_key_or_malformed_override_is_never_told(tmp_path: Path) -> None:
    secret = SECRETS[0]
    for line in (
        told(tmp_path, f"{GOOD}{secret}: 1"),
        told(tmp_path, GOOD, secret),
        told(tmp_path, f"{secret}: 1\n{secret}: 2"),
    ):
        assert secret not in line


def test_name_of_a_variable_is_no_secret_but_a_key_in_its_place_is() -> None:
    plain = {"api_key_env": "JUDGE_KEY", "pad_token": "<pad>", "max_new_tokens": 8, "system": "use sk-learn-contrib"}
    refuse_unwritable(plain, "recipe.yaml")
    with pytest.raises(RecipeError, match="api_key_env holds a literal secret"):
        refuse_unwritable({"api_key_env": "open-sesame"}, "recipe.yaml")


ANYTHING = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from([*PLAIN, "kind", "n"]), x, max_size=4),
)


@given(ANYTHING)
def test_any_plain_data_is_refused_in_one_line(data: object) -> None:
    # Never a whole recipe: no text of five characters is a kind of selection.
    with TemporaryDirectory() as folder:
        assert told(Path(folder), json.dumps(data))
