"""Agreement of clusters with classes."""

from ...ops.agreement import normalized_mutual_information

__all__ = ["normalized_mutual_information"]
