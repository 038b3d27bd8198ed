#!/usr/bin/python3
"""Writes what a real server answers into tests/corpus/walker and tests/corpus/wire, for the unit tests and the fuzzers.

	wire_capture.py PORT USER PASSWORD     (any server; the account needs all rights, the schema wire_capture is made and dropped)

A walker file is a head of five bytes - reply kind, 1 for DEPRECATE_EOF (and 2 for any first number), the sequence number to go
on with after a LOCAL INFILE, the shift of sequence numbers, a seed for the splits - and the reply as it came over the wire.
"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import rawmysql as raw  # noqa: E402

RESULT, PREPARE, FIELDS, ROWS, ONE, TEXT, STREAM = range(7)
COM_BINLOG_DUMP_NON_BLOCK = 1

SETUP = """
create or replace schema wire_capture
create or replace table wire_capture.t (id int primary key, name varchar(20), at datetime) engine=innodb
insert into wire_capture.t values (1,'one','2024-01-01 10:00:00'),(2,null,null),(3,'three','2024-01-01 12:30:00'),(4,'','2024-02-29')
create procedure wire_capture.two() begin select 1 as a; select id, name from wire_capture.t; end
create procedure wire_capture.out_param(in a int, out b int) begin select a as seen; set b = a + 1; end
create procedure wire_capture.late_error() begin select 1 as a; signal sqlstate '45000' set message_text = 'late'; end
"""


class Recorder(raw.Connection):
    """Keeps every byte that arrived since start()."""

    def fill(self, count):
        before = len(self.buffer)
        super().fill(count)
        self.record += self.buffer[before:]

    def send_bytes(self, data):
        self.sent += data
        super().send_bytes(data)

    def __init__(self, **options):
        self.record, self.sent = bytearray(), bytearray()
        super().__init__(**options)

    def start(self):
        assert not self.buffer
        self.record, self.sent = bytearray(), bytearray()


def packets_until_end(c):
    """COM_BINLOG_DUMP: everything up to EOF or ERR."""
    while True:
        packet = c.read_packet()
        if packet[0] in (0xfe, 0xff):
            return


def one_packet(c, code, data=b""):
    c.command(code, data)
    return c.read_packet()


def cases():
    """name, kind, what to do before recording (gives a value), what to record."""
    query = lambda name, text: (name, RESULT, None, lambda c, _: c.query_all(text))
    prepare = lambda name, text: (name, PREPARE, None, lambda c, _: c.prepare(text))
    execute = lambda name, text, params=(), cursor=0: (
        name, RESULT, lambda c: c.prepare(text), lambda c, s: c.execute_all(s, params, cursor))
    simple = lambda name, code, data=b"": (name, ONE, None, lambda c, _: one_packet(c, code, data))

    def opened(c):
        statement = c.prepare("select id, name from t order by id")
        return statement, c.execute(statement, (), 1).columns

    def drained(c):
        statement, columns = opened(c)
        c.fetch(statement, 100, columns)
        return statement, columns

    yield query("ok", "set @a = 1")
    yield query("ok_tracked", "use wire_capture")
    yield query("ok_info", "update t set name = 'x' where id = 2")
    yield query("select", "select id, name, at from t order by id")
    yield query("select_nulls", "select null as a, 1 as b union all select 2, null")
    yield query("select_none", "select id from t where id > 100")
    yield query("select_long_column", "select repeat('x', 300) as a, repeat('y', 3000) as b")
    yield query("select_many_columns", "select " + ",".join(["1 as a"] * 255))
    yield query("select_260_rows", "select seq as s from seq_1_to_260" if MARIADB else
                "with recursive n as (select 1 as s union all select s + 1 from n where s < 260) select s from n")
    yield query("insert_returning", "insert into t (id, name) values (10, 'ten'), (11, 'eleven') returning id, name")
    yield query("show_warnings", "show warnings")
    yield query("error", "select * from missing")
    yield query("error_after_rows", "select (select b.id from t b where b.id <= a.id) from t a order by a.id")
    yield query("multi", "select 1 as a; set @b = 2; select id from t where id > 100; update t set name = 'y' where id = 2")
    yield query("multi_error", "select 1 as a; select * from missing; select 2 as b")
    yield query("call", "call two()")
    yield query("call_late_error", "call late_error()")
    yield ("infile", RESULT, None, lambda c, _: c.query(
        "load data local infile 'rows' into table t fields terminated by ',' (id, name)", lambda name: b"20,a\n21,b\n"))
    yield ("infile_empty", RESULT, None, lambda c, _: c.query(
        "load data local infile 'rows' into table t fields terminated by ','", lambda name: b""))
    yield prepare("prepare_nothing", "do 1")
    yield prepare("prepare_columns", "select id, name from t")
    yield prepare("prepare_params", "update t set name = ? where id = ?")
    yield prepare("prepare_both", "select id, name from t where id = ? or name = ?")
    yield prepare("prepare_error", "select id from missing")
    yield execute("execute_ok", "update t set name = ? where id = ?", ("z", 2))
    yield execute("execute_rows", "select id, name, at from t order by id")
    yield execute("execute_none", "select id from t where id > 100")
    yield execute("execute_error_after_rows", "select (select b.id from t b where b.id <= a.id) from t a order by a.id")
    yield execute("execute_cursor", "select id, name from t order by id", (), 1)
    yield execute("execute_cursor_none", "select id, name from t where id > 100", (), 1)
    yield execute("execute_cursor_no_rows_possible", "update t set name = 'q' where id = 2", (), 1)
    yield execute("execute_cursor_show", "show tables", (), 1)
    yield execute("call_cursor", "call two()", (), 1)
    yield execute("call_out_params", "call out_param(?, ?)", (4, 0))
    yield ("fetch_some", ROWS, opened, lambda c, s: c.fetch(s[0], 2, s[1]))
    yield ("fetch_all", ROWS, opened, lambda c, s: c.fetch(s[0], 100, s[1]))
    yield ("fetch_drained", ROWS, drained, lambda c, s: c.fetch(s[0], 1, s[1]))
    yield ("fields", FIELDS, None, lambda c, _: c.field_list("t"))
    yield ("fields_none", FIELDS, None, lambda c, _: c.field_list("t", "nothing"))
    yield ("fields_error", FIELDS, None, lambda c, _: c.field_list("missing"))
    yield simple("ping", raw.COM_PING)
    yield simple("init_db", raw.COM_INIT_DB, b"wire_capture")
    yield simple("init_db_error", raw.COM_INIT_DB, b"missing")
    yield simple("set_option", raw.COM_SET_OPTION, b"\0\0")
    yield simple("reset_statement_error", raw.COM_STMT_RESET, struct.pack("<I", 999))
    yield simple("reset_connection", raw.COM_RESET_CONNECTION)
    yield simple("debug", 0x0d)
    yield ("statistics", TEXT, None, lambda c, _: c.statistics())
    yield ("process_info", RESULT, None, lambda c, _: (c.command(raw.COM_PROCESS_INFO), c.read_results()))


def write(folder, name, data):
    os.makedirs(os.path.join(HERE, folder), exist_ok=True)
    with open(os.path.join(HERE, folder, name), "wb") as out:
        out.write(data)


def infile_sequence(record):
    """After a file the server's numbers go on from the client's, which sent the file and an empty packet."""
    if record[4] != 0xfb:
        return 0
    second = 4 + int.from_bytes(record[:3], "little")
    return record[second + 3] if second < len(record) else 0


def capture(connect, mode, deprecate_eof):
    for name, kind, before, act in cases():
        c = connect()
        value = before(c) if before else None
        c.start()
        try:
            act(c, value)
        except raw.MysqlError:
            pass
        except raw.ProtocolError as why:
            print(f"{name}.{mode}: {why}")
        assert not c.buffer, name
        if not c.record:
            continue
        head = bytes([kind, deprecate_eof, infile_sequence(c.record), 0, len(name)])
        write("walker", f"{name}.{mode}", head + bytes(c.record))
        c.close()


def capture_stream(connect, deprecate_eof, mode):
    c = connect()
    c.query("set @master_binlog_checksum = 'NONE', @mariadb_slave_capability = 4")
    c.query("flush logs")
    c.query("insert into t (id) values (100)")
    log = c.query("show master status").rows[0]
    c.start()
    c.command(raw.COM_BINLOG_DUMP,
              struct.pack("<IHI", 4, COM_BINLOG_DUMP_NON_BLOCK, 4711) + log[0].encode())
    packets_until_end(c)
    write("walker", f"stream.{mode}", bytes([STREAM, deprecate_eof, 0, 0, 9]) + bytes(c.record))


# The parsers of tests/fuzz/fuzz_wire.c by number; an input is the number, capabilities and a payload.
GREETING, LOGIN, CHANGE_USER, AUTH_SWITCH, OK, TRACK, ERR, SMALL, STORED, READER = range(10)


def payloads(stream):
    while stream:
        end = 4 + int.from_bytes(stream[:3], "little")
        yield bytes(stream[4:end])
        stream = stream[end:]


def write_wire(name, parser, capabilities, payload):
    write("wire", name, bytes([parser]) + struct.pack("<Q", capabilities) + payload)


def capture_packets(connect, user, password):
    """Single packets of the connection phase and of replies, as inputs of fuzz_wire."""
    everything = (1 << 64) - 1
    c = connect(plugin="mysql_clear_password", attributes={"_os": "Linux", "program_name": "capture"})
    came, went = list(payloads(c.record)), list(payloads(c.sent))
    write_wire("greeting", GREETING, 0, came[0])
    write_wire("login", LOGIN, everything, went[0])
    write_wire("login_without_plugins", LOGIN, raw.CLIENT_PROTOCOL_41 | raw.CLIENT_SECURE_CONNECTION, went[0])
    write_wire("auth_switch", AUTH_SWITCH, 0, came[1])
    write_wire("login_ok", OK, raw.CLIENT_SESSION_TRACK, came[-1])
    c.close()
    c = connect()
    c.start()
    c.change_user(user, password, "wire_capture")
    write_wire("change_user", CHANGE_USER, c.capabilities, next(payloads(c.sent)))
    c.query("set session session_track_system_variables = 'autocommit,sql_mode', session_track_state_change = 1, "
            "session_track_transaction_info = 'CHARACTERISTICS'")
    for name, text in (("variables", "set autocommit = 0, sql_mode = ''"), ("schema", "use wire_capture"),
                       ("transaction", "start transaction read only"), ("info", "update t set name = id")):
        c.start()
        try:
            c.query(text)
        except raw.MysqlError:
            pass
        packet = next(payloads(c.record))
        write_wire("ok_" + name, OK if packet[0] == 0 else ERR, raw.CLIENT_SESSION_TRACK, packet)
        if packet[0] == 0 and len(packet) > 9:
            reader = raw.Reader(packet, 1)
            reader.lenenc(), reader.lenenc(), reader.uint(4), reader.lenenc_bytes()
            write_wire("track_" + name, TRACK, 0, reader.lenenc_bytes() if reader.left else b"")
    c.abort()
    write_wire("tls_request", LOGIN, everything, struct.pack("<IIB23x", raw.MODERN | raw.CLIENT_SSL, 1 << 24, 45))
    write_wire("err", ERR, 0, b"\xff\x15\x04#28000Access denied for user 'app'@'localhost' (using password: YES)")
    write_wire("err_without_state", ERR, 0, b"\xff\x10\x04Too many connections")
    write_wire("prepared", SMALL, 0, struct.pack("<BIHHBH", 0, 1, 2, 3, 0, 0))
    write_wire("eof", SMALL, 0, b"\xfe\0\0\2\0")
    write_wire("native_hash", STORED, 0, b"*D821809F681A40A6E379B50D0463EFAE20BDD122")
    write_wire("ed25519_key", STORED, 0, b"ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY")
    write_wire("reads", READER, 0o1234567654321, b"\xfc\2\0ab\3abc\0end\0\xfd\1\0\0z" * 3)


def main():
    global MARIADB
    port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    admin = raw.Connection(port=port, user=user, password=password)
    MARIADB = "MariaDB" in admin.server_version
    for mode, capabilities in (("modern", raw.MODERN), ("classic", raw.CLASSIC)):
        for statement in SETUP.strip().splitlines():
            admin.query(statement)
        connect = lambda **options: Recorder(port=port, user=user, password=password, database="wire_capture",
                                             capabilities=capabilities, **options)
        deprecate_eof = mode == "modern"
        capture(connect, mode, deprecate_eof)
        capture_stream(connect, deprecate_eof, mode)
        if deprecate_eof:
            capture_packets(connect, user, password)
    admin.query("drop schema wire_capture")


main()
