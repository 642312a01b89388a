"""What every test stands on."""

from hypothesis import HealthCheck, settings

# A deadline would fail on a machine that others are using; what a search finds is printed whole.
settings.register_profile(
    "plantroom", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("plantroom")
