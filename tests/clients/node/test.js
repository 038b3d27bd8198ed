// mysql2: query() is the text protocol, execute() prepares on the server.
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const mysql = require('mysql2/promise');
const callbacks = require('mysql2');

const primary = Number(process.env.PRIMARY_ID);
const replica = Number(process.env.REPLICA_ID);
const database = process.env.DB_NAME;
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const emoji = 'Zoë \u{1f389} 漢字';

function settings(more) {
	return Object.assign({
		host: process.env.DB_HOST, port: Number(process.env.DB_PORT),
		user: process.env.DB_USER, password: process.env.DB_PASSWORD, database,
		charset: 'utf8mb4', supportBigNumbers: true, dateStrings: true,
		ssl: process.env.TLS === '1' ? { rejectUnauthorized: false } : undefined,
	}, more);
}

const connect = (more) => mysql.createConnection(settings(more));

function same(got, wanted) {
	const show = (v) => JSON.stringify(v, (_, x) => (typeof x === 'bigint' ? String(x) : x));
	if (show(got) !== show(wanted))
		throw new Error(`got ${show(got).slice(0, 300)}, wanted ${show(wanted).slice(0, 300)}`);
}

async function check(name, body) {
	try {
		await body();
		console.log(`ok ${name}`);
	} catch (e) {
		console.log(`not ok ${name}: ${String(e.stack).replace(/\n/g, ' ')}`);
	}
}

async function thrown(promise) {
	try {
		await promise;
	} catch (e) {
		return e;
	}
	throw new Error('nothing was thrown');
}

async function eventually(condition) {
	for (let i = 0; i < 500; i++) {
		if (await condition())
			return;
		await new Promise((done) => setTimeout(done, 10));
	}
	throw new Error('never came true');
}

let db;
const rows = async (sql, values) => (await db.query({ sql, values, rowsAsArray: true }))[0];
const one = async (sql, values) => (await rows(sql, values))[0][0];
const run = async (sql, values) => (await db.execute({ sql, values, rowsAsArray: true }))[0];

async function basics() {
	await check('writes on the primary, reads on the replica', async () => {
		await db.query('create table split (id int auto_increment primary key, server int)');
		for (let i = 1; i <= 20; i++) {
			await run('insert into split (server) values (@@server_id + 0 * ?)', [i]);
			same((await run('select count(*) from split where id > ?', [0]))[0][0], i);
			same(await one('select count(*) from split'), i);
		}
		await eventually(async () => (await one('select @@server_id')) === replica);
		await eventually(async () => (await run('select @@server_id'))[0][0] === replica);
		same(await one('select count(*) from split where server = ?', [primary]), 20);
	});
	await check('types in text and binary', async () => {
		await db.query(`create table types (i bigint, u bigint unsigned, d decimal(30,10), f double, dt datetime(6),
			da date, ti time, b blob, s varchar(100), n int, t tinyint)`);
		const values = ['-9223372036854775808', '18446744073709551615', '12345678901234567890.0123456789', 1.5,
			'2024-02-29 23:59:59.123456', '1000-01-01', '-100:05:00', everyByte, emoji, null, -128];
		const marks = values.map(() => '?').join(',');
		await run(`insert into types values (${marks})`, values);
		await db.query(`insert into types values (${marks})`, values);
		for (const got of [await rows('select * from types'), await run('select * from types')])
			same(got, [values, values]);
	});
	await check('one mebibyte', async () => {
		const big = '0123456789abcdef'.repeat(65536);
		await db.query('create table big (s longtext)');
		await run('insert into big values (?)', [big]);
		await db.query('insert into big values (?)', [big]);
		for (const got of [await rows('select s from big'), await run('select s from big')])
			if (got.length !== 2 || got[0][0] !== big || got[1][0] !== big)
				throw new Error('differs');
	});
	await check('transactions', async () => {
		await db.query('create table tx (id int)');
		await db.beginTransaction();
		await run('insert into tx values (1)');
		same((await run('select @@server_id'))[0][0], primary);
		await db.rollback();
		await db.beginTransaction();
		await run('insert into tx values (2)');
		await db.query('savepoint s');
		await run('insert into tx values (3)');
		await db.query('rollback to savepoint s');
		await db.commit();
		same(await rows('select id from tx'), [[2]]);
	});
	await check('errors', async () => {
		await db.query('create table dup (id int primary key)');
		await run('insert into dup values (?)', [1]);
		let e = await thrown(run('insert into dup values (?)', [1]));
		same([e.errno, e.sqlState, e.sqlMessage], [1062, '23000', "Duplicate entry '1' for key 'PRIMARY'"]);
		same((await thrown(rows('selekt 1'))).errno, 1064);
		e = await thrown(run('select * from missing'));
		same([e.errno, e.sqlMessage], [1146, `Table '${database}.missing' doesn't exist`]);
		same((await thrown(rows('select nix from dup'))).errno, 1054);
		same(await one('select 1'), 1);
	});
	await check('refused logins', async () => {
		let e = await thrown(connect({ password: 'wrong' }));
		same([e.errno, e.sqlMessage], [1045, process.env.DENIED]);
		e = await thrown(connect({ database: 'no_such_database' }));
		same([e.errno, e.sqlMessage], [1049, "Unknown database 'no_such_database'"]);
	});
	await check('insert id, affected rows, warnings', async () => {
		await db.query('create table ids (id int auto_increment primary key, v tinyint)');
		let [result] = await db.query('insert into ids (v) values (1), (2), (3)');
		same([result.insertId, result.affectedRows], [1, 3]);
		same(String(await one('select last_insert_id()')), '1');
		[result] = await db.execute('insert into ids (v) values (?)', [9]);
		same(result.insertId, 4);
		[result] = await db.query('update ids set v = 9');
		same([result.affectedRows, result.changedRows], [4, 3]);
		await db.query("set sql_mode = ''");
		[result] = await db.execute('insert into ids (v) values (?)', [300]);
		same(result.warningStatus, 1);
		same(await rows('show warnings'), [['Warning', 1264, "Out of range value for column 'v' at row 1"]]);
	});
}

