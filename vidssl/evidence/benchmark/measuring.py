"""Two pieces of code compared: process CPU time in random order, peak memory, and whether they agree."""

import ctypes
import gc
import hashlib
import importlib.metadata
import importlib.util
import multiprocessing
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

# Packages a row may need, by the name they are imported under: what to install.
PACKAGES = {
    "cv2": "opencv-python-headless",
    "decord": "decord2",
    "faiss": "faiss-cpu",
    "imageio": "imageio",
    "kornia": "kornia",
    "lightly": "lightly",
    "matplotlib": "matplotlib",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torchcodec": "torchcodec",
    "torchvision": "torchvision",
    "tqdm": "tqdm",
}
# What a row may need from a folder (`--peer NAME=PATH`): what the folder is.
FOLDERS = {
    "clips": "a folder of H.264 videos (.mp4, .mkv) as Kinetics is often kept: 340 x 256, few key frames",
    "crw": "a clone of https://github.com/ajabri/videowalk",
    "davis": "DAVIS-2017 trainval at 480p",
    "davis2017": "a clone of https://github.com/davisvideochallenge/davis2017-evaluation",
    "dino": "a clone of https://github.com/facebookresearch/dino",
    "osvos": "results/semi-supervised/osvos of davis2017-evaluation",
}


class MissingPeer(Exception):
    """What a row needs is not there; the message says how to get it."""


@dataclass(frozen=True)
class Peers:
    """Where the peers are.

    Args:
        folders: By name, those of FOLDERS.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Peers":
        """Read NAME=PATH of the command line.

        Raises:
            ValueError: No such name, or no such folder.
        """
        folders = {}
        for text in texts:
            name, _, path = text.partition("=")
            if name not in FOLDERS:
                raise ValueError(
                    f"--peer {text}: expected NAME=PATH with NAME one of {', '.join(sorted(FOLDERS))}"
                )
            if not Path(path).is_dir():
                raise ValueError(f"--peer {text}: there is no folder {path}; it is to be {FOLDERS[name]}")
            folders[name] = Path(path)
        return cls(folders)

    def require(self, names: Sequence[str]) -> None:
        """Check that everything is there.

        Raises:
            MissingPeer: With a line for each that is not.
        """
        missing = []
        for name in names:
            if name in FOLDERS and name not in self.folders:
                missing.append(f"{name} is needed: give --peer {name}=PATH, {FOLDERS[name]}")
            elif name in PACKAGES and importlib.util.find_spec(name) is None:
                missing.append(f"{name} is needed: pip install {PACKAGES[name]}")
            elif name not in FOLDERS and name not in PACKAGES:
                raise ValueError(f"{name} is in neither PACKAGES nor FOLDERS; add it there")
        if missing:
            raise MissingPeer("; ".join(missing))

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """Versions of those that are packages."""
        return {PACKAGES[name]: importlib.metadata.version(PACKAGES[name]) for name in names if name in PACKAGES}

    def load(self, name: str, file: str) -> tuple[ModuleType, str]:
        """Run one file of a peer's folder as a module; files beside it can be imported while it loads.

        Returns:
            The module and the file's SHA-256, which stands for its version.
        """
        path = self.folders[name] / file
        spec = importlib.util.spec_from_file_location(f"peer_{name}", path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise MissingPeer(f"{path} is not there: --peer {name} is to be {FOLDERS[name]}")
        module = importlib.util.module_from_spec(spec)
        with self.importing(path.parent):
            spec.loader.exec_module(module)
        return module, self.digest(name, file)

    def digest(self, name: str, file: str) -> str:
        """Give the SHA-256 of a file of a peer's folder, which stands for its version."""
        path = self.folders[name] / file
        if not path.is_file():
            raise MissingPeer(f"{path} is not there: --peer {name} is to be {FOLDERS[name]}")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @staticmethod
    @contextmanager
    def importing(folder: Path) -> Iterator[None]:
        """Let what lies in a folder be imported, and forget it at the end: a peer's `utils` is not the next one's."""
        before = set(sys.modules)
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for other in set(sys.modules) - before:
                module = sys.modules[other]
                origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
                if origin and folder in Path(origin).parents:
                    del sys.modules[other]


@dataclass(frozen=True)
class Case:
    """A row made ready: inputs are drawn or read, and both sides wait to be called.

    Args:
        ours: Does the work once and returns its result.
        peer: Does the same work in the peer's way.
        compare: (result of ours, result of the peer) -> further figures, such as the largest difference.
        versions: Of peers that are files, such as {"eval_video_segmentation.py": SHA-256}.
        in_turns: Does the work of both once, a step of one after a step of the other, and returns the CPU seconds
            of each: for what is compared more finely than a machine keeps its speed for seconds. Rounds are of it, in
            a row that warms up.
    """

    ours: Callable[[], Any]
    peer: Callable[[], Any]
    compare: Callable[[Any, Any], Mapping[str, float]] = lambda ours, peer: {}
    versions: Mapping[str, str] = field(default_factory=dict)
    in_turns: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Goal:
    """What a figure must reach.

    Args:
        figure: Its name.
        sign: ">=" or "<=".
        limit: The figure may equal it.
    """

    figure: str
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value reaches it; NaN does not."""
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def at_least(figure: str, limit: float) -> Goal:
    """A figure must not be smaller."""
    return Goal(figure, ">=", limit)


def at_most(figure: str, limit: float) -> Goal:
    """A figure must not be larger."""
    return Goal(figure, "<=", limit)


@dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
        name: On the command line and in the table.
        what: The work and its size, for people.
        ours: What does it in vidssl.
        peer: What it is compared with.
        needs: Names of PACKAGES and FOLDERS.
        prepare: Makes the case ready; nothing of it is timed.
        goals: Figures to reach: "ratio" (time of ours / time of the peer), "speedup" (its inverse), "memory_ratio"
            (of the peaks, where memory is measured), or what `Case.compare` returns.
        rounds: Each round times both once.
        memory: Whether peak memory is measured.
        warm_up: Whether both are called once before they are timed; a row of minutes does without.
    """

    name: str
    what: str
    ours: str
    peer: str
    needs: tuple[str, ...]
    prepare: Callable[[Peers], Case]
    goals: tuple[Goal, ...]
    rounds: int = 7
    memory: bool = False
    warm_up: bool = True


