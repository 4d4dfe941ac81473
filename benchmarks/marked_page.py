"""Pages with parts that benchmarks write: `<!-- name -->`, what is written, `<!-- /name -->`."""

from pathlib import Path


def put_between(page: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks of this name; ends the program where a mark is missing."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begins, rest = page.read_text().partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise SystemExit(f"{page} has no {begin} ... {end}: add both")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
