<?php
// mysqli over mysqlnd: text protocol and native prepared statements.
require __DIR__ . '/check.php';

mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

function connect(array $more = []): mysqli
{
	global $host, $port, $user, $password, $database, $tls;
	$o = $more + ['user' => $user, 'password' => $password, 'database' => $database, 'flags' => 0];
	$db = mysqli_init();
	$db->options(MYSQLI_OPT_LOCAL_INFILE, true);
	if ($tls) {
		$db->options(MYSQLI_OPT_SSL_VERIFY_SERVER_CERT, false);
		$o['flags'] |= MYSQLI_CLIENT_SSL | MYSQLI_CLIENT_SSL_DONT_VERIFY_SERVER_CERT;
	}
	$db->real_connect($host, $o['user'], $o['password'], $o['database'], $port, null, $o['flags']);
	$db->set_charset('utf8mb4');
	return $db;
}

function one(mysqli $db, string $sql)
{
	return $db->query($sql)->fetch_row()[0];
}

$db = connect();

check('writes on the primary, reads on the replica', function () use ($db, $primary, $replica) {
	$db->query('create table split (id int auto_increment primary key, server int)');
	for ($i = 0; $i < 10; $i++)
		$db->query('insert into split (server) values (@@server_id)');
	eventually(fn () => (int) one($db, 'select @@server_id') === $replica);
	same((int) one($db, 'select count(*) from split where server = ' . $primary), 10);
});

check('prepared reads on the replica, prepared writes on the primary', function () use ($db, $primary, $replica) {
	$write = $db->prepare('insert into split (server) values (@@server_id + ? * 0)');
	$read = $db->prepare('select @@server_id, count(*) from split where id > ?');
	for ($i = 0; $i < 10; $i++) {
		$write->execute([1]);
		same($write->affected_rows, 1);
		$read->execute([0]);
		$row = $read->get_result()->fetch_row();
		same((int) $row[1], 11 + $i);
	}
	eventually(function () use ($read, $replica) {
		$read->execute([0]);
		return (int) $read->get_result()->fetch_row()[0] === $replica;
	});
	same((int) one($db, 'select count(distinct server) from split'), 1);
	same((int) one($db, 'select max(server) from split'), $primary);
});

check('types in text and binary', function () use ($db, $every_byte, $emoji) {
	$db->query('create table types (i bigint, u bigint unsigned, d decimal(30,10), f double, dt datetime(6),
		da date, ti time, b blob, s varchar(100), n int, t tinyint, y year)');
	$values = ['-9223372036854775808', '18446744073709551615', '12345678901234567890.0123456789', 1.5,
		'2024-02-29 23:59:59.123456', '1000-01-01', '-100:05:00', $every_byte, $emoji, null, -128, '1999'];
	$insert = $db->prepare('insert into types values (' . implode(',', array_fill(0, 12, '?')) . ')');
	$insert->bind_param('sssdsssssiii', ...$values);
	$insert->execute();
	$text = $db->query('select * from types')->fetch_row();
	same($text, array_map(fn ($v) => $v === null ? null : (string) $v, $values));
	$select = $db->prepare('select * from types');
	$select->execute();
	$binary = $select->get_result()->fetch_row();
	same($binary[0], PHP_INT_MIN);
	same($binary[1], '18446744073709551615');
	foreach (range(2, 11) as $i)
		same($binary[$i], $values[$i]);
});

check('long data and long strings', function () use ($db) {
	$db->query('create table long_data (id int, b longblob)');
	$insert = $db->prepare('insert into long_data values (?, ?)');
	$id = 1;
	$null = null;
	$insert->bind_param('ib', $id, $null);
	for ($i = 0; $i < 20; $i++)
		$insert->send_long_data(1, str_repeat(chr(65 + $i), 100000));
	$insert->execute();
	same(one($db, 'select concat(length(b), substr(b, 100001, 1), right(b, 1)) from long_data'), '2000000BT');
	$select = $db->prepare('select b from long_data');
	$select->execute();
	same(strlen($select->get_result()->fetch_row()[0]), 2000000);
	$select->close();
	$big = str_repeat('x', 1 << 20);
	$db->query("insert into long_data values (2, '$big')");
	same(one($db, 'select b from long_data where id = 2'), $big);
});

