"""The page's libraries: compare what is in the repository with the npm registry, or fetch it anew (`--fetch`).

`producer/page/vendor/packages.json` names each package, its version, the registry's hash of its archive and the files
that are taken from it. Large files are stored compressed, with `.gz` behind their names, and are served like that.
"""

import argparse
import base64
import gzip
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[2] / "producer/page/vendor"
PACKAGES = VENDOR / "packages.json"
REGISTRY = "https://registry.npmjs.org"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
        return bytes(answer.read())


def integrity_of(archive: bytes) -> str:
    """As npm writes it (Subresource Integrity)."""
    return "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()


def files_of(package: dict[str, Any]) -> Iterator[tuple[Path, bytes]]:
    """Where each file of a package is stored, and its content by the registry.

    Raises:
        ValueError: the archive is not the one that `packages.json` names, or the registry names another.
    """
    name, version = package["name"], package["version"]
    stated = json.loads(fetched(f"{REGISTRY}/{name}/{version}"))["dist"]
    archive = fetched(stated["tarball"])
    if not package["integrity"] == stated["integrity"] == integrity_of(archive):
        raise ValueError(f"{name} {version}: its hash is {integrity_of(archive)}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for source, target in package["files"].items():
            member = members.extractfile(f"package/{source}")
            if member is None:
                raise ValueError(f"{name} {version}: {source} is not a file")
            yield VENDOR / target, member.read()


def stored(path: Path) -> bytes | None:
    """A file's content; None: there is no such file."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetch", action="store_true", help="write the files instead of comparing them")
    fetch = parser.parse_args().fetch
    wrong, named = [], {PACKAGES}
    for package in json.loads(PACKAGES.read_text("utf-8")):
        for path, content in files_of(package):
            named.add(path)
            if fetch:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gzip.compress(content, 9, mtime=0) if path.suffix == ".gz" else content)
            elif stored(path) != content:
                wrong.append(f"{path.relative_to(VENDOR)}: it is not what {package['name']} has")
    unnamed = [path for path in VENDOR.rglob("*") if path.is_file() and path not in named]
    wrong += [f"{path.relative_to(VENDOR)}: no package has it" for path in unnamed]
    print(*(wrong or [f"{len(named) - 1} files are as the registry has them"]), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
