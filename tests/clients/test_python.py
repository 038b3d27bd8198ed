"""PyMySQL and mysqlclient. Both follow DB-API, so each test runs with either."""
import datetime
import decimal
import threading

import pytest

import sandbox

DRIVERS = ("pymysql", "MySQLdb")
EVERY_BYTE = bytes(range(256))
FOUND_ROWS, MULTI_STATEMENTS = 2, 1 << 16	# capabilities of the protocol
EMOJI = "Zoë \U0001f389 漢字"


class Driver:
    """One driver and the address; connections made here are closed by the fixture."""

    def __init__(self, name, target, database):
        self.module = pytest.importorskip(name)
        self.cursors = pytest.importorskip(name + ".cursors")
        self.name, self.target, self.database = name, target, database
        self.made = []

    def connect(self, autocommit=True, **more):
        options = dict(host=self.target.host, port=self.target.port, user=self.target.user,
                       password=self.target.password, database=self.database, charset="utf8mb4")
        options.update(more)
        connection = self.module.connect(**options)
        self.made.append(connection)
        if autocommit:
            connection.autocommit(True)
        return connection

    def close(self):
        for connection in self.made:
            try:
                connection.close()
            except self.module.Error:
                pass	# a test has closed it already


@pytest.fixture(params=DRIVERS)
def driver(request, target):
    database = target.fresh_database("c_" + request.param.lower())
    made = Driver(request.param, target, database)
    yield made
    made.close()


def run(connection, statement, values=None):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


def error_of(driver, call, *args, **kwargs):
    with pytest.raises(driver.module.Error) as info:
        call(*args, **kwargs)
    return info.value.args[0], info.value.args[1]


def eventually_replica(driver, connection):
    wanted = driver.target.replica_id
    sandbox.wait_for(lambda: run(connection, "select @@server_id")[0][0] == wanted, 10,
                     "a read on the replica")


def test_writes_on_primary_reads_on_replica(driver):
    connection = driver.connect()
    run(connection, "create table t (id int auto_increment primary key, server int)")
    for _ in range(10):
        run(connection, "insert into t (server) values (@@server_id)")
    eventually_replica(driver, connection)
    rows = run(connection, "select distinct server from t")
    assert rows == ((driver.target.primary.server_id,),)
    assert run(connection, "select count(*) from t")[0][0] == 10


def test_reads_see_the_write_before_them(driver):
    connection = driver.connect()
    run(connection, "create table t (id int primary key)")
    for i in range(200):
        run(connection, "insert into t values (%s)", (i,))
        assert run(connection, "select count(*) from t")[0][0] == i + 1


def test_default_transaction_mode_stays_on_the_primary(driver):
    connection = driver.connect(autocommit=False)
    for _ in range(5):
        assert run(connection, "select @@server_id")[0][0] == driver.target.primary.server_id


def test_types_round_trip(driver):
    connection = driver.connect()
    run(connection, "create table t (i bigint, u bigint unsigned, d decimal(30,10), f double, "
        "dt datetime(6), da date, ti time, b blob, s varchar(100), n int, j json, y year, "
        "e enum('a','b'), bi bit(12))")
    values = (-2**63, 2**64 - 1, decimal.Decimal("12345678901234567890.0123456789"), 1.5,
              datetime.datetime(2024, 2, 29, 23, 59, 59, 123456), datetime.date(1000, 1, 1),
              datetime.timedelta(hours=100, minutes=5), EVERY_BYTE, EMOJI, None, '{"a": 1}',
              1999, "b")
    run(connection, "insert into t values (" + ", ".join(["%s"] * len(values)) + ", b'101')",
        values)
    row = run(connection, "select * from t")[0]
    assert row[:13] == values
    assert row[13] == b"\x00\x05"


