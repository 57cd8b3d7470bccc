"""What a run did with its records: counted by its metrics, summed over workers, judged at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from features.errors import PortraitError
from features.fold.outcome import Outcome
from pipelines import metrics
from pipelines.settings import Settings

FEWEST: Final = 20
"""Records below which a share of rejects says nothing."""


class MostlyRejectedError(PortraitError):
    """A run to the end of the topics rejected more than ``rounds.reject_alarm_share`` of what it read."""


class Figures(NamedTuple):
    """Where the metrics of this process stand that tell what became of records."""

    profiles: Counter[str]
    events: Counter[str]
    rejects: Counter[str]


def figures() -> Figures:
    """The figures now."""
    return Figures(*map(metrics.counted, (metrics.PROFILES, metrics.EVENTS, metrics.REJECTS)))


@dataclass
class Progress:
    """What a run has done so far. A round that is run again counts once, as its last attempt went."""

    records: int = 0
    rounds: int = 0
    files: int = 0
    profiles: int = 0
    """Profiles written; a user's profile counts in each round that changes it."""
    events: Counter[str] = field(default_factory=Counter)
    """By outcome of the fold."""
    rejects: Counter[str] = field(default_factory=Counter)
    """By reason."""
    seconds: float = 0.0

    def add_round(self, records: int, before: Figures) -> Counter[str]:
        """Count a round of so many records, at whose start the metrics stood at ``before``. Its rejects."""
        profiles, events, rejects = (now - then for now, then in zip(figures(), before, strict=True))
        self.records += records
        self.rounds += 1
        self.profiles += profiles.total()
        self.events += events
        self.rejects += rejects
        return rejects

    @property
    def reject_share(self) -> float:
        """Rejects by records, 0 to 1."""
        return self.rejects.total() / self.records if self.records else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: every outcome, and the reasons that there were."""
        return {
            "records": self.records,
            "rounds": self.rounds,
            "profiles_written": self.profiles,
            "events": {name: self.events[name] for name in (outcome.name.lower() for outcome in Outcome)},
            "rejects": dict(self.rejects.most_common()),
            "reject_share": round(self.reject_share, 4),
            "files": self.files,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Progress:
        """What :meth:`as_dict` told."""
        return cls(
            records=told["records"],
            rounds=told["rounds"],
            files=told["files"],
            profiles=told["profiles_written"],
            events=Counter(told["events"]),
            rejects=Counter(told["rejects"]),
            seconds=told["seconds"],
        )


def summed(parts: Iterable[Progress]) -> Progress:
    """What several workers did side by side."""
    done = Progress()
    for part in parts:
        done.records += part.records
        done.rounds += part.rounds
        done.files += part.files
        done.profiles += part.profiles
        done.events += part.events
        done.rejects += part.rejects
        done.seconds = max(done.seconds, part.seconds)
    return done


def told(rejects: Counter[str]) -> str:
    """Counts by reason in a line, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in rejects.most_common())


def what_to_do(settings: Settings) -> str:
    """Where rejected records are and what says why."""
    return (
        f"look at the dead letters in <topic>{settings.outputs.dead_letter_suffix}: their header "
        "portrait-error-detail says what was expected"
    )


def refuse_mostly_rejected(done: Progress, settings: Settings) -> None:
    """Raises MostlyRejectedError where FEWEST records or more were read and too many of them rejected."""
    most = settings.rounds.reject_alarm_share
    if done.records >= FEWEST and done.reject_share > most:
        raise MostlyRejectedError(
            f"run: expected at most {100 * most:g}% of the records to be rejected, got "
            f"{done.rejects.total()} of {done.records}: {told(done.rejects)}; {what_to_do(settings)}"
        )
