"""A small MySQL client that speaks the protocol by hand, for tests.

It shows what drivers hide: the capabilities chosen at login, the packets as they are, status flags, session tracking, which
packet came when, several commands sent before the first answer, and packets sent in pieces. Only the standard library.
"""
import collections
import hashlib
import socket
import ssl
import struct

CLIENT_LONG_PASSWORD = 1
CLIENT_FOUND_ROWS = 1 << 1
CLIENT_LONG_FLAG = 1 << 2
CLIENT_CONNECT_WITH_DB = 1 << 3
CLIENT_COMPRESS = 1 << 5
CLIENT_LOCAL_FILES = 1 << 7
CLIENT_PROTOCOL_41 = 1 << 9
CLIENT_SSL = 1 << 11
CLIENT_TRANSACTIONS = 1 << 13
CLIENT_SECURE_CONNECTION = 1 << 15
CLIENT_MULTI_STATEMENTS = 1 << 16
CLIENT_MULTI_RESULTS = 1 << 17
CLIENT_PS_MULTI_RESULTS = 1 << 18
CLIENT_PLUGIN_AUTH = 1 << 19
CLIENT_CONNECT_ATTRS = 1 << 20
CLIENT_SESSION_TRACK = 1 << 23
CLIENT_DEPRECATE_EOF = 1 << 24

# What the mariadb command line and the older drivers ask for: no DEPRECATE_EOF, no tracking.
CLASSIC = (CLIENT_LONG_PASSWORD | CLIENT_LONG_FLAG | CLIENT_PROTOCOL_41 | CLIENT_TRANSACTIONS
           | CLIENT_SECURE_CONNECTION | CLIENT_MULTI_STATEMENTS | CLIENT_MULTI_RESULTS
           | CLIENT_PS_MULTI_RESULTS | CLIENT_PLUGIN_AUTH | CLIENT_LOCAL_FILES)
MODERN = CLASSIC | CLIENT_SESSION_TRACK | CLIENT_DEPRECATE_EOF

STATUS_IN_TRANS = 1
STATUS_AUTOCOMMIT = 2
STATUS_MORE_RESULTS = 8
STATUS_CURSOR_EXISTS = 64
STATUS_LAST_ROW_SENT = 128
STATUS_IN_TRANS_READONLY = 8192
STATUS_SESSION_STATE_CHANGED = 1 << 14

COM_QUIT, COM_INIT_DB, COM_QUERY, COM_FIELD_LIST = 1, 2, 3, 4
COM_STATISTICS, COM_PROCESS_INFO, COM_PROCESS_KILL, COM_PING = 9, 10, 12, 14
COM_CHANGE_USER, COM_BINLOG_DUMP, COM_REGISTER_SLAVE = 17, 18, 21
COM_STMT_PREPARE, COM_STMT_EXECUTE, COM_STMT_SEND_LONG_DATA = 22, 23, 24
COM_STMT_CLOSE, COM_STMT_RESET, COM_SET_OPTION, COM_STMT_FETCH = 25, 26, 27, 28
COM_RESET_CONNECTION, COM_STMT_BULK_EXECUTE = 31, 250

MAX_PACKET = 0xffffff


