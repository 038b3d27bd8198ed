#!/usr/bin/python3
"""Real servers for tests and for `./dev up`: MariaDB processes with their own data directories, and Tandem in front of them.

As a library:

    with sandbox.Cluster(replicas=2) as cluster, sandbox.Tandem(cluster) as tandem:
        tandem.connect().query("select @@server_id")

Everything listens on loopback and free ports and is started with --no-defaults. Everything is stopped and removed at the end
of the `with`, at exit, and by a watching process when this one is killed. Only the standard library is used.

Environment: TANDEM_BIN the daemon (default build/tandem), MARIADBD another server binary, TANDEM_SANDBOX_DIR where data goes
(default the system's temporary directory), TANDEM_WRAPPER a command put in front of the daemon (such as "valgrind -q").
"""
import argparse
import atexit
import contextlib
import fcntl
import functools
import hashlib
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rawmysql  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parent.parent
BASE_OPTIONS = {
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    "innodb-flush-log-at-trx-commit": "2",
    "key-buffer-size": "1M",
    "performance-schema": "OFF",
    "skip-name-resolve": None,
    "log-bin": "binlog",
    "log-slave-updates": "ON",
    "gtid-strict-mode": "ON",
    "binlog-format": "ROW",
    "log-disabled-statements": "slave,sp",
    "max-connections": "500",
    "max-allowed-packet": "128M",
    "slave-net-timeout": "10",
}
# Tandem's own accounts (monitor, repl) come from the file that is shipped, so every test shows that its rights are enough.
GRANTS = TOP / "sql" / "grants-mariadb.sql"
ACCOUNTS = """
CREATE USER app@'%' IDENTIFIED BY 'app';
GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION;
CREATE USER root@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE test;
"""


class SandboxError(Exception):
    pass


def wait_for(condition, timeout=20, what="condition", pause=0.01):
    """Waits until condition() is true and returns its value; exceptions of a peer that is not there yet count as false."""
    end, last = time.monotonic() + timeout, None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, rawmysql.MysqlError, rawmysql.ProtocolError) as error:
            last = error
        if time.monotonic() > end:
            raise SandboxError(f"waited {timeout} s for {what}" + (f": {last}" if last else ""))
        time.sleep(pause)


def cache_folder():
    """What the runs of this user share."""
    folder = pathlib.Path(os.environ.get("TANDEM_SANDBOX_DIR") or tempfile.gettempdir()) / f"tandem-cache-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


class Ports:
    """The ports that this process was given. Each is a byte of a file, locked as long as the process lives: between the look whether
    a port is free and the bind by a server nobody else is given it, neither here nor in the other processes of this user."""

    def __init__(self):
        self.given, self.lock, self.file = set(), threading.Lock(), None

    def is_ours(self, port):
        if port in self.given:
            return False
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self.given.add(port)
        return True

    def take(self):
        with self.lock:
            self.file = self.file or open(cache_folder() / "ports", "a")
            while True:
                # Below the range from which the kernel takes ports for outgoing connections.
                port = random.SystemRandom().randint(12000, 31999)
                if self.is_ours(port) and is_free(port):
                    return port


PORTS = Ports()


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def free_port():
    """A port nobody listens on, and nobody else is about to."""
    return PORTS.take()


# ---- nothing is left behind -------------------------------------------------------------------------------------------

