"""What the demo claims, on the bundled policy: transformers, math-verify, real files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prefkit.pipeline.build import Built, build
from prefkit.pipeline.recipe_file import load_recipe
from prefkit.records import COMPLETIONS, PROMPTS
from prefkit.store.workspace import Workspace

pytest.importorskip("transformers")
pytest.importorskip("math_verify")

ARITHMETIC = Path(__file__).parents[2] / "recipes" / "arithmetic"


def copied(folder: Path, problems: int) -> Path:
    """The recipe without its training, its policy and the first problems in a folder with a workspace; its path."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(ARITHMETIC / "policy", folder / "policy")
    lines = (ARITHMETIC / "problems.jsonl").read_text().splitlines()[:problems]
    (folder / "problems.jsonl").write_text("\n".join(lines))
    Workspace.create(folder)
    recipe = folder / "recipe.yaml"
    recipe.write_text((ARITHMETIC / "recipe.yaml").read_text().partition("train:")[0])
    return recipe


def built(recipe: Path, *overrides: str) -> Built:
    return build(load_recipe(recipe, overrides), Workspace.open(recipe.parent), recipe.parent)


def texts(folder: Path) -> dict[tuple[bytes, int, str, int], tuple[str, list[int]]]:
    """Text and tokens by prompt, sampler, policy and index."""
    columns = ["prompt_id", "sampler_id", "policy_id", "sample_index", "completion", "token_ids"]
    rows = Workspace.open(folder).facts.read(COMPLETIONS, columns)
    return {(p, s, y, i): (c[0]["content"], t) for p, s, y, i, c, t in rows.iter_rows()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole demo recipe, built once."""
    recipe = copied(tmp_path_factory.mktemp("demo"), 400)
    assert built(recipe).version.label == "arithmetic@v1"
    return recipe


def test_demo_policy_is_right_some_of_the_time_and_gives_pairs(demo: Path) -> None:
    workspace = Workspace.open(demo.parent)
    version = workspace.versions.get("arithmetic@v1")
    scores = workspace.facts.read(COMPLETIONS, ["id"]).height
    ledger = {a.stage: a for a in version.ledger}
    assert ledger["prompt hygiene"].kept >= 300
    assert ledger["sample"].planned == scores == 8 * ledger["prompt hygiene"].kept
    assert sum(version.splits.values()) >= 150
    pairs = version.frame().collect()
    assert (pairs["score_margin"] == 1.0).all()
    assert (pairs["chosen_token_ids"].list.len() > 0).all()
    # every distinct answer is labelled once; each draw counts for the share of right ones
    assert 0.2 < correct_share(demo.parent) < 0.8


def correct_share(folder: Path) -> float:
    """The share of all draws whose last number is the gold answer."""
    problems = [json.loads(line) for line in (folder / "problems.jsonl").read_text().splitlines()]
    answers = {problem["question"]: problem["answer"] for problem in problems}
    workspace = Workspace.open(folder)
    prompts = dict(workspace.facts.read(PROMPTS, ["id", "messages"]).iter_rows())
    rows = texts(folder)
    seed0 = max({k[1] for k in rows}, key=lambda s: sum(k[1] == s for k in rows))
    draws = [(answers[prompts[k[0]][0]["content"]], text) for k, (text, _) in rows.items() if k[1] == seed0]
    return sum(text.rstrip(".").split()[-1:] == [answer] for answer, text in draws) / len(draws)


def test_demo_one_changed_line_builds_v2_without_a_call(demo: Path) -> None:
    second = built(demo, "select.per_prompt=3")
    assert (second.new, second.drawn, second.labelled) == (True, 0, 0)
    assert sum(second.version.splits.values()) > sum(
        Workspace.open(demo.parent).versions.get("arithmetic@v1").splits.values()
    )


def test_demo_behavior_logps_are_the_policy_s_own(demo: Path) -> None:
    """The stored sums equal a fresh forward pass over prompt and completion tokens in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = demo.parent / "policy"
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(policy)
    rows = Workspace.open(demo.parent).versions.get("arithmetic@v1").frame("train").head(20).collect()
    for row in rows.iter_rows(named=True):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        for side in ("chosen", "rejected"):
            completion = row[f"{side}_token_ids"]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum().item()
            assert logps == pytest.approx(row[f"behavior_{side}_logps"], abs=1e-4)
            assert tokenizer.decode(completion, skip_special_tokens=True) == row[side][0]["content"]


def test_another_sample_seed_changes_at_least_90_percent_of_the_draws(tmp_path: Path) -> None:
    """Of the token sequences that are drawn: short questions have few answers, so texts may coincide by chance."""
    recipe = copied(tmp_path / "seeds", 60)
    built(recipe)
    built(recipe, "sample.seed=1")
    rows = texts(recipe.parent)
    first, second = sorted({k[1] for k in rows})
    prompts = {(k[0], k[3]) for k in rows}
    policy = next(iter(rows))[2]
    changed = [rows[p, first, policy, i] != rows[p, second, policy, i] for p, i in prompts]
    assert len(changed) == 480
    assert sum(changed) / len(changed) >= 0.9


def test_other_weights_under_the_same_path_are_all_sampled_anew(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    recipe = copied(tmp_path / "weights", 20)
    first = built(recipe)
    weights = recipe.parent / "policy" / "model.safetensors"
    tensors = load_file(weights)
    name = next(n for n in tensors if n.endswith("weight"))
    tensors[name] = tensors[name] + 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    second = built(recipe)
    assert first.drawn == second.drawn == 160
    assert second.version.label == "arithmetic@v2"
    assert len({k[2] for k in texts(recipe.parent)}) == 2


def test_build_killed_and_resumed_draws_the_same_tokens(tmp_path: Path) -> None:
    """n = 3 in batches of 5, then 8: the same bytes as 8 at once."""
    whole = built(copied(tmp_path / "whole", 30)).version
    recipe = copied(tmp_path / "parts", 30)
    built(recipe, "sample.n=3", "sample.batch_size=5")
    parts = built(recipe).version
    assert parts.manifest["content_hash"] == whole.manifest["content_hash"]
    assert parts.path("train").read_bytes() == whole.path("train").read_bytes()


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0, reason="no network namespaces here"
)
def test_demo_runs_without_a_network(tmp_path: Path) -> None:
    recipe = copied(tmp_path / "offline", 15)
    command = [
        "unshare",
        "-rn",
        sys.executable,
        "-m",
        "prefkit",
        "build",
        str(recipe),
        "--workspace",
        str(recipe.parent),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "arithmetic@v1" in done.stdout
