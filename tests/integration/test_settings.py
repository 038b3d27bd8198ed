"""The settings file, the command line and the signals, seen from outside: what is said, the exit status, what a reload changes."""
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

import sandbox
from rawmysql import Connection, MysqlError, ProtocolError

pytestmark = [pytest.mark.proxy_only]
NOBODY = 65534
SERVER = "[monitor]\nuser = monitor\npassword = monitor\n[server db1]\naddress = 127.0.0.1:3306\n"
DOCUMENTED = """\
[tandem]
threads = 2                 ; default: one per core
state_dir = /var/lib/tandem
log_format = text           ; or json
[proxy]
listen = 127.0.0.1:3307     ; several allowed, unix:/path too
read_your_writes = account  ; off, session, account, global
[monitor]
user = monitor
password = monitor
interval = 500ms
failover = manual           ; or auto
failover_patience = 5s      ; for silence; hard evidence does not wait
failover_holddown = 10min
durability = available      ; or strict
max_loss = 0
[replication]
user = repl
password = repl
[server db1]
address = 10.0.0.1:3306
[server db2]
address = 10.0.0.2:3306
weight = 1
promote = neutral           ; prefer, never
replication_address = 10.1.0.2:3306
max_connections = 100
[user app]
password = app
[witness w1]
address = 10.0.0.3:3306
[peer t2]
address = 10.0.0.12:8309
[tandem]
peer_listen = 10.0.0.11:8309
peer_secret = 0123456789abcdef0123456789abcdef
[admin]
listen = 127.0.0.1:8307
console = 127.0.0.1:3308
user = admin
password = admin
[web]
listen = 0.0.0.0:8080
[site www.foobar.com]
root = /srv/foobar/public
[route www.foobar.com/]
to = app:people
[upstream php]
server = unix:/run/php/php-fpm.sock weight=2
server = 10.0.0.7:9000 backup
"""


def tandem(*words, **more):
    """Runs to the end; a daemon that serves instead is a failure."""
    return subprocess.run([sandbox.tandem_binary(), *map(str, words)], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=60, **more)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tandem.ini"

    def write(text):
        path.write_text(text)
        path.chmod(0o600)
        return path
    return write


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ---- the command line -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", [[], ["-t"], ["-c"], ["--nonsense"], ["-c", "x", "y"], ["start"]])
def test_bad_usage(words):
    done = tandem(*words)
    assert done.returncode == 2 and "usage: tandem" in done.stderr and not done.stdout


def test_help_and_version():
    assert "usage: tandem -c FILE" in tandem("--help").stdout
    assert re.fullmatch(r"tandem [0-9.]+\n", tandem("--version").stdout)
    manual = tandem("--help-settings").stdout
    for name in ("[tandem]", "[proxy]", "[monitor]", "[server NAME]", "[user NAME]", "causal_wait = DURATION"):
        assert name in manual


# ---- files ------------------------------------------------------------------------------------------------------------

def test_documented_file_is_fine(config):
    done = tandem("-t", "-c", config(DOCUMENTED))
    assert done.returncode == 0 and "fine" in done.stdout
    assert "[admin] listen: this version does not act on it" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_all_faults_at_once_with_their_lines(config):
    port = sandbox.free_port()
    path = config(f"[proxy]\nlisten = 127.0.0.1:{port}\ncausal_wait = 20\nlisen = x\n[monitor]\npassword = \"hunter2\n"
                  "[server db1]\nweight = many\n[server db1]\naddress = x\n[nonsense]\nhunter2\n")
    wanted = [f"{path}:3: [proxy] causal_wait = 20: not a duration",
              f"{path}:4: [proxy] lisen: unknown setting; did you mean listen?",
              f"{path}:6: [monitor] password: a quote is not closed",
              f"{path}:8: [server db1] weight = many: not a whole number from 0 to 1000",
              f"{path}:9: [server db1] is given twice, first in line 7",
              f"{path}:11: [nonsense]: unknown section",
              f"{path}:12: neither a [section] nor name = value",
              f"{path}:5: [monitor]: user is missing",
              f"{path}:7: [server db1]: address is missing"]
    for words in (["-t", "-c", path], ["-c", path]):
        done = tandem(*words)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and not done.stdout
        assert len(lines) == len(wanted) and all(line.startswith(want) for line, want in zip(lines, wanted)), done.stderr
        assert "hunter2" not in done.stderr
    assert not listens(port)


