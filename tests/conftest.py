"""Hypothesis profiles: HYPOTHESIS_PROFILE=long runs ten thousand examples of each property."""

import os

from hypothesis import HealthCheck, settings

for name, examples in (("default", 200), ("long", 10_000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
