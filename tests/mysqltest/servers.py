"""A primary, a replica and Tandem, set up the way MariaDB's own test driver sets up its servers.

The settings come from the test package's default_mysqld.cnf. A template of both data directories
is made once per run; a fresh pair is a copy of it, so that a case that leaves a mess costs two
seconds and not the whole run.
"""
import os
import shutil
import signal
import socket
import subprocess
import time

import pymysql

CANDIDATE_DIRS = ("/usr/share/mysql/mysql-test", "/usr/share/mariadb/mariadb-test",
                  "/usr/share/mysql-test")
SHARE_DIRS = ("/usr/share/mariadb", "/usr/share/mysql")
START_SECONDS = 30
BASE_DATABASES = {"information_schema", "mysql", "performance_schema", "sys", "mtr", "test"}

# Harmless with any case, so that no server is restarted for the sake of these.
ALWAYS_OPTIONS = ["--loose-enable-partition", "--loose-sequence"]
# Durability is not what these cases are about, and it is half of their time.
SPEED_OPTIONS = [
    "--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0", "--sync-frm=0",
    "--skip-stack-trace", "--skip-core-file", "--loose-innodb-fast-shutdown=2",
    "--loose-skip-innodb-doublewrite", "--performance-schema=OFF",
]
REPLICATION_OPTIONS = ["--log-bin=master-bin", "--log-slave-updates", "--relay-log=slave-relay-bin"]


def find_suite_dir():
    """The folder of the test package that holds main/ and include/."""
    for path in CANDIDATE_DIRS:
        if os.path.isdir(os.path.join(path, "main")):
            return path
    raise SystemExit("mysqltest: package mariadb-test-data is not installed")


def find_program(*names):
    for name in names:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if path:
            return path
    raise SystemExit("mysqltest: none of %s is installed" % ", ".join(names))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def share_file(name):
    for folder in SHARE_DIRS:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise SystemExit("mysqltest: %s not found" % name)


def wait_until(condition, what, seconds=START_SECONDS, process=None):
    """Poll; a process that has ended can no longer make it true."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise RuntimeError("%s: the process ended with %s" % (what, process.returncode))
        if time.monotonic() > end:
            raise RuntimeError("%s: not within %d s" % (what, seconds))
        time.sleep(0.02)


def stop_process(process, sig=signal.SIGTERM, seconds=20):
    if process is None or process.poll() is not None:
        return
    process.send_signal(sig)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def mysqld_settings(suite_dir, vardir):
    """default_mysqld.cnf with its @ENV names filled in."""
    with open(os.path.join(suite_dir, "include", "default_mysqld.cnf")) as f:
        text = f.read()
    return text.replace("@ENV.MYSQLTEST_VARDIR", vardir).replace("@ENV.MYSQL_TEST_DIR", suite_dir)


class Server:
    """One mariadbd with its data below the pair's vardir, where the cases look for it."""

    def __init__(self, suite_dir, vardir, number):
        self.suite_dir, self.vardir, self.number = suite_dir, vardir, number
        self.dir = os.path.join(vardir, "mysqld.%d" % number)
        self.data = os.path.join(self.dir, "data")
        self.socket = os.path.join(vardir, "tmp", "mysqld.%d.sock" % number)
        self.log = os.path.join(vardir, "log", "mysqld.%d.err" % number)
        self.port = free_port()
        self.process = None

    def start(self, extra=()):
        cnf = os.path.join(self.dir, "my.cnf")
        with open(cnf, "w") as f:
            f.write(mysqld_settings(self.suite_dir, self.vardir))
        args = [find_program("mariadbd", "mysqld"), "--defaults-file=" + cnf,
                "--datadir=" + self.data, "--socket=" + self.socket, "--port=%d" % self.port,
                "--pid-file=" + os.path.join(self.dir, "pid"), "--bind-address=127.0.0.1",
                "--server-id=%d" % self.number, "--tmpdir=" + os.path.join(self.vardir, "tmp"),
                "--log-output=file", "--core-file"]
        if os.geteuid() == 0:
            args.append("--user=root")
        args += REPLICATION_OPTIONS + ALWAYS_OPTIONS + SPEED_OPTIONS + list(extra)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(args, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            cwd=self.dir)
        wait_until(self.answers, "mysqld.%d (see %s)" % (self.number, self.log),
                   process=self.process)

    def answers(self):
        try:
            self.connect().close()
            return True
        except pymysql.err.OperationalError:
            return False

    def connect(self, database=None):
        return pymysql.connect(unix_socket=self.socket, user="root", password="", autocommit=True,
                               database=database, charset="utf8mb4", read_timeout=60)

    def sql(self, *statements):
        """Run statements, give back the rows of the last."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall()
        finally:
            connection.close()

    def stop(self, sig=signal.SIGTERM):
        stop_process(self.process, sig)
        self.process = None


def bootstrap(suite_dir, server):
    """System tables as the test driver makes them: root without a password, time zones, no
    anonymous user; then its own helper schema, mtr."""
    names = ["mysql_system_tables.sql", "maria_add_gis_sp_bootstrap.sql",
             "mysql_performance_tables.sql", "mysql_system_tables_data.sql",
             "mysql_test_data_timezone.sql", "fill_help_tables.sql", "mysql_sys_schema.sql"]
    script = "create database mysql;\nuse mysql;\n"
    for name in names:
        with open(share_file(name), errors="surrogateescape") as f:
            script += f.read() + "\n"
    script += ("create database if not exists test character set latin1 "
               "collate latin1_swedish_ci;\n"
               "alter table mysql.gtid_slave_pos engine=Aria transactional=0;\n"
               "delete from mysql.global_priv where user='';\n"
               "create database mtr charset=latin1;\n")
    os.makedirs(server.data)
    args = [find_program("mariadbd", "mysqld"), "--no-defaults", "--bootstrap",
            "--datadir=" + server.data, "--default-storage-engine=myisam",
            "--innodb-log-file-size=10M", "--tmpdir=" + os.path.join(server.vardir, "tmp"),
            "--character-set-server=latin1", "--sync-frm=0"]
    if os.geteuid() == 0:
        args.append("--user=root")
    with open(server.log, "ab") as log:
        done = subprocess.run(args, input=script.encode(errors="surrogateescape"), stdout=log,
                              stderr=log, cwd=server.dir)
    if done.returncode:
        raise SystemExit("mysqltest: bootstrap failed, see " + server.log)


def make_vardir(suite_dir, vardir):
    for name in ("log", "tmp", "run", "mysqld.1", "mysqld.2"):
        os.makedirs(os.path.join(vardir, name), exist_ok=True)
    # A copy, not a link: secure-file-priv compares resolved paths.
    shutil.copytree(os.path.join(suite_dir, "std_data"), os.path.join(vardir, "std_data"),
                    symlinks=True, dirs_exist_ok=True)


def driver_script(text):
    """The driver's SQL files are almost what the command line client reads."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).replace("delimiter ||;", "delimiter ||")


