"""The two parquet tables, ``events`` and ``profiles``, and SQL over them.

``schema``          names, columns and parquet options of both tables
``rows``            encoded events and profiles ↔ arrow batches
``writer``          arrow batches → whole files
``files``           which files there are, and which are damaged or foreign
``merge``           files of one day → few files, sorted by user, each row once
``compact``         the same for all days, while writers and readers run
``erase``           takes rows of erased users out of both tables
``events_by_user``  ``events`` → arrays, all events of a user together
``evidence``        keys of evidence → the events behind a tag
``views``           DuckDB views (views.sql), example queries (examples.sql), dictionary of columns
"""
