#!/usr/bin/env python
"""Django's command line. While `./run` is up, the settings join it; `test` starts servers of its own."""

import json
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    if sys.argv[1:2] == ["test"]:
        from launcher.embedded import ensure_test_servers  # noqa: PLC0415 - only tests need it
        from launcher.run_tests import require_test_packages  # noqa: PLC0415

        require_test_packages()
        ensure_test_servers()
    if sys.argv[1:2] == ["doctor"]:
        _examine_the_start()
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the servers

    execute_from_command_line(sys.argv)


def _examine_the_start() -> None:
    """Settings that refuse to load are what doctor is asked about."""
    from algo.monitoring.doctor.finding import as_json, as_text, start_refused  # noqa: PLC0415 - only doctor needs it

    if (refused := start_refused()) is not None:
        sys.stdout.write(f"{json.dumps(as_json([refused])) if '--json' in sys.argv else as_text([refused])}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
