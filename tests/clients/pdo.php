<?php
// PDO: prepared statements emulated (EMULATE=1) or native.
require __DIR__ . '/check.php';

$emulate = getenv('EMULATE') === '1';

function connect(array $more = [], ?string $name = null, ?string $pass = null): PDO
{
	global $host, $port, $user, $password, $database, $emulate, $tls;
	$options = $more + [
		PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
		PDO::ATTR_EMULATE_PREPARES => $emulate,
		PDO::MYSQL_ATTR_LOCAL_INFILE => true,
	];
	if ($tls)
		$options += [PDO::MYSQL_ATTR_SSL_CIPHER => 'DEFAULT', PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => false];
	return new PDO("mysql:host=$host;port=$port;dbname=" . ($name ?? $database) . ';charset=utf8mb4', $user,
		$pass ?? $password, $options);
}

function one(PDO $db, string $sql, array $values = [])
{
	$statement = $db->prepare($sql);
	$statement->execute($values);
	$value = $statement->fetchColumn();
	$statement->closeCursor();
	return $value;
}

$db = connect();

check('writes on the primary, reads on the replica', function () use ($db, $primary, $replica) {
	$db->exec('create table split (id int auto_increment primary key, server int)');
	$insert = $db->prepare('insert into split (server) values (@@server_id + 0 * ?)');
	for ($i = 0; $i < 20; $i++) {
		$insert->execute([$i]);
		same((int) one($db, 'select count(*) from split where id > ?', [0]), $i + 1);
	}
	eventually(fn () => (int) one($db, 'select @@server_id') === $replica);
	same((int) one($db, 'select count(*) from split where server = ?', [$primary]), 20);
});

check('types', function () use ($db, $every_byte, $emoji) {
	$db->exec('create table types (i bigint, u bigint unsigned, d decimal(30,10), f double, dt datetime(6),
		da date, ti time, b blob, s varchar(100), n int)');
	$values = ['-9223372036854775808', '18446744073709551615', '12345678901234567890.0123456789', '1.5',
		'2024-02-29 23:59:59.123456', '1000-01-01', '-100:05:00', $every_byte, $emoji, null];
	$insert = $db->prepare('insert into types values (' . implode(',', array_fill(0, 10, '?')) . ')');
	foreach ($values as $i => $value)
		$insert->bindValue($i + 1, $value, $i == 7 ? PDO::PARAM_LOB : ($value === null ? PDO::PARAM_NULL : PDO::PARAM_STR));
	$insert->execute();
	$select = $db->prepare('select * from types');
	$select->execute();
	$row = $select->fetch(PDO::FETCH_NUM);
	same(array_map(fn ($v) => $v === null ? null : (string) $v, $row), $values);
});

check('one mebibyte', function () use ($db) {
	$db->exec('create table big (s longtext)');
	$big = str_repeat('0123456789abcdef', 65536);
	$db->prepare('insert into big values (?)')->execute([$big]);
	same(one($db, 'select s from big'), $big);
});

check('transactions', function () use ($db, $primary) {
	$db->exec('create table tx (id int)');
	$db->beginTransaction();
	$db->exec('insert into tx values (1)');
	same((int) one($db, 'select @@server_id'), $primary);
	$db->rollBack();
	$db->beginTransaction();
	same($db->inTransaction(), true);
	$db->exec('insert into tx values (2)');
	$db->exec('savepoint s');
	$db->exec('insert into tx values (3)');
	$db->exec('rollback to savepoint s');
	$db->commit();
	same($db->inTransaction(), false);
	same((int) one($db, 'select sum(id) from tx'), 2);
});

check('errors', function () use ($db, $database) {
	$db->exec('create table dup (id int primary key)');
	$insert = $db->prepare('insert into dup values (?)');
	$insert->execute([1]);
	$e = thrown(fn () => $insert->execute([1]));
	same($e->errorInfo, ['23000', 1062, "Duplicate entry '1' for key 'PRIMARY'"]);
	same(thrown(fn () => $db->query('selekt 1'))->errorInfo[1], 1064);
	same(thrown(fn () => one($db, 'select * from missing'))->errorInfo,
		['42S02', 1146, "Table '$database.missing' doesn't exist"]);
	$insert->execute([2]);
	same($insert->rowCount(), 1);
});

