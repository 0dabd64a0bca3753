"""`doorman policy`: read a policy file as action does, before it is put where action reads it."""

import argparse
import sys
from pathlib import Path

from services import codec, settings
from services.action import policy
from services.errors import BadSetup

HELP = "check a policy file: print its version, or every fault with its line"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=Path, metavar="F", help="policy file (default: DOORMAN_POLICY)")


def run(args: argparse.Namespace) -> int:
    try:
        found = policy.read(args.file or settings.load().policy)
    except BadSetup as refused:
        print(refused, file=sys.stderr)
        return 1
    print(codec.dumps({"version": found.version, "tenants": sorted(found.tenants)}).decode())
    return 0
