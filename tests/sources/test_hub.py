"""Hub datasets, from a Hub on the loopback through the unmodified clients."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefkit.errors import MissingExtraError, SourceError
from prefkit.sources.files import read_rows
from prefkit.sources.hub import HubName, hub_name
from tests.sources import hub_reader, hub_server

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CARD = """\
---
configs:
- config_name: main
  data_files: [{split: train, path: main/train.jsonl}, {split: test, path: main/test.jsonl}]
- config_name: other
  data_files: [{split: train, path: other/train.jsonl}]
---
"""
SPELLINGS = (
    "org/sums", "org/sums:train", "org/sums@v1", "org/sums@nowhere", "org/sums:trian", "org/none", "org/splits",
    "org/splits:test", "org/subsets", "org/subsets:train", "org/subsets:main/test", "org/subsets:mian/test",
    "org/subsets:main/tset", "org/media", "org/torn",
)  # fmt: skip


def write_datasets(folder: Path) -> None:
    files = {
        "sums/train.jsonl": '{"question": "1 + 1", "answer": 2}\n{"question": "2 + 2", "answer": 4}\n',
        "splits/data/train.jsonl": '{"prompt": "a"}\n',
        "splits/data/test.jsonl": '{"prompt": "b"}\n',
        "subsets/README.md": CARD,
        "subsets/main/train.jsonl": '{"prompt": "main train"}\n',
        "subsets/main/test.jsonl": '{"prompt": "main test"}\n',
        "subsets/other/train.jsonl": '{"prompt": "other train"}\n',
        "torn/train.jsonl": '{"prompt": "a"}\n{"prom',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "media").mkdir()
    pq.write_table(media(), folder / "media/train.parquet")


def media() -> pa.Table:
    """Prompts as text, as images, and as conversations with images in them, with the features of `datasets`."""
    picture = {"bytes": b"\x89PNG", "path": "x.png"}
    parts = [{"role": "user", "content": [{"type": "image", "image": picture}]}]
    part_type = pa.struct([("type", pa.string()), ("image", IMAGE)])
    message_type = pa.struct([("role", pa.string()), ("content", pa.list_(part_type))])
    text, image = {"dtype": "string", "_type": "Value"}, {"_type": "Image"}
    content = {"feature": {"type": text, "image": image}, "_type": "List"}
    features = {
        "text": text,
        "picture": image,
        "talk": {"feature": {"role": text, "content": content}, "_type": "List"},
        "grid": {"shape": [1, 2], "dtype": "int32", "_type": "Array2D"},
    }
    table = pa.table(
        {
            "text": ["What is this?", None],
            "picture": pa.array([picture, None], IMAGE),
            "talk": pa.array([parts, []], pa.list_(message_type)),
            "grid": pa.array([[[1, 2]], [[3, 4]]], pa.list_(pa.list_(pa.int32()))),
        }
    )
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, str]]:
    """The environment in which the Hub's clients meet ours, with datasets made of little files."""
    folder = tmp_path_factory.mktemp("hub")
    write_datasets(folder / "hub/org")
    command = [sys.executable, hub_server.__file__, str(folder / "hub")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield os.environ | {
            "HF_ENDPOINT": server.stdout.readline().strip(), "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        server.terminate()


def read_there(environment: Mapping[str, str], spellings: Sequence[str], folder: Path) -> dict[str, dict]:
    """What `hub_reader` says of each spelling."""
    command = [sys.executable, "-m", "tests.sources.hub_reader", *spellings]
    root = Path(hub_reader.__file__).parents[2]
    environment = dict(environment) | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def found(hub: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    return read_there(hub, SPELLINGS, tmp_path_factory.mktemp("elsewhere"))


def test_hub_dataset_reads_as_its_file_would(found: dict[str, dict]) -> None:
    sums = found["org/sums"]
    assert sums["columns"] == {
        "question": [["string", "1 + 1"], ["string", "2 + 2"]],
        "answer": [["number", "2"], ["number", "4"]],
    }
    assert sums["numbers"] == [1, 2]
    assert sums["name"] == "org/sums"


def test_hub_dataset_of_named_part_and_revision_is_that_part(found: dict[str, dict]) -> None:
    assert found["org/splits:test"]["columns"] == {"prompt": [["string", "b"]]}
    assert found["org/subsets:main/test"]["columns"] == {"prompt": [["string", "main test"]]}
    assert found["org/sums@v1"]["columns"] == found["org/sums"]["columns"]


@pytest.mark.parametrize(
    ("spelling", "told"),
    [
        ("org/none", ("org/none does not exist on the Hub or is private",)),
        ("org/sums@nowhere", ("org/sums@nowhere does not exist on the Hub in this revision",)),
        ("org/sums:trian", ("split 'trian' is not in org/sums", "did you mean 'train'?")),
        ("org/splits", ("org/splits has the splits train, test, expected one", "as in org/splits:train")),
        ("org/subsets", ("org/subsets has the subsets main, other, expected one", "as in org/subsets:main/train")),
        ("org/subsets:train", ("org/subsets has the subsets main, other, expected one", "org/subsets:main/train")),
        ("org/subsets:mian/test", ("subset 'mian' is not in org/subsets", "did you mean 'main'?")),
        ("org/subsets:main/tset", ("split 'tset' is not in org/subsets", "did you mean 'test'?")),
        ("org/torn", ("org/torn cannot be read from the Hub (JSON parse error",)),
    ],
)
def test_hub_dataset_that_cannot_be_had_is_told_in_one_line(
    spelling: str, told: tuple[str, ...], found: dict[str, dict]
) -> None:
    error = found[spelling]["error"]
    assert error.startswith("SourceError: ")
    assert "\n" not in error
    assert [words for words in told if words not in error] == []


def test_hub_media_are_objects_wherever_they_stand(found: dict[str, dict]) -> None:
    columns = found["org/media"]["columns"]
    assert columns["text"] == [["string", "What is this?"], [None, None]]
    assert columns["grid"] == [["list", "[[1,2]]"], ["list", "[[3,4]]"]]
    assert [kind for kind, _ in columns["picture"]] == ["object", None]
    kind, talk = columns["talk"][0]
    assert kind == "list"
    assert json.loads(talk)[0]["content"][0]["image"] == {"bytes": {"type": "binary"}, "path": "x.png"}
    assert columns["talk"][1] == ["list", "[]"]


def test_hub_fingerprint_follows_the_commit_and_the_part(
    hub: dict[str, str], found: dict[str, dict], tmp_path: Path
) -> None:
    assert found["org/sums"]["fingerprint"] == found["org/sums@v1"]["fingerprint"]
    assert found["org/sums"]["fingerprint"] != found["org/sums:train"]["fingerprint"]
    data = Path(hub["HF_HOME"]).parent / "hub/org/splits/data"
    (data / "test.jsonl").write_text('{"prompt": "corrected"}\n')
    now = read_there(hub, ["org/splits:test", "org/sums"], tmp_path)
    assert now["org/splits:test"]["columns"] == {"prompt": [["string", "corrected"]]}
    assert now["org/splits:test"]["fingerprint"] != found["org/splits:test"]["fingerprint"]
    assert now["org/sums"] == found["org/sums"]


def test_hub_that_cannot_be_reached_is_told_in_one_line(hub: dict[str, str], tmp_path: Path) -> None:
    nowhere = hub | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    error = read_there(nowhere, ["org/sums"], tmp_path)["org/sums"]["error"]
    assert error.startswith("SourceError: org/sums cannot be read from the Hub (")
    assert "give a file" in error


def test_hub_dataset_offline_is_told_in_one_line() -> None:
    with pytest.raises(SourceError, match=r"org/sums cannot be read from the Hub \(.*offline mode.*\)"):
        read_rows("org/sums")


def test_hub_dataset_without_datasets_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets.exceptions", None)
    with pytest.raises(MissingExtraError, match=r"org/sums is read with `datasets`: pip install 'prefkit\[train\]'"):
        read_rows("org/sums")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("org/name:train", HubName("org/name", None, "train")),
        ("org/na.me-2:a-b.c/train.x", HubName("org/na.me-2", "a-b.c", "train.x")),
        ("org/name@refs/pr/1", HubName("org/name", None, None, "refs/pr/1")),
        ("org/name:sub/test@v1.0", HubName("org/name", "sub", "test", "v1.0")),
    ],
)
def test_hub_name_is_spelled_as_it_is_read(text: str, name: HubName) -> None:
    assert hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize("text", ["name", "a/b/c", "./a", "org/name:", "org/name:a/b/c", "org/name@", "org/na me"])
def test_hub_name_of_anything_else_is_none(text: str) -> None:
    assert hub_name(text) is None


def test_path_that_is_on_the_disk_is_no_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org/name").write_text("x")
    monkeypatch.chdir(tmp_path)
    for path in ("org/name", "org/nome"):
        with pytest.raises(SourceError, match="has the extension 'none'"):
            read_rows(path)
