"""Prove that a method learns: python tools/prove.py NAME writes results/NAME.json and docs/results.md."""

import logging

import tyro
from rich import print

from vidssl.proof import PROOFS

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(tyro.extras.subcommand_cli_from_dict(PROOFS))
