"""What would refute a proof: comparisons stated beforehand, and what the measured figures say of them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Claim:
    """How a figure must stand to that of a control over the seeds; a proof is refuted where it does not.

    Args:
        figure: Name of the figure.
        comparison: "above" or "below": the mean of the figure is so by more than `margin`, and by more than the pooled
            standard deviation of the two over the seeds. "within": the two means differ by `margin` at most; for
            controls that can learn nothing, and would if the answer leaked.
        control: Name of the other figure.
        margin: In the unit of the figures, at least 0.
    """

    figure: str
    comparison: Literal["above", "below", "within"]
    control: str
    margin: float = 0.0


def judge(claim: Claim, figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Hold a claim against what was measured.

    Args:
        claim: What was stated beforehand.
        figures: Values of each figure, one per seed.

    Returns:
        The claim, "by" (how far the figure's mean is on the stated side of the control's; "within": how far they are
        apart), "spread" (the pooled standard deviation, 0 of single values) and "refuted". A figure that is no number
        refutes.
    """
    figure, control = figures[claim.figure], figures[claim.control]
    by = statistics.mean(figure) - statistics.mean(control)
    by = {"above": by, "below": -by, "within": abs(by)}[claim.comparison]
    spread = (sum(statistics.variance(one) if len(one) > 1 else 0.0 for one in (figure, control)) / 2) ** 0.5
    stands = by <= claim.margin if claim.comparison == "within" else by > claim.margin and by > spread
    return {**asdict(claim), "by": round(by, 6), "spread": round(spread, 6), "refuted": not stands}


def sentence(verdict: Mapping[str, Any]) -> str:
    """Say a verdict of `judge`: what was stated, what was measured, and whether it is refuted."""
    figure, control = (verdict[name].replace("_", " ") for name in ("figure", "control"))
    if verdict["comparison"] == "within":
        stated = f"{figure} within {verdict['margin']:g} of {control}"
    else:
        stated = f"{figure} {verdict['comparison']} {control} by more than {verdict['margin']:g}"
    measured = f"{verdict['by']:.3g} +- {verdict['spread']:.2g}"
    return f"{stated}: {measured}{', REFUTED' if verdict['refuted'] else ''}"


def summary(record: Mapping[str, Any]) -> str:
    """Say what a proof's record (results/NAME.json) comes to, and under it its claims, a line each."""
    said = "holds" if record["holds"] else "DOES NOT HOLD"
    return "\n  ".join([f"{record['name']}: {said}", *map(sentence, record["claims"])])
