"""What a node would run: its code, its packages, and whether verl there has loaded the plug-in."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".py", ".yaml", ".json", ".jinja", ".safetensors")
SHOWN = 4  # differences named of each kind; the rest are counted


@dataclass(frozen=True)
class Fingerprint:
    """Of one interpreter on one node."""

    python: str
    files: dict[str, str] = field(repr=False)  # of our packages: path within the package → digest
    packages: dict[str, str] = field(repr=False)  # distribution → version
    plugin: str = ""  # why verl has not loaded the plug-in; empty if it has

    def differences(self, other: Fingerprint) -> list[str]:
        """What `other` has differently, in words; empty if a run may use both."""
        found = []
        if self.python != other.python:
            found.append(f"Python {other.python} against {self.python}")
        if changed := _changed(self.files, other.files):
            found.append(f"other code: {_shown([name for name, _, _ in changed])}")
        if changed := _changed(self.packages, other.packages):
            found.append(
                "other packages: "
                + _shown([f"{name} {b or 'missing'} against {a or 'none'}" for name, a, b in changed])
            )
        if other.plugin:
            found.append(f"the plug-in is not loaded: {other.plugin}")
        return found


def fingerprint() -> Fingerprint:
    """Of the interpreter that calls it. Files are read, so it takes a moment (0.1 s)."""
    return Fingerprint(platform.python_version(), _files(), _packages(), _plugin())


def _files() -> dict[str, str]:
    import dsdr_verl
    import dsdr_verl.conf

    found = {}
    for package in (dsdr_verl, dsdr_verl.conf):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                name = f"{package.__name__}/{path.relative_to(root)}"
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _packages() -> dict[str, str]:
    """Installed distributions; the first of a name on the path is the one that is imported."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(name.lower().replace("_", "-"), distribution.version)
    return found


def _plugin() -> str:
    try:
        from dsdr_verl.loaded import require_loaded

        require_loaded()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _changed(a: dict[str, str], b: dict[str, str]) -> list[tuple[str, str | None, str | None]]:
    return [(name, a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
