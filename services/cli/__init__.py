"""The program `doorman`: one module per command, each with HELP, `configure(parser)` and `run(args) -> exit status`.

Exit 0: done. 1: a check failed. 2: wrong usage or wrong setup. Data goes to stdout, talk to stderr.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from services.errors import BadSetup, DoormanError

COMMANDS = (
    "demo",
    "score",
    "replay",
    "simulate",
    "bench",
    "topics",
    "deadletter",
    "review",
    "casebook",
    "control",
    "policy",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="doorman", description="Keeps automated direct messages out, lets what people write to each other through."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # The modules of all commands take seconds to import on a busy machine: a command waits for its own alone.
    for name in given[:1] if given and given[0] in COMMANDS else COMMANDS:
        module = import_module(f"services.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(given)
    try:
        status: int = args.run(args)
        return status
    except BadSetup as error:
        print(f"doorman {args.command}: {error}", file=sys.stderr)
        return 2
    except DoormanError as error:
        print(f"doorman {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone (`doorman simulate | head`): nothing is wrong, and nothing can be said.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.filename is None:  # no file that an argument names
            raise
        print(f"doorman {args.command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
