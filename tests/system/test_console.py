"""How long work takes, as a person reads it."""

import pytest

from kitsam.system.console import _rate_text, time_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (61, "1:01"), (3599, "59:59"), (3600, "1 h 0 min"), (86_400, "24 h 0 min"), (190_000, "2 d 4 h")],
)
def test_long_times_are_told_in_hours_and_days(seconds, text):
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(812.35, "812.4 x/s"), (0.25, "15.0 x/min"), (0.001, "3.6 x/h"), (0, "0.0 x/h")]
)
def test_slow_work_is_told_by_the_minute_or_the_hour(rate, text):
    assert _rate_text(rate, "x") == text
