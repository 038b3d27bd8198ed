"""The classifier's table of statements and its list of words, against what a real server says of them."""
import pathlib
import subprocess

import pytest

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "sql"


@pytest.mark.parametrize("script", ["check_with_server.py", "check_callable.py"])
def test_server_agrees(script):
    result = subprocess.run(["/usr/bin/python3", SCRIPTS / script], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
