"""Flink: check the cluster, submit the job, follow it.

``options``      Beam's options of a job: our defaults and the user's
``preflight``    what must be true of a cluster before a job is submitted
``submit``       settings → a running job, once every partition is being read
``jobs``         ``portrait run --runner flink``, ``portrait jobs`` and ``portrait stop``
``job_records``  what a restore must know of earlier jobs, in ``jobs/`` beside the Feast repo
``job_metrics``  metrics of all workers of a job → one Prometheus endpoint
``rest``         Flink's REST API, with bounded answers
"""