def make_template(suite_dir, vardir):
    """Bootstrapped, cleanly stopped data, for copying. Returns its path."""
    make_vardir(suite_dir, vardir)
    server = Server(suite_dir, vardir, 1)
    bootstrap(suite_dir, server)
    server.start(["--skip-log-bin", "--innodb-fast-shutdown=1"])
    try:
        for name in ("mtr_warnings.sql", "mtr_check.sql"):
            with open(os.path.join(suite_dir, "include", name)) as f:
                script = driver_script(f.read())
            subprocess.run([find_program("mariadb", "mysql"), "--no-defaults", "-uroot",
                            "-S" + server.socket, "mtr"], input=script.encode(), check=True)
    finally:
        server.stop()
    return server.data


class Tandem:
    """The daemon in front of a pair, told nothing but where the servers are."""

    def __init__(self, binary, vardir, primary, replica):
        self.binary, self.vardir = binary, vardir
        self.primary, self.replica = primary, replica
        self.port = free_port()
        self.log = os.path.join(vardir, "log", "tandem.log")
        self.process = None

    def start(self):
        path = os.path.join(self.vardir, "tandem.ini")
        with open(path, "w") as f:
            f.write("[tandem]\nthreads = 2\nstate_dir = %s/tandem\n" % self.vardir +
                    "[proxy]\nlisten = 127.0.0.1:%d\n" % self.port +
                    # The cases check with one account what another one did.
                    "read_your_writes = global\n"
                    "[monitor]\nuser = root\npassword =\ninterval = 100ms\n")
            for server in (self.primary, self.replica):
                f.write("[server db%d]\naddress = 127.0.0.1:%d\n" % (server.number, server.port))
        os.chmod(path, 0o600)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", path], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        wait_until(self.splits, "Tandem (see %s)" % self.log, process=self.process)

    def splits(self):
        """True once a read comes back from the replica: from then on both servers are in use."""
        try:
            connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root",
                                         autocommit=True, connect_timeout=5, read_timeout=5)
        except pymysql.err.MySQLError:
            return False
        try:
            with connection.cursor() as cursor:
                cursor.execute("select @@server_id")
                return cursor.fetchone()[0] == self.replica.number
        except pymysql.err.MySQLError:
            return False
        finally:
            connection.close()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        stop_process(self.process, signal.SIGINT, 10)
        self.process = None


