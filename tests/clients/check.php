<?php
// What both PHP programs share: the address, and one line per check on standard output.

$host = getenv('DB_HOST');
$port = (int) getenv('DB_PORT');
$user = getenv('DB_USER');
$password = getenv('DB_PASSWORD');
$database = getenv('DB_NAME');
$primary = (int) getenv('PRIMARY_ID');
$replica = (int) getenv('REPLICA_ID');
$tls = getenv('TLS') === '1';

$every_byte = implode('', array_map('chr', range(0, 255)));
$emoji = "Zoë \u{1f389} 漢字";

function check(string $name, callable $body): void
{
	try {
		$body();
		echo "ok $name\n";
	} catch (Throwable $e) {
		$text = get_class($e) . ' ' . $e->getCode() . ' ' . $e->getMessage() . ' at line ' . $e->getLine();
		echo "not ok $name: " . str_replace("\n", ' ', $text) . "\n";
	}
}

function same($got, $wanted): void
{
	if ($got !== $wanted)
		throw new Exception('got ' . substr(var_export($got, true), 0, 300) .
			', wanted ' . substr(var_export($wanted, true), 0, 300));
}

// The exception that the body is expected to throw.
function thrown(callable $body): Throwable
{
	try {
		$body();
	} catch (Throwable $e) {
		return $e;
	}
	throw new Exception('nothing was thrown');
}

// Reads come from the replica once it has caught up.
function eventually(callable $condition): void
{
	for ($i = 0; $i < 500; $i++) {
		if ($condition())
			return;
		usleep(10000);
	}
	throw new Exception('never came true');
}