def start_time(pid):
    """What tells a process from another one that got its number later."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


class Reaper:
    """A child that outlives us by a moment: when our end of its pipe closes it kills what we started and removes our files."""

    def __init__(self):
        self.lock = threading.Lock()
        self.process = None

    def tell(self, line):
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [sys.executable, os.path.abspath(__file__), "reaper"], stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL, start_new_session=True, text=True)
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    @staticmethod
    def main():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        processes, folders = {}, set()
        for line in sys.stdin:
            verb, what = line.rstrip("\n").split(" ", 1)
            if verb == "process":
                processes[int(what)] = start_time(int(what))
            elif verb == "ended":
                processes.pop(int(what), None)
            elif verb == "folder":
                folders.add(what)
            elif verb == "removed":
                folders.discard(what)
        for pid, started in processes.items():
            if started and start_time(pid) == started:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for folder in folders:
            for _ in range(50):
                shutil.rmtree(folder, ignore_errors=True)
                if not os.path.exists(folder):
                    break
                time.sleep(0.1)


REAPER = Reaper()
OPEN = []  # what is running, last started last


def stop_everything():
    while OPEN:
        with contextlib.suppress(Exception):
            OPEN[-1].close()
        with contextlib.suppress(ValueError, IndexError):
            OPEN.pop()


atexit.register(stop_everything)


def new_folder(name):
    base = os.environ.get("TANDEM_SANDBOX_DIR") or tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix=f"tandem-{name}-", dir=base)
    REAPER.tell(f"folder {folder}")
    return pathlib.Path(folder)


def remove_folder(folder):
    shutil.rmtree(folder, ignore_errors=True)
    REAPER.tell(f"removed {folder}")


class Process:
    """A child process with its own session, so that Ctrl-C reaches us first and we stop it in order."""

    def __init__(self, command, log, env=None):
        with open(log, "ab") as out:
            self.popen = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=out, start_new_session=True, env=env)
        self.pid = self.popen.pid
        REAPER.tell(f"process {self.pid}")

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            os.kill(self.pid, number)

    def end(self, number, patience):
        """Sends the signal and waits; kills what does not end. Returns the exit status (negative: the signal)."""
        if self.running():
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGCONT)
            self.signal(number)
            try:
                self.popen.wait(patience)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
        status = self.popen.wait()
        REAPER.tell(f"ended {self.pid}")
        return status


# ---- MariaDB ----------------------------------------------------------------------------------------------------------

def find_program(*names):
    for name in names:
        for folder in os.environ.get("PATH", "").split(":") + ["/usr/sbin", "/usr/local/sbin"]:
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
    raise SandboxError(f"no {names[0]} found: install mariadb-server-core and mariadb-client-core")


def mariadbd():
    return os.environ.get("MARIADBD") or find_program("mariadbd", "mysqld")


def as_options(options):
    return [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()
            if value is not False]


def as_user():
    return ["--user=root"] if os.getuid() == 0 else []


def statements(text):
    """The statements of a script in which none has a semicolon or -- in it."""
    bare = re.sub(r"--.*", "", text)
    return [statement.strip() for statement in bare.split(";") if statement.strip()]


def template():
    """A data directory with the accounts in it, made once per server version and copied for each server."""
    version = subprocess.run([mariadbd(), "--version"], capture_output=True, text=True, check=True).stdout
    mark = hashlib.sha1((version + GRANTS.read_text() + ACCOUNTS + repr(sorted(BASE_OPTIONS.items()))).encode()).hexdigest()[:12]
    cache = cache_folder()
    folder = cache / f"template-{mark}"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make_template(folder)
            (folder / "ready").touch()
    return folder / "data"


def make_template(folder):
    data = folder / "data"
    data.mkdir(parents=True)
    log = folder / "install.log"
    quiet = [option for option in as_options(BASE_OPTIONS) if "log-bin" not in option and "slave" not in option]
    with open(log, "ab") as out:
        made = subprocess.run(
            [find_program("mariadb-install-db", "mysql_install_db"), "--no-defaults", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=32M", *as_user()],
            stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    if made.returncode:
        raise SandboxError(f"mariadb-install-db failed, see {log}")
    sock = folder / "sock"
    process = Process([mariadbd(), "--no-defaults", f"--datadir={data}", f"--socket={sock}", "--skip-networking",
                       f"--pid-file={folder}/pid", *quiet, *as_user()], log)
    try:
        with wait_for(lambda: rawmysql.Connection(unix=str(sock), user="root", password=""), 60, "the template") as admin:
            # The host's name is in the account table of a fresh directory; no test wants to depend on it.
            admin.query("DELETE FROM mysql.global_priv WHERE NOT (User IN ('root', 'mariadb.sys') AND Host = 'localhost')")
            admin.query("DELETE FROM mysql.proxies_priv")
            admin.query("FLUSH PRIVILEGES")
            for statement in statements(GRANTS.read_text() + ACCOUNTS):
                admin.query(statement)
            admin.query("SET GLOBAL innodb_fast_shutdown = 0")
    finally:
        status = process.end(signal.SIGTERM, 60)
    if status:
        raise SandboxError(f"the template server ended with {status}, see {log}")


class Server:
    """One mariadbd. `options` are server options without dashes, None for a bare one, False to leave a default out."""

    def __init__(self, name="db1", server_id=1, options=None, port=None):
        self.name, self.server_id = name, server_id
        self.port = port or free_port()
        self.folder = new_folder(name)
        self.socket, self.log = self.folder / "sock", self.folder / "error.log"
        self.data, self.general_log = self.folder / "data", self.folder / "general.log"
        self.options = {**BASE_OPTIONS, "server-id": server_id, **(options or {})}
        self.process = self.admin = None
        OPEN.append(self)
        subprocess.run(["cp", "-a", "--reflink=auto", template(), self.data], check=True)
        self.temporary = self.folder / "tmp"  # servers that share one delete each other's files at start
        self.temporary.mkdir()
        shutil.copystat(self.data, self.temporary)
        os.chown(self.temporary, self.data.stat().st_uid, self.data.stat().st_gid)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def start(self, wait=True, **options):
        """Starts it (again); `options` hold for this and later starts, with _ for -."""
        self.options.update({name.replace("_", "-"): value for name, value in options.items()})
        self.process = Process(
            [mariadbd(), "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", f"--port={self.port}",
             "--bind-address=127.0.0.1", f"--tmpdir={self.temporary}", f"--pid-file={self.folder}/pid", f"--general-log-file={self.general_log}",
             f"--report-host=127.0.0.1", f"--report-port={self.port}", *as_options(self.options), *as_user()], self.log)
        if wait:
            self.wait_started()
        return self

    def wait_started(self, timeout=60):
        def answered():
            if not self.process.running():
                raise SandboxError(f"{self.name} ended at once:\n" + tail(self.log))
            return self.sql("SELECT 1")
        wait_for(answered, timeout, f"{self.name} to start")

    def connect(self, user="app", password="app", **more):
        """A connection straight to this server."""
        return rawmysql.Connection(port=self.port, user=user, password=password, **more)

    def root(self):
        """The administrator's connection, over the Unix socket, opened anew when the old one is gone."""
        if self.admin is None:
            self.admin = rawmysql.Connection(unix=str(self.socket), user="root", password="")
            self.admin.query("SET SESSION wait_timeout = 28800")  # whatever a test has made the default
        return self.admin

    def sql(self, statement):
        """Runs a statement as root and returns its rows (a list of tuples) or None."""
        try:
            return self.root().query(statement).rows
        except (OSError, rawmysql.ProtocolError, rawmysql.MysqlError) as error:
            if not isinstance(error, rawmysql.MysqlError) or error.number in (1927, 1053, 1317):
                self.forget_connection()
            raise

    def value(self, statement):
        return self.sql(statement)[0][0]

    def status(self, name):
        """A global status counter as a number."""
        return int(self.sql(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])

    def row(self, statement):
        """The first row as a dictionary, for SHOW SLAVE STATUS and its like; {} when there is none."""
        self.sql("SELECT 1")  # opens the connection anew when somebody has ended it
        result = self.root().query(statement)
        return dict(zip((column.name for column in result.columns), result.rows[0])) if result.rows else {}

    @contextlib.contextmanager
    def logged(self):
        """Records the statements that clients run here meanwhile; see GeneralLog."""
        self.sql("SET GLOBAL log_output = 'FILE'")
        self.sql("SET GLOBAL general_log = 1")
        try:
            yield GeneralLog(self)
        finally:
            self.sql("SET GLOBAL general_log = 0")

    def forget_connection(self):
        if self.admin:
            self.admin.socket.close()
        self.admin = None

    def stop(self, patience=60):
        self.forget_connection()
        return self.process.end(signal.SIGTERM, patience) if self.process else 0

    def kill9(self):
        self.forget_connection()
        self.process.signal(signal.SIGKILL)
        return self.process.end(signal.SIGKILL, 20)

    def sigstop(self):
        self.process.signal(signal.SIGSTOP)

    def sigcont(self):
        self.process.signal(signal.SIGCONT)

    def restart(self, **options):
        self.stop()
        return self.start(**options)

    def running(self):
        return self.process is not None and self.process.running()

    def close(self):
        """Ends it without ceremony and removes its files."""
        if self.process:
            self.forget_connection()
            self.process.end(signal.SIGKILL, 20)
        remove_folder(self.folder)
        with contextlib.suppress(ValueError):
            OPEN.remove(self)

    # ---- replication

    def follow(self, primary, **more):
        """Makes it a replica of `primary`, from where its own position stands."""
        words = {"MASTER_HOST": "'127.0.0.1'", "MASTER_PORT": primary.port, "MASTER_USER": "'repl'",
                 "MASTER_PASSWORD": "'repl'", "MASTER_USE_GTID": "slave_pos", "MASTER_CONNECT_RETRY": 1,
                 "MASTER_HEARTBEAT_PERIOD": 1, **more}
        self.sql("STOP SLAVE")
        self.sql("CHANGE MASTER TO " + ", ".join(f"{name} = {value}" for name, value in words.items()))
        self.sql("SET GLOBAL read_only = 1")
        self.sql("START SLAVE")

    def position(self):
        return self.value("SELECT @@global.gtid_current_pos")

    def stop_sql_thread(self):
        self.sql("STOP SLAVE SQL_THREAD")

    def start_sql_thread(self):
        self.sql("START SLAVE SQL_THREAD")

    def replicating(self):
        state = self.row("SHOW SLAVE STATUS")
        return state.get("Slave_IO_Running") == "Yes" and state.get("Slave_SQL_Running") == "Yes"

    def wait_replicating(self, timeout=30):
        try:
            wait_for(self.replicating, timeout, f"{self.name} to replicate")
        except SandboxError as error:
            state = self.row("SHOW SLAVE STATUS")
            said = {name: value for name, value in state.items() if "Running" in name or "Error" in name or "State" in name}
            raise SandboxError(f"{error}: {said}\n{tail(self.log, 10)}") from None

    def wait_position(self, position, timeout=30):
        if position and self.value(f"SELECT MASTER_GTID_WAIT('{position}', {timeout})") != 0:
            raise SandboxError(f"{self.name} did not reach {position}: {self.row('SHOW SLAVE STATUS')}")


