"""Weights written for vLLM's workers: read back, and refused before an engine would see them."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from prefkit.engines.vllm.weights import layout, weight_files  # noqa: E402
from prefkit.engines.weights import fitting, tensors_of  # noqa: E402
from prefkit.errors import SyncError  # noqa: E402

WEIGHTS = {"embed": torch.arange(6.0).reshape(3, 2), "norm": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    safetensors_torch.save_file({"embed": WEIGHTS["embed"]}, tmp_path / "model-1.safetensors")
    safetensors_torch.save_file({"norm": WEIGHTS["norm"]}, tmp_path / "model-2.safetensors")
    return tmp_path


def test_layout_holds_every_weight_of_every_file(folder: Path):
    assert layout(folder) == {"embed": (3, 2), "norm": (2,)}


def test_weights_arrive_as_they_were_and_a_tied_head_is_left_out(folder: Path):
    head = {"head": WEIGHTS["embed"]}
    for given in (WEIGHTS, {**WEIGHTS, **head}, {**head, **WEIGHTS}):
        with weight_files(fitting(given.items(), layout(folder))) as files:
            arrived = dict(tensors_of(files))
        assert arrived.keys() == WEIGHTS.keys()
        assert all(torch.equal(arrived[n], t) and arrived[n].dtype == t.dtype for n, t in WEIGHTS.items())


def test_files_of_tensors_are_gone_afterwards(tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    with weight_files(WEIGHTS, shared) as files:
        assert [Path(f).is_relative_to(shared) for f in files] == [True]
    assert list(shared.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"norm": None}, r"'norm': got none, expected shape \[2\]"),
        ({"norm": torch.ones(3)}, r"'norm': got shape \[3\], expected shape \[2\]"),
        ({"other": torch.ones(3, 2)}, r"'other': got shape \[3, 2\], expected none"),
    ],
    ids=["missing", "shape", "unknown"],
)
def test_weights_of_another_model_are_refused(folder: Path, changed: dict[str, "torch.Tensor | None"], said: str):
    given = {name: tensor for name, tensor in {**WEIGHTS, **changed}.items() if tensor is not None}
    with pytest.raises(SyncError, match=said):
        fitting(given.items(), layout(folder))


def test_files_in_a_folder_that_is_not_there_are_refused(tmp_path: Path):
    with (
        pytest.raises(SyncError, match=r"weights cannot be written to .*missing"),
        weight_files(WEIGHTS, tmp_path / "missing"),
    ):
        pass


def test_folder_without_safetensors_is_refused(tmp_path: Path):
    with pytest.raises(SyncError, match=r"got none, expected \*\.safetensors"):
        layout(tmp_path)
