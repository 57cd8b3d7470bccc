"""Where a run begins in each partition: stored positions first, then the policy of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

from features.online import SourcePosition
from pipelines.settings import Kafka, SettingsError

Policy = Literal["earliest", "latest", "timestamp"]
_POLICIES: Final[tuple[Policy, ...]] = ("earliest", "latest", "timestamp")


class Offsets(Protocol):
    """What :func:`start_positions` asks of a reader."""

    def assigned(self) -> tuple[SourcePosition, ...]: ...

    def offsets_of(
        self, policy: Policy, partitions: tuple[SourcePosition, ...]
    ) -> dict[SourcePosition, int]: ...


def start_positions(
    kafka: Kafka,
    reader: Offsets,
    committed: Mapping[SourcePosition, int],
    mirrored: Mapping[SourcePosition, int],
) -> dict[SourcePosition, int]:
    """The offset to begin at in every partition of ``reader``. Raises SettingsError."""
    decided = {p: start_of(kafka, p, committed.get(p), mirrored.get(p)) for p in reader.assigned()}
    positions = {p: start for p, start in decided.items() if isinstance(start, int)}
    for policy in _POLICIES:
        if partitions := tuple(p for p, start in decided.items() if start == policy):
            positions |= reader.offsets_of(policy, partitions)
    return positions


def start_of(
    kafka: Kafka, partition: SourcePosition, committed: int | None, mirrored: int | None
) -> int | Policy:
    """The lower of what the store mirrors and what the group committed, else the policy.

    The mirror is written before the group, so a group alone means a store that never covered this
    partition (a new one, or one that lost all): ``start: earliest`` then begins at the first record, any
    other policy at the group's offset. Raises SettingsError for ``start: committed`` without either.
    """
    if mirrored is not None:
        return mirrored if committed is None else min(mirrored, committed)
    if committed is not None and kafka.start != "earliest":
        return committed
    if kafka.start == "committed":
        raise SettingsError(
            f"kafka.start: expected a position of {partition.topic}[{partition.partition}] in the group "
            f"{kafka.group_id}, got none; set kafka.start to earliest, latest or timestamp"
        )
    if kafka.start == "timestamp" and kafka.start_timestamp_ms is None:
        raise SettingsError("kafka.start_timestamp_ms: expected milliseconds since 1970, got none; set it")
    return kafka.start
