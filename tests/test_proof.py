from vidssl import proof


def test_the_page_shows_mean_spread_and_the_smallest_gain():
    record = {
        "name": "colorization",
        "config": "video/colorization_demo",
        "metric": "J&F",
        "baseline": {"identity": 20.0},
        "random": [10.0, 12.0, 14.0],
        "pretrained": [30.0, 33.0, 30.0],
        "gain": [20.0, 21.0, 16.0],
        "seeds": [0, 1, 2],
    }
    row = proof.results_page([record]).splitlines()[-1]
    # Mean 12, standard deviation 2; mean 31, standard deviation sqrt(3).
    assert row == (
        "| colorization | `video/colorization_demo` | J&F | identity 20.0 | 12.0 +- 2.0 | 31.0 +- 1.7 "
        "| +16.0, +19.0 | 3 |"
    )
