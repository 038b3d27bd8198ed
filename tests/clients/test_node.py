"""Node's mysql2, installed by npm when it is not there yet."""
import subprocess

import pytest

from conftest import HERE, need

FOLDER = HERE / "node"


@pytest.fixture(scope="module")
def modules():
    need("node", "npm")
    if not (FOLDER / "node_modules" / "mysql2").is_dir():
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=FOLDER,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180)
        if done.returncode:
            pytest.skip("npm ci failed: " + done.stdout.decode("utf-8", "replace")[-300:])


@pytest.mark.parametrize("tls", ["0", "1"])
def test_mysql2(target, modules, tls):
    target.run(["node", "test.js"], "c_node", cwd=FOLDER, TLS=tls)