def test_no_such_file(tmp_path):
    done = tandem("-c", tmp_path / "none.ini")
    assert done.returncode == 2 and done.stderr == f"{tmp_path}/none.ini: cannot be read: No such file or directory\n"


def test_folder_instead_of_a_file(tmp_path):
    done = tandem("-c", tmp_path)
    assert done.returncode == 2 and done.stderr == f"{tmp_path}: cannot be read: Is a directory\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_unreadable_file(config):
    path = config(SERVER)
    for folder in path.parents:
        if folder != pathlib.Path("/"):
            with contextlib.suppress(PermissionError):
                folder.chmod(folder.stat().st_mode | 0o055)
        if folder.parent == pathlib.Path("/tmp"):
            break
    done = tandem("-c", path, user=NOBODY, group=NOBODY, extra_groups=[])
    assert done.returncode == 2 and done.stderr == f"{path}: cannot be read: Permission denied\n"


def test_file_that_everybody_can_read(config):
    path = config(SERVER)
    path.chmod(0o644)
    done = tandem("-t", "-c", path)
    assert done.returncode == 0 and "holds passwords and can be read by everybody" in done.stderr


# ---- start ------------------------------------------------------------------------------------------------------------

def one_line(done, *parts):
    """It failed at run time and said why in one line."""
    lines = [line for line in done.stderr.splitlines() if " error " in line]
    assert done.returncode == 1 and len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], done.stderr
    return lines[0]


def started_with(config, tmp_path, more):
    return tandem("-c", config(SERVER + f"[tandem]\nstate_dir = {tmp_path}/state\n" + more))


def test_port_in_use(config, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = started_with(config, tmp_path, f"[proxy]\nlisten = 127.0.0.1:{port}\n")
        one_line(done, f"[proxy] listen 127.0.0.1:{port}: ", "in use: stop what listens there, or change the setting")


def test_second_of_two_ports_in_use(config, tmp_path):
    """What was bound before the failure is given back."""
    free = sandbox.free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = started_with(config, tmp_path, f"[proxy]\nlisten = 127.0.0.1:{free}, 127.0.0.1:{port}\n")
        one_line(done, f"127.0.0.1:{port}", "in use")
    assert not listens(free)


def test_unix_socket_in_use(config, tmp_path):
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        done = started_with(config, tmp_path, f"[proxy]\nlisten = unix:{path}\n")
        one_line(done, str(path), "in use")
        with socket.socket(socket.AF_UNIX) as still:
            still.connect(str(path))  # the other server's socket was left alone


def test_unix_socket_where_another_file_is(config, tmp_path):
    """Only what was a socket may be taken over: a slip in the settings must not cost a file."""
    path = tmp_path / "precious"
    path.write_text("kept")
    one_line(started_with(config, tmp_path, f"[proxy]\nlisten = unix:{path}\n"), str(path), "no socket: remove it, or change")
    assert path.read_text() == "kept"


@pytest.mark.parametrize("listen, said", [("unix:/nowhere/x.sock", "No such file or directory: make the directory"),
                                          ("nowhere.invalid:3307", "nowhere.invalid:3307: ")])
def test_listen_that_cannot_be(config, tmp_path, listen, said):
    one_line(started_with(config, tmp_path, f"[proxy]\nlisten = {listen}\n"), f"[proxy] listen {listen}", said)


@pytest.mark.parametrize("words, said", [((), "-c FILE is missing"), (("-t",), "-c FILE is missing"),
                                         (("-c", "x", "y"), "y: one word too many"), (("--nothing",), "unrecognized option")])
def test_command_line_faults(words, said):
    done = tandem(*words)
    assert done.returncode == 2 and said in done.stderr and "usage: tandem -c FILE" in done.stderr


def test_a_warning_is_one_once(trio):
    """The level stands in front of the line; the word is not repeated."""
    with front(trio, start=False) as daemon:
        daemon.config.chmod(0o644)
        daemon.start()
        wait_log(daemon, r"Z warning [^ ]*: holds passwords and can be read by everybody")


def test_address_that_is_not_here_yet(trio):
    """A virtual address may come later: Tandem listens there from the start."""
    with front(trio, start=False) as daemon:
        daemon.change({"proxy": {"listen": [f"127.0.0.1:{daemon.port}", f"192.0.2.1:{daemon.port}"]}})
        daemon.write()
        daemon.start()
        wait_log(daemon, rf"info ready: proxy on .*192\.0\.2\.1:{daemon.port}")


def test_state_dir_that_cannot_be(config, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none" / "state", tmp_path / "file"):
        port = sandbox.free_port()
        text = f"[tandem]\nstate_dir = {path}\n[proxy]\nlisten = 127.0.0.1:{port}\n"
        one_line(tandem("-c", config(SERVER + text)), "state_dir", str(path))


def test_certificate_that_is_not_there(config, tmp_path):
    path = config(SERVER + f"[proxy]\ntls_certificate = {tmp_path}/none.pem\n")
    done = tandem("-c", path)
    assert done.returncode == 2
    assert done.stderr == (f"{path}:7: [proxy] tls_certificate = {tmp_path}/none.pem: cannot be read: "
                           "No such file or directory\n")


def test_certificate_that_is_none(config, tmp_path):
    port = sandbox.free_port()
    path = config(SERVER)
    text = f"[proxy]\nlisten = 127.0.0.1:{port}\ntls_certificate = {path}\n"
    one_line(started_with(config, tmp_path, text), str(path), "no start line")


# ---- serving ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trio():
    with sandbox.Cluster(replicas=2, init_sql=["CREATE DATABASE work"]) as started:
        yield started


def front(trio, settings=None, **more):
    return sandbox.Tandem(trio, settings, **more)


def wait_log(daemon, pattern, timeout=20):
    return sandbox.wait_for(lambda: re.search(pattern, daemon.log_text(), re.M), timeout, f"{pattern!r} in the log")


def server_id(daemon):
    with daemon.connect() as client:
        return client.value("SELECT @@server_id")


def wait_gone(connection, timeout=10):
    """Until the other side has closed it; an error packet may come first."""
    connection.socket.settimeout(timeout)
    with contextlib.suppress(ConnectionResetError):
        while connection.socket.recv(4096):
            pass


def test_ready_line_and_private_files(trio):
    with front(trio) as daemon:
        wait_log(daemon, rf"info ready: proxy on 127\.0\.0\.1:{daemon.port}, unix:.*, 3 servers$")
        state = daemon.folder / "state"
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "tandem-key.pem").stat().st_mode) == 0o600


