"""vidssl evaluate as a script, for launchers: python tools/evaluate.py davis --root DAVIS --model runs/x."""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
