#!/usr/bin/env python
"""Django's command line. While `./run` is up it talks to the same servers; `test` starts servers of its own."""

import os
import sys


def main() -> None:
    from launcher.embedded import ensure_test_servers
    from launcher.session import join_running_session

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "algo_trade.settings")
    if sys.argv[1:2] == ["test"]:
        ensure_test_servers()
    else:
        join_running_session()
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
