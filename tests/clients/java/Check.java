// MariaDB Connector/J against the proxy port. OPTIONS in the environment are appended to the JDBC URL.

import java.io.File;
import java.io.FileWriter;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

public class Check {
	interface Body { void run() throws Exception; }
	interface Condition { boolean holds() throws Exception; }

	static final String database = System.getenv("DB_NAME");
	static final String options = System.getenv().getOrDefault("OPTIONS", "");
	static final int primary = Integer.parseInt(System.getenv("PRIMARY_ID"));
	static final int replica = Integer.parseInt(System.getenv("REPLICA_ID"));
	static final boolean split = "1".equals(System.getenv("SPLIT"));
	// Runs for a minute if nobody stops it.
	static final String LONG = "select count(*) from seq_1_to_2000000000 where seq % 7 = 3";
	static Connection db;

	static Connection connect(String name, String password, String more) throws SQLException {
		return DriverManager.getConnection("jdbc:mariadb://" + System.getenv("DB_HOST") + ":" + System.getenv("DB_PORT") +
			"/" + name + "?allowLocalInfile=true&" + options + more, System.getenv("DB_USER"), password);
	}

	static Connection connect(String more) throws SQLException {
		return connect(database, System.getenv("DB_PASSWORD"), more);
	}

	static void check(String name, Body body) {
		try {
			body.run();
			System.out.println("ok " + name);
		} catch (Throwable e) {
			StringBuilder at = new StringBuilder();
			for (StackTraceElement frame : e.getStackTrace())
				if (frame.getClassName().startsWith("Check"))
					at.append(' ').append(frame.getLineNumber());
			System.out.println("not ok " + name + ": " + e.toString().replace('\n', ' ') + " at" + at);
		}
	}

	static void same(Object got, Object wanted) {
		if (!Objects.deepEquals(got, wanted))
			throw new RuntimeException("got " + got + ", wanted " + wanted);
	}

	static SQLException thrown(Body body) throws Exception {
		try {
			body.run();
		} catch (SQLException e) {
			return e;
		}
		throw new RuntimeException("nothing was thrown");
	}

	// The driver puts "(conn=N) " in front of the server's text.
	static String text(SQLException e) {
		return e.getMessage().replaceFirst("^\\(conn=-?\\d+\\) ", "");
	}

	static void eventually(Condition condition) throws Exception {
		for (int i = 0; i < 500; i++) {
			if (condition.holds())
				return;
			Thread.sleep(10);
		}
		throw new RuntimeException("never came true");
	}

	static void run(Connection c, String sql) throws SQLException {
		try (Statement s = c.createStatement()) {
			s.execute(sql);
		}
	}

	static String one(Connection c, String sql, Object... values) throws SQLException {
		try (PreparedStatement s = c.prepareStatement(sql)) {
			for (int i = 0; i < values.length; i++)
				s.setObject(i + 1, values[i]);
			try (ResultSet r = s.executeQuery()) {
				return r.next() ? r.getString(1) : null;
			}
		}
	}

	static int server(Connection c) throws SQLException {
		return Integer.parseInt(one(c, "select @@server_id"));
	}

