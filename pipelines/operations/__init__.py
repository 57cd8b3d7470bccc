"""One file per verb of the ``portrait`` command that changes or checks something.

``init``                a folder → portrait.yaml and a Feast repo
``apply``               settings → Feast's registry, and the topics that are missing
``plan``                settings → checks of topics, models, store and offsets; submits nothing
``doctor``              what is installed, what is missing, how to get it
``produce``             an event file → Kafka
``encode_file``         one column of a parquet file → embeddings and labels
``parquet_columns``     columns of parquet files as other tools write them
``replay``              dead letters → their source topics
``erase``               users → erased in every store, and the status of it
``erase_dead_letters``  the part of an erase that rewrites dead-letter topics
``rebuild``             ``events`` table → online store
``check``               ``events`` table and online store → users that differ
``backfill``            Kafka or event files → a fresh store and tables beside the live ones
``backfill_ledger``     what the live job applied, compared with what the backfill did
``import_tombstones``   erased users → a fresh store, before its first event
"""
