"""The Beam job and the ``portrait`` command: Kafka records → events → vectors → stored profiles.

How a record travels: ``messages`` parse it, ``steps`` encode and fold it, ``graph`` puts the steps together,
``runners`` run it. README.md beside this file follows one event in detail.

Single modules:

``settings``       portrait.yaml, environment and flags → one frozen :class:`~pipelines.settings.Settings`
``settings_edit``  changes single values of portrait.yaml and keeps its comments
``process``        what one process loads once: encoders, fusion, taxonomy, store
``metrics``        every Prometheus metric of a run
``job_counters``   the same metrics as Beam counters, for workers that Prometheus does not scrape
``graph``          the whole graph on one screen; holds no DoFn

Rooms, from the bottom up; each imports only from those before it (tests/unit/house/test_layering.py):

``messages/``      record → event or reject: CloudEvents, plain JSON, limits, dead letters; pure, no I/O
``kafka/``         topics → records, and records → topics; the only room that knows kafka-python
``steps/``         the transforms: fetch media, encode, fold, write; windowing of endless jobs
``runners/``       the graph in local rounds, on Flink, on Dataflow
``operations/``    one file per verb: init, plan, doctor, produce, replay, erase, rebuild, check, backfill …
``console/``       profiles, audiences, reports → what commands print
``demo/``          sample events and an embedded broker → the whole job on one machine
``cli/``           argv → a call into one of the rooms above
"""

from typing import Final

__version__: Final = "0.2.0"
