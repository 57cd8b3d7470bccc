"""All steps of the report in their order: a step comes after those it needs."""

from __future__ import annotations

from pathlib import Path

from models.evaluation.encoders.image import image_modality
from models.evaluation.encoders.shared_space import space_step
from models.evaluation.encoders.steps import steps_of
from models.evaluation.encoders.text import text_modality
from models.evaluation.encoders.voice import voice_modality
from models.evaluation.step import Budget, Step
from models.evaluation.users.ablations import ablation_steps
from models.evaluation.users.amazon import amazon_step
from models.evaluation.users.identity_leakage import leakage_steps
from models.evaluation.users.interests import interest_steps
from models.evaluation.users.next_category import user_steps
from models.evaluation.users.streams import embedding_steps


def steps(data: Path, budget: Budget) -> tuple[Step, ...]:
    """The steps for a data folder; those whose files it lacks are left out when they run."""
    encoders = (text_modality(data), image_modality(data), voice_modality(data))
    return (
        *(step for modality in encoders for step in steps_of(modality, budget)),
        space_step(data),
        *embedding_steps(data, budget),
        *user_steps(budget),
        *ablation_steps(),
        *interest_steps(),
        amazon_step(),
        *leakage_steps(),
    )
