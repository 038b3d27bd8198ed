"""The session variables of every version: each that an ordinary user may set reaches every connection the session is given."""
import pytest

import sandbox
import session_variables
from conftest import settings_for


@pytest.fixture(scope="module")
def narrow(stack):
    """One connection a server: each statement of another session takes it away."""
    stack.primary.sql("CREATE USER plain@'%' IDENTIFIED BY 'plain'")
    stack.primary.sql("GRANT SELECT, INSERT, UPDATE ON ver.* TO plain@'%'")
    stack.cluster.wait_synced()
    settings = settings_for(stack.image, stack.cluster, max_connections=1)
    if stack.mysql:
        settings["user plain"] = {"password": "plain"}
    with sandbox.Tandem(stack.cluster, {"tandem": {"threads": 1}, "proxy": {"causal_wait": "5s"}, **settings}) as tandem:
        tandem.wait_reads_on(stack.cluster.replicas)
        yield tandem


@pytest.fixture(scope="module")
def found(stack, narrow):
    values, rest = session_variables.settable(lambda: stack.primary.connect("plain", "plain", database="ver"), stack.mysql)
    print("not settable by an ordinary user:", *rest)
    assert len(values) > 80
    return values


@pytest.mark.parametrize("spelling", session_variables.SPELLINGS)
def test_each_variable_reaches_other_connections(stack, narrow, found, spelling):
    if stack.mysql and "@x" in spelling:
        pytest.skip("MySQL shows nobody its user variables: the session keeps its connection")
    assert session_variables.differences(lambda: narrow.connect("plain", "plain", database="ver"), found, spelling) == []


def test_all_variables_together(narrow, found):
    assert session_variables.differences_of_all(lambda: narrow.connect("plain", "plain", database="ver"), found) == []


LOOK = "SELECT @@foreign_key_checks, @@unique_checks, @@sql_notes, @@sort_buffer_size, @@innodb_lock_wait_timeout FROM ver.one"
ROUTINES = [
    "TABLE trigger_sets (a INT)",
    "TRIGGER sets BEFORE INSERT ON trigger_sets FOR EACH ROW SET foreign_key_checks = 0, sort_buffer_size = 262144",
    "PROCEDURE sets() SET unique_checks = 0, @@sort_buffer_size = 262144, innodb_lock_wait_timeout = 7",
    "FUNCTION f_sets() RETURNS INT NO SQL BEGIN SET @@unique_checks = 0, @@sort_buffer_size = 262144; RETURN 1; END",
    "FUNCTION f_calls() RETURNS INT NO SQL RETURN f_sets()",
]


@pytest.fixture(scope="module")
def routines(narrow):
    """Made through Tandem, which so knows of them at once."""
    with narrow.connect("app", "app", database="ver") as client:
        for made in ROUTINES:
            client.query(f"CREATE {made}")


@pytest.mark.parametrize("statement", [
    "/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */",
    "SET unique_checks = 0; SET @@sql_notes = 0; SELECT 1",
    "SELECT 1; SET SESSION foreign_key_checks = 0, unique_checks = 0",
    "SET sort_buffer_size = 131072, @@sort_buffer_size = 262144",
    "SET STATEMENT sql_notes = 0 FOR SET unique_checks = 0",
    "SET STATEMENT foreign_key_checks = 0 FOR SELECT 1",
    "INSERT INTO trigger_sets VALUES (1)",
    "CALL sets()",
    "DO f_sets()",
    "SELECT f_sets()",
    "SELECT f_calls()",
    "PREPARE s FROM 'SET foreign_key_checks = 0, @@innodb_lock_wait_timeout = 7'; EXECUTE s",
    "SET @t = 'SET foreign_key_checks = 0, innodb_lock_wait_timeout = 7'; PREPARE s FROM @t; EXECUTE s; DEALLOCATE PREPARE s",
    "EXECUTE IMMEDIATE 'SET unique_checks = 0, innodb_lock_wait_timeout = 7'",
])
@pytest.mark.parametrize("together", [True, False], ids=["one packet", "one by one"])
def test_what_changes_variables_unheard(stack, narrow, routines, statement, together):
    if stack.mysql and ("STATEMENT" in statement or "IMMEDIATE" in statement):
        pytest.skip("not a statement of MySQL's")
    with stack.straight(database="ver") as straight, narrow.connect("app", "app", database="ver") as client:
        for who in (straight, client):
            who.set_option(0)
            for part in [statement] if together else statement.split("; "):
                who.query_all(part)
        wanted = straight.query(LOOK).rows
        for _ in range(2):
            assert client.query(session_variables.PRIMARY + LOOK).rows == client.query(LOOK).rows == wanted
    unharmed(stack, narrow)


def unharmed(stack, narrow):
    """The next session on these connections has nothing of it."""
    with stack.straight(database="ver") as straight, narrow.connect("app", "app", database="ver") as fresh:
        assert fresh.query(session_variables.PRIMARY + LOOK).rows == fresh.query(LOOK).rows == straight.query(LOOK).rows
