"""The seeded world from the command line.

python -m tests.simulation --seeds 2000 --jobs 2      many worlds; exit 1 on any violation
python -m tests.simulation --seed 17                  one, with a readable trace
python -m tests.simulation --seed 17 --shrink         the fewest events that still fail
python -m tests.simulation --ledger orm --seeds 40    over Django and PostgreSQL
python -m tests.simulation --mutants                  one safety rule less at a time: each must be caught
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.simulation.setup import prepare


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Live through seeded worlds.")
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds (200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--seed", type=int, help="live one world and show its trace")
    parser.add_argument("--shrink", action="store_true", help="with --seed: drop events as long as it still fails")
    parser.add_argument("--ledger", choices=("memory", "orm"), default="memory", help="where the books are kept")
    parser.add_argument("--mutants", action="store_true", help="remove one safety rule at a time")
    parser.add_argument("--mutant", help="with --seed or --seeds: this rule is removed")
    parser.add_argument("--most", type=int, default=5000, help="with --mutants: seeds after which a mutant survived")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = parse(argv)
    with prepare(options.ledger):
        from tests.simulation import commands

        if options.mutants:
            return commands.run_mutants(options)
        if options.seed is not None:
            return commands.run_one(options)
        return commands.run_many(options)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print(json.dumps({"stopped": "by hand"}), file=sys.stderr)
        sys.exit(130)
