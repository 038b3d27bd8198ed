"""Servers that come back after another took over: what they have written decides. What is expected is written above each test."""
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import rawmysql  # noqa: E402
import sandbox  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import ctl, primary_of, promoted, said, setting, wait_level  # noqa: E402

WRITABLE = {"read_only": "OFF", "init_rpl_role": False}  # a server whose settings do not keep it from taking writes


def fail_over(cluster, tandem):
    """Kills the primary and gives (old, new) when all is done."""
    old = primary_of(cluster)
    seen = tandem.log_text().count("failover: done")
    old.kill9()
    new = wait_for(promoted(cluster, old), 20, "a new primary")
    wait_for(lambda: tandem.log_text().count("failover: done") > seen, 20, "the failover to be over")
    return old, new


# Expected: an old primary that starts writable gets no statement before it was judged, and is then made a replica by itself.
def test_old_primary_that_starts_writable_is_judged_first():
    with setting(replicas=2) as (cluster, tandem):
        old, new = fail_over(cluster, tandem)
        old.options["general-log"] = "ON"
        old.start(**WRITABLE)
        with tandem.connect(database="checked") as client:
            for number in range(200):
                client.query(f"INSERT INTO lists VALUES ({number}, 'x')")
                client.query(f"SELECT v FROM lists WHERE k = {number}")
        wait_for(old.replicating, 20, "the old primary to follow")
        assert old.value("SELECT @@global.read_only") == 1
        assert wait_level(cluster) is new
        assert old.value("SELECT COUNT(*) FROM checked.lists") == 200
        assert b"INSERT INTO lists" not in old.general_log.read_bytes()


# The extra-transaction trap: strict mode is off, and positions alone say that the old primary is behind the new one. Expected: it is not
# taken back; the transaction is listed with its statement; nothing of it gets to the others.
def test_extra_transaction_with_strict_mode_off():
    with setting(replicas=1, options={"gtid-strict-mode": "OFF"}) as (cluster, tandem):
        old, new = fail_over(cluster, tandem)
        with tandem.connect(database="checked") as client:
            for number in range(5):
                client.query(f"INSERT INTO lists VALUES ({number}, 'new')")
        old.start(skip_networking=None, **WRITABLE)
        old.sql("INSERT INTO checked.lists VALUES (77, 'only here')")
        old.stop()
        old.start(skip_networking=False)
        said(tandem, "rejoin db1: refused: db1 has ")
        said(tandem, "INSERT INTO checked.lists VALUES (77, 'only here')")
        assert not old.replicating()
        assert wait_for(lambda: old.value("SELECT @@global.read_only") == 1, 10, "it to be closed")
        assert new.value("SELECT COUNT(*) FROM checked.lists") == 5
        status, text = ctl(tandem, "rejoin", "db1", "--accept")
        assert status == 1 and "FLUSH, ANALYZE" in text, text
        assert not old.replicating()


# Expected: what changes no data may be dropped when a person says so.
def test_harmless_extras_can_be_accepted():
    with setting(replicas=1) as (cluster, tandem):
        old, new = fail_over(cluster, tandem)
        old.start(skip_networking=None, **WRITABLE)
        old.sql("ANALYZE TABLE checked.lists")
        old.sql("FLUSH TABLES")
        old.stop()
        old.start(skip_networking=False)
        said(tandem, "rejoin db1: refused: db1 has ")
        said(tandem, "ANALYZE TABLE checked.lists")
        status, text = ctl(tandem, "rejoin", "db1", "--accept")
        assert status == 0, text
        wait_for(old.replicating, 20, "the old primary to follow")
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        assert wait_level(cluster) is new
        assert old.value("SELECT COUNT(*) FROM checked.lists") == 1


# Expected: `rejoin` makes a server anew by clone_command, tells its progress, and it follows afterwards.
def test_clone_command(tmp_path):
    script = tmp_path / "clone"
    script.write_text("#!/bin/sh\ncat > $0.facts\necho 10 % done\ntouch $0.asked\nwhile ! test -e $0.cloned; do sleep 0.05; done\necho done\n")
    script.chmod(0o755)
    with setting(replicas=1, settings={"monitor": {"clone_command": str(script)}}) as (cluster, tandem):
        old, new = fail_over(cluster, tandem)
        old.start(skip_networking=None, **WRITABLE)
        old.sql("INSERT INTO checked.lists VALUES (77, 'only here')")
        old.stop()
        old.start(skip_networking=False)
        said(tandem, "rejoin db1: refused: db1 has ")
        assert not pathlib.Path(f"{script}.asked").exists()  # not by itself
        program = pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl"
        if not program.exists():
            pytest.skip("no tandemctl beside the daemon")
        running = subprocess.Popen([program, "-c", tandem.config, "rejoin", "db1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: pathlib.Path(f"{script}.asked").exists(), 20, "the clone command to run")
        # A real one would use mariadb-backup. A server without a history gets all of it from the primary's binlog.
        old.stop()
        subprocess.run(["sh", "-c", f"rm -rf {old.data} && cp -a {sandbox.template()} {old.data}"], check=True)
        old.start(read_only="ON")
        pathlib.Path(f"{script}.cloned").touch()
        text = running.communicate(timeout=60)[0]
        assert running.returncode == 0 and "10 % done" in text, text
        wait_for(old.replicating, 20, "the clone to follow")
        wait_for(lambda: old.value("SELECT COUNT(*) FROM checked.lists WHERE k = 77") == 0, 20, "the clone's data")


# Tandem is started anew and finds two writable servers. Expected: the one that an operation made the primary last is it; the other is
# judged and made a replica. While that one is away the other is not taken instead.
def test_restart_of_tandem_with_two_writable_servers():
    with setting(replicas=1) as (cluster, tandem):
        old, new = fail_over(cluster, tandem)
        with tandem.connect(database="checked") as client:
            client.query("INSERT INTO lists VALUES (1, 'x')")
        tandem.stop()
        new.sigstop()
        old.start(**WRITABLE)
        with tandem.log.open("w"):
            pass
        tandem.start(wait=False)
        said(tandem, "db1 is writable, but db2 became the primary while it was away, and is down")
        with pytest.raises((OSError, rawmysql.MysqlError, rawmysql.ProtocolError)):
            with tandem.connect(timeout=3) as client:
                client.query("INSERT INTO checked.lists VALUES (2, 'must not')")
        new.sigcont()
        said(tandem, "primary is db2")
        wait_for(old.replicating, 20, "the old primary to follow")
        assert primary_of(cluster) is new
        wait_level(cluster)
        assert old.value("SELECT COUNT(*) FROM checked.lists") == new.value("SELECT COUNT(*) FROM checked.lists")
