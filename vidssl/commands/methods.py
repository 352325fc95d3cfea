"""vidssl methods: what can be run, and what it measured."""

from rich.console import Console

from .. import catalog


def methods() -> None:
    """List the methods: config for `vidssl pretrain`, what it learns from, paper, measured figure."""
    console = Console(highlight=False)
    for entry in catalog.entries():
        console.print(f"[bold]{entry.name}[/bold]  {entry.method}, learns from {entry.needs}", soft_wrap=True)
        for line in (entry.paper, *(entry.figures or ("not measured yet",))):
            console.print(f"    {line}", soft_wrap=True, markup=False)