def test_log_as_json(trio):
    with front(trio, {"tandem": {"log_format": "json", "log_level": "debug"}}) as daemon:
        with pytest.raises(MysqlError):
            daemon.connect(user='x"\n\\\x01\u20ac', password="hunter2")
        with daemon.connect() as client:
            client.query("SELECT 'hunter2'")
    lines = [json.loads(line) for line in daemon_log(daemon)]
    assert any(line["message"].startswith("ready: ") for line in lines)
    assert all({"time", "level", "message"} <= set(line) for line in lines)


def daemon_log(daemon):
    return daemon.last_log.splitlines()


@pytest.fixture(autouse=True)
def keep_last_log(monkeypatch):
    """The log outlives the daemon's folder."""
    close = sandbox.Tandem.close

    def closing(self, check=False):
        if self in sandbox.OPEN and self.process is not None:
            self.stop(signal.SIGINT)
            self.last_log = self.log_text()
        close(self, check)
    monkeypatch.setattr(sandbox.Tandem, "close", closing)


def test_no_password_in_the_log(trio):
    with front(trio, {"tandem": {"log_level": "debug"}, "user app": {"password": "app"},
                      "monitor": {"password": "monitor"}}) as daemon:
        with pytest.raises(MysqlError):
            daemon.connect(password="hunter2")
        with daemon.connect() as client:
            client.query("SELECT 1")
        daemon.reload({"user other": {"password": "hunter3"}})
        wait_log(daemon, "info reloaded")
    assert "hunter" not in daemon.last_log


def test_two_listeners(trio):
    second = sandbox.free_port()
    with front(trio) as first:
        pass
    with front(trio, {"proxy": {"listen": [f"127.0.0.1:{first.port}", f"127.0.0.1:{second}, [::1]:{second}"]}},
               port=first.port) as daemon:
        for host, port in (("127.0.0.1", first.port), ("127.0.0.1", second), ("::1", second)):
            with Connection(host=host, port=port) as client:
                assert client.value("SELECT 1") == 1
        assert daemon.process.running()


