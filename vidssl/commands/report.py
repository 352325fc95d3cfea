"""vidssl report: a page that shows a run."""

import logging
from pathlib import Path

import tyro

logger = logging.getLogger(__name__)


def report(run: tyro.conf.Positional[Path]) -> None:
    """Write RUN/report.html: curves, figures beside their baselines, overlays, failures. The file needs no other.

    Args:
        run: Run folder; its evaluations are found in RUN/evaluate/*.
    """
    from ..report.page import write_report

    logger.info("the report is %s", write_report(run))
