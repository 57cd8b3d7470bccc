"""The root of every error that is an answer to the user rather than a bug.

.. code-block:: text

    PortraitError
    ├── SettingsError (pipelines.settings), TaxonomyError, DeviceError: fix the settings; exit code 2
    └── StoreError, StateError, CheckpointError, KafkaError, …: something outside failed; exit code 1
"""

from __future__ import annotations

from typing import ClassVar


class PortraitError(Exception):
    """A refusal or failure that its message explains: ``<where>: expected <x>, got <y>; <what to do>``."""

    exit_code: ClassVar[int] = 1


class UsageError(PortraitError, ValueError):
    """Settings or files that cannot be used as they are."""

    exit_code: ClassVar[int] = 2
