"""Whose weights: the id of a policy is a digest of its files' content, never its path.

`policy_id` covers what decides a draw: weights (and an adapter's), configuration, generation configuration, tokenizer,
chat template, and Python code that ships with the model. Weights are large, so the digest of each file can be
remembered in a small JSON file, under the file's path, size, times and inode. A file changed in place under a restored
modification time still has another change time (ctime), which a program cannot set.
"""

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import cast

from prefkit.errors import MissingExtraError, SourceError
from prefkit.identity import content_id

VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
TOKENIZER = (*VOCABULARIES, "tokenizer_config.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json", "*.py")
TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLED_WEIGHTS = ("*.bin", "*.bin.index.json")
NO_WEIGHTS = ("training_args.bin",)  # written beside the weights by transformers' Trainer

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# A file can change twice within one tick of the file system's clock: digests of files younger than this are not kept.
SETTLED_SECONDS = 2.0


def policy_id(model: str, cache: Path | None = None, revision: str | None = None, role: str = "policy") -> str:
    """`hf:` and 32 hex digits that are equal for folders of the same content. `role` is what messages call the model.

    Raises SourceError for a folder that is no chat model, MissingExtraError for a Hub id without `huggingface_hub`.
    """
    folder = policy_folder(model, revision, role)
    digests = _Digests(cache)
    content = [[file.relative_to(folder).as_posix(), digests.of(file)] for file in policy_files(folder, role)]
    digests.save()
    return f"hf:{content_id('policy', content).hex()}"


def policy_folder(model: str, revision: str | None = None, role: str = "policy") -> Path:
    """The folder of a model given as a folder or as a Hub id `org/name`, which is downloaded if it must be."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if HUB_ID.fullmatch(model):
        return _downloaded(model, revision, role)
    raise SourceError(f"{role} {model!r} does not exist: expected a model folder or a Hub id such as org/name")


def policy_files(folder: Path, role: str = "policy") -> list[Path]:
    """The files that decide a draw, sorted by name. Raises SourceError when one of the necessary kinds is missing."""
    found = {pattern: sorted(folder.glob(pattern)) for pattern in (*CONFIGURATION, *TOKENIZER, *TEMPLATES)}
    weights = _weights(folder)
    if not found["config.json"]:
        raise SourceError(
            f"{role} {str(folder)!r} is no model: it has no config.json; point to a transformers model folder"
        )
    if not weights:
        raise SourceError(f"{role} {str(folder)!r} has no weights: expected *.safetensors or *.bin in the folder")
    if not any(found[name] for name in VOCABULARIES):
        raise SourceError(
            f"{role} {str(folder)!r} has no tokenizer: expected tokenizer.json; save the tokenizer into the folder"
        )
    if not any(found[pattern] for pattern in TEMPLATES) and not _has_inline_template(folder):
        raise SourceError(
            f"{role} {str(folder)!r} has no chat template: expected chat_template.jinja or `chat_template` in "
            f"tokenizer_config.json; use an instruction-tuned model or add a template"
        )
    return sorted({file for files in found.values() for file in files} | set(weights))


def _weights(folder: Path) -> list[Path]:
    """The files transformers would load: pickled weights count only where there are no others."""
    for patterns in (WEIGHTS, PICKLED_WEIGHTS):
        files = [f for pattern in patterns for f in folder.glob(pattern) if f.name not in NO_WEIGHTS]
        if files:
            return files
    return []


def _has_inline_template(folder: Path) -> bool:
    file = folder / "tokenizer_config.json"
    try:
        return bool(json.loads(file.read_bytes()).get("chat_template"))
    except FileNotFoundError:
        return False
    except (ValueError, AttributeError):
        raise SourceError(f"{str(file)!r} is no JSON object: restore the file or save the tokenizer again") from None


def _downloaded(model: str, revision: str | None, role: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise MissingExtraError(
            f"{role} {model!r} is not a folder and looking it up on the Hub needs huggingface_hub: "
            f"pip install 'prefkit[transformers]'"
        ) from None
    patterns = [*CONFIGURATION, *TOKENIZER, *TEMPLATES, *WEIGHTS]
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{role} {model!r} is neither a folder nor available from the Hub: {reason}") from None


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells that a file is unchanged without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> "_Stamp":
        stat = file.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

    def as_list(self) -> list[int]:
        return [self.size, self.mtime_ns, self.ctime_ns, self.inode]

    @property
    def settled(self) -> bool:
        return time.time() - max(self.mtime_ns, self.ctime_ns) / 1e9 > SETTLED_SECONDS


class _Digests:
    """Digests of files, remembered in a JSON file. A damaged memory is an empty one."""

    def __init__(self, memory: Path | None) -> None:
        self._memory = memory
        self._known = _read_memory(memory) if memory else {}
        self._changed = False

    def of(self, file: Path) -> str:
        stamp, place = _Stamp.of(file), str(file.resolve())
        match self._known.get(place):
            case [list() as known, str() as digest] if known == stamp.as_list():
                return digest
            case _:
                pass
        with file.open("rb") as opened:
            digest = file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()
        if stamp.settled and stamp == _Stamp.of(file):
            self._known[place] = [stamp.as_list(), digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Writes atomically. A memory that cannot be written only costs time, so that is no error."""
        if self._memory is None or not self._changed:
            return
        partial = self._memory.with_name(f".{self._memory.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(self._known))
            partial.replace(self._memory)


def _read_memory(memory: Path) -> dict[str, object]:
    try:
        data: object = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("dict[str, object]", data) if isinstance(data, dict) else {}
