"""Make the sample: ``python -m tests.sample.generate`` writes ``pipelines/demo/sample/`` anew.

``events.parquet`` is what ``portrait produce`` sends (labels are in no message); ``tastes.json`` says
which two categories were planted in whom, for tests and for the last table of the demo alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.demo.events import DEMO_WORDS, EVENT_FILE
from tests.sample import messages, voices
from tests.sample.bad import bad_events
from tests.sample.messages import Message
from tests.sample.people import PEOPLE, Utterance, utterances
from tests.sample.pictures import encoded, picture
from tests.sample.reviews import review
from tests.support.folders import ROOT

FOLDER = ROOT / "pipelines" / "demo" / "sample"
SEED = 20260630
DUPLICATES = 3


def generate(seed: int = SEED) -> list[Message]:
    """All messages of the sample in the order they are sent: by event time, some late, some twice."""
    planned = [
        said for person in PEOPLE for said in utterances(person, random.Random(f"{seed} {person.user_id}"))
    ]
    rng = random.Random(seed)
    planned.sort(key=lambda said: said.time.timestamp() + rng.gauss(0, 3 * 3600))
    sent = [_message(i, said, random.Random(f"{seed} {i}")) for i, said in enumerate(planned)]
    for place in rng.sample(range(len(sent) - 40), DUPLICATES):
        sent.insert(place + rng.randint(5, 40), sent[place])
    for _reason, message in bad_events(rng):
        sent.insert(rng.randrange(len(sent)), message)
    return sent


def _message(number: int, said: Utterance, rng: random.Random) -> Message:
    user_id, event_id = said.person.user_id, f"{said.modality}-{number:04}"
    if said.modality == "text":
        message = messages.review(user_id, event_id, said.time, review(said.category, rng))
    elif said.modality == "image":
        message = messages.image(user_id, event_id, said.time, *encoded(picture(said.category, rng), rng))
    else:
        word = rng.choice([word for word, category in DEMO_WORDS.items() if category == said.category])
        sound, content_type = voices.clip(word, rng)
        message = messages.voice(user_id, event_id, said.time, sound, content_type)
    return messages.structured(message) if rng.random() < 0.1 else message


def as_table(sent: Iterable[Message]) -> pa.Table:
    """An event file's table."""
    rows = [message._asdict() | {"headers": list(message.headers.items())} for message in sent]
    return pa.Table.from_pylist(rows, EVENT_FILE)


def main() -> None:
    """Write both files and say what they hold."""
    sent = generate()
    FOLDER.mkdir(exist_ok=True)
    events = FOLDER / "events.parquet"
    pq.write_table(as_table(sent), events, compression="zstd")
    tastes = {person.user_id: person.tastes for person in PEOPLE}
    (FOLDER / "tastes.json").write_text(json.dumps(tastes, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {len(sent)} events of {len(PEOPLE)} users ({events.stat().st_size:,} bytes) to {events}")


if __name__ == "__main__":
    main()