check('transactions', function () use ($db, $primary) {
	$db->query('create table tx (id int)');
	$db->begin_transaction();
	same((int) one($db, 'select @@server_id'), $primary);
	$db->query('insert into tx values (1)');
	$db->rollback();
	$db->begin_transaction();
	$db->query('insert into tx values (2)');
	$db->savepoint('s');
	$db->query('insert into tx values (3)');
	$db->query('rollback to savepoint s');
	$db->commit();
	same($db->query('select id from tx')->fetch_all(), [['2']]);
	$db->autocommit(false);
	$db->query('insert into tx values (4)');
	same((int) one($db, 'select @@server_id'), $primary);
	$db->rollback();
	$db->autocommit(true);
	same($db->query('select id from tx')->fetch_all(), [['2']]);
});

check('read only transaction', function () use ($db) {
	$db->begin_transaction(MYSQLI_TRANS_START_READ_ONLY);
	$a = one($db, 'select @@server_id');
	same(one($db, 'select @@server_id'), $a);
	same(thrown(fn () => $db->query('insert into tx values (9)'))->getCode(), 1792);
	$db->commit();
	$db->query('insert into tx values (5)');
	same(one($db, 'select max(id) from tx'), '5');
});

check('errors', function () use ($db, $database) {
	$db->query('create table dup (id int primary key)');
	$db->query('insert into dup values (1)');
	$e = thrown(fn () => $db->query('insert into dup values (1)'));
	same([$e->getCode(), $e->getMessage()], [1062, "Duplicate entry '1' for key 'PRIMARY'"]);
	same($db->sqlstate, '23000');
	same(thrown(fn () => $db->query('selekt 1'))->getCode(), 1064);
	$e = thrown(fn () => $db->query('select * from missing'));
	same([$e->getCode(), $e->getMessage()], [1146, "Table '$database.missing' doesn't exist"]);
	same(thrown(fn () => $db->prepare('select * from missing'))->getCode(), 1146);
	$insert = $db->prepare('insert into dup values (?)');
	same(thrown(fn () => $insert->execute([1]))->getCode(), 1062);
	$insert->execute([2]);
	same($insert->affected_rows, 1);
});

check('refused logins', function () {
	$e = thrown(fn () => connect(['password' => 'wrong']));
	same([$e->getCode(), $e->getMessage()], [1045, getenv('DENIED')]);
	$e = thrown(fn () => connect(['database' => 'no_such_database']));
	same([$e->getCode(), $e->getMessage()], [1049, "Unknown database 'no_such_database'"]);
});

