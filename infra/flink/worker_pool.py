"""Beam's pool of Python workers, listening on loopback only: ``worker_pool.py PORT``.

Beam's own ``worker_pool_main`` listens on every address and starts a process for whoever asks. Workers are
started as plain ``python``: put the one that has Portrait first on the PATH.
"""

from __future__ import annotations

import atexit
import logging
import signal
import sys
from types import FrameType

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import (
    BeamFnExternalWorkerPoolServicer,
    kill_process_gracefully,
)
from apache_beam.utils import thread_pool_executor


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    pool = BeamFnExternalWorkerPoolServicer(use_process=True)

    def stop_workers() -> None:
        for process in list(pool._worker_processes.values()):
            kill_process_gracefully(process, timeout=5)

    def stop(_signum: int, _frame: FrameType | None) -> None:
        sys.exit(0)

    atexit.register(stop_workers)
    signal.signal(signal.SIGTERM, stop)
    # Flink's side pings more often than gRPC's defaults allow.
    options = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=options)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
