"""tandemctl and the SQL console, over real servers: every command in text and JSON, refusals, and what nobody should send."""
import json
import os
import pathlib
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import threading

import pymysql
import pytest

import rawmysql
import sandbox
from conftest import in_threads

pytestmark = pytest.mark.proxy_only

PASSWORD = "open sesame"
NOBODY = 65534  # as root tests run, permissions are seen by somebody else only


class Admin:
    """A daemon with a console, and the ways to talk to it."""

    def __init__(self, cluster, settings=None):
        self.console = sandbox.free_port()
        own = {"console": f"127.0.0.1:{self.console}", "password": f'"{PASSWORD}"'}
        self.tandem = sandbox.Tandem(cluster, {"admin": {**own, **(settings or {})}})
        self.socket = self.tandem.folder / "state" / "tandem.sock"

    def __enter__(self):
        self.tandem.wait_reads_on(self.tandem.cluster.replicas)
        return self

    def __exit__(self, kind, *_):
        self.tandem.close(check=kind is None)

    def run(self, *words, where=True, **more):
        place = ["-s", str(self.socket)] if where else []
        return subprocess.run([str(tandemctl()), *place, *map(str, words)], capture_output=True, text=True, timeout=90,
                              stdin=subprocess.DEVNULL, **more)

    def text(self, *words):
        done = self.run(*words)
        assert done.returncode == 0 and not done.stderr, done
        return done.stdout

    def json(self, *words, status=0):
        done = self.run("--json", *words)
        assert done.returncode == status, done
        return json.loads(done.stdout)

    def refused(self, *words, status=1):
        done = self.run(*words)
        assert done.returncode == status, done
        return done.stderr

    def connect(self, user="admin", password=PASSWORD, **more):
        return rawmysql.Connection(port=self.console, user=user, password=password, **more)

    def rows(self, statement):
        with self.connect() as console:
            result = console.query(statement)
            return [dict(zip((column.name for column in result.columns), row)) for row in result.rows]

    def raw(self, data, patience=20):
        """What the socket answers to these bytes."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(patience)
            client.connect(str(self.socket))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
            return answer


def tandemctl():
    return pathlib.Path(sandbox.tandem_binary()).parent / "tandemctl"


@pytest.fixture(scope="module")
def servers():
    with sandbox.Cluster(replicas=2) as started:
        yield started


@pytest.fixture(scope="module")
def admin(servers):
    with Admin(servers) as started:
        yield started


def first_as_primary(admin):
    """db1 has the role that other tests expect."""
    if admin.json("status")["status"]["primary"] != "db1":
        admin.text("promote", "db1")


# ---- what there is ----------------------------------------------------------------------------------------------------

def test_status_is_one_screen(admin):
    text = admin.text("status")
    assert re.search(r"^primary +db1$", text, re.M) and re.search(r"^writes +go to the primary$", text, re.M)
    assert re.search(r"^db2 +replica +up +yes ", text, re.M) and "Last events:" in text and "What is wrong" not in text
    assert len(text.splitlines()) < 40


def test_status_as_json(admin):
    found = admin.json("status")
    assert found["result"] == "done" and found["status"]["primary"] == "db1" and found["problems"] == []
    assert [server["role"] for server in found["servers"]] == ["primary", "replica", "replica"]
    assert isinstance(found["status"]["clients"], int) and isinstance(found["status"]["up_ms"], float)


def test_servers(admin):
    assert {"server": "db3", "role": "replica", "health": "up", "reads": "yes", "source": "db1"}.items() <= \
        admin.json("servers")["servers"][2].items()
    detail = admin.json("servers", "--long")["details"]
    assert detail[0]["read_only"] is False and detail[1]["read_only"] is True and detail[0]["version"].startswith("1")
    assert "READ ONLY" in admin.text("servers", "--long")


def test_sessions(admin):
    assert "No client is connected." in admin.text("sessions")
    with admin.tandem.connect(database="test") as client:
        client.query("CREATE TEMPORARY TABLE held (a INT)")
        client.query("SELECT GET_LOCK('mine', 1)")
        client.query("BEGIN")
        client.query("INSERT INTO held VALUES (12345)")
        session = admin.json("sessions", "--user", "app")["sessions"][0]
        assert session["state"] == "idle in a transaction" and session["transaction"] == "db1" and session["schema"] == "test"
        assert session["pinned_by"] == "1 temporary table, 1 GET_LOCK" and session["id"] >= 0x80000000
        assert session["client"].startswith("127.0.0.1:") and "db1" in session["servers"]
        assert "1 temporary table" in admin.text("sessions", "--busy")
    assert "No such client" in admin.text("sessions", "--user", "nobody") or "No client" in admin.text("sessions")


def test_sessions_never_show_values(admin):
    """A statement that runs is shown by its normal form; what waits says for what."""
    with admin.tandem.connect(database="test") as holder, admin.tandem.connect(database="test") as client:
        holder.query("DO GET_LOCK('gate', 1)")
        client.send_query("SELECT GET_LOCK('gate', 60), 'secret-of-mine', 4711")

        def shown():
            found = [one for one in admin.json("sessions", "--busy")["sessions"] if one["statement"]]
            return found and found[0]["state"] == "runs" and found[0]
        session = sandbox.wait_for(shown, 20, "the statement to be listed")
        assert session["statement"] == "select get_lock(?, ?), ?, ?" or "secret" not in session["statement"]
        assert "4711" not in json.dumps(session) and "secret" not in json.dumps(session)
        holder.query("DO RELEASE_LOCK('gate')")
        client.read_results()


def test_sessions_of_many_clients_on_all_workers(admin):
    clients = [admin.tandem.connect() for _ in range(60)]
    try:
        listed = admin.json("sessions")["sessions"]
        assert len({one["id"] for one in listed}) >= 60 and listed == sorted(listed, key=lambda one: one["id"])
    finally:
        for client in clients:
            client.socket.close()


# ---- explain ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, server, because", [
    (["SELECT * FROM t"], "replica", "a read"),
    (["SELECT * FROM t FOR UPDATE"], "db1", "it writes, locks"),
    (["INSERT INTO t VALUES (1)"], "db1", "it writes, locks"),
    (["--in-transaction", "SELECT 1"], "db1", "a transaction is open there"),
    (["BEGIN"], "db1", "it opens a transaction that may write"),
    (["/* tandem: primary */ SELECT 1"], "db1", "a hint says primary"),
    (["/* tandem: server=db3 */ SELECT 1"], "db3", "a hint names the server"),
    (["SELECT @a"], "db1", "user variables live on the connection"),
    (["--schema", "mysql", "SELECT 1"], "db1", "the session's settings or schema"),
    (["SET NAMES utf8mb4"], "db1", "it changes the session"),
    (["SELECT CONNECTION_ID()"], "db1", "it asks about the session's own connection"),
    (["START TRANSACTION READ ONLY"], "replica", "a read"),
])
def test_explain(admin, words, server, because):
    route = admin.json("explain", *words)["route"]
    assert route["goes_to"] in (["db2", "db3"] if server == "replica" else [server]), route
    assert route["because"].startswith(because), route


def test_explain_says_what_it_went_by(admin):
    found = admin.json("explain", "--user", "app", "select a from t where b = 'secret'")
    assert any(rule.startswith("db2: far enough") for rule in (one["rule"] for one in found["looked_at"]))
    assert found["route"]["normalised"] == "select a from t where b = ?" and len(found["route"]["digest"]) == 16
    assert re.search(r"^goes to +db[23]$", admin.text("explain", "SELECT 1"), re.M)
    assert "2 statements" in admin.text("explain", "SELECT 1; DELETE FROM t")
    assert "goes to     db1" in admin.text("explain", "SELECT 1; DELETE FROM t")


def test_explain_wants_the_accounts_last_write(admin):
    """As the real read would, it sees that no replica has the write yet."""
    replicas = admin.tandem.cluster.replicas
    try:
        for replica in replicas:
            replica.stop_sql_thread()
        with admin.tandem.connect(database="test") as client:
            client.query("CREATE TABLE wanted (a INT)")
        route = admin.json("explain", "--user", "app", "SELECT 1")["route"]
        assert route["goes_to"] in ("db1", "no server now") and "last write" in route["because"] and route["wants"]
        assert admin.json("explain", "--user", "other", "SELECT 1")["route"]["goes_to"] in ("db2", "db3")
    finally:
        for replica in replicas:
            replica.start_sql_thread()
    admin.tandem.cluster.wait_synced()
    admin.tandem.wait_reads_on(replicas)


def test_explain_names_the_rule_of_the_settings(servers):
    rules = {"rule reports": {"text": "from sales", "to": "server=db3"}, "rule mine": {"user": "boss", "to": "primary"}}
    with Admin(servers) as admin:
        admin.tandem.change(rules)
        admin.tandem.write()
        admin.text("reload")
        route = admin.json("explain", "SELECT * FROM sales")["route"]
        assert route["goes_to"] == "db3" and "reports" in route["because"], route
        route = admin.json("explain", "--user", "boss", "SELECT 1")["route"]
        assert route["goes_to"] == "db1" and "mine" in route["because"], route


def test_a_hint_reaches_a_drained_server(admin):
    admin.text("drain", "db2")
    try:
        assert admin.json("explain", "/* tandem: server=db2 */ SELECT 1")["route"]["goes_to"] == "db2"
        assert {admin.json("explain", "SELECT 1")["route"]["goes_to"] for _ in range(6)} == {"db3"}
    finally:
        admin.text("resume", "db2")


def test_explain_runs_nothing(admin):
    with admin.tandem.cluster.primary.logged() as log:
        admin.text("explain", "CREATE DATABASE explained_only")
        assert not log.has("explained_only")


# ---- changing things --------------------------------------------------------------------------------------------------

def test_promote_there_and_back(admin):
    plan = admin.json("promote", "db2", "--dry-run")
    assert plan["result"] == "done" and plan["remarks"] and admin.json("status")["status"]["primary"] == "db1"
    try:
        text = admin.text("promote", "db2", "--timeout", "5s")
        assert re.search(r"^ok +reopen +db2 ", text, re.M) and "db2 is the primary" in text
        assert admin.json("servers")["servers"][0]["role"] == "replica"
        with admin.tandem.connect() as client:
            client.query("BEGIN")
            assert client.value("SELECT @@server_id") == 2
    finally:
        done = admin.json("promote", "db1")
    assert done["result"] == "done" and done["figures"]["sql_ms"] > 0
    assert any(event["kind"] == "primary" and event["server"] == "db2" or "db2" in event["event"]
               for event in admin.json("events")["events"])


def test_promote_streams_its_remarks(admin):
    """Somebody who looks on sees each step when it is done, not all at the end."""
    with admin.tandem.connect(database="test") as client:
        client.query("CREATE TABLE IF NOT EXISTS streamed (a INT)")
        client.query("BEGIN")
        client.query("INSERT INTO streamed VALUES (1)")
        process = subprocess.Popen([str(tandemctl()), "-s", str(admin.socket), "promote", "db2", "--timeout", "60s"],
                                   stdout=subprocess.PIPE, text=True)
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith("LEVEL") and "preflight" in lines[1]
        # While one runs the second is told which.
        message = admin.refused("promote", "db3")
        assert "promote db2 is under way" in message
        assert admin.json("status")["status"]["operation"] == "promote db2"
        client.query("COMMIT")
        process.stdout.read()
        assert process.wait(60) == 0
    first_as_primary(admin)


def test_refused_promotions_say_why(admin):
    assert "no server is named db9" in admin.refused("promote", "db9")
    assert "db1" in admin.refused("promote", "db1")
    found = admin.json("promote", "db9", status=1)
    assert found["result"] == "refused" and found["remarks"][0]["level"] == "refused" and "nothing was touched" in found["summary"]


def test_drain_and_resume(admin):
    db2 = admin.tandem.cluster.server("db2")
    assert "db2 takes no more reads" in admin.text("drain", "db2")
    try:
        admin.tandem.wait_reads_on([admin.tandem.cluster.server("db3")])
        server = admin.json("servers")["servers"][1]
        assert server["reads"] == "drained"
        sandbox.wait_for(lambda: admin.json("servers")["servers"][1]["connections"] == 0, 20, "db2's connections to go")
        assert "drained" in admin.text("status") and "tandemctl resume db2" in admin.text("status")
        assert "drained already" in admin.refused("drain", "db2")
    finally:
        assert "takes reads again" in admin.text("resume", "db2")
    admin.tandem.wait_reads_on([db2, admin.tandem.cluster.server("db3")])
    assert "not drained" in admin.refused("resume", "db2")
    assert "promote another server first" in admin.refused("drain", "db1")
    assert "no [server db9]" in admin.refused("drain", "db9")


def test_status_says_what_is_wrong_and_what_to_do(admin):
    db3 = admin.tandem.cluster.server("db3")
    db3.stop_sql_thread()
    try:
        sandbox.wait_for(lambda: admin.json("status")["problems"], 20, "the stopped thread to be seen")
        text = admin.text("status")
        assert "What is wrong:" in text and "the applying thread is stopped" in text and "START SLAVE" in text
    finally:
        db3.start_sql_thread()
    sandbox.wait_for(lambda: not admin.json("status")["problems"], 20, "the thread to be seen running")


def test_reload(admin):
    assert "reloaded: 3 servers" in admin.text("reload")
    good = admin.tandem.config.read_text()
    admin.tandem.config.write_text(good + "\n[proxy]\nmax_lga = 3s\n")
    try:
        done = admin.run("reload")
        assert done.returncode == 1 and "did you mean max_lag?" in done.stdout and "nothing was changed" in done.stderr
        found = admin.json("reload", status=1)
        assert found["result"] == "refused" and any("max_lga" in one["message"] for one in found["messages"])
        admin.tandem.config.write_text(good.replace("threads = 2", "threads = 3"))
        assert "needs a restart" in admin.run("reload").stdout
        admin.tandem.config.write_text(good.replace(f"127.0.0.1:{admin.console}", f"127.0.0.1:{sandbox.free_port()}"))
        assert "[admin] console needs a restart" in admin.run("reload").stdout
    finally:
        admin.tandem.config.write_text(good)
    assert admin.run("reload").returncode == 0


def test_reload_changes_the_consoles_password(admin):
    good = admin.tandem.config.read_text()
    admin.tandem.config.write_text(good.replace(PASSWORD, "another"))
    try:
        admin.text("reload")
        admin.connect(password="another").socket.close()
        with pytest.raises(rawmysql.MysqlError, match="1045"):
            admin.connect()
    finally:
        admin.tandem.config.write_text(good)
        admin.text("reload")


def test_ten_reloads_at_once(admin):
    in_threads(10, lambda _: admin.text("reload"))


def test_events(admin):
    events = admin.json("events", "--last", "500")["events"]
    assert [one["number"] for one in events] == list(range(events[0]["number"], events[0]["number"] + len(events)))
    assert len(admin.json("events", "--last", "2")["events"]) == 2
    assert "KIND" in admin.text("events")


@pytest.mark.parametrize("as_json", [False, True])
def test_events_follow(admin, as_json):
    words = [str(tandemctl()), "-s", str(admin.socket), "events", "--follow", "--last", "1"] + ["--json"] * as_json
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        seen = [process.stdout.readline() for _ in range(1 if as_json else 2)]
        admin.text("drain", "db3")
        admin.text("resume", "db3")
        while "resumed by command" not in seen[-1]:
            seen.append(process.stdout.readline())
            assert seen[-1]
        if as_json:
            assert [json.loads(line)["number"] for line in seen]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    admin.tandem.wait_reads_on(admin.tandem.cluster.replicas)


def test_digests_refuses_honestly(admin):
    assert "no statistics" in admin.refused("digests")


# ---- the command line -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, said", [
    (["promot", "db2"], "did you mean promote?"),
    (["xyzzy"], "unknown command xyzzy"),
    (["promote"], "promote needs SERVER"),
    (["promote", "db2", "db3"], "nothing known of db3"),
    (["promote", "db2", "--dryrun"], "did you mean --dry-run?"),
    (["promote", "db2", "--timeout"], "--timeout needs a value"),
    (["promote", "db2", "--timeout", "5"], "not a time"),
    (["promote", "db2", "--timeout", "9999999h"], "not a time"),
    (["promote", "db2", "--force=yes"], "takes no value"),
    (["promote", "db2", "--force", "--force"], "given twice"),
    (["promote", ""], "SERVER is empty"),
    (["events", "--last", "many"], "not a whole number"),
    (["explain"], "explain needs SQL"),
    (["status", "-x"], "unknown option -x"),
    (["-s"], "-s needs"),
])
def test_bad_usage(admin, words, said):
    done = admin.run(*words, where=False)
    assert done.returncode == 2 and said in done.stderr and not done.stdout


def test_the_daemon_checks_words_too(admin):
    """A tandemctl of another version may know other words."""
    answer = admin.raw(b'{"words": ["promot", "db2"]}\n').decode()
    assert "did you mean promote?" in answer and json.loads(answer.splitlines()[-1]) == {"exit": 2}


def test_help_needs_no_daemon():
    def run(*words):
        return subprocess.run([str(tandemctl()), *words], capture_output=True, text=True, env={"TANDEM_SOCKET": "/nonexistent"})
    assert "usage: tandemctl" in run("--help").stdout and "promote SERVER [--dry-run]" in run("help").stdout
    assert "--timeout TIME" in run("help", "promote").stdout and run("promote", "--help").returncode == 0
    assert re.fullmatch(r"tandemctl [0-9.]+\n", run("--version").stdout)
    assert run().returncode == 2 and "usage" in run().stderr


def test_the_socket_is_found(admin):
    bare = {"PATH": os.environ["PATH"]}
    assert admin.run("-c", admin.tandem.config, "status", where=False, env=bare).returncode == 0
    assert admin.run("status", where=False, env={**bare, "TANDEM_SOCKET": str(admin.socket)}).returncode == 0
    assert admin.run("-c", "/nonexistent", "status", where=False, env=bare).returncode == 2


def test_no_daemon(tmp_path):
    def run(path):
        return subprocess.run([str(tandemctl()), "-s", str(path), "status"], capture_output=True, text=True)
    done = run(tmp_path / "none")
    assert done.returncode == 3 and str(tmp_path / "none") in done.stderr and "is the daemon running?" in done.stderr
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    done = run(tmp_path / "left")
    assert done.returncode == 3 and "no daemon" in done.stderr
    assert run("/" + "x" * 200).returncode == 3


def test_the_socket_is_the_daemons_own(admin):
    assert stat.S_IMODE(admin.socket.stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="needs to be somebody else")
def test_the_socket_can_be_a_groups(servers):
    with Admin(servers, {"socket_group": "nogroup", "socket": "/tmp/tandem-group-%d.sock" % os.getpid()}) as admin:
        path = pathlib.Path(admin.tandem.settings["admin"]["socket"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        for group, status in ((path.stat().st_gid, 0), (12345, 3)):
            done = subprocess.run([str(tandemctl()), "-s", str(path), "status"], capture_output=True, text=True,
                                  user=NOBODY, group=group, extra_groups=[])
            assert done.returncode == status, done
        assert "socket_group" in done.stderr and "Permission denied" in done.stderr
    assert not path.exists()


@pytest.mark.parametrize("settings, said", [
    ({"socket_group": "no-such-group-here"}, "there is no such group"),
    ({"socket": "relative.sock"}, "needs a full path"),
    ({"socket": "/nonexistent/tandem.sock"}, "No such file"),
    ({"password": None}, "console needs a password"),
])
def test_bad_settings(servers, settings, said):
    tandem = sandbox.Tandem(servers, {"admin": {"console": f"127.0.0.1:{sandbox.free_port()}", "password": "x", **settings}}, wait=False)
    try:
        assert tandem.process.popen.wait(30) in (1, 2)
        assert said in tandem.log_text()
    finally:
        tandem.close()


def test_a_second_daemon_does_not_take_the_socket(admin, servers):
    other = sandbox.Tandem(servers, {"admin": {"socket": str(admin.socket)}}, wait=False)
    try:
        assert other.process.popen.wait(30) == 1
        assert "stop what listens there" in other.log_text()
    finally:
        other.close()
    assert admin.text("status")


# ---- the console ------------------------------------------------------------------------------------------------------

def mariadb(admin, statements, *options, password=PASSWORD):
    return subprocess.run(["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{admin.console}", "-uadmin", f"-p{password}", *options,
                           "-e", statements], capture_output=True, text=True, timeout=60)


def test_the_mariadb_command_line(admin):
    done = mariadb(admin, "SHOW SERVERS; SHOW STATUS; EXPLAIN ROUTE INSERT INTO t VALUES (1); SHOW EVENTS; SHOW COMMANDS; SHOW SESSIONS")
    assert done.returncode == 0, done
    assert "db1\tprimary\tup" in done.stdout and "goes_to\tdb1" in done.stdout and "PROMOTE" in done.stdout
    done = mariadb(admin, "status", "--ssl")
    assert done.returncode == 0 and "Cipher in use" in done.stdout
    done = mariadb(admin, "SHOW SERVERZ")
    assert done.returncode == 1 and "ERROR 1064 (42000)" in done.stderr and "did you mean servers?" in done.stderr


def test_pymysql(admin):
    with pymysql.connect(host="127.0.0.1", port=admin.console, user="admin", password=PASSWORD, autocommit=True,
                         cursorclass=pymysql.cursors.DictCursor) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW SERVERS LIKE 'db%%'")
        assert [row["server"] for row in cursor.fetchall()] == ["db1", "db2", "db3"]
        cursor.execute("SHOW SERVERS LIKE %s", "db2")
        row = cursor.fetchone()
        assert isinstance(row["connections"], int) and isinstance(row["lag_ms"], float) and row["trouble"] is None
        cursor.execute("EXPLAIN ROUTE USER app IN TRANSACTION SELECT 1")
        assert {"name": "goes_to", "value": "db1"} in cursor.fetchall()
        connection.commit()
        connection.ping()
        with pytest.raises(pymysql.err.MySQLError, match="tandem: .*no server is named db9"):
            cursor.execute("PROMOTE db9")
        cursor.execute("SHOW STATUS")
        assert {"name": "primary", "value": "db1"} in cursor.fetchall()


@pytest.mark.parametrize("capabilities", [rawmysql.CLASSIC, rawmysql.MODERN])
def test_promote_on_the_console(admin, capabilities):
    with admin.connect(capabilities=capabilities) as console:
        plan = console.query("PROMOTE db2 DRY RUN")
        assert len(plan.rows) > 5
        done = console.query("promote 'db2' timeout = 5s;")
        assert any("reopen" in row for row in done.rows)
    first_as_primary(admin)


@pytest.mark.parametrize("statement", [
    "SET NAMES utf8mb4", "/* a */ SET autocommit=1", "COMMIT", "ROLLBACK;", "USE x", "START TRANSACTION", "SELECT 1",
    "SELECT @@version_comment LIMIT 1", "select @@session.auto_increment_increment AS a, @@character_set_client, @@nothing_known as `b`",
    "SELECT DATABASE(), USER() LIMIT 1", "SHOW VARIABLES LIKE 'x'", "SHOW WARNINGS", "SELECT 'x' AS y, \"z\"", "SHOW DATABASES",
])
def test_what_drivers_say_on_their_own(admin, statement):
    with admin.connect() as console:
        console.query(statement)
        assert console.ping() is not None


@pytest.mark.parametrize("statement", [
    "", " ", ";", "SELECT", "SELECT 1,", "SELECT x FROM y", "SHOW", "SHOW SERVERS LIKE", "SHOW SERVERS LIKE 'a' 'b'", "PROMOTE",
    "PROMOTE db2 WITH GLEE", "EXPLAIN ROUTE", "PROMOTE 'db2", "SELECT 'open", "/* open", "DROP TABLE x", "SHOW EVENTS FOLLOW",
    "SELECT @@", "PROMOTE db2\0db3", "PROMOTE ''", "SHOW EVENTS LAST 99999999999999999999",
])
def test_what_makes_no_sense(admin, statement):
    with admin.connect() as console:
        with pytest.raises(rawmysql.MysqlError) as error:
            console.query(statement)
        assert error.value.number == 1064 and "tandem: " in error.value.text
        assert console.query("SELECT 1").rows


def test_other_commands_of_the_protocol(admin):
    with admin.connect() as console:
        console.init_db("anything")
        console.reset()
        with pytest.raises(rawmysql.MysqlError, match="1295"):
            console.prepare("SELECT 1")
        for command in (rawmysql.COM_CHANGE_USER, rawmysql.COM_BINLOG_DUMP, 200, rawmysql.COM_STMT_EXECUTE):
            with pytest.raises(rawmysql.MysqlError, match="1047"):
                console.simple(command, b"\0" * 20)
        assert console.query("SELECT 1").rows


@pytest.mark.parametrize("user, password", [("admin", "wrong"), ("admin", ""), ("root", PASSWORD), ("", ""),
                                            ("a" * 300, PASSWORD)])
def test_wrong_password(admin, user, password):
    with pytest.raises(rawmysql.MysqlError) as error:
        admin.connect(user=user, password=password)
    assert error.value.number == 1045
    assert PASSWORD not in admin.tandem.log_text()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("plugin", ["mysql_native_password", "caching_sha2_password"])
def test_login_plugins_and_tls(admin, tls, plugin):
    with admin.connect(plugin=plugin, tls=tls) as console:
        assert console.query("SHOW SERVERS").rows
    with pytest.raises(rawmysql.MysqlError, match="1045"):
        admin.connect(password="wrong", plugin=plugin, tls=tls)


def test_a_hundred_consoles(admin):
    """All are logged in at the same time, and each gets its answers."""
    together = threading.Barrier(100)

    def talk(_):
        with admin.connect() as console:
            together.wait(60)
            for _ in range(5):
                assert len(console.query("SHOW SERVERS").rows) == 3
                console.query("SHOW SESSIONS")
    in_threads(100, talk)


def test_too_many_consoles_are_told(admin):
    held = []
    try:
        with pytest.raises(rawmysql.MysqlError) as error:
            for _ in range(400):
                held.append(admin.connect())
        assert error.value.number == 1040 and len(held) > 200
        done = admin.run("status")
        assert done.returncode == 1 and "too many admin clients" in done.stderr
    finally:
        for console in held:
            console.socket.close()
    sandbox.wait_for(lambda: admin.run("status").returncode == 0, 20, "places to be free again")


# ---- garbage ----------------------------------------------------------------------------------------------------------

REQUESTS = [
    b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"status\n", b'{"words": []}\n', b'{"words": "status"}\n', b'{"words": [1]}\n',
    b'{"words": [["status"]]}\n', b'{"words": ["status"], "words": ["status"]}\n', b'{"words": ["status"]}', b"\0\0\0\n",
    b'{"words": ["sta\\u0000tus"]}\n', b"\xff\xfe\n", b"[" * 100000 + b"\n", b'{"words": ["' + b"x" * 2000000 + b'"]}\n',
    b'{"words": [' + b'"x",' * 5000 + b'"x"]}\n', b'{"words": ["explain", "' + b"(" * 100000 + b'"]}\n',
    b'{"words": ["explain", "\\ud800"]}\n', b'{"words": ["help"], "format": 5}\n', b'{"words": ["events", "--last", "-1"]}\n',
]


@pytest.mark.parametrize("request_bytes", REQUESTS, ids=range(len(REQUESTS)))
def test_garbage_on_the_socket(admin, request_bytes):
    try:
        for line in admin.raw(request_bytes).splitlines():
            json.loads(line)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it had heard enough
    assert admin.text("status")


def test_random_requests(admin):
    """Words and bytes at random: answers are JSON, and the daemon goes on."""
    dice = random.Random(7)
    words = [name for name in "status servers sessions explain events help drain resume digests failover".split()]
    words += ["--json", "--last", "--user", "--", "--follow=1", "", "db2x", "\x01", "é", "%s%n", "'", "-1", "a" * 3000]
    for _ in range(300):
        chosen = [dice.choice(words) for _ in range(dice.randint(1, 6))]
        if "--follow" in chosen or chosen[0] == "failover":
            continue
        request = json.dumps({"words": chosen, "format": dice.choice(["text", "json", "xml"])}).encode()
        if dice.random() < 0.3:
            spot = dice.randrange(len(request))
            request = request[:spot] + bytes([dice.randrange(256)]) + request[spot + 1:]
        answer = admin.raw(request + b"\n")
        assert not answer or json.loads(answer.splitlines()[-1]).keys() == {"exit"}
    assert admin.text("status")


def console_bytes(admin, data, after_login):
    """Sends raw bytes in place of a login, or behind one, and reads until the daemon closes or has nothing to say."""
    if after_login:
        console = admin.connect()
        client = console.socket
    else:
        client = socket.create_connection(("127.0.0.1", admin.console))
    with client:
        client.settimeout(20)
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError:
            pass


@pytest.mark.parametrize("after_login", [False, True])
def test_garbage_on_the_console(admin, after_login):
    dice = random.Random(11)
    rows = [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 10, b"\0\0\0\0", b"\xff\xff\xff\0", struct.pack("<I", 5) + b"\3SELE",
            b"\x01\0\0\0\x03", b"\x20\0\0\1" + b"\0" * 32, b"\x20\0\0\1" + struct.pack("<I", rawmysql.MODERN | rawmysql.CLIENT_SSL) + b"\0" * 28]
    for _ in range(60):
        payload = bytes(dice.randrange(256) for _ in range(dice.randint(0, 200)))
        rows.append(struct.pack("<I", len(payload))[:3] + bytes([dice.randrange(2)]) + payload)
    for _ in range(40):
        text = bytes(dice.choice(b"SHOWSELECT @'\"`%=,;()-/* \0\xff19PROMTE") for _ in range(dice.randint(0, 60)))
        rows.append(struct.pack("<I", len(text) + 1)[:3] + b"\0\3" + text)
    for row in rows:
        console_bytes(admin, row, after_login)
    assert admin.rows("SHOW SERVERS")[0]["server"] == "db1"


def test_a_client_that_says_nothing_holds_nobody_up(servers):
    """Nor does it hold the daemon's end up."""
    with Admin(servers) as admin:
        silent = socket.create_connection(("127.0.0.1", admin.console))
        quiet = socket.socket(socket.AF_UNIX)
        quiet.connect(str(admin.socket))
        follower = subprocess.Popen([str(tandemctl()), "-s", str(admin.socket), "events", "--follow"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.PIPE, text=True)
        with admin.connect():
            assert admin.text("status")
            assert admin.tandem.stop(signal.SIGINT, 15) == 0
        assert follower.wait(20) in (0, 3)
        follower.stderr.close()
        silent.close()
        quiet.close()


# ---- when things are down ---------------------------------------------------------------------------------------------

def test_without_a_primary():
    with sandbox.Cluster(replicas=1) as cluster, Admin(cluster) as admin:
        cluster.primary.kill9()
        sandbox.wait_for(lambda: "wait for a primary" in admin.text("status"), 20, "the loss to be seen")
        text = admin.text("status")
        assert "What is wrong:" in text and "db1" in text
        route = admin.json("explain", "INSERT INTO t VALUES (1)")["route"]
        assert route["waits"] is True and route["goes_to"] == "no server now"
        rules = [one["rule"] for one in admin.json("explain", "INSERT INTO t VALUES (1)")["looked_at"]]
        assert any("primary_wait" in rule for rule in rules), rules
        client = admin.tandem.connect()
        client.send_query("CREATE DATABASE waits")
        waiting = sandbox.wait_for(lambda: [one for one in admin.json("sessions", "--busy")["sessions"]
                                            if one["state"] == "waits for a primary that takes writes"], 10, "the write to wait")
        assert waiting[0]["statement"] == "create database waits"
        cluster.primary.start()
        client.read_results()
        client.socket.close()
        sandbox.wait_for(lambda: "go to the primary" in admin.text("status"), 20, "the primary to be back")