def test_old_unix_socket_is_taken_over(trio):
    """What a killed daemon left behind does not stand in the way of the next."""
    with front(trio) as daemon:
        daemon.process.end(signal.SIGKILL, 10)
        assert daemon.socket.exists()
        daemon.start()
        with Connection(unix=str(daemon.socket)) as client:
            assert client.value("SELECT 1") == 1


def test_unreachable_server_at_start(trio):
    """Clear words, and service by the others; it is used once it is there."""
    port = sandbox.free_port()
    with front(trio, {"server db3": {"address": f"127.0.0.1:{port}"}}) as daemon:
        wait_log(daemon, rf"db3.*({port}|refused)")
        assert server_id(daemon) in (1, 2)
        assert daemon.process.running()


def test_no_server_reachable_at_start(trio):
    """It serves, says what is wrong, and answers clients with an error instead of hanging."""
    port = sandbox.free_port()
    gone = {f"server db{number}": None for number in (2, 3)}
    settings = {**gone, "server db1": {"address": f"127.0.0.1:{port}"}, "user app": {"password": "app"},
                "proxy": {"primary_wait": "500ms", "login_timeout": "3s"}}
    with front(trio, settings, wait=False) as daemon:
        wait_log(daemon, r"info ready")
        wait_log(daemon, rf"db1.*({port}|refused)")
        sandbox.wait_for(lambda: listens(daemon.port), 10, "the port")
        with pytest.raises((MysqlError, ProtocolError, OSError)):
            with daemon.connect(timeout=10) as client:
                client.value("SELECT 1")
        assert daemon.process.running()


# ---- reload -----------------------------------------------------------------------------------------------------------

def test_reload_of_a_bad_file_changes_nothing(trio):
    with front(trio) as daemon, daemon.connect() as client:
        good = daemon.text()
        client.query("SET @kept = 7")
        daemon.config.write_text("[server db1]\nwieght = 1\n")
        daemon.process.signal(signal.SIGHUP)
        wait_log(daemon, rf"error {re.escape(str(daemon.config))}:2: \[server db1\] wieght: unknown setting")
        wait_log(daemon, rf"error {re.escape(str(daemon.config))}: \[monitor\]: user is missing")
        wait_log(daemon, r"error reload refused, nothing was changed")
        assert client.value("SELECT @kept") == 7
        assert server_id(daemon) in (2, 3)
        daemon.config.unlink()
        daemon.process.signal(signal.SIGHUP)
        wait_log(daemon, r"cannot be read: No such file")
        daemon.config.write_text(good)
        daemon.process.signal(signal.SIGHUP)
        wait_log(daemon, r"info reloaded: 3 servers")
        assert client.value("SELECT @kept") == 7


@pytest.mark.parametrize("section, name, value", [("tandem", "threads", 3), ("tandem", "state_dir", "/tmp"),
                                                  ("proxy", "listen", "127.0.0.1:1")])
def test_reload_of_what_needs_a_restart(trio, section, name, value):
    with front(trio) as daemon, daemon.connect() as client:
        daemon.change({"tandem": {"log_level": "debug"}})
        daemon.reload({section: {name: value}})
        wait_log(daemon, rf"error reload refused, nothing was changed: \[{section}\] {name} needs a restart")
        assert client.value("SELECT 1") == 1
        assert " debug " not in daemon.log_text()


def test_reload_users(trio):
    trio.primary.sql("CREATE USER IF NOT EXISTS late@'%' IDENTIFIED BY 'one'")
    trio.wait_synced()
    with front(trio) as daemon, daemon.connect() as client:
        daemon.reload({"user late": {"password": "one"}})
        wait_log(daemon, "info reloaded")
        with daemon.connect("late", "one") as late:
            assert late.value("SELECT CURRENT_USER()") == "late@%"
        with pytest.raises(MysqlError) as refused:
            daemon.connect("late", "two")
        assert refused.value.number == 1045
        assert client.value("SELECT 1") == 1


