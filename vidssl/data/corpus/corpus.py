"""A corpus: the videos or images of a folder or a list, looked at once, with what is wrong with each of them.

Files are looked at in child processes, several at a time: a file that crashes the decoder or keeps it busy for
ever is reported like any other bad file. What was found is kept in the user's cache folder and believed as long as
a file's size and time of change stay the same.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.audit import Finding
from ..media.container import printable
from .entry import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group


__all__ = ["Audit", "Corpus"]


@dataclass(frozen=True)
class Corpus:
    """Videos or images, and the files that should have been but cannot be read.

    Args:
        root: The folder or list that was scanned, absolute.
        entries: In the order of the list, or of the file names.
        class_names: Name of each label; empty without labels.
        bad: (path, reason) of each file that cannot be read, and of each folder that cannot be entered.
        num_other: Files passed over because they are not what was asked for.
        others: The same by suffix, with the first names, in words.
    """

    root: Path
    entries: Sequence[Entry]
    class_names: tuple[str, ...] = ()
    bad: tuple[tuple[Path, str], ...] = ()
    num_other: int = 0
    others: str = ""

    def __len__(self) -> int:
        return len(self.entries)

    def summary(self) -> str:
        """Describe the corpus in a few lines, bad files by name."""
        hours = sum(entry.duration_seconds for entry in self.entries) / 3600
        sound = sum(entry.has_audio and not entry.audio_silent for entry in self.entries)
        silent = sum(bool(entry.audio_silent) for entry in self.entries)
        sizes = collections.Counter(f"{entry.width}x{entry.height}" for entry in self.entries)
        lines = [
            f"{printable(self.root)}: {len(self)} entries, {hours:.2f} hours, "
            f"{sum(entry.num_frames for entry in self.entries)} frames",
            f"sound: {sound} with, {silent} with a silent track, {len(self) - sound - silent} without",
            "sizes: " + ", ".join(f"{size} ({count})" for size, count in sizes.most_common(5)),
        ]
        if self.class_names:
            lines.append(f"classes: {len(self.class_names)}")
        if self.num_other:
            lines.append(f"passed over: {self.others or f'{self.num_other} files that are not read'}")
        damaged = [entry for entry in self.entries if entry.damage]
        if damaged:
            lines.append(f"damaged or cut off: {len(damaged)}")
            lines += [f"  {printable(entry.path)}: {entry.damage}" for entry in damaged]
        if self.bad:
            lines.append(f"cannot be read: {len(self.bad)}")
            lines += [f"  {printable(path)}: {reason}" for path, reason in self.bad]
        return "\n".join(lines)


@dataclass(frozen=True)
class Audit:
    """What `audit` found. Print it with rich for a table of every file with a finding.

    Args:
        root: The folder, list or file that was audited.
        files: (path, findings) of every file, in order.
        num_other: Files passed over because they are not what was asked for.
        others: The same by suffix, with the first names, in words.
    """

    root: Path
    files: tuple[tuple[Path, tuple[Finding, ...]], ...]
    num_other: int = 0
    others: str = ""

    @property
    def bad(self) -> list[tuple[Path, str]]:
        """(path, reasons) of each file with an error."""
        found = [
            (path, [str(one) for one in findings if one.severity == "error"]) for path, findings in self.files
        ]
        return [(path, "; ".join(errors)) for path, errors in found if errors]

    def counts(self) -> dict[tuple[str, str], int]:
        """Files by (severity, kind of finding), the most frequent first, errors before notes."""
        kinds = collections.Counter(
            kind for _, findings in self.files for kind in {(one.severity, one.kind) for one in findings}
        )
        return dict(sorted(kinds.items(), key=lambda item: (item[0][0], -item[1], item[0][1])))

    def summary(self) -> str:
        """Count files and findings in a few lines."""
        lines = [f"{printable(self.root)}: {len(self.files)} files, {len(self.bad)} with errors"]
        lines += [f"  {severity}: {kind} ({count})" for (severity, kind), count in self.counts().items()]
        if self.num_other:
            lines.append(f"  passed over: {self.others or f'{self.num_other} files that are not read'}")
        return "\n".join(lines)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Column, Table

        # Folded, never cut: the name of a bad file is what the table is for.
        table = Table(Column("file", overflow="fold"), Column("finding", overflow="fold"))
        base = self.root if self.root.is_dir() else self.root.parent
        for path, findings in self.files:
            name = path.relative_to(base) if path.is_relative_to(base) else path
            for one in findings:
                colour = "red" if one.severity == "error" else "yellow"
                table.add_row(escape(printable(name)), f"[{colour}]{one.severity}[/] {escape(str(one))}")
        return Group(*([table] if table.row_count else []), escape(self.summary()))
