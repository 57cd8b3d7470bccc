"""Properties take as long as they take: machines differ, and a test must not fail for being slow."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