class GeneralLog:
    """What clients said to a server since the recording began: (thread, command, text)."""

    ENTRY = re.compile(rb"^(?:\d{6}\s+[\d:]+)?\t\s*(\d+) ([A-Z][A-Za-z ]*?)(?:\t|$)")

    def __init__(self, server):
        self.server = server
        self.start = self.size()

    def size(self):
        return self.server.general_log.stat().st_size if self.server.general_log.exists() else 0

    def entries(self):
        with open(self.server.general_log, "rb") as log:
            log.seek(self.start)
            data = log.read()
        found = []
        for line in data.split(b"\n"):
            match = self.ENTRY.match(line)
            if match:
                found.append([int(match[1]), match[2].decode().strip(), line[match.end():]])
            elif found:
                found[-1][2] += b"\n" + line
        return [tuple(entry) for entry in found]

    def has(self, mark, commands=("Query", "Execute", "Bulk_execute")):
        """How many statements with this text in them ran here."""
        mark = mark.encode() if isinstance(mark, str) else mark
        return sum(1 for _, command, text in self.entries() if command in commands and mark in text)


class Cluster:
    """A primary and its replicas, GTID replication running. servers[0] is the primary at the start. `link`: more words of CHANGE MASTER."""

    def __init__(self, replicas=1, options=None, replica_options=None, semi_sync=False, init_sql=(), link=None):
        self.servers, shared = [], dict(options or {})
        if semi_sync:
            # Not master-enabled: a replica that has it waits for replicas of its own before it applies anything.
            shared.update({"rpl-semi-sync-slave-enabled": "ON", "rpl-semi-sync-master-timeout": "600000",
                           "rpl-semi-sync-master-wait-point": "AFTER_SYNC"})
        try:
            for number in range(1, replicas + 2):
                own = dict(shared, **(replica_options or {})) if number > 1 else shared
                self.servers.append(Server(f"db{number}", number, own))
                self.servers[-1].start(wait=False)
            for server in self.servers:
                server.wait_started()
            if semi_sync:  # before the links are made: one that finds it off is none of it
                self.primary.sql("SET GLOBAL rpl_semi_sync_master_enabled = 1")
            for server in self.servers[1:]:
                server.follow(self.servers[0], **(link or {}))
            for statement in init_sql:
                self.primary.sql(statement)
            self.wait_synced()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def primary(self):
        return self.servers[0]

    @property
    def replicas(self):
        return self.servers[1:]

    def server(self, name):
        return next(server for server in self.servers if server.name == name or server.server_id == name)

    def wait_synced(self, timeout=30):
        """Until every running replica has what the primary has now."""
        position = self.primary.value("SELECT @@global.gtid_binlog_pos")
        for server in self.replicas:
            if server.running():
                server.wait_position(position, timeout)

    def heal(self):
        """Back to the beginning after a test that broke things: all run, replicate and are in step."""
        for server in self.servers:
            if not server.running():
                server.start()
            server.sigcont()
            wait_for(lambda: server.value("SELECT 1") == 1, 20, f"{server.name} to answer")
        for server in self.replicas:
            if not server.replicating():
                server.sql("STOP SLAVE")
                server.sql("START SLAVE")
                server.wait_replicating()
        self.wait_synced()

    def close(self):
        for server in reversed(self.servers):
            server.close()
        self.servers = []


