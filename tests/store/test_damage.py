import random
from pathlib import Path

import pytest

from prefkit.errors import DamageError
from prefkit.pipeline.rebuild import rebuild
from prefkit.records import FACT_TABLES
from prefkit.store.gc import collect
from prefkit.store.verify import verify
from prefkit.store.workspace import Workspace
from tests.pipeline.builders import built, workspace_in


def data_files(workspace: Workspace) -> list[Path]:
    """The files that hold rows: of the fact tables as they are read now, and of the versions."""
    facts = [workspace.facts.files(n).folder / f for n in FACT_TABLES for f in workspace.facts.files_read(n)]
    return sorted(facts) + sorted((workspace.root / "versions").rglob("*.arrow"))


def all_row_ids(workspace: Workspace) -> set[str]:
    ids = {i.hex() for t in FACT_TABLES.values() for i in workspace.facts.read(t, ["id"])["id"]}
    version = workspace.versions.get("small")
    return (
        ids
        | {i.hex() for i in version.frame().select("pair_id").collect()["pair_id"]}
        | {i.hex() for i in version.outcomes().select("id").collect()["id"]}
    )


def test_verify_untouched_workspace_reports_nothing(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    report = verify(workspace)
    assert report.damages == []
    assert report.checked["fact files"] == sum(len(workspace.facts.files_read(n)) for n in FACT_TABLES)
    assert report.checked["versions"] == 1


def test_verify_twenty_flipped_bytes_reports_twenty_with_rows(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    collect(workspace)
    files = data_files(workspace)
    known = all_row_ids(workspace)
    dice = random.Random(7)
    reported = 0
    for _ in range(20):
        file = dice.choices(files, weights=[f.stat().st_size for f in files])[0]
        data = file.read_bytes()
        place = dice.randrange(len(data))
        file.write_bytes(data[:place] + bytes([data[place] ^ dice.randrange(1, 256)]) + data[place + 1 :])
        damages = verify(Workspace.open(tmp_path)).damages
        file.write_bytes(data)
        assert len(damages) == 1, (file, place)
        assert damages[0].row_ids, (file, place, damages)
        assert set(damages[0].row_ids) <= known
        assert file.name in damages[0].place
        reported += 1
    assert reported == 20
    assert verify(Workspace.open(tmp_path)).damages == []


def test_verify_a_changed_text_names_exactly_its_row(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    version = built(workspace).version
    rows = version.frame("train").collect()
    path = version.path("train")
    data = path.read_bytes()
    texts = [messages[0]["content"].encode() for messages in rows["chosen"].to_list()]
    place, text = next((i, t) for i, t in enumerate(texts) if data.count(t) == 1)
    path.write_bytes(data.replace(text, text[:-1] + b"#"))
    (damage,) = verify(workspace).damages
    assert damage.row_ids == [rows["pair_id"][place].hex()]


@pytest.mark.parametrize("kind", ["missing", "emptied"])
def test_verify_a_lost_data_file_names_its_rows(tmp_path: Path, kind: str) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    (file,) = workspace.facts.files_read("completions")
    path = workspace.facts.files("completions").folder / file
    ids = {i.hex() for i in workspace.facts.read(FACT_TABLES["completions"], ["id"])["id"]}
    path.unlink() if kind == "missing" else path.write_bytes(b"")
    (damage,) = verify(Workspace.open(tmp_path)).damages
    assert set(damage.row_ids) == ids


def test_verify_an_edited_manifest_is_reported_and_refused(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    version = built(workspace).version
    manifest = version.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"selected": ', '"selected": 1'))
    assert [d.place for d in verify(Workspace.open(tmp_path)).damages] == ["small@v1, manifest.json"]
    with pytest.raises(DamageError, match="small@v1"):
        _ = Workspace.open(tmp_path).versions.get("small@v1").content


def test_verify_a_tag_without_its_version_is_reported(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    version = built(workspace).version
    workspace.versions.tag("best", version)
    workspace.versions.remove(version)
    assert [d.place for d in verify(workspace).damages] == ["tag best"]


def test_gc_every_tagged_version_still_opens_and_rebuilds(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    for number, n in enumerate([2, 4, 6, 8], start=1):
        version = built(workspace, sample={"backend": "fake", "n": n, "batch_size": 16}).version
        if number in (1, 3):
            workspace.versions.tag(f"tag{number}", version)
    freed = collect(workspace, keep=1)
    assert freed.versions == ["small@v2"]
    assert freed.bytes > 0
    for label in ("tag1", "tag3", "small@v4"):
        assert rebuild(workspace.versions.get(label), workspace) == []
    assert verify(workspace).damages == []


def test_gc_removes_drafts_and_orphan_pins_and_nothing_else(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace)
    workspace.versions.draft()
    workspace.facts.pin("v2.small", workspace.facts.heads())
    freed = collect(workspace)
    assert (freed.drafts, freed.versions) == (1, [])
    assert set(workspace.facts.pinned()) == {"v1.small"}
    assert not built(workspace).new


def test_gc_facts_drops_only_what_no_version_names(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    built(workspace, sample={"backend": "fake", "n": 3, "seed": 1})
    built(workspace, sample={"backend": "fake", "n": 3, "seed": 2})
    held = workspace.facts.read(FACT_TABLES["completions"], ["id"]).height
    freed = collect(workspace, keep=1, facts=True)
    assert freed.versions == ["small@v1"]
    assert freed.facts["completions"] == held // 2
    assert verify(workspace).damages == []
    assert built(workspace, sample={"backend": "fake", "n": 3, "seed": 2}).drawn == 0
