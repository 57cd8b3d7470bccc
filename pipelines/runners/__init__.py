"""Ways to run the graph. All of them begin with ``prepare``.

``prepare``           settings → a checked store, a reader at the right offsets, output topics
``progress``          what a run did with its records, summed over workers and judged at the end
``reject_alarm``      says when most of the latest records are rejected
``local``             local rounds: micro-batches in one process (the default, ``portrait run``)
``local_workers``     ``portrait run --workers N``: N such processes over disjoint partitions
``streaming``         the graph as an endless pipeline, for any cluster
``stored_positions``  offsets of endless jobs, kept in the online store
``dataflow``          the endless pipeline on Dataflow
``flink/``            the endless pipeline on a Flink cluster
"""
