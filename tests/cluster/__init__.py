"""Scripts that try a real Flink cluster for most of an hour, outside pytest (``make test-flink``)."""
