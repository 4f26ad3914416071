"""From a bare machine to the running platform: `./run`, `./test`.

Everything here runs before any package is installed and therefore imports the standard library only; the exceptions are
`pytest_plugin` and `test_runner`, which run inside the virtual environment.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_DIR = ROOT / ".run"
