"""vidssl methods: what can be run, and what it measured."""

from rich import box
from rich.console import Console
from rich.table import Table

from .. import catalog


def methods() -> None:
    """List the methods: paper, what they learn from, config for `vidssl pretrain`, measured figure."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_lines=True)
    for title in ("method", "paper", "needs", "config", "measured"):
        table.add_column(
            title, overflow="fold", no_wrap=title == "config"
        )  # a config's name is there to be copied
    for entry in catalog.entries():
        measured = "\n".join(entry.figures) or "not measured yet"
        table.add_row(entry.method, entry.paper, entry.needs, entry.name, measured)
    Console().print(table)
