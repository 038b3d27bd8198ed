"""The room in which the tests of all pytest processes of a run are: many at a time, or one that wants to be alone.

`./dev test` runs files side by side (pytest-xdist). A test whose figures need the machine to itself is marked `alone`; it holds the
door until the others have left, so that it does not wait for ever.
"""
import contextlib
import fcntl
import os
import pathlib

import sandbox

VARIABLE = "TANDEM_TEST_ROOM"  # by it the processes find the room of their run


def open_for_all():
    os.environ[VARIABLE] = str(sandbox.new_folder("room"))
    for name in ("inside", "door"):
        pathlib.Path(os.environ[VARIABLE], name).touch()


def close_for_all():
    sandbox.remove_folder(os.environ.pop(VARIABLE))


@contextlib.contextmanager
def entered(alone):
    folder = pathlib.Path(os.environ[VARIABLE])
    with open(folder / "inside") as inside, open(folder / "door") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(inside, fcntl.LOCK_UN)  # to close it is not enough while a forked child has it open too
