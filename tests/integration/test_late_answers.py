"""The answer to a write comes from a server that is no longer the primary, or may not be.

Expected: nobody is told that something is stored when the next primary may not have it: error 1927 says that this is not known, as when a
connection is lost. The session goes on.
"""
import contextlib
import pathlib
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from rawmysql import MysqlError  # noqa: E402
from sandbox import wait_for  # noqa: E402
from test_failover import ctl, promoted, said, setting  # noqa: E402
from test_promotion import Fault, needs_fault_points  # noqa: E402
from test_votes import Net, PATIENCE, numbered, other  # noqa: E402


class Late(threading.Thread):
    """A client with one statement under way."""

    def __init__(self, tandem, *statements):
        super().__init__(daemon=True)
        self.client, self.error, self.answer = tandem.connect(database="checked", timeout=PATIENCE), None, None
        for statement in statements[:-1]:
            self.client.query(statement)
        self.statement = statements[-1]
        self.start()

    def run(self):
        try:
            self.answer = self.client.query(self.statement)
        except MysqlError as error:
            self.error = error

    def is_honest(self):
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.statement} was not answered"
        assert self.error and self.error.number == 1927, (self.statement, self.answer, self.error)
        assert "not known" in self.error.text, self.error.text
        return True


# A Tandem and the primary are cut off from the rest, which goes on without them. Two writes wait there for a replica's acknowledgement. They are
# let go when the Tandem has lost its lease ("answered"), or it hears of the other primary while the old one is still silent ("silent").
@pytest.mark.parametrize("how", ["answered", "silent"])
def test_a_cut_off_primary_answers_after_the_lease(how):
    with contextlib.ExitStack() as stack:
        net = Net(stack)
        net.at_rest()
        name, second = numbered(net)
        primary, replica, failovers = net.primary(), other(net), net.failovers
        away = net.tandems[second == "t2"]
        net.cut("db1-db2")
        late = [Late(away, "INSERT INTO lists VALUES (1, 'late')"), Late(away, "BEGIN", "INSERT INTO lists VALUES (2, 'late')", "COMMIT")]
        waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app' AND COMMAND = 'Query' AND INFO RLIKE '^(INSERT|COMMIT)'"
        wait_for(lambda: primary.value(waiting) == 2 and int(primary.status("Rpl_semi_sync_master_wait_sessions")), PATIENCE,
                 "two writes to wait for the replica")
        net.cut(f"{name}-{primary.name}", f"{second}-{replica.name}", f"{second}-w1", "t1-t2")
        wait_for(lambda: net.failovers == failovers + 1, PATIENCE, "a failover", pause=0.1)
        assert [one.answer or one.error for one in late] == [None, None]
        if how == "answered":
            wait_for(lambda: net.facts(away)["writes"].startswith("wait"), PATIENCE, "the lease to be over", pause=0.1)
            primary.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0")
        else:
            net.cables.join(f"{second}-{replica.name}", f"{second}-w1", "t1-t2", "t2-t1")
        assert all(one.is_honest() for one in late)
        if how == "answered":
            assert primary.value("SELECT COUNT(*) FROM checked.lists") == 2
            net.cables.join(f"{second}-{replica.name}", f"{second}-w1", "t1-t2", "t2-t1")
        assert replica.value("SELECT COUNT(*) FROM checked.lists") == 0
        late[0].client.query("INSERT INTO lists VALUES (3, 'on time')")
        assert replica.value("SELECT COUNT(*) FROM checked.lists") == 1


# A Tandem still reaches the primary, which is cut off from all the others, and its client is told of writes that only that server has. The other
# Tandem fails over meanwhile and cannot tell it. Expected: when it learns of the new primary, whose transactions have not got as far, it knows that
# some are lost, says so, and its clients' reads wait for them no more.
def test_what_is_lost_is_known_to_a_tandem_that_was_not_told():
    with contextlib.ExitStack() as stack:
        net = Net(stack)
        net.at_rest()
        for tandem in net.tandems:
            tandem.reload({"monitor": {"failover": "manual"}})
        name, second = numbered(net)
        leader, away = net.tandems[name == "t2"], net.tandems[second == "t2"]
        primary, replica = net.primary(), other(net)
        net.cut(f"{name}-{primary.name}", "db1-db2", "t1-t2")
        said(leader, "`tandemctl failover` does it", PATIENCE)
        primary.sql("SET GLOBAL rpl_semi_sync_master_enabled = 0")
        with away.connect(database="checked", timeout=PATIENCE) as client:
            for key in range(40):
                client.query(f"INSERT INTO lists VALUES ({key}, 'lost')")
            status, text = ctl(leader, "failover")
            assert status == 0, text
            said(away, "1 accounts had been acknowledged writes that the new primary does not have: they are lost", PATIENCE)
            wait_for(lambda: client.value("SELECT COUNT(*) FROM lists") == 0, PATIENCE, "a read of the new primary")
            client.query("INSERT INTO lists VALUES (1, 'kept')")
            assert client.value("SELECT COUNT(*) FROM lists") == 1 == replica.value("SELECT COUNT(*) FROM checked.lists")


# The primary falls silent with a write under way, and goes on while a replica takes over from it.
@needs_fault_points
def test_a_silent_primary_answers_while_it_is_replaced(tmp_path):
    with setting(replicas=2, semi_sync=False, settings={"proxy": {"primary_wait": "60s"}}) as (cluster, tandem):
        old = cluster.primary
        old.sql("INSERT INTO checked.lists VALUES (1, 'there')")
        Fault(tandem, f"pause:choose:{tmp_path}/go")
        with old.connect(database="checked") as lock:
            lock.query("BEGIN")
            lock.query("UPDATE lists SET v = 'locked' WHERE k = 1")
            late = Late(tandem, "INSERT INTO lists VALUES (1, 'late') ON DUPLICATE KEY UPDATE v = 'late'")
            wait_for(lambda: old.sql("SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'"), PATIENCE, "a write to wait", pause=0.2)
            old.sigstop()
            wait_for(lambda: "paused after choose" in tandem.log_text(), PATIENCE, "the failover to have begun")
            old.sigcont()
            lock.query("ROLLBACK")
        wait_for(lambda: old.value("SELECT v FROM checked.lists WHERE k = 1") == "late", PATIENCE, "the write to be stored there")
        assert late.is_honest()
        (tmp_path / "go").touch()
        new = wait_for(promoted(cluster, old), PATIENCE, "a new primary")
        late.client.query("INSERT INTO lists VALUES (2, 'on time')")
        assert new.sql("SELECT k, v FROM checked.lists ORDER BY k") == [(1, "there"), (2, "on time")]