def test_reload_servers_under_load(trio):
    """A replica goes and comes back; statements of clients that stay never fail, and their session state is kept."""
    with front(trio) as daemon:
        failures, stop = [], threading.Event()

        def work(number):
            try:
                with daemon.connect() as client:
                    client.query(f"SET @mine = {number}")
                    while not stop.is_set():
                        assert client.value("SELECT @mine") == number
                        client.query("DO 1")
            except Exception as error:
                failures.append(error)
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(6)]
        for thread in threads:
            thread.start()
        kept = daemon.settings["server db3"]
        for turn in range(3):
            daemon.reload({"server db3": None})
            sandbox.wait_for(lambda: daemon.log_text().count("reloaded: 2 servers") > turn, 20, "the reload")
            daemon.wait_reads_on([trio.servers[1]])
            daemon.reload({"server db3": kept})
            sandbox.wait_for(lambda: daemon.log_text().count("reloaded: 3 servers") > turn, 20, "the reload")
            daemon.wait_reads_on(trio.replicas)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert not failures, failures


def test_reload_weight_zero_takes_no_reads(trio):
    with front(trio) as daemon:
        daemon.wait_reads_on(trio.replicas)
        daemon.reload({"server db2": {"weight": 0}})
        wait_log(daemon, "info reloaded")
        daemon.wait_reads_on([trio.servers[2]])


def test_reload_log_format(trio):
    with front(trio) as daemon:
        daemon.reload({"tandem": {"log_format": "json"}})
        line = wait_log(daemon, r"^{.*reloaded.*}$")[0]
        assert json.loads(line)["level"] == "info"


def test_reload_wait_timeout(trio):
    """Clients that log in afterwards have it; those that were there keep theirs, as on a server."""
    with front(trio) as daemon, daemon.connect() as client:
        assert client.value("SELECT 1") == 1
        daemon.reload({"proxy": {"wait_timeout": "1s"}})
        wait_log(daemon, "info reloaded")
        with daemon.connect() as fresh:
            assert fresh.value("SELECT 1") == 1
            fresh.socket.settimeout(20)
            assert fresh.closed_by_peer()
        assert client.value("SELECT 1") == 1


def test_reload_max_clients(trio):
    """Once the reload is told, the next client meets the new limit; those that are there stay."""
    with front(trio) as daemon, daemon.connect() as first, daemon.connect() as second:
        daemon.reload({"proxy": {"max_clients": 2}})
        wait_log(daemon, "info reloaded")
        with pytest.raises(MysqlError) as refused:
            daemon.connect()
        assert refused.value.number == 1040
        assert first.value("SELECT 1") == second.value("SELECT 1") == 1
        daemon.reload({"proxy": {"max_clients": 3}})
        sandbox.wait_for(lambda: daemon.log_text().count("info reloaded") == 2, 10, "the second reload")
        with daemon.connect() as third:
            assert third.value("SELECT 1") == 1


# ---- the log ------------------------------------------------------------------------------------------------------------

def test_a_crowd_of_peers_does_not_fill_the_log(trio):
    """Sixty clients that say nothing are one event to who reads the log."""
    with front(trio, {"proxy": {"wait_timeout": "1s"}}) as daemon:
        clients = [daemon.connect() for _ in range(60)]
        for client in clients:
            wait_gone(client)
        wait_log(daemon, r"info [0-9]+ more lines were left out like \"idle for longer")
        told = len(re.findall(r": idle for longer", daemon.log_text()))
        left_out = sum(int(n) for n in re.findall(r"info ([0-9]+) more lines were left out", daemon.log_text()))
        assert told + left_out == 60
        assert told <= 40, "twenty a second, and they may have fallen into two seconds"


def test_account_that_needs_tls_is_told_once(trio):
    # As CREATE USER writes it where the plugin is installed, which is in a package of its own.
    trio.primary.sql("""INSERT INTO mysql.global_priv VALUES ('%', 'safe', '{"access": 0, "plugin": "ed25519",
                        "authentication_string": "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY"}')""")
    with front(trio) as daemon:
        with pytest.raises(MysqlError) as refused:
            daemon.connect("safe", "secret")
        assert refused.value.number == 1045
        wait_log(daemon, r"account uses ed25519: its clients need TLS, or a \[user safe\] section")
        with daemon.connect() as client:
            assert client.value("SELECT 1") == 1
        assert daemon.log_text().count("need TLS") == 1


# ---- systemd ----------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def listening_systemd(folder, monkeypatch):
    """What a unit of Type=notify-reload is to its service; gives a function that waits for the next word."""
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(path))
        ear.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield lambda: dict(line.split("=", 1) for line in ear.recv(4096).decode().split("\n") if line)