check('multi query', function () use ($db, $primary) {
	$db->multi_query('create table multi (id int); insert into multi values (1), (2);
		select id from multi order by id; select @@server_id; select * from missing; select 1');
	$got = [];
	try {
		do {
			$result = $db->store_result();
			$got[] = $result ? $result->fetch_all() : $db->affected_rows;
		} while ($db->next_result());
	} catch (mysqli_sql_exception $e) {
		$got[] = $e->getCode();
	}
	same($got, [0, 2, [['1'], ['2']], [[(string) $primary]], 1146]);
	same(one($db, 'select count(*) from multi'), '2');
});

check('procedures', function () use ($db) {
	$db->query('create procedure p (in a int, out b int) begin select a; select a + 1, "two"; set b = a * 2; end');
	$db->multi_query('call p(21, @b)');
	$got = [];
	do {
		if ($result = $db->store_result())
			$got[] = $result->fetch_row();
	} while ($db->next_result());
	same($got, [['21'], ['22', 'two']]);
	same(one($db, 'select @b'), '42');
	$call = $db->prepare('call p(?, @b)');
	$call->execute([4]);
	$got = [];
	do {
		if ($result = $call->get_result())
			$got[] = $result->fetch_row();
	} while ($call->next_result());
	same($got, [[4], [5, 'two']]);
	$call->close();
	same((int) one($db, 'select @b'), 8);
});

check('load data local infile', function () use ($db) {
	$file = tempnam(sys_get_temp_dir(), 'tandem');
	file_put_contents($file, implode("\n", range(1, 50000)) . "\n");
	$db->query('create table loaded (id int)');
	$db->query("load data local infile '$file' into table loaded");
	same($db->affected_rows, 50000);
	same(one($db, 'select sum(id) from loaded'), '1250025000');
	unlink($file);
});

check('insert id, affected rows, found rows, info', function () use ($db) {
	$db->query('create table ids (id int auto_increment primary key, v int)');
	$db->query('insert into ids (v) values (1), (2), (3)');
	same([$db->insert_id, $db->affected_rows, $db->info], [1, 3, 'Records: 3  Duplicates: 0  Warnings: 0']);
	same(one($db, 'select last_insert_id()'), '1');
	$insert = $db->prepare('insert into ids (v) values (?)');
	$insert->execute([9]);
	same([$insert->insert_id, $db->insert_id], [4, 4]);
	$db->query('update ids set v = 9');
	same($db->affected_rows, 3);
	same($db->info, 'Rows matched: 4  Changed: 3  Warnings: 0');
	$found = connect(['flags' => MYSQLI_CLIENT_FOUND_ROWS]);
	$found->query('update ids set v = 9');
	same($found->affected_rows, 4);
	$db->query('select sql_calc_found_rows id from ids limit 1');
	same(one($db, 'select found_rows()'), '4');
});

check('warnings', function () use ($db) {
	$db->query("set sql_mode = ''");
	$db->query('create table warn (v tinyint)');
	$db->query('insert into warn values (300)');
	same($db->warning_count, 1);
	$warning = $db->get_warnings();
	same([$warning->errno, $warning->message], [1264, "Out of range value for column 'v' at row 1"]);
	$db->query('set sql_mode = default');
});

check('change user and ping', function () use ($database) {
	$db = connect();
	$db->query('set @a = 1');
	$db->query('create temporary table gone (id int)');
	$db->change_user('changed', 'other', $database);
	same($db->query("select substring_index(current_user(), '@', 1), @a, database()")->fetch_row(),
		['changed', null, $database]);
	same(thrown(fn () => $db->query('select * from gone'))->getCode(), 1146);
	same($db->ping(), true);
	same(is_string($db->stat()), true);
	same(thrown(fn () => $db->change_user('changed', 'wrong', $database))->getCode(), 1045);
});

check('kill query', function () use ($db) {
	$victim = connect();
	$victim->query('select sleep(60)', MYSQLI_ASYNC);
	eventually(function () use ($db, $victim) {
		$db->query('kill query ' . $victim->thread_id);
		$read = $error = $reject = [$victim];
		return mysqli_poll($read, $error, $reject, 0, 10000) > 0;
	});
	try {
		same($victim->reap_async_query()->fetch_row(), ['1']);
	} catch (mysqli_sql_exception $e) {
		same($e->getCode(), 1317);
	}
});

check('unbuffered', function () use ($db) {
	$result = $db->query("select seq, repeat('x', 500) from seq_1_to_50000", MYSQLI_USE_RESULT);
	$count = 0;
	while ($row = $result->fetch_row())
		$count += (int) $row[0];
	same($count, 50000 * 50001 / 2);
	$result = $db->query('select seq from seq_1_to_50000', MYSQLI_USE_RESULT);
	$result->fetch_row();
	$result->free();
	same(one($db, 'select 7'), '7');
});

check('cursor', function () use ($db) {
	$select = $db->prepare('select seq from seq_1_to_1000');
	$select->attr_set(MYSQLI_STMT_ATTR_CURSOR_TYPE, MYSQLI_CURSOR_TYPE_READ_ONLY);
	$select->attr_set(MYSQLI_STMT_ATTR_PREFETCH_ROWS, 1);
	$select->execute();
	$select->bind_result($value);
	$sum = 0;
	while ($select->fetch())
		$sum += $value;
	same($sum, 500500);
	$select->close();
});

check('statements: reset, many, closed out of order', function () use ($db) {
	$all = [];
	for ($i = 0; $i < 50; $i++)
		$all[] = $db->prepare("select $i + ?");
	foreach ([49, 0, 25, 25, 3] as $i) {
		$all[$i]->execute([1000]);
		same((int) $all[$i]->get_result()->fetch_row()[0], 1000 + $i);
	}
	$all[7]->close();
	$all[8]->execute([1]);
	same((int) $all[8]->get_result()->fetch_row()[0], 9);
	$all[8]->reset();
	$all[8]->execute([2]);
	same((int) $all[8]->get_result()->fetch_row()[0], 10);
});

check('latin1', function () use ($db) {
	$other = connect();
	$other->set_charset('latin1');
	$other->query("create table latin (s varchar(20) character set utf8mb4)");
	$other->query("insert into latin values ('Gr\xfc\xdfe')");
	same(one($other, 'select s from latin'), "Gr\xfc\xdfe");
	same(one($db, 'select s from latin'), 'Grüße');
});

if ($tls)
	check('the connection is encrypted', function () use ($db) {
		$cipher = $db->query("show status like 'Ssl_cipher'")->fetch_row();
		if (getenv('SPLIT') === '0')
			same($cipher[1] !== '', true);
	});

echo "done\n";
