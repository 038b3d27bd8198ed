"""Every session variable that an ordinary user may set reaches every connection that the session is given."""
import pytest

import sandbox
import session_variables
from session_variables import SPELLINGS

pytestmark = [pytest.mark.proxy_only]


@pytest.fixture(scope="module")
def narrow(cluster):
    """One connection a server: each statement of another session takes it away."""
    servers = {f"server {server.name}": {"address": server.address, "max_connections": 1} for server in cluster.servers}
    cluster.primary.sql("CREATE TABLE IF NOT EXISTS work.one (a INT)")
    cluster.primary.sql("INSERT INTO work.one SELECT 1")
    cluster.primary.sql("CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY 'plain'")
    cluster.primary.sql("GRANT SELECT, INSERT, UPDATE ON work.* TO plain@'%'")
    cluster.wait_synced()
    with sandbox.Tandem(cluster, {"tandem": {"threads": 1}, "proxy": {"causal_wait": "5s"}, **servers}) as tandem:
        tandem.wait_reads_on(cluster.replicas)
        yield tandem


@pytest.fixture(scope="module")
def found(cluster, narrow):
    values, rest = session_variables.settable(lambda: cluster.primary.connect("plain", "plain", database="work"), False)
    print("not settable by an ordinary user:", *rest)
    assert len(values) > 120
    return values


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_variable_reaches_other_connections(narrow, found, spelling):
    assert session_variables.differences(lambda: narrow.connect("plain", "plain", database="work"), found, spelling) == []


def test_all_variables_together(narrow, found):
    assert session_variables.differences_of_all(lambda: narrow.connect("plain", "plain", database="work"), found) == []


LOOK = "SELECT @@div_precision_increment, @@server_id FROM work.one"


def shown(client):
    """Its value on the primary and where reads go."""
    return [client.query(where + LOOK).rows[0][0] for where in (session_variables.PRIMARY, "")]


def test_sessions_keep_their_values_when_the_default_changes(cluster, narrow):
    """SET GLOBAL is for sessions that come later, and the connections to servers are older than both."""
    with narrow.connect("app", "app") as old, narrow.connect("app", "app") as own:
        own.query("SET div_precision_increment = 7")
        assert shown(old) == [4, 4] and shown(own) == [7, 7]
        try:
            old.query("SET GLOBAL div_precision_increment = 7")
            stays = narrow.connect("app", "app")
            sandbox.wait_for(lambda: shown(stays) == [7, 7], 10, "a session that came with the change")
            stays.close()
            sandbox.wait_for(lambda: later(narrow) == [7, 7], 10, "the new default")
            for _ in range(3):
                assert shown(old) == [4, 4] and shown(own) == [7, 7] and later(narrow) == [7, 7]
        finally:
            own.query("SET GLOBAL div_precision_increment = 4")
        sandbox.wait_for(lambda: later(narrow) == [4, 4], 10, "the old default")
        assert shown(old) == [4, 4] and shown(own) == [7, 7]


def later(narrow):
    with narrow.connect("app", "app") as client:
        return shown(client)
