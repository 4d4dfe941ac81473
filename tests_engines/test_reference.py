"""Log-probs of given completions by vLLM in this process against transformers, on the same weights."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest

from prefkit.cli import main
from prefkit.engines.logprobs import TransformersReference
from prefkit.engines.vllm.engine import LocalEngine
from prefkit.engines.vllm.logprobs import VllmReference
from prefkit.errors import RecipeError, SourceError
from prefkit.pipeline.build import build
from prefkit.pipeline.recipe import Recipe
from prefkit.sampling import registry as sampling
from prefkit.sampling.protocol import Message
from prefkit.shift import registry
from prefkit.shift.protocol import Text, Trained
from prefkit.shift.registry import Reference, open_reference
from prefkit.store.workspace import Workspace
from tests_engines.models import CONTEXT, chat, user

MAX_LENGTH = 400
SHARED = "Take your time and think about every step of it. " * 8
"""With the question more tokens than vLLM caches at once."""


def said(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def texts() -> list[Text]:
    """Groups of six over a long prompt, conversations, single tokens, and completions that MAX_LENGTH cuts."""
    numbers = random.Random(0)
    made: list[Text] = []

    def add(prompt: list[Message], completion: str, token_ids: list[int] | None = None) -> None:
        made.append(Text(len(made).to_bytes(16, "little"), prompt, said(completion), token_ids))

    for i in range(4):
        for _ in range(6):
            add(user(f"{SHARED}What is {i} + 1?"), f"The answer is {numbers.randrange(100)}. " * numbers.randint(1, 9))
    for i in range(8):
        turns = [*user(f"What is {i} + 2?"), *said(str(i + 2)), *user("And 3 more?"), *said(str(i + 5)), *user("So?")]
        add(turns, f"{i + 5} it is.")
        add([{"role": "system", "content": "Be brief."}, *turns], f"{i + 4}")
    [seven] = chat().token_ids(["7"])
    add(user("What is 3 + 4?"), "7", seven)
    add(user(f"{SHARED}What is 0 + 1?"), "7", seven)
    add(user(f"{SHARED}What is 0 + 1?"), "1 and 2 and " * 200)
    add(user("Count."), "1 and 2 and " * 200)
    return made


TEXTS = texts()


@pytest.fixture(scope="module")
def opened(tied: Path, untied: Path) -> Iterator[dict[str, VllmReference]]:
    references: dict[str, VllmReference] = {}
    for kind, folder in (("tied", tied), ("untied", untied)):
        reference = open_reference(Reference(str(folder), backend="vllm"))
        assert isinstance(reference, VllmReference)
        references[kind] = reference
    yield references
    for reference in references.values():
        reference.close()


def scored(model: VllmReference | TransformersReference, rows: Sequence[Trained]) -> dict[bytes, list[float]]:
    """By id; none is missing, none comes twice, and each has a number per token."""
    outcomes = [outcome for batch in model.logprobs(rows) for outcome in batch]
    found = {outcome.id: list(outcome.logprobs) for outcome in outcomes}
    assert len(found) == len(outcomes)
    assert {key: len(values) for key, values in found.items()} == {row.id: row.tokens for row in rows}
    return found


def furthest(one: dict[bytes, list[float]], other: dict[bytes, list[float]]) -> float:
    assert one.keys() == other.keys()
    return max(abs(a - b) for key in one for a, b in zip(one[key], other[key], strict=True))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_logprobs_are_within_1e_4_of_those_of_transformers(
    opened: dict[str, VllmReference], kind: str, tied: Path, untied: Path
):
    folder = tied if kind == "tied" else untied
    ours, theirs = opened[kind], open_reference(Reference(str(folder), device="cpu"))
    assert ours.model_id == theirs.model_id
    rows = ours.trained(TEXTS, MAX_LENGTH)
    assert rows == theirs.trained(TEXTS, MAX_LENGTH)
    assert sum(row.cut > 0 for row in rows) == 2
    assert sum(row.tokens == 1 for row in rows) == 2
    assert isinstance(theirs, TransformersReference)
    apart = furthest(scored(ours, rows), scored(theirs, rows))
    assert apart < 1e-4
    print(f"\nlargest difference of a log-prob, {kind}: {apart:.1e}")


def test_logprobs_of_a_row_are_the_same_twice_alone_shuffled_and_in_part(opened: dict[str, VllmReference]):
    model = opened["tied"]
    rows = model.trained(TEXTS, MAX_LENGTH)
    base = scored(model, rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert furthest(base, scored(model, rows)) < 1e-5
    assert furthest(base, scored(model, shuffled)) < 1e-5
    assert furthest(base, scored(model, shuffled[:20]) | scored(model, shuffled[20:])) < 1e-5
    alone = dict(chain.from_iterable(scored(model, [row]).items() for row in shuffled[:12]))
    assert furthest({key: base[key] for key in alone}, alone) < 1e-5


def test_prompt_that_is_cached_changes_nothing_for_the_completions_that_share_it(opened: dict[str, VllmReference]):
    model = opened["untied"]
    group = model.trained(TEXTS[:6], None)
    assert len(group[0].prompt_ids) > 128
    one_after_the_other = dict(chain.from_iterable(scored(model, [row]).items() for row in group))
    assert furthest(scored(model, group), one_after_the_other) < 1e-5
    # The last token's log-prob is read with whatever of the text is cached: here all of it, and of siblings as well.
    single = [Trained(bytes([i]), group[0].prompt_ids, [5 + i], cut=0) for i in range(50)]
    longer = [Trained(row.id, row.prompt_ids, [*row.completion_ids, 20], cut=0) for row in single]
    first = {key: values[:1] for key, values in scored(model, longer).items()}
    assert furthest(scored(model, single), first) < 1e-5


def test_text_that_fills_the_context_is_read_and_a_longer_one_is_refused(opened: dict[str, VllmReference]):
    long = [Text(b"long", user("Count."), said("1 and 2 and " * 1500))]
    [row] = opened["tied"].trained(long, CONTEXT)
    assert len(row.prompt_ids) + row.tokens == CONTEXT
    assert scored(opened["tied"], [row]).keys() == {b"long"}
    with pytest.raises(RecipeError, match=rf"reads at most {CONTEXT} tokens, got 1 of 1 texts"):
        opened["tied"].trained(long, CONTEXT + 1)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
            r"T5ForConditionalGeneration.*not supp",
        ),
        ({"hidden_size": 32}, r"cannot be opened by vLLM: The size of tensor a \(32\) must match"),
    ],
    ids=["architecture", "shapes"],
)
def test_broken_model_is_told_in_one_line(untied: Path, tmp_path: Path, config: dict[str, object], said: str):
    folder = Path(shutil.copytree(untied, tmp_path / "broken"))
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(SourceError, match=f"^reference .*{said}") as raised:
        open_reference(Reference(str(folder), backend="vllm"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_blocks_of_a_recipe_hold_one_engine_at_a_time(
    tied: Path, untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    alive: list[int] = [0]
    real_open, real_close = LocalEngine.open, LocalEngine.close

    def counted_open(*arguments: object) -> LocalEngine:
        alive.append(alive[-1] + 1)
        return real_open(*arguments)  # type: ignore[arg-type]

    def counted_close(self: LocalEngine) -> None:
        alive.append(alive[-1] - 1)
        real_close(self)

    monkeypatch.setattr(LocalEngine, "open", counted_open)
    monkeypatch.setattr(LocalEngine, "close", counted_close)
    (tmp_path / "problems.jsonl").write_text('{"prompt": "What is 2 + 2?", "answer": "4"}\n')
    block = {"backend": "vllm", "dtype": "float32", "n": 4, "max_new_tokens": 16}
    blocks = {
        "name": "two", "prompts": {"path": "problems.jsonl"},
        "sample": [{**block, "policy": {"model": str(folder)}} for folder in (tied, untied)],
        "score": [{"kind": "verifier", "name": "length", "max": 40}],
        "select": {"kind": "threshold", "desirable_at": 0.5},
    }  # fmt: skip
    built = build(Recipe.model_validate(blocks), Workspace.create(tmp_path), tmp_path)
    assert built.drawn == 8
    assert alive == [0, 1, 0, 1, 0]


def test_check_through_vllm_leaves_nothing_to_compute_for_transformers(
    untied: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    rows = [{"prompt": f"What is {i} + {i % 7}?", "answer": str(i + i % 7)} for i in range(12)]
    (tmp_path / "problems.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    blocks = {
        "name": "checked", "prompts": {"path": "problems.jsonl"}, "sample": {"backend": "fake", "n": 6},
        "score": [{"kind": "verifier", "name": "math"}], "select": {"kind": "correct_vs_incorrect"},
    }  # fmt: skip
    workspace = Workspace.create(tmp_path)
    label = build(Recipe.model_validate(blocks), workspace, tmp_path).version.label
    told = ["check", label, "--reference", str(untied), "--workspace", str(tmp_path), "--json"]
    told += ["--max-new-tokens", "24", "--samples", "10"]
    reports: list[object] = []
    for backend in ("vllm", "transformers"):
        assert main([*told, "--backend", backend]) == 0
        reports.append(json.loads(capfd.readouterr().out))
        monkeypatch.setattr(registry, "ENGINES", {})  # from here on no model can be opened
        monkeypatch.setattr(sampling, "BACKENDS", {})
    assert reports[0] == reports[1]