	static void routing() {
		check("writes on the primary, reads on the replica", () -> {
			run(db, "create table split (id int auto_increment primary key, server int)");
			try (PreparedStatement s = db.prepareStatement("insert into split (server) values (@@server_id + 0 * ?)")) {
				for (int i = 1; i <= 20; i++) {
					s.setInt(1, i);
					same(s.executeUpdate(), 1);
					same(one(db, "select count(*) from split where id > ?", 0), "" + i);
				}
			}
			eventually(() -> server(db) == replica);
			same(one(db, "select count(*) from split where server = ?", primary), "20");
		});
		check("a read only connection, as Spring sets it", () -> {
			try (Connection c = connect("&assureReadOnly=true")) {
				c.setReadOnly(true);
				c.setAutoCommit(false);
				int first = server(c);
				for (int i = 0; i < 5; i++)
					same(server(c), first);
				same(one(c, "select count(*) from split"), "20");
				SQLException e = thrown(() -> run(c, "insert into split (server) values (1)"));
				same(e.getErrorCode(), 1792);
				c.commit();
				c.setReadOnly(false);
				c.setAutoCommit(true);
				run(c, "insert into split (server) values (" + primary + ")");
				same(one(c, "select count(*) from split"), "21");
			}
		});
		check("a read only transaction goes to a replica", () -> {
			if (!split)
				return;
			eventually(() -> {
				try (Connection c = connect("&assureReadOnly=true")) {
					c.setReadOnly(true);
					c.setAutoCommit(false);
					boolean there = server(c) == replica && server(c) == replica;
					c.rollback();
					return there;
				}
			});
		});
		check("transactions", () -> {
			run(db, "create table tx (id int)");
			db.setAutoCommit(false);
			run(db, "insert into tx values (1)");
			same(server(db), primary);
			db.rollback();
			run(db, "insert into tx values (2)");
			Savepoint s = db.setSavepoint("s");
			run(db, "insert into tx values (3)");
			db.rollback(s);
			db.commit();
			db.setAutoCommit(true);
			same(one(db, "select group_concat(id) from tx"), "2");
			db.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
			same(db.getTransactionIsolation(), Connection.TRANSACTION_SERIALIZABLE);
			same(server(db), primary);
			db.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
		});
	}

	static void values() {
		check("types", () -> {
			run(db, "create table types (i bigint, d decimal(30,10), f double, dt datetime(6), da date, b blob, " +
				"s varchar(100), n int, bo boolean)");
			byte[] bytes = new byte[256];
			for (int i = 0; i < 256; i++)
				bytes[i] = (byte) i;
			String emoji = "Zo\u00eb \ud83c\udf89 \u6f22\u5b57";
			try (PreparedStatement s = db.prepareStatement("insert into types values (?,?,?,?,?,?,?,?,?)")) {
				s.setLong(1, Long.MIN_VALUE);
				s.setBigDecimal(2, new BigDecimal("12345678901234567890.0123456789"));
				s.setDouble(3, 1.5);
				s.setTimestamp(4, java.sql.Timestamp.valueOf("2024-02-29 23:59:59.123456"));
				s.setDate(5, java.sql.Date.valueOf("1999-12-31"));
				s.setBytes(6, bytes);
				s.setString(7, emoji);
				s.setNull(8, Types.INTEGER);
				s.setBoolean(9, true);
				s.executeUpdate();
			}
			try (PreparedStatement s = db.prepareStatement("select * from types"); ResultSet r = s.executeQuery()) {
				r.next();
				same(r.getLong(1), Long.MIN_VALUE);
				same(r.getBigDecimal(2), new BigDecimal("12345678901234567890.0123456789"));
				same(r.getDouble(3), 1.5);
				same(r.getTimestamp(4), java.sql.Timestamp.valueOf("2024-02-29 23:59:59.123456"));
				same(r.getDate(5), java.sql.Date.valueOf("1999-12-31"));
				same(r.getBytes(6), bytes);
				same(r.getString(7), emoji);
				same(r.getObject(8), null);
				same(r.getBoolean(9), true);
			}
		});
		check("one mebibyte", () -> {
			String big = "0123456789abcdef".repeat(65536);
			run(db, "create table big (s longtext)");
			try (PreparedStatement s = db.prepareStatement("insert into big values (?)")) {
				s.setString(1, big);
				s.executeUpdate();
			}
			same(one(db, "select s from big").equals(big), true);
		});
		check("generated keys, affected rows, warnings", () -> {
			run(db, "create table ids (id int auto_increment primary key, v tinyint)");
			try (PreparedStatement s = db.prepareStatement("insert into ids (v) values (?)",
					Statement.RETURN_GENERATED_KEYS)) {
				for (int i = 1; i <= 3; i++) {
					s.setInt(1, i);
					s.executeUpdate();
					ResultSet keys = s.getGeneratedKeys();
					keys.next();
					same(keys.getInt(1), i);
				}
			}
			try (Statement s = db.createStatement()) {
				same(s.executeUpdate("update ids set v = 3"), 3);
				s.execute("set sql_mode = ''");
				s.executeUpdate("insert into ids (v) values (300)");
				same(s.getWarnings().getErrorCode(), 1264);
				s.execute("set sql_mode = default");
			}
		});
		check("batches", () -> {
			run(db, "create table batch (id int primary key, s varchar(20))");
			try (PreparedStatement s = db.prepareStatement("insert into batch values (?, ?)")) {
				for (int i = 0; i < 2000; i++) {
					s.setInt(1, i);
					s.setString(2, i % 7 == 0 ? null : "row " + i);
					s.addBatch();
				}
				same(s.executeBatch().length, 2000);
			}
			same(one(db, "select concat(count(*), ' ', sum(id), ' ', count(s)) from batch"), "2000 1999000 1714");
			try (PreparedStatement s = db.prepareStatement("insert into batch values (?, 'x')")) {
				for (int id : new int[] { 5000, 1, 5001 }) {
					s.setInt(1, id);
					s.addBatch();
				}
				same(thrown(s::executeBatch).getErrorCode(), 1062);
			}
			try (Statement s = db.createStatement()) {
				for (int i = 0; i < 10; i++)
					s.addBatch("insert into batch values (" + (9000 + i) + ", 'text')");
				same(s.executeBatch().length, 10);
			}
			same(one(db, "select count(*) from batch where s = 'text'"), "10");
		});
	}

