"""All steps of the report in their order: a step comes after those it needs."""

from __future__ import annotations

from pathlib import Path

from models.evaluate_ablations import ablation_steps
from models.evaluate_amazon import amazon_step
from models.evaluate_encoders import steps_of
from models.evaluate_image import image_modality
from models.evaluate_interests import interest_steps
from models.evaluate_leakage import leakage_steps
from models.evaluate_space import space_step
from models.evaluate_step import Budget, Step
from models.evaluate_streams import embedding_steps
from models.evaluate_text import text_modality
from models.evaluate_users import user_steps
from models.evaluate_voice import voice_modality


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