async function results() {
	await check('several statements in one', async () => {
		const many = await connect({ multipleStatements: true });
		const [got] = await many.query({ rowsAsArray: true,
			sql: 'create table multi (id int); insert into multi values (1), (2); select id from multi; select @@server_id' });
		same([got[0].affectedRows, got[1].affectedRows, got[2], got[3]], [0, 2, [[1], [2]], [[primary]]]);
		same((await thrown(many.query('select 1; select * from missing; select 2'))).errno, 1146);
		await many.end();
	});
	await check('procedures', async () => {
		await db.query('create procedure p (in a int, out b int) begin select a; select a + 1; set b = a * 2; end');
		const got = await rows('call p(?, @b)', [21]);
		same([got[0], got[1]], [[[21]], [[22]]]);
		same(String(await one('select @b')), '42');
		const binary = await run('call p(?, @b)', [4]);
		same([binary[0], binary[1]], [[[4]], [[5]]]);
	});
	await check('load data local infile', async () => {
		const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'tandem-')), 'rows');
		fs.writeFileSync(file, Array.from({ length: 20000 }, (_, i) => i + 1).join('\n') + '\n');
		await db.query('create table loaded (id int)');
		const [result] = await db.query({ sql: 'load data local infile ? into table loaded', values: [file],
			infileStreamFactory: () => fs.createReadStream(file) });
		same(result.affectedRows, 20000);
		same(await one('select count(*) from loaded'), 20000);
		fs.rmSync(path.dirname(file), { recursive: true });
	});
	await check('rows as a stream', async () => {
		const raw = callbacks.createConnection(settings());
		let sum = 0;
		for await (const row of raw.query("select seq, repeat('x', 500) as s from seq_1_to_50000").stream()) {
			sum += Number(row.seq);
			if (row.s.length !== 500)
				throw new Error('short row');
		}
		same(sum, 50000 * 50001 / 2);
		raw.end();
	});
	await check('pipelined queries', async () => {
		const raw = callbacks.createConnection(settings());
		const asked = [];
		for (let i = 0; i < 200; i++)
			asked.push(raw.promise().query('select ? as n', [i]).then(([r]) => r[0].n));
		same(await Promise.all(asked), Array.from({ length: 200 }, (_, i) => i));
		raw.end();
	});
}

async function sessions() {
	await check('session state', async () => {
		await db.query("set @a = 5, time_zone = '+03:00'");
		await db.query('create temporary table tmp (id int)');
		await run('insert into tmp values (1)');
		for (let i = 0; i < 5; i++)
			same((await run('select cast(@a as char), @@time_zone, count(*) from tmp'))[0], ['5', '+03:00', 1]);
		await db.query('drop temporary table tmp');
	});
	await check('statements: kept, closed, prepared again', async () => {
		const statements = [];
		for (let i = 0; i < 50; i++)
			statements.push(await db.prepare(`select ${i} + cast(? as int) as n`));
		for (const i of [49, 0, 25, 25, 3])
			same(Number((await statements[i].execute([1000]))[0][0].n), 1000 + i);
		for (const s of statements)
			await s.close();
		db.unprepare('select @@server_id');
		same(typeof (await run('select @@server_id'))[0][0], 'number');
	});
	await check('change user, ping, reset', async () => {
		const other = await connect();
		await other.query('set @a = 1');
		await other.ping();
		await other.changeUser({ user: 'changed', password: 'other', database });
		const [got] = await other.query({ sql: "select substring_index(current_user(), '@', 1), @a, database()",
			rowsAsArray: true });
		same(got, [['changed', null, database]]);
		if (other.reset) {
			await other.query('set @a = 2');
			await other.reset();
			same((await other.query({ sql: 'select @a', rowsAsArray: true }))[0], [[null]]);
		}
		await other.end();
	});
	await check('a pool', async () => {
		const pool = mysql.createPool(settings({ connectionLimit: 8 }));
		await pool.query('create table pooled (id int primary key)');
		await Promise.all(Array.from({ length: 100 }, async (_, i) => {
			await pool.execute('insert into pooled values (?)', [i]);
			const [got] = await pool.query('select id from pooled where id = ?', [i]);
			same(got, [{ id: i }]);
		}));
		await pool.end();
	});
	await check('kill query', async () => {
		const victim = await connect();
		const ended = victim.query('select sleep(60) as s').then(([r]) => r[0].s, (e) => e.errno);
		let over = false;
		ended.then(() => { over = true; });
		await eventually(async () => {
			await db.query(`kill query ${victim.threadId}`);
			return over;
		});
		const got = await ended;
		if (got !== 1 && got !== 1317)
			throw new Error(`got ${got}`);
		await victim.end();
	});
}

async function main() {
	db = await connect();
	await basics();
	await results();
	await sessions();
	await db.end();
	console.log('done');
}

main().catch((e) => {
	console.log(`not ok main: ${e.stack}`);
	process.exit(1);
});
