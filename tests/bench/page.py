"""docs/performance.md: one section for each part of the bench, between two comments that tell where it stands."""

from __future__ import annotations

from pathlib import Path

TITLE = "# Performance\n"


def put(page: Path, name: str, section: str) -> None:
    """Replaces the section `name`, and nothing else; one that was not there comes last."""
    start, end = f"<!-- bench: {name} -->", f"<!-- bench: end of {name} -->"
    text = page.read_text() if page.exists() else TITLE
    before, found, rest = text.partition(start)
    after = rest.partition(end)[2] if found else ""
    page.write_text(f"{before.rstrip()}\n\n{start}\n\n{section.strip()}\n\n{end}\n{after.rstrip()}".rstrip() + "\n")