check('refused logins', function () {
	$e = thrown(fn () => connect([], null, 'wrong'));
	same([$e->getCode(), strpos($e->getMessage(), getenv('DENIED')) !== false], [1045, true]);
	$e = thrown(fn () => connect([], 'no_such_database'));
	same([$e->getCode(), strpos($e->getMessage(), "Unknown database 'no_such_database'") !== false], [1049, true]);
});

check('insert id and row count', function () use ($db) {
	$db->exec('create table ids (id int auto_increment primary key, v int)');
	$insert = $db->prepare('insert into ids (v) values (?)');
	foreach ([1, 2, 3] as $i) {
		$insert->execute([$i]);
		same($db->lastInsertId(), (string) $i);
	}
	same((int) one($db, 'select last_insert_id()'), 3);
	same($db->exec('update ids set v = 3'), 2);
	$found = connect([PDO::MYSQL_ATTR_FOUND_ROWS => true]);
	same($found->exec('update ids set v = 3'), 3);
});

check('rowsets of a procedure', function () use ($db) {
	$db->exec('create procedure p (in a int, out b int) begin select a; select a + 1; set b = a * 2; end');
	$call = $db->prepare('call p(?, @b)');
	$call->execute([21]);
	$got = [];
	do {
		// With native prepares the closing OK still shows the columns of the result before it.
		if ($call->columnCount() && ($value = $call->fetchColumn()) !== false)
			$got[] = (int) $value;
	} while ($call->nextRowset());
	$call->closeCursor();
	same($got, [21, 22]);
	same((int) one($db, 'select @b'), 42);
});

check('several statements in one', function () use ($emulate, $primary) {
	$db = connect([PDO::ATTR_EMULATE_PREPARES => true]);
	$query = $db->query('create table multi (id int); insert into multi values (1), (2); select id from multi; select @@server_id');
	$got = [];
	do {
		$got[] = $query->columnCount() ? array_map('intval', $query->fetchAll(PDO::FETCH_COLUMN)) : $query->rowCount();
	} while ($query->nextRowset());
	same($got, [0, 2, [1, 2], [$primary]]);
});

check('load data local infile', function () use ($db) {
	$file = tempnam(sys_get_temp_dir(), 'tandem');
	file_put_contents($file, implode("\n", range(1, 20000)) . "\n");
	$db->exec('create table loaded (id int)');
	same($db->exec("load data local infile '$file' into table loaded"), 20000);
	same((int) one($db, 'select count(*) from loaded'), 20000);
	unlink($file);
});

check('unbuffered', function () {
	$db = connect([PDO::MYSQL_ATTR_USE_BUFFERED_QUERY => false]);
	$query = $db->prepare("select seq, repeat('x', 500) from seq_1_to_50000 where seq > ?");
	$query->execute([0]);
	$sum = 0;
	while ($row = $query->fetch(PDO::FETCH_NUM))
		$sum += $row[0];
	same($sum, 50000 * 50001 / 2);
	$query->closeCursor();
	same((int) one($db, 'select 7'), 7);
});

check('session state', function () use ($db) {
	$db->exec("set @a = 5, time_zone = '+03:00'");
	$db->exec('create temporary table tmp (id int)');
	$db->exec('insert into tmp values (1)');
	for ($i = 0; $i < 5; $i++) {
		$row = $db->query('select @a, @@time_zone, count(*) from tmp')->fetch(PDO::FETCH_NUM);
		same(array_map('strval', $row), ['5', '+03:00', '1']);
	}
	$db->exec('drop temporary table tmp');
});

check('a persistent connection', function () {
	for ($i = 0; $i < 3; $i++) {
		$db = connect([PDO::ATTR_PERSISTENT => true]);
		same((int) one($db, 'select ?', [$i]), $i);
		$db = null;
	}
});

check('many short connections', function () {
	for ($i = 0; $i < 50; $i++)
		same((int) one(connect(), 'select ?', [$i]), $i);
});

echo "done\n";