# ---- Tandem -----------------------------------------------------------------------------------------------------------

def tail(path, lines=30):
    try:
        return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def tandem_binary():
    path = os.environ.get("TANDEM_BIN") or str(TOP / "build" / "tandem")
    if not os.access(path, os.X_OK):
        raise SandboxError(f"no daemon at {path}: ./dev build makes it, TANDEM_BIN names another")
    return path


@functools.cache
def sanitized():
    """Whether the daemon is a sanitizer's build: what its allocator keeps for itself cannot be told apart from a leak."""
    program = pathlib.Path(tandem_binary()).read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


SANITIZER = re.compile(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer: detected)")


class Tandem:
    """The daemon in front of `cluster`. `settings` is {section: {name: value}} and adds to or replaces the generated ones;
    a value None removes a name, a list repeats it."""

    def __init__(self, cluster, settings=None, port=None, user="app", password="app", start=True, wait=True):
        self.cluster, self.user, self.password = cluster, user, password
        self.port = port or free_port()
        self.folder = new_folder("proxy")
        self.socket, self.log = self.folder / "tandem.sock", self.folder / "tandem.log"
        self.config = self.folder / "tandem.ini"
        self.settings = self.defaults()
        self.change(settings or {})
        self.process = None
        OPEN.append(self)
        self.write()
        if start:
            self.start(wait)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print(self.last_words())
        self.close(check=kind is None)

    def last_words(self):
        """The end of its log, to be read beside a failure."""
        return f"---- {self.log}, its end:\n{tail(self.log, 80)}"

    def defaults(self):
        sections = {
            "tandem": {"threads": 2, "state_dir": self.folder / "state"},
            "admin": {"socket": self.folder / "state" / "tandem.sock"},
            "proxy": {"listen": [f"127.0.0.1:{self.port}", f"unix:{self.socket}"]},
            "monitor": {"user": "monitor", "password": "monitor", "interval": "200ms"},
            "replication": {"user": "repl", "password": "repl"},
        }
        for server in self.cluster.servers if self.cluster else []:
            sections[f"server {server.name}"] = {"address": server.address}
        return sections

    def change(self, settings):
        for section, names in settings.items():
            if names is None:
                self.settings.pop(section, None)
                continue
            mine = self.settings.setdefault(section, {})
            for name, value in names.items():
                if value is None:
                    mine.pop(name, None)
                else:
                    mine[name] = value

    def text(self):
        lines = []
        for section, names in self.settings.items():
            lines.append(f"[{section}]")
            for name, value in names.items():
                for one in value if isinstance(value, list) else [value]:
                    lines.append(f"{name} = {one}")
        return "\n".join(lines) + "\n"

    def write(self):
        self.config.write_text(self.text())
        self.config.chmod(0o600)

    def start(self, wait=True):
        self.readies = self.count_ready()
        wrapper = shlex.split(os.environ.get("TANDEM_WRAPPER", ""))
        self.process = Process([*wrapper, tandem_binary(), "-c", self.config], self.log)
        if wait:
            self.wait_started()
        return self

    def wait_started(self, timeout=30):
        """Until a real login works, a statement is answered, and everything else listens too."""
        def answered():
            if not self.process.running():
                raise SandboxError("tandem ended at once:\n" + tail(self.log))
            with self.connect(timeout=5) as client:
                return client.value("SELECT 1") == 1 and self.count_ready() > self.readies
        try:
            wait_for(answered, timeout, "Tandem to answer a login")
        except SandboxError as error:
            raise SandboxError(f"{error}\n{tail(self.log)}") from None

    def wait_reads_on(self, servers, timeout=20):
        """Until reads have been seen on each of these servers and on no other in between."""
        wanted = {server.server_id for server in servers}

        def spread():
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(self.connect(timeout=5)) for _ in range(4 * len(wanted))]
                return {client.value("SELECT @@server_id") for client in clients} == wanted
        wait_for(spread, timeout, f"reads on servers {sorted(wanted)}")

    def connect(self, user=None, password=None, **more):
        return rawmysql.Connection(port=self.port, user=self.user if user is None else user,
                                   password=self.password if password is None else password, **more)

    @property
    def pid(self):
        """The daemon itself, also behind a wrapper that forks."""
        return self.process.pid

    def memory(self):
        """Figures from /proc in bytes: VmRSS, VmHWM, RssAnon, and whatever else ends in kB there."""
        return proc_memory(self.pid)

    def cpu(self):
        """Seconds of CPU so far as (user, system), all threads."""
        return proc_cpu(self.pid)

    def reload(self, settings=None):
        """Writes the changed file and sends SIGHUP."""
        self.change(settings or {})
        self.write()
        self.process.signal(signal.SIGHUP)

    def count_ready(self):
        """How often it has said that it is ready."""
        return self.log_text().count("ready: proxy on") if self.log.exists() else 0

    def log_text(self):
        return self.log.read_text(errors="replace")

    def stop(self, number=signal.SIGTERM, patience=20):
        return self.process.end(number, patience) if self.process else 0

    def close(self, check=False):
        """Stops it and removes its files. With `check`, a bad exit status or a sanitizer's report is an error."""
        if self not in OPEN:
            return
        OPEN.remove(self)
        ran = self.process is not None
        was_running = ran and self.process.running()
        status = self.stop(signal.SIGINT, 20)
        text = self.log_text() if ran else ""
        report = SANITIZER.search(text)
        if keep := os.environ.get("TANDEM_KEEP_LOGS"):
            os.makedirs(keep, exist_ok=True)
            (pathlib.Path(keep) / f"tandem-{self.process.pid if ran else 0}.log").write_text(text)
        remove_folder(self.folder)
        if check and (report or (was_running and status != 0)):
            at = report.start() if report else max(0, len(text) - 3000)
            raise SandboxError(f"tandem ended with status {status}:\n{text[at:at + 6000]}")


