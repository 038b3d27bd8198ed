import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from last_words import pytest_runtest_makereport  # noqa: E402,F401
