import math

import pytest

from vidssl.evidence.refutation import Claim, judge, sentence

FIGURES = {
    "method": [80.0, 82.0, 84.0],  # mean 82, variance 4
    "control": [60.0, 60.0, 63.0],  # mean 61, variance 3
    "wild": [50.0, 70.0, 90.0],
    "wild_control": [40.0, 60.0, 80.0],
    "chance": [60.0, 60.0, 60.0],
    "broken": [math.nan, 82.0, 84.0],
}


@pytest.mark.parametrize(
    ("claim", "refuted"),
    [
        (Claim("method", "above", "control", 20), False),
        (Claim("method", "above", "control", 21), True),  # by exactly 21, not more
        (Claim("control", "above", "method"), True),
        (Claim("control", "below", "method", 20), False),
        (Claim("control", "below", "method", 22), True),
        (Claim("method", "below", "control"), True),
        (Claim("wild", "above", "wild_control", 5), True),  # by 10, but the seeds spread by 20
        (Claim("wild_control", "below", "wild", 5), True),
        (Claim("control", "within", "chance", 1), False),
        (Claim("control", "within", "chance", 0.9), True),
        (Claim("chance", "within", "control", 0.9), True),
        (Claim("chance", "above", "chance"), True),  # a control that does as well, without any spread
        (Claim("broken", "above", "control"), True),
        (Claim("control", "below", "broken"), True),
        (Claim("broken", "within", "method", 100), True),
    ],
)
def test_a_claim_is_refuted_unless_margin_and_spread_are_exceeded(claim, refuted):
    assert judge(claim, FIGURES)["refuted"] is refuted


def test_a_verdict_says_the_claim_the_distance_and_the_pooled_spread():
    verdict = judge(Claim("control", "below", "method", 25), FIGURES)
    assert verdict == {
        "figure": "control",
        "comparison": "below",
        "control": "method",
        "margin": 25,
        "by": 21.0,
        "spread": pytest.approx(math.sqrt(3.5), abs=1e-6),
        "refuted": True,
    }
    assert sentence(verdict) == "control below method by more than 25: 21 +- 1.9, REFUTED"
    verdict = judge(Claim("wild_control", "within", "chance", 0.5), FIGURES)
    assert sentence(verdict) == "wild control within 0.5 of chance: 0 +- 14"
