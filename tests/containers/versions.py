"""Servers and clients of other versions: the file trees of images.sh, and clusters of the servers in them.

A MariaDB tree needs no more than its programs in the environment, because sandbox.py asks there. MySQL is another thing: its own
data directory, its own words for replication, accounts of caching_sha2_password.
"""
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest.mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import rawmysql  # noqa: E402
import sandbox  # noqa: E402

ALL = {"bullseye": "MariaDB 10.5", "trixie": "MariaDB 11.8", "sid": "MySQL 9"}


class NoImage(Exception):
    pass


class Image:
    """The tree of one Debian release; made at first use."""

    def __init__(self, suite):
        self.suite, self.name = suite, ALL[suite]
        self.mysql = self.name.startswith("MySQL")
        made = subprocess.run([HERE / "images.sh", suite], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        words = made.stdout.strip().split(" ", 2)
        if made.returncode or words[:2] != [suite, "ready"]:
            raise NoImage(f"{self.name} ({suite}): {(made.stdout or made.stderr).strip()}")
        self.folder = pathlib.Path(words[2])

    def program(self, name):
        path = self.folder / "bin" / name
        if not path.exists():
            raise NoImage(f"{self.name} ({self.suite}) has no {name}")
        return str(path)

    def server_version(self):
        return subprocess.run([self.program("mysqld" if self.mysql else "mariadbd"), "--version"], capture_output=True, text=True,
                              check=True).stdout

    @contextlib.contextmanager
    def environment(self):
        """sandbox.py takes this version's programs meanwhile."""
        before = {name: os.environ.get(name) for name in ("MARIADBD", "PATH")}
        os.environ["MARIADBD"] = self.program("mysqld" if self.mysql else "mariadbd")
        os.environ["PATH"] = f"{self.folder / 'bin'}:{before['PATH'] or ''}"
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @contextlib.contextmanager
    def cluster(self, **more):
        with self.environment(), (MysqlCluster if self.mysql else MariadbCluster)(**more) as started:
            yield started


class MariadbCluster(sandbox.Cluster):
    """What tests need to say differently to MySQL."""

    def stop_applying(self):
        for server in self.replicas:
            server.stop_sql_thread()

    def start_applying(self):
        for server in self.replicas:
            server.start_sql_thread()
        self.wait_synced()


# ---- MySQL ------------------------------------------------------------------------------------------------------------

MYSQL_OPTIONS = {
    "character-set-server": "utf8mb4",
    "innodb-buffer-pool-size": "64M",
    "innodb-redo-log-capacity": "64M",
    "innodb-flush-log-at-trx-commit": "2",
    "mysqlx": "OFF",
    "skip-name-resolve": None,
    "log-bin": "binlog",
    "gtid-mode": "ON",
    "enforce-gtid-consistency": "ON",
    "max-connections": "500",
    "max-allowed-packet": "128M",
    "replica-net-timeout": "10",
    "log-bin-trust-function-creators": "ON",
    "local-infile": "ON",
    "secure-file-priv": "",
}
# monitor and repl come from the file that the documentation names.
MYSQL_ACCOUNTS = """
CREATE USER app@'%' IDENTIFIED BY 'app';
GRANT ALL ON *.* TO app@'%' WITH GRANT OPTION;
CREATE USER root@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE test;
"""


def statements_of(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


def mysql_accounts():
    return statements_of((sandbox.TOP / "sql" / "grants-mysql.sql").read_text()) + statements_of(MYSQL_ACCOUNTS)


def mysql_template():
    """As sandbox.template, for MySQL."""
    version = subprocess.run([sandbox.mariadbd(), "--version"], capture_output=True, text=True, check=True).stdout
    mark = hashlib.sha1((version + repr(mysql_accounts()) + repr(sorted(MYSQL_OPTIONS.items()))).encode()).hexdigest()[:12]
    cache = pathlib.Path(os.environ.get("TANDEM_SANDBOX_DIR") or tempfile.gettempdir()) / f"tandem-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    folder = cache / f"template-mysql-{mark}"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make_mysql_template(folder)
            (folder / "ready").touch()
    return folder / "data"


def make_mysql_template(folder):
    data, log, sock = folder / "data", folder / "install.log", folder / "sock"
    folder.mkdir(parents=True)
    with open(log, "ab") as out:
        made = subprocess.run([sandbox.mariadbd(), "--no-defaults", "--initialize-insecure", f"--datadir={data}",
                               "--innodb-redo-log-capacity=64M", *sandbox.as_user()],
                              stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    if made.returncode:
        raise sandbox.SandboxError(f"mysqld --initialize-insecure failed, see {log}\n" + sandbox.tail(log))
    options = {name: value for name, value in MYSQL_OPTIONS.items() if name != "log-bin"}
    process = sandbox.Process(
        [sandbox.mariadbd(), "--no-defaults", f"--datadir={data}", f"--socket={sock}", "--skip-networking",
         "--disable-log-bin", f"--pid-file={folder}/pid", *sandbox.as_options(options), *sandbox.as_user()], log)
    try:
        with sandbox.wait_for(lambda: rawmysql.Connection(unix=str(sock), user="root", password=""), 60,
                              "the MySQL template") as admin:
            for statement in mysql_accounts():
                admin.query(statement)
    finally:
        status = process.end(signal.SIGTERM, 60)
    if status:
        raise sandbox.SandboxError(f"the template server ended with {status}, see {log}")
    (data / "auto.cnf").unlink()  # the server's identity: each copy makes its own


class MysqlServer(sandbox.Server):
    def __init__(self, name, server_id):
        with unittest.mock.patch.object(sandbox, "template", mysql_template):
            super().__init__(name, server_id)
        self.options = {**MYSQL_OPTIONS, "server-id": server_id}

    def connect(self, user="app", password="app", **more):
        return super().connect(user, password, **{"tls": True, **more})

    def follow(self, primary, **more):
        self.sql("STOP REPLICA")
        self.sql(f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={primary.port}, SOURCE_USER='repl',"
                 " SOURCE_PASSWORD='repl', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=1,"
                 " GET_SOURCE_PUBLIC_KEY=1")
        self.sql("SET GLOBAL super_read_only = 1")
        self.sql("START REPLICA")

    def position(self):
        return self.value("SELECT @@global.gtid_executed")

    def stop_sql_thread(self):
        self.sql("STOP REPLICA SQL_THREAD")

    def start_sql_thread(self):
        self.sql("START REPLICA SQL_THREAD")

    def replicating(self):
        state = self.row("SHOW REPLICA STATUS")
        return state.get("Replica_IO_Running") == "Yes" and state.get("Replica_SQL_Running") == "Yes"

    def wait_position(self, position, timeout=30):
        if position and self.value(f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {timeout})") != 0:
            raise sandbox.SandboxError(f"{self.name} did not reach {position}: {self.row('SHOW REPLICA STATUS')}")


class MysqlCluster(MariadbCluster):
    def __init__(self, replicas=1):
        self.servers = []
        try:
            for number in range(1, replicas + 2):
                self.servers.append(MysqlServer(f"db{number}", number))
                self.servers[-1].start(wait=False)
            for server in self.servers:
                server.wait_started()
            for server in self.servers[1:]:
                server.follow(self.servers[0])
            self.wait_synced()
        except BaseException:
            self.close()
            raise

    def wait_synced(self, timeout=30):
        position = self.primary.position()
        for server in self.replicas:
            if server.running():
                server.wait_position(position, timeout)