class Pair:
    """What one worker of the runner owns. `binary` None: the primary alone, for the straight run."""

    def __init__(self, suite_dir, vardir, template, binary=None):
        self.suite_dir, self.vardir, self.template = suite_dir, vardir, template
        self.binary = binary
        self.primary = self.replica = self.tandem = None
        self.options = None
        self.baseline = None
        self.client_cnf = os.path.join(vardir, "client.cnf")
        self.starts = 0
        self.replica_selects = 0
        make_vardir(suite_dir, vardir)
        with open(self.client_cnf, "w") as f:
            f.write("[client]\nloose-skip-ssl\n")

    @property
    def port(self):
        return self.tandem.port if self.tandem else self.primary.port

    def fresh(self, options=()):
        """New servers with new data, started with `options` besides the usual ones."""
        self.stop()
        self.starts += 1
        self.options = tuple(options)
        wanted = [o.replace("$MYSQLTEST_VARDIR", self.vardir) for o in options]
        self.primary = self.copy_server(1)
        self.primary.start(wanted)
        if self.binary:
            self.replica = self.copy_server(2)
            self.replica.start(wanted + ["--read-only"])
            self.replica.sql("change master to master_host='127.0.0.1', master_port=%d, "
                             "master_user='root', master_use_gtid=slave_pos, "
                             "master_connect_retry=1" % self.primary.port, "start slave")
            self.tandem = Tandem(self.binary, self.vardir, self.primary, self.replica)
            self.tandem.start()
        self.baseline = self.snapshot()

    def copy_server(self, number):
        server = Server(self.suite_dir, self.vardir, number)
        shutil.rmtree(server.data, ignore_errors=True)
        shutil.copytree(self.template, server.data)
        return server

    def stop(self):
        if self.tandem:
            self.tandem.stop()
        if self.replica and self.replica.process:
            self.count_replica_reads()
        for server in (self.replica, self.primary):
            if server:
                server.stop(signal.SIGKILL)	# the data is thrown away
        self.primary = self.replica = self.tandem = None

    def count_replica_reads(self):
        try:
            rows = self.replica.sql("show global status like 'Com_select'")
            self.replica_selects += int(rows[0][1])
        except pymysql.err.MySQLError:
            pass

    def snapshot(self):
        """What the driver's own check procedure shows; two of them compare equal when a case has
        left no trace."""
        connection = self.primary.connect("mtr")
        try:
            with connection.cursor() as cursor:
                cursor.execute("call mtr.check_testcase()")
                results = [cursor.fetchall()]
                while cursor.nextset():
                    if cursor.description:
                        results.append(cursor.fetchall())
        finally:
            connection.close()
        variables = {row[0]: row[1:] for row in results[0]}
        return variables, results[1:]

    def replica_works(self):
        rows = self.replica.sql("select 1 from information_schema.processlist "
                                "where command in ('Slave_SQL', 'Slave_worker')")
        return bool(rows)

    def clean(self):
        """Undo what a case left behind. False when only a fresh pair will do."""
        try:
            self.drop_leftovers()
            if self.tandem and not (self.tandem.alive() and self.replica_works()):
                return False
            return self.restored()
        except pymysql.err.MySQLError:
            return False

    def drop_leftovers(self):
        # The schema the driver creates is latin1; a case may have dropped or altered it.
        connection = self.primary.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("set session lock_wait_timeout=5, foreign_key_checks=0")
                cursor.execute("show databases")
                names = {row[0] for row in cursor.fetchall()}
                for name in (names - BASE_DATABASES) | {"test"}:
                    cursor.execute("drop database if exists `%s`" % name.replace("`", "``"))
                cursor.execute("create database test character set latin1 "
                               "collate latin1_swedish_ci")
                for table in ("table_stats", "column_stats", "index_stats"):
                    cursor.execute("delete from mysql.%s" % table)
        finally:
            connection.close()

    def restored(self):
        variables, rest = self.snapshot()
        old_variables, old_rest = self.baseline
        changed = [n for n in old_variables if variables.get(n) != old_variables[n]]
        if changed:
            self.restore_variables(changed, old_variables)
            variables, rest = self.snapshot()
        return variables == old_variables and rest == old_rest

    def restore_variables(self, names, old):
        connection = self.primary.connect()
        try:
            with connection.cursor() as cursor:
                for name in names:
                    value = old[name][0]
                    plain = value is None or value.lstrip("-").replace(".", "", 1).isdigit()
                    try:
                        cursor.execute("set global %s = %s" % (
                            name, ("null" if value is None else value) if plain
                            else connection.escape(value)))
                    except pymysql.err.MySQLError:
                        pass	# the second snapshot tells
        finally:
            connection.close()