	static void failures() {
		check("errors", () -> {
			run(db, "create table dup (id int primary key)");
			run(db, "insert into dup values (1)");
			SQLException e = thrown(() -> run(db, "insert into dup values (1)"));
			same(Arrays.asList(e.getErrorCode(), e.getSQLState(), text(e)),
				Arrays.asList(1062, "23000", "Duplicate entry '1' for key 'PRIMARY'"));
			same(thrown(() -> run(db, "selekt 1")).getErrorCode(), 1064);
			e = thrown(() -> one(db, "select * from missing where 1 = ?", 1));
			same(Arrays.asList(e.getErrorCode(), text(e)), Arrays.asList(1146, "Table '" + database + ".missing' doesn't exist"));
			same(one(db, "select 1"), "1");
		});
		check("refused logins", () -> {
			SQLException e = thrown(() -> connect(database, "wrong", ""));
			same(Arrays.asList(e.getErrorCode(), e.getMessage().contains(System.getenv("DENIED"))), Arrays.asList(1045, true));
			e = thrown(() -> connect("no_such_database", System.getenv("DB_PASSWORD"), ""));
			same(Arrays.asList(e.getErrorCode(), e.getMessage().contains("Unknown database 'no_such_database'")),
				Arrays.asList(1049, true));
		});
		check("cancel and query time-out", () -> {
			try (Statement s = db.createStatement()) {
				Thread canceller = new Thread(() -> {
					try {
						for (int i = 0; i < 400; i++) {
							Thread.sleep(50);
							s.cancel();
						}
					} catch (InterruptedException | SQLException e) {
						return;		// the statement is over
					}
				});
				canceller.start();
				SQLException e = thrown(() -> s.executeQuery(LONG));
				canceller.interrupt();
				canceller.join();
				same(e.getErrorCode(), 1317);
			}
			try (Statement s = db.createStatement()) {
				s.setQueryTimeout(1);
				same(thrown(() -> s.executeQuery(LONG)) != null, true);
			}
			same(one(db, "select 4"), "4");
		});
	}