class MysqlError(Exception):
    """An ERR packet."""

    def __init__(self, number, state, text):
        super().__init__(f"{number} ({state}): {text}")
        self.number, self.state, self.text = number, state, text


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow, or went away (text 'closed')."""


Column = collections.namedtuple("Column", "schema table name org_name charset length type flags decimals")
Statement = collections.namedtuple("Statement", "id params columns warnings")


class Result:
    """One result: an OK (columns is None) or a result set."""

    def __init__(self):
        self.columns = self.rows = None
        self.affected = self.insert_id = self.warnings = self.status = 0
        self.info = ""
        self.tracked = []          # (type, name, value) as they came
        self.eof_packets = 0       # how many EOF packets this result had (classic: 2)

    @property
    def variables(self):
        return {name: value for kind, name, value in self.tracked if kind == 0}

    @property
    def value(self):
        return self.rows[0][0]

    def __repr__(self):
        what = f"{self.affected} affected" if self.columns is None else f"{self.rows}"
        return f"<Result {what} status={self.status:#x} warnings={self.warnings}>"


class Reader:
    """Takes a payload apart."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        if self.at + count > len(self.data):
            raise ProtocolError("packet too short")
        self.at += count
        return self.data[self.at - count:self.at]

    def uint(self, size):
        return int.from_bytes(self.take(size), "little")

    def lenenc(self):
        first = self.uint(1)
        if first < 0xfb:
            return first
        return self.uint({0xfc: 2, 0xfd: 3, 0xfe: 8}[first])

    def lenenc_bytes(self):
        return self.take(self.lenenc())

    def zero(self):
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at:end]
        self.at = end + 1
        return text

    def rest(self):
        return self.take(len(self.data) - self.at)

    @property
    def left(self):
        return len(self.data) - self.at


def lenenc(number):
    if number < 0xfb:
        return bytes([number])
    if number < 1 << 16:
        return b"\xfc" + struct.pack("<H", number)
    if number < 1 << 24:
        return b"\xfd" + number.to_bytes(3, "little")
    return b"\xfe" + struct.pack("<Q", number)


def lenenc_bytes(text):
    return lenenc(len(text)) + text


def xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right))


def native_proof(password, scramble):
    if not password:
        return b""
    one = hashlib.sha1(password).digest()
    return xor(one, hashlib.sha1(scramble[:20] + hashlib.sha1(one).digest()).digest())


def sha2_proof(password, scramble):
    if not password:
        return b""
    one = hashlib.sha256(password).digest()
    return xor(one, hashlib.sha256(hashlib.sha256(one).digest() + scramble[:20]).digest())


def parse_tracked(data):
    """Session state changes of an OK packet as (type, name, value)."""
    reader, found = Reader(data), []
    while reader.left:
        kind = reader.uint(1)
        body = Reader(reader.lenenc_bytes())
        if kind == 0:
            while body.left:
                found.append((0, body.lenenc_bytes().decode(), body.lenenc_bytes().decode("latin-1")))
        elif kind == 2:
            found.append((2, "state", body.rest().decode("latin-1")))
        else:
            found.append((kind, {1: "schema", 3: "gtids", 4: "transaction", 5: "state"}.get(kind, "?"),
                          body.lenenc_bytes().decode("latin-1") if body.left else ""))
    return found


