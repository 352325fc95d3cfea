"""vidssl pretrain as a script, for launchers: torchrun --nproc-per-node 4 tools/train.py NAME --root DIR."""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
