from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prefkit.errors import DamageError, NotFoundError
from prefkit.stream.mixing import MixState
from prefkit.stream.state import StreamState, complete_steps, prune, read_state, state_folder, write_state

STATE = StreamState(
    run_id="r",
    step=7,
    attempt=1,
    frames=12,
    cursors={"live": 40, "stored": 3},
    waiting=(18, 19, 25),
    rows_recorded=26,
    rows_served=20,
    policy_version=6,
    reference_version=5,
    mix=MixState(1, ("stored",), {"live": 4}),
)


def weights(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content) and None


class Killed(BaseException):
    pass


def killed(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"half")
    raise Killed


def test_state_reads_back_equal_with_the_weights_that_were_given(tmp_path: Path) -> None:
    folder = write_state(tmp_path, STATE, sampler=weights(b"old"))
    assert read_state(tmp_path, 7, "r") == STATE
    assert (folder / "sampler" / "model.safetensors").read_bytes() == b"old"
    assert not (folder / "reference").exists()


def test_one_flipped_bit_anywhere_in_a_state_is_told(tmp_path: Path) -> None:
    folder = write_state(tmp_path, STATE, weights(b"sampler"), weights(b"reference"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(DamageError, match=f"{path.name} is not what was written"):
                read_state(tmp_path, 7, "r")
        path.write_bytes(whole)
    assert read_state(tmp_path, 7, "r") == STATE


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_torn_state_is_told_in_one_line(tmp_path: Path, left: int) -> None:
    path = write_state(tmp_path, STATE) / "state.json"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamageError, match=r"state\.json is not what was written: resume from an earlier step") as told:
        read_state(tmp_path, 7, "r")
    assert "\n" not in str(told.value)


def test_state_without_its_weights_or_its_file_is_told(tmp_path: Path) -> None:
    folder = write_state(tmp_path, STATE, weights(b"sampler"))
    (folder / "sampler" / "model.safetensors").unlink()
    with pytest.raises(DamageError, match=r"model\.safetensors is missing"):
        read_state(tmp_path, 7, "r")
    (folder / "state.json").unlink()
    with pytest.raises(DamageError, match=r"state\.json is not what was written"):
        read_state(tmp_path, 7, "r")


def test_state_of_another_run_or_step_is_told(tmp_path: Path) -> None:
    folder = write_state(tmp_path, STATE)
    with pytest.raises(DamageError, match="is step 7 of run r, expected step 7 of run other"):
        read_state(tmp_path, 7, "other")
    folder.rename(state_folder(tmp_path, 8))
    with pytest.raises(DamageError, match="is step 7 of run r, expected step 8 of run r"):
        read_state(tmp_path, 8, "r")
    with pytest.raises(NotFoundError, match=r"step-7 does not exist, expected one of: \[8\]"):
        read_state(tmp_path, 7, "r")


def test_kill_while_weights_are_saved_leaves_the_earlier_states(tmp_path: Path) -> None:
    write_state(tmp_path, STATE, weights(b"old"))
    for step in (7, 8):
        with pytest.raises(Killed):
            write_state(tmp_path, replace(STATE, step=step, attempt=2), reference=killed)
    assert complete_steps(tmp_path) == [7]
    assert read_state(tmp_path, 7, "r") == STATE
    prune(tmp_path, {7})
    assert [path.name for path in tmp_path.iterdir()] == ["step-7"]


def test_kill_while_a_state_is_replaced_leaves_a_whole_one_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path, replace(STATE, step=5))
    write_state(tmp_path, STATE, weights(b"old"))
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if target == state_folder(tmp_path, 7):
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stop)
        with pytest.raises(Killed):
            write_state(tmp_path, replace(STATE, attempt=2))
    assert complete_steps(tmp_path) == [5]
    write_state(tmp_path, replace(STATE, attempt=2))
    assert read_state(tmp_path, 7, "r").attempt == 2
    assert not (state_folder(tmp_path, 7) / "sampler").exists()


def test_prune_keeps_the_named_steps_and_nothing_half_made(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        write_state(tmp_path, replace(STATE, step=step), weights(b"x"))
    (tmp_path / ".step-9.123").mkdir()
    assert complete_steps(tmp_path) == [5, 10, 100]
    prune(tmp_path, {10, 11})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10"]
    assert complete_steps(tmp_path / "nowhere") == []
