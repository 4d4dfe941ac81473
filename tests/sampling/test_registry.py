"""From a `sample` block to a sampler, or to one line that says why not."""

import subprocess
import sys
from pathlib import Path

import pytest

from prefkit.errors import MissingExtraError, RecipeError, SourceError
from prefkit.sampling.config import EndpointSampler, FakeSampler, PolicyConfig, TransformersSampler
from prefkit.sampling.policy import policy_id
from prefkit.sampling.protocol import SampleRequest
from prefkit.sampling.registry import open_sampler, open_synced, resolve_policy_id

POLICY = PolicyConfig(model="/no/such/folder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_open_sampler_fake_draws_without_a_policy_under_the_resolved_id():
    config = FakeSampler(backend="fake", n=2)
    sampler = open_sampler(config, None)
    (batch,) = sampler.sample([SampleRequest(bytes(16), [{"role": "user", "content": "What is 1 + 1?"}])])
    assert len(batch) == 1
    assert sampler.policy_id == resolve_policy_id(config, None)


def test_endpoint_is_named_by_the_revision_that_the_recipe_states():
    config = EndpointSampler(backend="endpoint", endpoint="http://localhost/v1")
    assert resolve_policy_id(config, PolicyConfig(model="m", revision="r1")) == "endpoint:m@r1"
    with pytest.raises(RecipeError, match=r"has no revision.*set `policy.revision`"):
        resolve_policy_id(config, PolicyConfig(model="m"))


def test_policy_of_the_block_comes_before_that_of_the_recipe(folder: Path):
    config = TransformersSampler(backend="transformers", policy=PolicyConfig(model=str(folder)))
    assert resolve_policy_id(config, POLICY) == policy_id(str(folder))
    with pytest.raises(SourceError, match="/no/such/folder"):
        resolve_policy_id(TransformersSampler(backend="transformers"), POLICY)


def test_block_without_any_policy_is_refused():
    with pytest.raises(RecipeError, match=r"policy\.model"):
        resolve_policy_id(TransformersSampler(backend="transformers"), None)


def test_open_synced_refuses_what_cannot_follow_the_policy_in_training():
    endpoint = EndpointSampler(backend="endpoint", endpoint="http://localhost/v1")
    with pytest.raises(RecipeError, match=r"'endpoint' cannot follow the policy in training.*use transformers"):
        open_synced(endpoint, POLICY, "run/1")
    own = TransformersSampler(backend="transformers", policy=PolicyConfig(model="/another"))
    with pytest.raises(RecipeError, match=r"own policy '/another'.*leave out `sample\.policy`"):
        open_synced(own, POLICY, "run/1")
    with pytest.raises(RecipeError, match=r"policy\.model"):
        open_synced(TransformersSampler(backend="transformers"), None, "run/1")


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_open_sampler_without_torch_or_transformers_gives_the_pip_line(
    folder: Path, package: str, monkeypatch: pytest.MonkeyPatch
):
    for name in [n for n in sys.modules if n.startswith("prefkit.engines")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prefkit\[transformers\]'"):
        open_sampler(TransformersSampler(backend="transformers"), PolicyConfig(model=str(folder)))


def test_planning_with_a_policy_loads_neither_torch_nor_transformers(folder: Path):
    code = (
        "import sys; from prefkit.sampling.registry import resolve_policy_id; "
        "from prefkit.sampling.config import PolicyConfig, TransformersSampler; "
        f"resolve_policy_id(TransformersSampler(backend='transformers'), PolicyConfig(model={str(folder)!r})); "
        "print(*sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