def proc_memory(pid):
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if value.endswith("kB"):
            found[name] = int(value.split()[0]) * 1024
    return found


def proc_cpu(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(words[11]) / tick, int(words[12]) / tick


# ---- command line -----------------------------------------------------------------------------------------------------

def up(arguments):
    """Starts everything, says where it is, and waits for Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for option, number in {"--port": arguments.port, "--console": arguments.console, "--web": arguments.web}.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", number)) == 0:
                raise SandboxError(f"port {number} is in use: stop what listens there, or choose another with {option}")
    print("starting a primary and", arguments.replicas, "replica" + ("s" if arguments.replicas != 1 else ""), flush=True)
    port = arguments.port
    with contextlib.suppress(KeyboardInterrupt):
        with Cluster(replicas=arguments.replicas) as cluster:
            console = {"console": f"127.0.0.1:{arguments.console}", "user": "admin", "password": "admin"}
            install_people(cluster.primary)
            with Tandem(cluster, {"admin": console, **people_site(arguments.web)}, port=port) as tandem:
                tandem.wait_reads_on(cluster.replicas)
                tell(cluster, tandem, arguments.console, arguments.web)
                while tandem.process.running():
                    tandem.process.popen.wait()
                raise SandboxError("tandem ended:\n" + tail(tandem.log))


def install_people(server):
    """The tables of the sample site, with some people in them."""
    server.sql("CREATE DATABASE IF NOT EXISTS people CHARACTER SET utf8mb4")
    with server.connect(database="people") as client:
        for script in ("people.sql", "people-demo.sql"):
            for statement in statements((TOP / "sql" / script).read_text()):
                client.query(statement)


def people_site(port):
    """Settings that serve it, and the smallest app."""
    return {
        "web": {"listen": f"127.0.0.1:{port}"},
        "app": {"user": "app", "password": "app", "database": "people"},
        "site *": {},
        "route */": {"to": "app:people"},
        "route */hello": {"to": "app:hello"},
    }


def tell(cluster, tandem, console, web):
    print()
    for server in cluster.servers:
        role = "primary" if server is cluster.primary else "replica"
        print(f"  {server.name} {role}  127.0.0.1:{server.port}  server_id {server.server_id}  {server.folder}")
    print(f"  tandem       127.0.0.1:{tandem.port}  {tandem.socket}")
    print(f"  settings     {tandem.config}")
    print(f"  log          {tandem.log}")
    print(f"\nThe sample site, whose pages tell which server answered each statement; log in as demo with tandem-demo:\n")
    print(f"  http://127.0.0.1:{web}/\n  http://127.0.0.1:{web}/api/people\n  http://127.0.0.1:{web}/hello?name=you")
    print("\nA read says which server answered it; a transaction runs on the primary:\n")
    print(f"  mariadb -h127.0.0.1 -P{tandem.port} -uapp -papp -e 'select @@server_id; begin; select @@server_id'")
    print(f"  mariadb -h127.0.0.1 -P{tandem.port} -uapp -papp")
    ctl = f"{pathlib.Path(tandem_binary()).parent / 'tandemctl'} -s {tandem.folder / 'state' / 'tandem.sock'}"
    print("\nHow it is, and another primary; the same from any MySQL client, on the console:\n")
    for command in ("status", "sessions", "explain 'select 1'", "promote db2"):
        print(f"  {ctl} {command}")
    print(f"  mariadb -h127.0.0.1 -P{console} -uadmin -padmin -e 'show servers; promote db1'\n\nCtrl-C stops everything.", flush=True)


def run(arguments):
    """Runs a command beside a cluster and Tandem; it finds them in the environment."""
    with Cluster(replicas=arguments.replicas) as cluster, Tandem(cluster) as tandem:
        env = dict(os.environ, TANDEM_PORT=str(tandem.port), TANDEM_SOCKET=str(tandem.socket), TANDEM_PID=str(tandem.pid),
                   TANDEM_LOG=str(tandem.log),
                   **{f"{server.name.upper()}_PORT": str(server.port) for server in cluster.servers})
        sys.exit(subprocess.run(arguments.command, env=env).returncode)


def main():
    if sys.argv[1:] == ["reaper"]:
        return Reaper.main()
    parser = argparse.ArgumentParser(description="Real MariaDB servers with Tandem in front.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("up", help="start everything and wait for Ctrl-C")
    one.add_argument("--replicas", type=int, default=1)
    one.add_argument("--port", type=int, default=3307, help="Tandem's port (3307)")
    one.add_argument("--console", type=int, default=3308, help="port of the SQL console (3308)")
    one.add_argument("--web", type=int, default=8080, help="port of the sample site (8080)")
    two = verbs.add_parser("run", help="run a command with TANDEM_PORT, DB1_PORT, ... set")
    two.add_argument("--replicas", type=int, default=1)
    two.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    try:
        return {"up": up, "run": run}[arguments.verb](arguments)
    except SandboxError as error:
        sys.exit(f"sandbox: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
