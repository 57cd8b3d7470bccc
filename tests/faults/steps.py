"""kill -9 at a step of work on files: a rename, an unlink or an fsync."""

KILLED_AT_STEP = """
import os, pathlib, signal, sys

left = int(sys.argv[2])

def counted(call):
    def counting(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return counting

for name in ("rename", "unlink"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
os.fsync = counted(os.fsync)
"""
"""Head of a program whose second argument is the step; the work follows it."""