def measure(
    row: Row,
    peers: Peers,
    *,
    rounds: int | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.process_time,
    peak: Callable[[Callable[[], Any]], int] | None = None,
) -> dict[str, Any]:
    """Measure a row.

    Args:
        row: What to measure.
        peers: Where the peers are.
        rounds: In place of the row's own number.
        seed: Of the order inside the rounds.
        clock: Seconds; CPU time of this process, all threads, by default.
        peak: Memory of a call in bytes; `peak_bytes` by default.

    Returns:
        Record of JSON values: "what", "ours", "peer", "rounds", "seconds" (of "ours" and "peer"), "figures" by name,
        and "goals". What was timed is {"median", "low", "high"}, the last two its quartiles over the rounds.

    Raises:
        MissingPeer: What the row needs is not there.
    """
    peers.require(row.needs)
    case = row.prepare(peers)
    sides = {"ours": case.ours, "peer": case.peer}
    figures: dict[str, Any] = {}
    if row.memory:
        peaks = {name: (peak or peak_bytes)(call) for name, call in sides.items()}
        figures |= {f"{name}_peak_mb": size / 1e6 for name, size in peaks.items()}
        figures["memory_ratio"] = peaks["ours"] / peaks["peer"]
    results: dict[str, Any] = {}

    def keep(name: str) -> None:
        results[name] = sides[name]()

    def compare() -> None:
        values = case.compare(results["ours"], results["peer"])
        figures.update({name: float(value) for name, value in values.items()})
        results.clear()

    num_rounds = rounds or row.rounds
    if row.warm_up:
        for name in sides:
            keep(name)
        compare()
        if case.in_turns is None:
            seconds = alternate(sides, rounds=num_rounds, seed=seed, clock=clock)
        else:
            both = [case.in_turns() for _ in range(num_rounds)]
            seconds = {name: [each[name] for each in both] for name in sides}
    else:
        timed = {name: partial(keep, name) for name in sides}
        seconds = alternate(timed, rounds=num_rounds, seed=seed, clock=clock)
        compare()
    pairs = list(zip(seconds["ours"], seconds["peer"], strict=True))
    figures["ratio"] = spread([ours / peer for ours, peer in pairs])
    figures["speedup"] = spread([peer / ours for ours, peer in pairs])
    return {
        "what": row.what,
        "ours": row.ours,
        "peer": row.peer,
        "rounds": len(pairs),
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "figures": figures,
        "goals": [_judged(goal, figures) for goal in row.goals],
        "peer_versions": {**peers.versions(row.needs), **case.versions},
    }


def alternate(
    sides: Mapping[str, Callable[[], Any]], *, rounds: int, seed: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Time each side once per round, in an order drawn anew for every round: seconds by side and round."""
    generator = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name in generator.sample(list(sides), len(sides)):
            started = clock()
            sides[name]()
            seconds[name].append(clock() - started)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles; the ends of the range for fewer than four values."""
    low, high = min(values), max(values)
    if len(values) >= 4:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "low": low, "high": high}


def peak_bytes(call: Callable[[], Any]) -> int:
    """Most memory that a call holds beyond what the process held before it, in a forked copy of the process.

    On Linux, of the second call: the first one maps code anew, which a forked process shares but has to ask for again
    (tens of MB for PyTorch, whatever the call holds). What is freed is given back at once, or it would hide what is
    held, or count as held: with the gaps that glibc leaves a call may take several times what it holds.
    """
    gc.collect()  # garbage that is thrown away while the call runs would hide as much of what the call holds
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        if sys.platform == "linux":
            glibc = ctypes.CDLL(None)
            glibc.mallopt(_M_MMAP_THRESHOLD, 2**20)
            call()
            gc.collect()
            glibc.malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten: man 5 proc
        before = _peak_so_far()  # of a forked process: what it started with
        call()
        sender.send(_peak_so_far() - before)

    child = context.Process(target=run)
    child.start()
    sender.close()
    try:
        return max(1, receiver.recv())
    except EOFError:
        raise RuntimeError("the process whose memory was measured died; is there enough memory?") from None
    finally:
        child.join()


_M_MMAP_THRESHOLD = -3  # malloc.h: blocks from this size on are apart from the heap


def _peak_so_far() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _judged(goal: Goal, figures: Mapping[str, Any]) -> dict[str, Any]:
    value = figures[goal.figure]
    value = value["median"] if isinstance(value, dict) else value
    return {"figure": goal.figure, "sign": goal.sign, "limit": goal.limit, "holds": goal.holds(value)}
