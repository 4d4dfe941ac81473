"""What is remembered of submitted batches, so that a killed process polls them instead of paying twice.

One JSON file a batch, written durably at each step:

    before the upload      the requests (their keys, and the most each can cost)
    after it               + the file's id
    after the submission   + the batch's id

A file without a batch id may have been submitted just before the process died: the provider is asked for a batch over
that file first. The key of a request is a hash of the call's id, of everything that is sent and of where it is sent to,
so a changed question is never answered by an old reply, and no provider is asked for the batch of another.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from prefkit.errors import DamageError
from prefkit.identity import Json, canonical_json
from prefkit.scoring.judge.wire import Tokens


@dataclass(slots=True)
class BatchRecord:
    """One batch; `worst` holds input and output tokens by the key of the request."""

    worst: dict[str, tuple[int, int]]
    file_id: str | None = None
    batch_id: str | None = None

    @property
    def name(self) -> str:
        """The same for the same requests."""
        return blake2b("\n".join(self.worst).encode(), digest_size=16).hexdigest()

    def tokens(self, key: str) -> Tokens:
        """The worst case of a request."""
        return Tokens(*self.worst[key])


def request_key(url: str, call_id: str, body: Mapping[str, Json]) -> str:
    """32 hex digits, the same for the same call and the same request to the same endpoint."""
    return blake2b(canonical_json({"url": url, "call": call_id, "body": body}), digest_size=16).hexdigest()


class BatchRecords:
    """The records in a folder, which is made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, record: BatchRecord) -> None:
        """Writes the record; when this returns, it survives a power cut."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(record)
        draft = path.with_suffix(".draft")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._sync()

    def drop(self, record: BatchRecord) -> None:
        """Forgets a batch whose results were all taken."""
        self._path(record).unlink(missing_ok=True)
        self._sync()

    def kept(self) -> Iterator[BatchRecord]:
        """Every record. Raises DamageError for one that cannot be read: it may stand for money that was spent."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                worst = {key: (int(read), int(written)) for key, (read, written) in found["worst"].items()}
                yield BatchRecord(worst, found["file_id"], found["batch_id"])
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DamageError(
                    f"{path} is no record of a batch, expected JSON: delete it to submit its calls anew"
                ) from None

    def _path(self, record: BatchRecord) -> Path:
        return self._folder / f"{record.name}.json"

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
