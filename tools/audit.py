"""Compare methods with their authors' code: python tools/audit.py --peer moco=CLONE --peer dpc=CLONE ...

Exit code 1 if a difference is above 1e-6 where equality is claimed. Peers that are not given are skipped and named.
"""

import sys
from typing import Annotated

import tyro

from vidssl.evidence import audit

Peers = Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=CLONE")]


def main(*, peer: Peers = ()) -> int:
    """Print a line for each quantity; 1 if an equality that is claimed does not hold.

    Args:
        peer: Clone of a repository of authors; may be given several times.
    """
    try:
        clones, holds = audit.parse(peer), True
    except ValueError as error:
        sys.exit(str(error))
    print(audit.HEADER)
    for name, clone in clones.items():
        for row in audit.compare(name, clone):
            holds &= row.holds
            print(row.line(name))
    skipped = [name for name in audit.PEERS if name not in clones]
    if skipped:
        print(f"not compared, for no clone was given: {', '.join(skipped)}")
    return 0 if holds else 1


if __name__ == "__main__":
    with audit.one_process():
        code = tyro.cli(main)
    sys.exit(code)
