"""A version as a folder that `datasets.load_dataset` opens, laid out as on the Hub.

    README.md                                           configs, counts, ledger, recipe fingerprint
    data/preferences/train-00000-of-00001.parquet       the rows (data/completions/ for a subset)
    data/candidates/train-00000-of-00001.parquet        every completion that could have been chosen

Everything of a row is there, token ids included, so that what was sampled can be trained on token for token.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from prefkit.errors import NotFoundError
from prefkit.export.formats import Format, completions, preference, readable_ids
from prefkit.export.source import ExportSource, Kind
from prefkit.export.writers import new_folder, write_parquet_file

Configs = Mapping[str, Mapping[str, pl.DataFrame]]

_ROWS: Mapping[Kind, tuple[str, Format]] = {
    "pairs": ("preferences", preference),
    "subset": ("completions", completions),
}
_CANDIDATES = "candidates"
_FILE = "{split}-00000-of-00001.parquet"


def write_folder(source: ExportSource, target: Path) -> None:
    """Writes a version with its candidates and a README to a new folder.

    Raises NotFoundError when the version has no rows, WorkspaceError when the folder cannot be written.
    """
    configs = _configs(source)
    with new_folder(target) as folder:
        for config, splits in configs.items():
            data = folder / "data" / config
            data.mkdir(parents=True)
            for split, frame in splits.items():
                write_parquet_file(frame, data / _FILE.format(split=split))
        (folder / "README.md").write_text(readme(source, configs), encoding="utf-8")


def _configs(source: ExportSource) -> Configs:
    config, rows = _ROWS[source.kind]
    splits = {split: rows(frame) for split, frame in source.splits.items() if len(frame)}
    if not splits:
        raise NotFoundError(f"{source.label} has no rows, expected at least one: nothing was exported")
    if source.candidates is None or source.candidates.is_empty():
        return {config: splits}
    return {config: splits, _CANDIDATES: {"train": readable_ids(source.candidates)}}


def readme(source: ExportSource, configs: Configs) -> str:
    """The README: front matter that names the files, then how to load them, counts, ledger and fingerprint."""
    counts = [f"| {config} | {split} | {len(f)} |" for config, splits in configs.items() for split, f in splits.items()]
    ledger = [f"| {stage} | {unit} | {outcome} | {count} |" for stage, unit, outcome, count in source.ledger]
    loads = [f'{config} = load_dataset("path/to/this/folder", "{config}")' for config in configs]
    return "\n".join(
        [
            *_front_matter(configs),
            "",
            f"# {source.label}",
            "",
            "Made with prefkit.",
            "",
            "```python",
            "from datasets import load_dataset",
            "",
            *loads,
            "```",
            "",
            "## Rows",
            "",
            "| config | split | rows |",
            "|---|---|---:|",
            *counts,
            "",
            "## Ledger",
            "",
            "What became of every unit of every stage.",
            "",
            "| stage | unit | outcome | count |",
            "|---|---|---|---:|",
            *ledger,
            "",
            "## Identity",
            "",
            f"- Recipe fingerprint: `{source.fingerprint}`",
            f"- Content hash: `{source.content_hash}`",
            "",
        ]
    )


def _front_matter(configs: Configs) -> list[str]:
    lines = ["---", "configs:"]
    for index, (config, splits) in enumerate(configs.items()):
        lines += [f"- config_name: {config}", *(["  default: true"] if index == 0 else []), "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: data/{config}/{_FILE.format(split=split)}"]
    return [*lines, "---"]
