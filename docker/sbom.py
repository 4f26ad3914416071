"""What is inside the image, as a CycloneDX 1.5 document on stdout: Python packages and Debian packages.

docker-compose run --rm --no-deps django_app python docker/sbom.py > sbom.json
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import quote

DPKG = Path("/var/lib/dpkg/status")


def main() -> int:
    components = sorted([*python_packages(), *debian_packages(DPKG)], key=lambda each: str(each["purl"]))
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    return 0


def python_packages() -> Iterator[dict[str, object]]:
    """Each installed distribution once."""
    found = {str(each.metadata["Name"]).lower(): each for each in distributions() if each.metadata["Name"]}
    for name, each in found.items():
        licence = each.metadata.get("License-Expression") or each.metadata.get("License") or ""
        more = {"licenses": [{"license": {"name": licence.splitlines()[0][:100]}}]} if licence.strip() else {}
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name)}@{each.version}"
        yield {"type": "library", "name": each.metadata["Name"], "version": each.version, "purl": purl, **more}


def debian_packages(status: Path) -> Iterator[dict[str, object]]:
    """Those that dpkg calls installed; none where there is no dpkg."""
    for block in status.read_text(errors="replace").split("\n\n") if status.is_file() else ():
        told = dict(re.findall(r"^(Package|Version|Status|Architecture): (.+)$", block, re.MULTILINE))
        if told.get("Status", "").endswith(" installed"):
            name, version = told["Package"], told["Version"]
            purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={told['Architecture']}"
            yield {"type": "library", "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    sys.exit(main())
