"""The mariadb command line client, as people type it and as scripts pipe to it, and mariadb-dump."""
import subprocess

import pytest

import sandbox
from conftest import need


class Cli:
    def __init__(self, target, database, *more):
        self.target, self.database, self.more = target, target.fresh_database(database), more

    def command(self, program="mariadb", user="app", password="app"):
        return [program, "--no-defaults", "-h", self.target.host, "-P", str(self.target.port),
                "-u", user, "-p" + password, *self.more]

    def raw(self, script, *args, **who):
        return subprocess.run(self.command(**who) + ["-N", "-B", *args, self.database],
                              input=script if isinstance(script, bytes) else script.encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)

    def rows(self, script, *args):
        done = self.raw(script, *args)
        assert done.returncode == 0, done.stderr.decode()
        return [line.split("\t") for line in done.stdout.decode().splitlines()]


@pytest.fixture(params=["plain", "tls", "compressed"])
def cli(request, target):
    need("mariadb")
    return Cli(target, "c_cli", *{"plain": ["--skip-ssl"], "tls": ["--ssl"],
                                  "compressed": ["--skip-ssl", "--compress"]}[request.param])


def test_writes_on_primary_reads_on_replica(cli):
    primary, replica = cli.target.primary.server_id, cli.target.replica_id
    rows = cli.rows("create table t (id int auto_increment primary key, server int);\n" +
                    "insert into t (server) values (@@server_id);\n" * 10 +
                    "select count(*), min(server), max(server) from t;\n")
    assert rows == [["10", str(primary), str(primary)]]
    sandbox.wait_for(lambda: cli.rows("select @@server_id;") == [[str(replica)]], 10,
                     "a read on the replica")
    assert cli.rows("begin; select @@server_id; commit;\n") == [[str(primary)]]


def test_each_read_sees_the_write_before_it(cli):
    script = "create table t (id int primary key);\n"
    for i in range(300):
        script += "insert into t values (%d);\nselect count(*) from t;\n" % i
    assert cli.rows(script) == [[str(i + 1)] for i in range(300)]


def test_errors_have_the_servers_numbers(cli):
    for statement, number in (("selekt 1;", 1064), ("select * from missing;", 1146),
                              ("use no_such_database;", 1049), ("select nix;", 1054)):
        done = cli.raw(statement)
        assert done.returncode == 1 and b"ERROR %d (" % number in done.stderr
    done = cli.raw("select 1;", password="wrong")
    assert cli.target.refusal("app", "wrong")[1].encode() in done.stderr


def test_force_goes_on_after_an_error(cli):
    done = cli.raw("create table t (id int);\ninsert into t values (1);\nselekt;\n"
                   "insert into t values (2);\nselect sum(id) from t;\n", "--force")
    assert done.stdout == b"3\n" and b"1064" in done.stderr


def test_delimiter_procedures_and_several_results(cli):
    rows = cli.rows("delimiter //\ncreate procedure p() begin select 1; select 2, 3; end//\n"
                    "delimiter ;\ncall p();\nselect 4;\n")
    assert rows == [["1"], ["2", "3"], ["4"]]


def test_every_byte(cli):
    rows = cli.rows("create table t (b blob);\n"
                    "insert into t values (unhex('%s'));\nselect hex(b), length(b) from t;\n" %
                    bytes(range(256)).hex())
    assert rows == [[bytes(range(256)).hex().upper(), "256"]]
    done = cli.raw("select b from t;", "--raw")
    assert done.stdout == bytes(range(256)) + b"\n"


def test_warnings_shown(cli):
    done = cli.raw("set sql_mode='';create table t (v tinyint);insert into t values (300);\n",
                   "--show-warnings")
    assert b"Warning (Code 1264)" in done.stdout + done.stderr


def test_load_data_local(cli, tmp_path):
    path = tmp_path / "rows"
    path.write_text("".join("%d\n" % i for i in range(100000)))
    rows = cli.rows("create table t (id int);\nload data local infile '%s' into table t;\n"
                    "select count(*), sum(id) from t;\n" % path, "--local-infile=1")
    assert rows == [["100000", "4999950000"]]


def test_large_result_quick(cli):
    done = cli.raw("select seq, repeat('x', 1000) from seq_1_to_50000;", "--quick")
    assert done.returncode == 0 and done.stdout.count(b"\n") == 50000
    assert len(done.stdout) > 50000 * 1000


def test_big_insert(cli):
    script = "create table t (s longtext);\ninsert into t values ('%s');\n" % ("x" * (20 << 20))
    rows = cli.rows(script + "select length(s) from t;\n", "--max-allowed-packet=64M")
    assert rows == [[str(20 << 20)]]


def test_status_and_commands(cli):
    done = cli.raw("status\n\\u %s\nselect database();\n" % cli.database)
    assert b"Server version" in done.stdout and cli.database.encode() in done.stdout


def test_dump_and_load(cli):
    cli.rows("set names utf8mb4;\n"
             "create table t (id int primary key, s varchar(100) character set utf8mb4, b blob);\n"
             "insert into t select seq, concat('row ', seq, ' \U0001f389'), unhex(md5(seq)) "
             "from seq_1_to_5000;\n"
             "create view v as select id from t;\n"
             "create procedure p() select 1;\n"
             "create trigger g before insert on t for each row set new.s = upper(new.s);\n")
    dump = subprocess.run(cli.command("mariadb-dump") +
                          ["--single-transaction", "--routines", "--triggers", "--hex-blob",
                           cli.database], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=60)
    assert dump.returncode == 0, dump.stderr
    before = cli.rows("checksum table t; select count(*) from v;")
    copy = Cli(cli.target, "c_cli_copy", *cli.more)
    assert copy.raw(dump.stdout).returncode == 0
    after = copy.rows("checksum table t; select count(*) from v; call p();")
    assert after[0][1] == before[0][1] and after[1:] == [["5000"], ["1"]]


def test_admin_and_show(cli):
    for program, args, wanted in (("mariadb-admin", ["ping"], b"mysqld is alive"),
                                  ("mariadb-admin", ["status"], b"Uptime"),
                                  ("mariadb-admin", ["processlist"], b"Id"),
                                  ("mariadb-show", [], b"information_schema"),
                                  ("mariadb-check", [cli.database], b"")):
        done = subprocess.run(cli.command(program) + args, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        assert done.returncode == 0 and wanted in done.stdout, (program, done.stdout, done.stderr)
