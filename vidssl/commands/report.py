"""vidssl report: a page that shows a run, or several encoders side by side."""

import logging
from pathlib import Path

import tyro

logger = logging.getLogger(__name__)


def report(runs: tyro.conf.Positional[tuple[Path, ...]], *, out: Path | None = None) -> None:
    """Write a page that needs no other file.

    Of one run: curves, figures beside their baselines, overlays, failures. Of several: every task as a table with
    spread over seeds (runs of one config that differ by seed alone are one row), baselines, published figures where
    data and protocol are the same, figures by sequence, and contact sheets of the best and the worst.

    Args:
        runs: Run folders, whose evaluations are found in RUN/evaluate/*; or folders that `vidssl evaluate` wrote.
        out: The page. None is RUN/report.html for one run, else comparison.html.
    """
    from ..report.comparison import write_comparison
    from ..report.page import write_report

    if not runs:
        raise ValueError(
            "no run was given; vidssl report RUN draws one, vidssl report RUN RUN ... compares several"
        )
    holds_results = any(any(runs[0].glob(pattern)) for pattern in ("result.json", "*/result.json"))
    if len(runs) == 1 and ((runs[0] / "run.json").is_file() or not holds_results):
        logger.info("the report is %s", write_report(runs[0], out=out))
    else:
        logger.info("the comparison is %s", write_comparison(runs, out or Path("comparison.html")))