def test_systemd_is_told(trio, tmp_path, monkeypatch):
    with listening_systemd(tmp_path, monkeypatch) as next_word, front(trio) as daemon:
        assert next_word()["READY"] == "1"
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.reload({"proxy": {"causal_wait": "30ms"}})
        word = next_word()
        assert word["RELOADING"] == "1"
        assert before <= int(word["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert next_word()["READY"] == "1"
        daemon.reload({"tandem": {"threads": 3}})
        assert next_word()["RELOADING"] == "1"
        assert next_word()["READY"] == "1", "a refused reload is over, too"
        daemon.process.signal(signal.SIGTERM)
        assert next_word()["STOPPING"] == "1"
        assert ended(daemon) == 0


# ---- stop -------------------------------------------------------------------------------------------------------------

def ended(daemon, timeout=15):
    return daemon.process.popen.wait(timeout)


def test_term_lets_a_transaction_finish(trio):
    trio.primary.sql("CREATE TABLE IF NOT EXISTS work.stop_rows (v INT)")
    trio.primary.sql("DELETE FROM work.stop_rows")
    with front(trio) as daemon:
        idle, busy = daemon.connect(), daemon.connect()
        assert idle.value("SELECT 1") == 1
        busy.query("BEGIN")
        busy.query("INSERT INTO work.stop_rows VALUES (1)")
        daemon.process.signal(signal.SIGTERM)
        wait_log(daemon, "info draining")
        wait_gone(idle)
        busy.query("INSERT INTO work.stop_rows VALUES (2)")
        assert daemon.process.running()
        busy.query("COMMIT")
        wait_gone(busy)
        assert ended(daemon) == 0
    assert trio.primary.value("SELECT COUNT(*) FROM work.stop_rows") == 2


def test_term_takes_no_new_clients(trio):
    with front(trio) as daemon:
        busy = daemon.connect()
        busy.query("BEGIN")
        busy.query("SELECT 1 FROM mysql.user LIMIT 1")
        daemon.process.signal(signal.SIGTERM)
        wait_log(daemon, "info draining")

        def refused():
            try:
                daemon.connect(timeout=2).close()
                return False
            except (OSError, MysqlError, ProtocolError):
                return True
        sandbox.wait_for(refused, 10, "new clients to be refused")
        busy.close()
        assert ended(daemon) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_stops_at_once(trio, second):
    with front(trio) as daemon:
        busy = daemon.connect()
        busy.query("BEGIN")
        busy.query("SELECT 1 FROM mysql.user LIMIT 1")
        daemon.process.signal(signal.SIGTERM)
        wait_log(daemon, "info draining")
        begun = time.monotonic()
        daemon.process.signal(second)
        assert ended(daemon) == 0
        assert time.monotonic() - begun < 5
        wait_gone(busy)


def test_int_stops_at_once(trio):
    with front(trio) as daemon:
        busy = daemon.connect()
        busy.query("BEGIN")
        begun = time.monotonic()
        daemon.process.signal(signal.SIGINT)
        assert ended(daemon) == 0
        assert time.monotonic() - begun < 5


def test_hangup_while_draining_is_harmless(trio):
    with front(trio) as daemon:
        busy = daemon.connect()
        busy.query("BEGIN")
        busy.query("SELECT 1 FROM mysql.user LIMIT 1")
        daemon.process.signal(signal.SIGTERM)
        wait_log(daemon, "info draining")
        daemon.process.signal(signal.SIGHUP)
        busy.query("COMMIT")
        assert ended(daemon) == 0


def test_terminal_of_the_log_goes_away(trio):
    """A log that nobody reads any more (EPIPE) must not end the daemon."""
    with front(trio, start=False) as daemon:
        read_end, write_end = os.pipe()
        process = subprocess.Popen([sandbox.tandem_binary(), "-c", str(daemon.config)], stdin=subprocess.DEVNULL,
                                   stdout=write_end, stderr=write_end, start_new_session=True)
        os.close(write_end)
        os.close(read_end)
        try:
            sandbox.wait_for(lambda: listens(daemon.port), 10, "the port")
            with daemon.connect() as client:
                assert client.value("SELECT 1") == 1
            with pytest.raises(MysqlError):
                daemon.connect(password="wrong")
            process.send_signal(signal.SIGHUP)
            with daemon.connect() as client:
                assert client.value("SELECT 1") == 1
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
