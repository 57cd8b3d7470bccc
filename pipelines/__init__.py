"""Kafka records → events → vectors → profiles: the Beam graph and the ``portrait`` command."""

from typing import Final

__version__: Final = "0.1.0"