class Connection:
    """One connection. query() and friends do the usual; send_* and read_* are the halves, for pipelining."""

    def __init__(self, host="127.0.0.1", port=3306, user="app", password="app", database=None, unix=None,
                 capabilities=MODERN, tls=False, charset=45, plugin=None, attributes=None, timeout=30, login=True, source=None, before=b""):
        self.user, self.password = user.encode(), password.encode()
        self.timeout, self.buffer, self.seq = timeout, bytearray(), 0
        self.extended = 0
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(unix)
        else:
            self.socket = socket.create_connection((host, port), timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(before)  # what a load balancer says first
        self.wanted, self.tls, self.charset = capabilities, tls, charset
        self.database, self.plugin, self.attributes = database, plugin, attributes
        self.status = self.login_ok = None
        if login:
            try:
                self.greet()
                self.login()
            except BaseException:
                self.socket.close()
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- packets

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, payload, seq=0):
        """Sends a payload as one packet, or as several when it is 16 MiB or longer."""
        self.send_bytes(self.framed(payload, seq))
        self.seq = (seq + len(payload) // MAX_PACKET + 1) & 0xff

    @staticmethod
    def framed(payload, seq=0):
        out = bytearray()
        while True:
            piece, payload = payload[:MAX_PACKET], payload[MAX_PACKET:]
            out += len(piece).to_bytes(3, "little") + bytes([seq & 0xff]) + piece
            seq += 1
            if len(piece) < MAX_PACKET:
                return bytes(out)

    def fill(self, count):
        while len(self.buffer) < count:
            data = self.socket.recv(max(65536, count - len(self.buffer)))
            if not data:
                raise ProtocolError("closed")
            self.buffer += data

    def read_packet(self):
        """One whole payload; checks the sequence number."""
        payload = bytearray()
        while True:
            self.fill(4)
            size, seq = int.from_bytes(self.buffer[:3], "little"), self.buffer[3]
            if seq != self.seq:
                raise ProtocolError(f"sequence number {seq}, expected {self.seq}")
            self.seq = (self.seq + 1) & 0xff
            self.fill(4 + size)
            payload += self.buffer[4:4 + size]
            del self.buffer[:4 + size]
            if size < MAX_PACKET:
                return bytes(payload)

    def closed_by_peer(self):
        """Waits for the end of the connection; True when it came without further bytes."""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    # ---- login

    def greet(self):
        packet = self.read_packet()
        if packet[:1] == b"\xff":
            raise self.error(packet)
        reader = Reader(packet)
        self.protocol = reader.uint(1)
        self.server_version = reader.zero().decode()
        self.thread_id = reader.uint(4)
        scramble = reader.take(8)
        reader.take(1)
        offered = reader.uint(2)
        self.server_charset = reader.uint(1)
        self.status = reader.uint(2)
        offered |= reader.uint(2) << 16
        length = reader.uint(1)
        reader.take(6)
        self.server_extended = reader.uint(4)
        if offered & CLIENT_SECURE_CONNECTION:
            scramble += reader.take(max(13, length - 8))[:12]
        self.server_plugin = reader.zero().decode() if offered & CLIENT_PLUGIN_AUTH else "mysql_native_password"
        self.scramble, self.offered = scramble, offered

    def start_tls(self, seq):
        self.send(struct.pack("<IIB23x", self.capabilities, 1 << 30, self.charset), seq)
        context = self.tls if isinstance(self.tls, ssl.SSLContext) else ssl._create_unverified_context()
        self.socket = context.wrap_socket(self.socket)

    def login(self):
        plugin = self.plugin or self.server_plugin
        self.capabilities = (self.wanted & self.offered) | (self.wanted & CLIENT_PROTOCOL_41)
        self.capabilities |= CLIENT_SSL if self.tls else 0
        self.capabilities |= CLIENT_CONNECT_WITH_DB if self.database is not None else 0
        self.capabilities |= CLIENT_CONNECT_ATTRS if self.attributes else 0
        seq = 1
        if self.tls:
            self.start_tls(seq)
            seq = 2
        body = struct.pack("<IIB23x", self.capabilities, 1 << 30, self.charset) + self.user + b"\0"
        body += bytes([len(self.proof(plugin, self.scramble))]) + self.proof(plugin, self.scramble)
        if self.database is not None:
            body += self.database.encode() + b"\0"
        if self.capabilities & CLIENT_PLUGIN_AUTH:
            body += plugin.encode() + b"\0"
        if self.attributes:
            body += lenenc_bytes(b"".join(lenenc_bytes(k.encode()) + lenenc_bytes(v.encode())
                                          for k, v in self.attributes.items()))
        self.send(body, seq)
        self.login_ok = self.finish_login(plugin)

    def proof(self, plugin, scramble):
        if plugin == "caching_sha2_password":
            return sha2_proof(self.password, scramble)
        if plugin == "mysql_clear_password":
            return self.password + b"\0"
        return native_proof(self.password, scramble)

    def finish_login(self, plugin):
        while True:
            packet = self.read_packet()
            if packet[0] == 0:
                return self.ok(packet)
            if packet[0] == 0xff:
                raise self.error(packet)
            if packet[0] == 0xfe:
                reader = Reader(packet, 1)
                plugin, scramble = reader.zero().decode(), reader.rest()[:20]
                self.send(self.proof(plugin, scramble), self.seq)
            elif packet == b"\x01\x04":
                if not self.tls:
                    raise ProtocolError("the full exchange of caching_sha2_password needs TLS here")
                self.send(self.password + b"\0", self.seq)
            elif packet != b"\x01\x03":
                raise ProtocolError(f"unexpected login packet {packet[:20]!r}")

    # ---- replies

    def error(self, packet):
        number = struct.unpack_from("<H", packet, 1)[0]
        rest = packet[3:]
        state = ""
        if rest[:1] == b"#":
            state, rest = rest[1:6].decode(), rest[6:]
        return MysqlError(number, state, rest.decode("utf-8", "replace"))

    def ok(self, packet):
        result = Result()
        reader = Reader(packet, 1)
        result.affected, result.insert_id = reader.lenenc(), reader.lenenc()
        result.status, result.warnings = reader.uint(2), reader.uint(2)
        if self.capabilities & CLIENT_SESSION_TRACK:
            if reader.left:
                result.info = reader.lenenc_bytes().decode("latin-1")
            if result.status & STATUS_SESSION_STATE_CHANGED and reader.left:
                result.tracked = parse_tracked(reader.lenenc_bytes())
        elif reader.left:
            result.info = reader.lenenc_bytes().decode("latin-1")
        if reader.left:
            raise ProtocolError("bytes after the OK packet")
        self.status = result.status
        return result

    def is_end(self, packet):
        if packet[:1] != b"\xfe":
            return False
        return len(packet) < MAX_PACKET if self.deprecate_eof else len(packet) < 9

    @property
    def deprecate_eof(self):
        return bool(self.capabilities & CLIENT_DEPRECATE_EOF)

    def end_of_rows(self, packet, result):
        if self.deprecate_eof:
            end = self.ok(packet)
            result.tracked, result.info = end.tracked, end.info
            result.affected, result.insert_id = end.affected, end.insert_id
        else:
            if len(packet) != 5:
                raise ProtocolError(f"EOF of {len(packet)} bytes")
            end = Result()
            end.warnings, end.status = struct.unpack_from("<HH", packet, 1)
            result.eof_packets += 1
        result.warnings, result.status = end.warnings, end.status
        self.status = end.status
        return result

    def read_columns(self, count, result):
        result.columns = [self.column(self.read_packet()) for _ in range(count)]
        if not self.deprecate_eof:
            packet = self.read_packet()
            if not self.is_end(packet):
                raise ProtocolError("no EOF after the columns")
            result.eof_packets += 1
            result.status = struct.unpack_from("<H", packet, 3)[0]

    @staticmethod
    def column(packet):
        reader = Reader(packet)
        reader.lenenc_bytes()
        schema, table, _, name, org = (reader.lenenc_bytes().decode("utf-8", "replace") for _ in range(5))
        # MariaDB's extended metadata is never asked for, so the fixed part follows at once.
        reader.lenenc()
        return Column(schema, table, name, org, reader.uint(2), reader.uint(4), reader.uint(1), reader.uint(2),
                      reader.uint(1))

    def read_result(self, binary=False, infile=None):
        """One result; an ERR is raised."""
        packet = self.read_packet()
        if packet[0] == 0xff:
            raise self.error(packet)
        if packet[0] == 0:
            return self.ok(packet)
        if packet[0] == 0xfb:
            return self.send_infile(packet[1:].decode(), infile)
        result = Result()
        self.read_columns(Reader(packet).lenenc(), result)
        if not self.deprecate_eof and binary and result.status & STATUS_CURSOR_EXISTS:
            result.rows = []
            return result
        self.read_rows(result, binary)
        return result

    def read_rows(self, result, binary):
        result.rows = []
        while True:
            packet = self.read_packet()
            if self.is_end(packet):
                return self.end_of_rows(packet, result)
            if packet[0] == 0xff and (binary or len(packet) > 2):
                raise self.error(packet)
            result.rows.append(binary_row(packet, result.columns) if binary else text_row(packet, result.columns))

    def send_infile(self, name, data):
        if callable(data):
            data = data(name)
        seq = self.seq
        if data:
            self.send(data, seq)
            seq = self.seq
        self.send(b"", seq)
        return self.read_result()

    def read_results(self, binary=False, infile=None):
        results = [self.read_result(binary, infile)]
        while results[-1].status & STATUS_MORE_RESULTS:
            results.append(self.read_result(binary, infile))
        return results

    # ---- commands

    def command(self, code, data=b""):
        self.send(bytes([code]) + data)

    def send_query(self, text):
        self.command(COM_QUERY, text.encode() if isinstance(text, str) else text)

    def query(self, text, infile=None):
        """Runs a text statement; the first result."""
        return self.query_all(text, infile)[0]

    def query_all(self, text, infile=None):
        self.send_query(text)
        return self.read_results(infile=infile)

    def value(self, text):
        return self.query(text).value

    def simple(self, code, data=b""):
        """A command that is answered by OK, EOF or ERR."""
        self.command(code, data)
        packet = self.read_packet()
        if packet[0] == 0xff:
            raise self.error(packet)
        if packet[0] == 0xfe and len(packet) < 9:
            return self.end_of_rows(packet, Result())
        return self.ok(packet)

    def ping(self):
        return self.simple(COM_PING)

    def init_db(self, name):
        return self.simple(COM_INIT_DB, name.encode())

    def reset(self):
        return self.simple(COM_RESET_CONNECTION)

    def set_option(self, option):
        return self.simple(COM_SET_OPTION, struct.pack("<H", option))

    def kill(self, thread_id):
        return self.simple(COM_PROCESS_KILL, struct.pack("<I", thread_id))

    def statistics(self):
        self.command(COM_STATISTICS)
        return self.read_packet().decode()

    def field_list(self, table, wild=""):
        self.command(COM_FIELD_LIST, table.encode() + b"\0" + wild.encode())
        columns = []
        while True:
            packet = self.read_packet()
            if packet[0] == 0xff:
                raise self.error(packet)
            if packet[0] == 0xfe and len(packet) < 9:
                return columns
            columns.append(self.column(packet))

    def change_user(self, user, password, database=""):
        self.user, self.password = user.encode(), password.encode()
        proof = native_proof(self.password, self.scramble)
        body = self.user + b"\0" + bytes([len(proof)]) + proof + database.encode() + b"\0"
        body += struct.pack("<H", self.charset) + b"mysql_native_password\0"
        self.command(COM_CHANGE_USER, body)
        return self.finish_login("mysql_native_password")

    # ---- prepared statements

    def send_prepare(self, text):
        self.command(COM_STMT_PREPARE, text.encode() if isinstance(text, str) else text)

    def read_prepare(self):
        packet = self.read_packet()
        if packet[0] == 0xff:
            raise self.error(packet)
        ident, columns, params, warnings = struct.unpack_from("<xIHHxH", packet)
        for count in (params, columns):
            for _ in range(count):
                self.read_packet()
            if count and not self.deprecate_eof:
                if not self.is_end(self.read_packet()):
                    raise ProtocolError("no EOF in the answer to a prepare")
        return Statement(ident, params, columns, warnings)

    def prepare(self, text):
        self.send_prepare(text)
        return self.read_prepare()

    def send_execute(self, statement, params=(), cursor=0, types=True):
        self.command(COM_STMT_EXECUTE, execute_body(statement.id, params, cursor, types))

    def execute(self, statement, params=(), cursor=0, types=True):
        """Runs a prepared statement; the first result."""
        return self.execute_all(statement, params, cursor, types)[0]

    def execute_all(self, statement, params=(), cursor=0, types=True):
        self.send_execute(statement, params, cursor, types)
        return self.read_results(binary=True)

    def binary(self, text, params=()):
        """Prepares, executes and closes."""
        statement = self.prepare(text)
        try:
            return self.execute(statement, params)
        finally:
            self.close_statement(statement)

    def fetch(self, statement, count, columns):
        """Rows of an open cursor as a result; its status says whether more are left."""
        self.command(COM_STMT_FETCH, struct.pack("<II", statement.id, count))
        result = Result()
        result.columns = columns
        self.read_rows(result, True)
        return result

    def long_data(self, statement, param, data):
        self.command(COM_STMT_SEND_LONG_DATA, struct.pack("<IH", statement.id, param) + data)

    def reset_statement(self, statement):
        return self.simple(COM_STMT_RESET, struct.pack("<I", statement.id))

    def close_statement(self, statement):
        self.command(COM_STMT_CLOSE, struct.pack("<I", statement.id))

    def close(self):
        try:
            self.command(COM_QUIT)
        except OSError:
            pass
        self.socket.close()

    def abort(self):
        """Goes away without a word, with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


LONG_DATA = object()  # a parameter whose value went ahead in SEND_LONG_DATA


def execute_body(ident, params, cursor=0, types=True):
    body = struct.pack("<IBI", ident, cursor, 1)
    if not params:
        return body
    nulls = bytearray((len(params) + 7) // 8)
    kinds, values = b"", b""
    for index, value in enumerate(params):
        kind, data = param_bytes(value)
        kinds += kind
        values += data
        if value is None:
            nulls[index // 8] |= 1 << (index % 8)
    return body + bytes(nulls) + (b"\x01" + kinds if types else b"\x00") + values


def param_bytes(value):
    if value is LONG_DATA:
        return struct.pack("<BB", 252, 0), b""
    if value is None:
        return struct.pack("<BB", 6, 0), b""
    if isinstance(value, int):
        return struct.pack("<BB", 8, 0), struct.pack("<q", value)
    if isinstance(value, float):
        return struct.pack("<BB", 5, 0), struct.pack("<d", value)
    if isinstance(value, str):
        return struct.pack("<BB", 253, 0), lenenc_bytes(value.encode())
    return struct.pack("<BB", 252, 0), lenenc_bytes(value)


def decoded(data, column):
    if column.type in (1, 2, 3, 8, 9, 13):
        return int(data)
    if column.type in (4, 5):
        return float(data)
    return data if column.charset == 63 and column.type in (249, 250, 251, 252, 253, 254, 255, 16) \
        else data.decode("utf-8", "surrogateescape")


def text_row(packet, columns):
    reader, row = Reader(packet), []
    for column in columns:
        if reader.data[reader.at:reader.at + 1] == b"\xfb":
            reader.at += 1
            row.append(None)
        else:
            row.append(decoded(reader.lenenc_bytes(), column))
    if reader.left:
        raise ProtocolError("bytes after the row")
    return tuple(row)


FIXED = {1: "b", 2: "h", 13: "h", 3: "i", 9: "i", 8: "q", 4: "f", 5: "d"}


def binary_row(packet, columns):
    reader, row = Reader(packet, 1), []
    nulls = reader.take((len(columns) + 9) // 8)
    for index, column in enumerate(columns):
        if nulls[(index + 2) // 8] & 1 << (index + 2) % 8:
            row.append(None)
        elif column.type in FIXED:
            code = FIXED[column.type]
            if column.flags & 32:
                code = code.upper() if code in "bhiq" else code
            row.append(struct.unpack("<" + code, reader.take(struct.calcsize(code)))[0])
        elif column.type in (7, 10, 11, 12):
            row.append(reader.take(reader.uint(1)))
        else:
            row.append(decoded(reader.lenenc_bytes(), column))
    if reader.left:
        raise ProtocolError("bytes after the row")
    return tuple(row)
