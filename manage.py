#!/usr/bin/env python
"""Django's command line. While `./run` is up, the settings join it; `test` starts servers of its own."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    if sys.argv[1:2] == ["test"]:
        from launcher.embedded import ensure_test_servers  # noqa: PLC0415 - only tests need it
        from launcher.run_tests import require_test_packages  # noqa: PLC0415

        require_test_packages()
        ensure_test_servers()
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - after the servers

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
