"""All of sysbench's OLTP scripts, text and prepared, for a fixed number of events, without an error."""
import glob
import os
import re
import subprocess

import pytest

from conftest import need

SCRIPTS = ("bulk_insert", "oltp_delete", "oltp_insert", "oltp_point_select", "oltp_read_only",
           "oltp_read_write", "oltp_update_index", "oltp_update_non_index", "oltp_write_only",
           "select_random_points", "select_random_ranges")
EVENTS, THREADS, TABLES, ROWS = 1500, 8, 2, 1000


def sysbench(target, script, ps_mode, command):
    # It makes tables of the same names with other columns.
    database = "c_sysbench_bulk" if script == "bulk_insert" else "c_sysbench"
    args = ["sysbench", script, "--db-driver=mysql", "--mysql-host=" + target.host,
            "--mysql-port=%d" % target.port, "--mysql-user=app", "--mysql-password=app",
            "--mysql-db=" + database, "--db-ps-mode=" + ps_mode, "--threads=%d" % THREADS,
            "--tables=%d" % TABLES, "--table-size=%d" % ROWS, "--events=%d" % EVENTS, "--time=120",
            command]
    if script == "bulk_insert":
        args = [a for a in args if not a.startswith(("--tables", "--table-size"))]
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180)
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0 and "FATAL" not in text, text[-2000:]
    return text


def number(text, label):
    return int(re.search(label + r":\s+(\d+)", text).group(1))


@pytest.fixture(scope="module")
def tables(target):
    need("sysbench")
    target.fresh_database("c_sysbench")
    sysbench(target, "oltp_read_write", "auto", "prepare")


def test_no_script_is_forgotten():
    found = {os.path.basename(f)[:-4] for f in glob.glob("/usr/share/sysbench/*.lua")}
    assert found <= set(SCRIPTS) | {"oltp_common"}


@pytest.mark.parametrize("ps_mode", ["auto", "disable"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_script(target, tables, script, ps_mode):
    if script == "bulk_insert":
        target.fresh_database("c_sysbench_bulk")
        sysbench(target, script, ps_mode, "prepare")
    text = sysbench(target, script, ps_mode, "run")
    assert number(text, "total number of events") >= EVENTS
    assert number(text, "reconnects") == 0
    # Deadlocks are "ignored errors" and the database's own business; only scripts that lock meet them.
    if script in ("oltp_point_select", "oltp_read_only", "select_random_points",
                  "select_random_ranges"):
        assert number(text, "ignored errors") == 0


def test_reads_went_to_the_replica(target, tables):
    if not target.split:
        pytest.skip("straight at the primary")
    replica = target.cluster.replicas[0]
    for ps_mode in ("auto", "disable"):
        before = int(replica.status("Com_select")), int(replica.status("Com_stmt_execute"))
        sysbench(target, "oltp_point_select", ps_mode, "run")
        after = int(replica.status("Com_select")), int(replica.status("Com_stmt_execute"))
        assert sum(after) - sum(before) >= EVENTS * 0.9
