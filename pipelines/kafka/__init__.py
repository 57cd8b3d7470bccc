"""Kafka: records in, dead letters and changelogs out. The only package that knows kafka-python.

``client``            settings → a connected client; errors that name the address
``topics``            describe, create and trim topics; their retention
``reader``            topics → records of a micro-batch, for local rounds and for reader groups
``producer``          records → topics, acknowledged by all replicas
``start_offsets``     stored and committed offsets, start policy → where a run begins
``streaming_source``  topics → an endless PCollection of records: the splittable DoFn of Flink and Dataflow
``key_groups``        reader groups → elements that Flink spreads evenly
``reader_upkeep``     a consumer kept between bundles: commits, heartbeats, alarms
``safe_offsets``      which offsets of an endless reader may be committed
``liveness``          when each partition was last read, and the alarm for one that is not being read
``patch_headers``     lets kafka-python pass records with bad header names; parsing rejects them
"""