@pytest.mark.parametrize("size", [251, 65535, 65536, 1 << 20, (1 << 24) - 20, (1 << 24) + 5])
def test_long_strings(driver, size):
    """Around the limits of length encoding, and over one packet of 16 MiB."""
    connection = driver.connect()
    text = ("0123456789abcdef" * (size // 16 + 1))[:size]
    run(connection, "create table t (id int, s longtext)")
    run(connection, "insert into t values (1, %s)", (text,))
    got = run(connection, "select s, length(s) from t")[0]
    assert got[1] == size and got[0] == text


def test_commit_rollback_savepoint(driver):
    connection = driver.connect(autocommit=False)
    run(connection, "create table t (id int)")
    run(connection, "insert into t values (1)")
    assert run(connection, "select @@server_id, count(*) from t") == (
        (driver.target.primary.server_id, 1),)
    connection.rollback()
    run(connection, "insert into t values (2)")
    run(connection, "savepoint s")
    run(connection, "insert into t values (3)")
    run(connection, "rollback to savepoint s")
    run(connection, "insert into t values (4)")
    connection.commit()
    assert run(connection, "select id from t order by id") == ((2,), (4,))
    other = driver.connect()
    assert run(other, "select id from t order by id") == ((2,), (4,))


def test_errors(driver):
    connection = driver.connect()
    run(connection, "create table t (id int primary key)")
    run(connection, "insert into t values (1)")
    code, text = error_of(driver, run, connection, "insert into t values (1)")
    assert code == 1062 and text == "Duplicate entry '1' for key 'PRIMARY'"
    assert error_of(driver, run, connection, "selekt 1")[0] == 1064
    code, text = error_of(driver, run, connection, "select * from missing")
    assert code == 1146 and text == "Table '%s.missing' doesn't exist" % driver.database
    assert error_of(driver, run, connection, "select nix from t")[0] == 1054
    assert run(connection, "select 1") == ((1,),)


def test_refused_logins(driver):
    assert error_of(driver, driver.connect, database="no_such_database") == (
        1049, "Unknown database 'no_such_database'")
    for user, password in (("app", "wrong"), ("app", ""), ("nobody_here", "x"), ("nobody", "")):
        assert (error_of(driver, driver.connect, user=user, password=password) ==
                driver.target.refusal(user, password))


def test_multi_statements(driver):
    connection = driver.connect(client_flag=MULTI_STATEMENTS)
    cursor = connection.cursor()
    cursor.execute("create table t (id int); insert into t values (1), (2); "
                   "select id from t order by id; select @@server_id")
    got = []
    while True:
        got.append(cursor.fetchall() if cursor.description else cursor.rowcount)
        if not cursor.nextset():
            break
    assert got == [0, 2, ((1,), (2,)), ((driver.target.primary.server_id,),)]
    cursor.close()


def test_multi_statement_error_in_the_middle(driver):
    connection = driver.connect(client_flag=MULTI_STATEMENTS)
    run(connection, "create table t (id int primary key)")
    cursor = connection.cursor()
    cursor.execute("insert into t values (1); insert into t values (1); insert into t values (2)")
    assert error_of(driver, cursor.nextset)[0] == 1062
    cursor.close()
    assert run(connection, "select id from t") == ((1,),)


def test_procedures(driver):
    connection = driver.connect()
    run(connection, "create table t (id int)")
    run(connection, "create procedure p(in a int, out b int) begin insert into t values (a); "
        "select a; select a + 1, 'two'; set b = a * 2; end")
    cursor = connection.cursor()
    cursor.callproc("p", (21, 0))
    got = []
    while True:
        if cursor.description:
            got.append(cursor.fetchall())
        if not cursor.nextset():
            break
    assert got == [((21,),), ((22, "two"),)]
    cursor.execute("select @_p_0, @_p_1")
    assert cursor.fetchall() == ((21, 42),)
    assert run(connection, "select id from t") == ((21,),)
    cursor.close()


def test_empty_results_while_a_routine_has_a_cursor_open(driver):
    """The server reports the routine's cursor in the end of each result, also of one without rows."""
    connection = driver.connect()
    run(connection, "create table t (s varchar(20))")
    run(connection, "insert into t values ('a'), ('b')")
    run(connection, "create procedure p() begin declare v varchar(20); "
        "declare c cursor for select s from t order by s; open c; fetch c into v; "
        "select v; select s from t where s = 'x'; show warnings; fetch c into v; select v; end")
    cursor = connection.cursor()
    cursor.execute("call p()")
    got = []
    while True:
        got.append(cursor.fetchall())
        if not cursor.nextset():
            break
    assert got[:4] == [(("a",),), (), (), (("b",),)]
    cursor.close()
    assert run(connection, "select 1") == ((1,),)


def test_load_data_local(driver, tmp_path):
    connection = driver.connect(local_infile=1)
    path = tmp_path / "rows.txt"
    path.write_text("".join("%d\tname %d\n" % (i, i) for i in range(20000)))
    run(connection, "create table t (id int, name varchar(30))")
    run(connection, "load data local infile '%s' into table t" % path)
    assert run(connection, "select count(*), max(id), max(length(name)) from t") == (
        (20000, 19999, 10),)
    code, _ = error_of(driver, run, connection, "load data local infile '/no/such' into table t")
    assert code in (2, 1017)


def test_last_insert_id_and_affected_rows(driver):
    connection = driver.connect()
    run(connection, "create table t (id int auto_increment primary key, v int)")
    cursor = connection.cursor()
    cursor.execute("insert into t (v) values (1), (2), (3)")
    assert (cursor.rowcount, cursor.lastrowid, connection.insert_id()) == (3, 1, 1)
    cursor.execute("select last_insert_id()")
    assert cursor.fetchone() == (1,)
    cursor.execute("update t set v = 2")
    assert cursor.rowcount == 2
    cursor.execute("select row_count()")
    assert cursor.fetchone() == (2,)
    cursor.execute("delete from t where id > 1")
    assert cursor.rowcount == 2
    cursor.close()


def test_found_rows_flag(driver):
    """An UPDATE that changes nothing counts the rows it found, when the client asked for that."""
    for flags, count in ((0, 0), (FOUND_ROWS, 2), (0, 0)):
        connection = driver.connect(client_flag=flags)
        run(connection, "create or replace table t (v int)")
        run(connection, "insert into t values (7), (7)")
        cursor = connection.cursor()
        cursor.execute("update t set v = 7")
        assert cursor.rowcount == count
        cursor.close()


def test_warnings(driver):
    connection = driver.connect()
    run(connection, "set sql_mode = ''")
    run(connection, "create table t (v tinyint)")
    run(connection, "insert into t values (300)")
    rows = run(connection, "show warnings")
    assert rows == (("Warning", 1264, "Out of range value for column 'v' at row 1"),)
    assert run(connection, "select cast('x' as signed)") == ((0,),)
    assert run(connection, "show warnings")[0][1] == 1292


def test_session_state(driver):
    connection = driver.connect()
    run(connection, "set @a = 5, sql_mode = 'ANSI_QUOTES', time_zone = '+03:00'")
    run(connection, "create temporary table tmp (id int)")
    run(connection, "insert into tmp values (1)")
    for _ in range(5):
        assert run(connection, 'select @a, @@sql_mode, @@time_zone, count(*) from "tmp"') == (
            (5, "ANSI_QUOTES", "+03:00", 1),)
    run(connection, "drop temporary table tmp")
    assert run(connection, "select @a, @@sql_mode, @@time_zone") == (
        (5, "ANSI_QUOTES", "+03:00"),)


def test_ping_select_db_and_thread_id(driver):
    connection = driver.connect()
    connection.ping()
    other = driver.target.fresh_database(driver.database + "_b")
    connection.select_db(other)
    assert run(connection, "select database()") == ((other,),)
    assert connection.thread_id() > 0


def test_kill_query(driver):
    """The statement ends early with 1317, from another session, by the id of the handshake."""
    victim, killer = driver.connect(), driver.connect()
    errors = []

    def sleep():
        try:
            errors.append(run(victim, "select sleep(60) as killed_%s" % driver.database))
        except driver.module.Error as e:
            errors.append(e.args[0])

    thread = threading.Thread(target=sleep)
    thread.start()
    servers = [driver.target.primary] + driver.target.cluster.replicas
    sandbox.wait_for(lambda: any(s.sql(
        "select 1 from information_schema.processlist where info like 'select sleep(60) as killed%'")
        for s in servers), 10, "the statement to run")
    run(killer, "kill query %d" % victim.thread_id())
    thread.join(20)
    # SLEEP gives back 1 when it is interrupted; any other statement fails with 1317.
    assert not thread.is_alive() and errors[0] in (1317, ((1,),))
    assert run(victim, "select 1") == ((1,),)


def test_kill_connection(driver):
    victim, killer = driver.connect(), driver.connect()
    run(killer, "kill %d" % victim.thread_id())
    with pytest.raises(driver.module.Error) as info:
        run(victim, "select 1")
    assert info.value.args[0] in (2006, 2013, 1927)
    code, text = error_of(driver, run, killer, "kill %d" % victim.thread_id())
    assert (code, text) == (1094, "Unknown thread id: %d" % victim.thread_id())


def test_large_result_unbuffered(driver):
    connection = driver.connect()
    cursor = connection.cursor(driver.cursors.SSCursor)
    cursor.execute("select seq, repeat('x', 500) from seq_1_to_100000")
    count = total = 0
    for number, text in cursor:
        count += 1
        total += number
        assert len(text) == 500
    assert (count, total) == (100000, 100000 * 100001 // 2)
    cursor.close()
    assert run(connection, "select 1") == ((1,),)


def test_unbuffered_left_in_the_middle(driver):
    connection = driver.connect()
    cursor = connection.cursor(driver.cursors.SSCursor)
    cursor.execute("select seq from seq_1_to_50000")
    assert cursor.fetchone() == (1,)
    cursor.close()
    assert run(connection, "select 2") == ((2,),)
    connection.close()


def test_latin1_client(driver):
    connection = driver.connect(charset="latin1")
    run(connection, "create table t (s varchar(20) character set utf8mb4)")
    run(connection, "insert into t values (%s)", ("Grüße",))
    assert run(connection, "select s, length(s), hex(s) from t") == (
        ("Grüße", 7, "4772C3BCC39F65"),)
    other = driver.connect()
    assert run(other, "select s from t") == (("Grüße",),)
    run(other, "set names latin1")
    assert run(other, "select @@character_set_client, @@collation_connection") == (
        ("latin1", "latin1_swedish_ci"),)


def test_executemany(driver):
    connection = driver.connect(autocommit=False)
    run(connection, "create table t (id int primary key, s varchar(20))")
    with connection.cursor() as cursor:
        cursor.executemany("insert into t values (%s, %s)", [(i, "r%d" % i) for i in range(2000)])
        assert cursor.rowcount == 2000
    connection.commit()
    assert run(connection, "select count(*), sum(id) from t") == ((2000, 1999000),)


def test_text_prepared_statements(driver):
    connection = driver.connect()
    run(connection, "create table t (id int, server int)")
    run(connection, "prepare w from 'insert into t values (?, @@server_id)'")
    run(connection, "prepare r from 'select id, server from t where id = ?'")
    for i in range(20):
        run(connection, "set @i = %s", (i,))
        run(connection, "execute w using @i")
        assert run(connection, "execute r using @i") == ((i, driver.target.primary.server_id),)
    run(connection, "deallocate prepare r")
    assert error_of(driver, run, connection, "execute r using @i")[0] == 1243


def test_change_user(driver):
    """Only mysqlclient has it."""
    if driver.name != "MySQLdb":
        pytest.skip("the driver has no change user")
    connection = driver.connect()
    run(connection, "set @a = 1")
    connection.change_user("changed", "other", driver.database)
    assert run(connection, "select substring_index(current_user(), '@', 1), @a, database()") == (
        ("changed", None, driver.database),)


def test_tls_on_and_off(driver):
    if driver.name == "pymysql":
        on, off = {"ssl": {"verify_mode": "none", "check_hostname": False}}, {}
    else:
        on, off = {"ssl": {"cipher": "DEFAULT"}}, {}
    for options in (on, off):
        connection = driver.connect(**options)
        assert run(connection, "select 1") == ((1,),)
        run(connection, "create or replace table t (s longblob)")
        run(connection, "insert into t values (repeat('y', 3000000))")
        assert len(run(connection, "select s from t")[0][0]) == 3000000
    if driver.name == "pymysql":
        assert driver.connect(**on)._secure and not driver.connect(**off)._secure
    elif not driver.target.split:
        assert run(driver.connect(**on), "show status like 'Ssl_cipher'")[0][1]


def test_many_short_connections(driver):
    for i in range(100):
        connection = driver.connect()
        assert run(connection, "select %s", (i,)) == ((i,),)
        connection.close()
