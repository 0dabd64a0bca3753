"""`doorman bench`: the numbers of the README, measured on this machine."""

import argparse

from services.cli.bench import baseline, habits, latency, memory, pipeline, restart, score

HELP = "measure: scoring, pipeline, latency, memory, restart, a textbook pipeline; judge simulated traffic"
BENCHES = {
    "score": score,
    "pipeline": pipeline,
    "latency": latency,
    "baseline": baseline,
    "habits": habits,
    "memory": memory,
    "restart": restart,
}


def configure(parser: argparse.ArgumentParser) -> None:
    benches = parser.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for name, module in BENCHES.items():
        bench = benches.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(bench)
        bench.set_defaults(measure=module.run)


def run(args: argparse.Namespace) -> int:
    status: int = args.measure(args)
    return status