	static void results() {
		check("several statements in one", () -> {
			try (Connection c = connect("&allowMultiQueries=true"); Statement s = c.createStatement()) {
				s.execute("create table multi (id int); insert into multi values (1), (2); select id from multi; select @@server_id");
				List<Object> got = new ArrayList<>();
				while (true) {
					ResultSet r = s.getResultSet();
					if (r != null) {
						int last = 0;
						while (r.next())
							last = r.getInt(1);
						got.add("row " + last);
					} else if (s.getUpdateCount() < 0) {
						break;
					} else {
						got.add(s.getUpdateCount());
					}
					s.getMoreResults();
				}
				same(got, Arrays.asList(0, 2, "row 2", "row " + primary));
			}
		});
		check("procedures with OUT parameters", () -> {
			run(db, "create procedure p (in a int, out b int, inout c varchar(20)) begin select a; select a + 1; " +
				"set b = a * 2; set c = concat(c, '!'); end");
			try (CallableStatement s = db.prepareCall("{call p(?, ?, ?)}")) {
				s.setInt(1, 21);
				s.registerOutParameter(2, Types.INTEGER);
				s.registerOutParameter(3, Types.VARCHAR);
				s.setString(3, "hello");
				s.execute();
				List<Integer> got = new ArrayList<>();
				do {
					ResultSet r = s.getResultSet();
					while (r != null && r.next())
						got.add(r.getInt(1));
				} while (s.getMoreResults());
				same(got, Arrays.asList(21, 22));
				same(s.getInt(2), 42);
				same(s.getString(3), "hello!");
			}
			run(db, "create function f (a int) returns int deterministic return a * 3");
			try (CallableStatement s = db.prepareCall("{? = call f(?)}")) {
				s.registerOutParameter(1, Types.INTEGER);
				s.setInt(2, 14);
				s.execute();
				same(s.getInt(1), 42);
			}
		});
		check("load data local infile", () -> {
			File file = File.createTempFile("tandem", ".txt");
			try (FileWriter w = new FileWriter(file, StandardCharsets.US_ASCII)) {
				for (int i = 1; i <= 20000; i++)
					w.write(i + "\n");
			}
			run(db, "create table loaded (id int)");
			run(db, "load data local infile '" + file + "' into table loaded");
			same(one(db, "select sum(id) from loaded"), "200010000");
			file.delete();
		});
		check("rows fetched as they come", () -> {
			try (Statement s = db.createStatement()) {
				s.setFetchSize(100);
				ResultSet r = s.executeQuery("select seq, repeat('x', 500) from seq_1_to_50000");
				long sum = 0;
				while (r.next())
					sum += r.getLong(1);
				same(sum, 50000L * 50001 / 2);
			}
			try (PreparedStatement s = db.prepareStatement("select seq from seq_1_to_50000 where seq > ?")) {
				s.setFetchSize(10);
				s.setInt(1, 0);
				ResultSet r = s.executeQuery();
				for (int i = 1; i <= 25; i++) {
					r.next();
					same(r.getInt(1), i);
				}
			}
			same(one(db, "select 7"), "7");
		});
		check("session state, catalog, validity", () -> {
			run(db, "set @a = 5, time_zone = '+03:00'");
			run(db, "create temporary table tmp (id int)");
			run(db, "insert into tmp values (1)");
			for (int i = 0; i < 5; i++)
				same(one(db, "select concat(@a, @@time_zone, count(*)) from tmp"), "5+03:001");
			run(db, "drop temporary table tmp");
			same(db.isValid(5), true);
			db.setCatalog("mysql");
			same(one(db, "select database()"), "mysql");
			db.setCatalog(database);
			same(db.getMetaData().getTables(database, null, "split", null).next(), true);
			same(db.getMetaData().getDatabaseProductName(), "MariaDB");
		});
		check("many statements kept open", () -> {
			List<PreparedStatement> all = new ArrayList<>();
			for (int i = 0; i < 300; i++)
				all.add(db.prepareStatement("select " + i + " + ?"));
			for (int i : new int[] { 299, 0, 150, 150, 3 }) {
				all.get(i).setInt(1, 1000);
				ResultSet r = all.get(i).executeQuery();
				r.next();
				same(r.getInt(1), 1000 + i);
			}
			for (PreparedStatement s : all)
				s.close();
		});
	}

	public static void main(String[] args) throws Exception {
		db = connect("");
		routing();
		values();
		failures();
		results();
		db.close();
		System.out.println("done");
	}
}
