"""The ``portrait`` command: argv → calls. No logic here.

``main``      entry point, exit codes; init, plan, apply, run, produce, replay, doctor, demo
``profiles``  show, lookup, sql, compact
``audience``  audience, group, similar, report
``upkeep``    erase, readmit, rebuild, check, backfill
``models``    train, evaluate, encode
``clusters``  options of ``run`` for Flink and Dataflow; jobs, stop
``options``   options that every command shares
``startup``   import guards, and optional libraries with the extra that brings each
"""
