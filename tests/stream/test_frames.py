import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DamageError, WorkspaceError
from prefkit.stream.frames import FrameFile, read_payloads

PAYLOADS = [b"", b"first", bytes(range(256)), b"\0" * 24, b"last"]


def written(path: Path, payloads: list[bytes] = PAYLOADS) -> list[int]:
    """Writes the payloads and returns the size of the file after each."""
    file = FrameFile(path)
    sizes: list[int] = []
    for payload in payloads:
        file.append(payload)
        sizes.append(path.stat().st_size)
    file.close()
    return sizes


def contents(path: Path) -> list[bytes]:
    return [payload.data.to_pybytes() for payload in read_payloads(path)]


@given(st.lists(st.binary(max_size=200), max_size=6), st.integers(0, 6))
def test_frames_appended_in_two_sittings_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], cut: int
) -> None:
    path = tmp_path_factory.mktemp("frames") / "f"
    written(path, payloads[:cut])
    written(path, payloads[cut:])
    assert contents(path) == payloads


def test_frame_is_on_the_disk_for_another_reader_when_append_returns(tmp_path: Path) -> None:
    file = FrameFile(tmp_path / "f")
    for number in range(3):
        assert file.append(b"%d" % number) == number
        assert contents(tmp_path / "f") == [b"%d" % n for n in range(number + 1)]
    file.close()


def test_one_flipped_bit_anywhere_is_told_with_the_frame_it_is_in(tmp_path: Path) -> None:
    path = tmp_path / "f"
    sizes = written(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        frame = next(number for number, size in enumerate(sizes) if place < size)
        with pytest.raises(DamageError, match=rf"f: frame {frame} "):
            contents(path)


def test_file_cut_at_every_byte_of_its_last_frame_loses_that_frame_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "f"
    *_, before, end = written(path)
    whole = path.read_bytes()
    for size in range(before, end):
        path.write_bytes(whole[:size])
        assert contents(path) == PAYLOADS[:-1]
        file = FrameFile(path)
        assert (file.frames, path.stat().st_size) == (len(PAYLOADS) - 1, before)
        assert file.append(b"last") == len(PAYLOADS) - 1
        file.close()
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("spoil", "frame"),
    [
        (lambda b, s: b[: s[0]] + b[s[1] :], 1),
        (lambda b, s: b[: s[1]] + b[s[0] : s[1]] + b[s[1] :], 2),
        (lambda b, s: b + b"{}\n", 5),
        (lambda b, s: b + bytes(100), 5),
    ],
    ids=["a frame is missing", "a frame is there twice", "text was appended", "zeros were appended"],
)
def test_bytes_that_no_append_leaves_behind_are_damage_and_stay(
    tmp_path: Path, spoil: Callable[[bytes, list[int]], bytes], frame: int
) -> None:
    path = tmp_path / "f"
    sizes = written(path)
    spoiled = spoil(path.read_bytes(), sizes)
    path.write_bytes(spoiled)
    with pytest.raises(DamageError, match=f"frame {frame} does not begin like one"):
        FrameFile(path)
    assert path.read_bytes() == spoiled


def test_damage_is_told_in_one_line_and_does_not_hide_the_frames_before(tmp_path: Path) -> None:
    path = tmp_path / "f"
    sizes = written(path)
    data = bytearray(path.read_bytes())
    data[sizes[2] - 1] ^= 1
    path.write_bytes(data)
    payloads = read_payloads(path)
    assert [next(payloads).data.to_pybytes() for _ in range(2)] == PAYLOADS[:2]
    with pytest.raises(DamageError) as told:
        next(payloads)
    assert re.search(r"frame 2 .*frames 0 to 1 are intact.*put back a copy", str(told.value))
    assert "\n" not in str(told.value)


def test_reader_that_began_before_a_torn_end_was_cut_reads_the_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "f"
    written(path)
    whole = path.read_bytes()
    for torn in (1, 45, 50_000):
        path.write_bytes(whole)
        written(path, [b"x" * 50_000])
        path.write_bytes(path.read_bytes()[: len(whole) + torn])
        reading = read_payloads(path)
        found = [next(reading)]
        FrameFile(path).close()
        assert [payload.data.to_pybytes() for payload in [*found, *reading]] == PAYLOADS


def test_second_writer_is_refused_while_the_first_has_the_file(tmp_path: Path) -> None:
    first = FrameFile(tmp_path / "f")
    with pytest.raises(WorkspaceError, match="written by another process"):
        FrameFile(tmp_path / "f")
    first.close()
    FrameFile(tmp_path / "f").close()


def test_full_disk_is_one_line_and_the_file_goes_on_when_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    file = FrameFile(path)
    file.append(b"kept")

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, path.stat().st_size - 3)
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match="the disk is full"):
            file.append(b"half written")
    with pytest.raises(WorkspaceError, match="closed"):
        file.append(b"next")
    file = FrameFile(path)
    assert file.append(b"next") == 1
    file.close()
    assert contents(path) == [b"kept", b"next"]
