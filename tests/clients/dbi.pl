#!/usr/bin/perl
# DBI with DBD::MariaDB or DBD::mysql, prepared statements on the server (SERVER_PREPARE=1) or emulated.
use strict;
use warnings;
use utf8;
use DBI;
use File::Temp;
use Time::HiRes;

my $driver = $ENV{DRIVER} || 'MariaDB';
my $key = $driver eq 'MariaDB' ? 'mariadb' : 'mysql';
my $database = $ENV{DB_NAME};
my ($primary, $replica) = ($ENV{PRIMARY_ID}, $ENV{REPLICA_ID});
my $every_byte = join '', map { chr } 0 .. 255;
my $emoji = "Zoë \x{1f389} 漢字";
binmode STDOUT, ':utf8';
$| = 1;

sub connect_to {
	my (%more) = @_;
	my $dsn = "DBI:$driver:database=" . ($more{database} // $database) .
		";host=$ENV{DB_HOST};port=$ENV{DB_PORT}";
	$dsn .= ";${key}_server_prepare=1" if $ENV{SERVER_PREPARE};
	$dsn .= ";${key}_local_infile=1";
	# "Optional" is how these say that the certificate need not be signed by a known authority.
	$dsn .= ";${key}_ssl=1;${key}_ssl_optional=1" if $ENV{TLS};
	$dsn .= ";$more{dsn}" if $more{dsn};
	my %options = (RaiseError => 1, PrintError => 0, AutoCommit => 1);
	$options{mysql_enable_utf8mb4} = 1 if $driver eq 'mysql';
	return DBI->connect($dsn, $ENV{DB_USER}, $more{password} // $ENV{DB_PASSWORD}, \%options);
}

sub check {
	my ($name, $body) = @_;
	if (eval { $body->(); 1 }) {
		print "ok $name\n";
	} else {
		(my $why = $@) =~ s/\n/ /g;
		print "not ok $name: $why\n";
	}
}

sub text { return join ',', map { ref $_ ? '[' . text(@$_) . ']' : $_ // 'NULL' } @_ }

sub same {
	my ($got, $wanted) = @_;
	my ($a, $b) = (text($got), text($wanted));
	die 'got ' . substr($a, 0, 300) . ', wanted ' . substr($b, 0, 300) if $a ne $b;
}

sub thrown {
	my ($body) = @_;
	eval { $body->(); 1 } and die 'nothing was thrown';
	return [DBI->err, DBI->errstr];
}

sub eventually {
	my ($condition) = @_;
	for (1 .. 500) {
		return if $condition->();
		Time::HiRes::sleep(0.01);
	}
	die 'never came true';
}

my $db = connect_to();
sub one { return scalar $db->selectrow_array(@_) }

check 'writes on the primary, reads on the replica' => sub {
	$db->do('create table split (id int auto_increment primary key, server int)');
	my $insert = $db->prepare('insert into split (server) values (@@server_id + 0 * ?)');
	for my $i (1 .. 20) {
		same($insert->execute($i), 1);
		same(one('select count(*) from split where id > ?', undef, 0), $i);
	}
	eventually(sub { one('select @@server_id') == $replica });
	same(one('select count(*) from split where server = ?', undef, $primary), 20);
};

check 'types' => sub {
	$db->do('create table types (i bigint, u bigint unsigned, d decimal(30,10), f double, dt datetime,
		da date, ti time, s varchar(100), n int, b blob)');
	my @values = ('-9223372036854775808', '18446744073709551615', '12345678901234567890.0123456789', 1.5,
		'2024-02-29 23:59:59', '1000-01-01', '-100:05:00', $emoji, undef);
	my $insert = $db->prepare('insert into types values (?,?,?,?,?,?,?,?,?,?)');
	$insert->bind_param($_ + 1, $values[$_]) for 0 .. $#values;
	$insert->bind_param(10, $every_byte, DBI::SQL_BLOB());
	$insert->execute;
	my @row = $db->selectrow_array('select * from types');
	same(pop @row, $every_byte) unless $driver eq 'mysql';
	pop @row if $driver eq 'mysql';
	same(\@row, \@values);
	same(one('select hex(b) from types'), join '', map { sprintf '%02X', $_ } 0 .. 255) unless $driver eq 'mysql';
};

check 'one mebibyte' => sub {
	$db->do('create table big (s longtext)');
	my $big = '0123456789abcdef' x 65536;
	$db->do('insert into big values (?)', undef, $big);
	same(one('select length(s) from big'), 1 << 20);
	local $db->{LongReadLen} = 2 << 20;
	die 'differs' unless one('select s from big') eq $big;
};

check 'transactions' => sub {
	$db->do('create table tx (id int)');
	$db->begin_work;
	$db->do('insert into tx values (1)');
	same(one('select @@server_id'), $primary);
	$db->rollback;
	$db->{AutoCommit} = 0;
	$db->do('insert into tx values (2)');
	$db->do('savepoint s');
	$db->do('insert into tx values (3)');
	$db->do('rollback to savepoint s');
	same(one('select @@server_id'), $primary);
	$db->commit;
	$db->{AutoCommit} = 1;
	same(one('select group_concat(id) from tx'), 2);
};

check 'errors' => sub {
	$db->do('create table dup (id int primary key)');
	$db->do('insert into dup values (1)');
	same(thrown(sub { $db->do('insert into dup values (1)') }), [1062, "Duplicate entry '1' for key 'PRIMARY'"]);
	same($db->state, '23000');
	same(thrown(sub { $db->do('selekt 1') })->[0], 1064);
	same(thrown(sub { one('select * from missing') }), [1146, "Table '$database.missing' doesn't exist"]);
	same(one('select 1'), 1);
};

check 'refused logins' => sub {
	same(thrown(sub { connect_to(password => 'wrong') }), [1045, $ENV{DENIED}]);
	same(thrown(sub { connect_to(database => 'no_such_database') }), [1049, "Unknown database 'no_such_database'"]);
};

check 'insert id, affected rows, warnings' => sub {
	$db->do('create table ids (id int auto_increment primary key, v tinyint)');
	$db->do('insert into ids (v) values (1), (2), (3)');
	same($db->last_insert_id(undef, undef, undef, undef), 1);
	same(one('select last_insert_id()'), 1);
	# The drivers ask for found rows by default.
	same($db->do('update ids set v = 3'), 3);
	$db->do("set sql_mode = ''");
	$db->do('insert into ids (v) values (300)');
	same($db->selectall_arrayref('show warnings'), [['Warning', 1264, "Out of range value for column 'v' at row 1"]]);
	$db->do('set sql_mode = default');
};

check 'procedures' => sub {
	$db->do('create procedure p (in a int, out b int) begin select a; select a + 1; set b = a * 2; end');
	my $call = $db->prepare('call p(21, @b)', { "${key}_server_prepare" => 0 });
	$call->execute;
	my @got;
	do {
		push @got, $call->fetchall_arrayref if $call->{NUM_OF_FIELDS};
	} while ($call->more_results);
	same(\@got, [[[21]], [[22]]]);
	same(one('select @b'), 42);
};

check 'several statements in one' => sub {
	my $many = connect_to(dsn => "${key}_multi_statements=1");
	my $query = $many->prepare('select 1; select @@server_id; create table multi (id int)', { "${key}_server_prepare" => 0 });
	$query->execute;
	my @got;
	do {
		push @got, $query->fetchall_arrayref if $query->{NUM_OF_FIELDS};
	} while ($query->more_results);
	same(\@got, [[[1]], [[$primary]]]);
	return if $ENV{SERVER_PREPARE};	# the server prepares one statement at a time
	same($many->do('insert into multi values (1); insert into multi values (2)') ? 1 : 0, 1);
};

check 'load data local infile' => sub {
	my $file = File::Temp->new;
	print $file "$_\n" for 1 .. 20000;
	close $file;
	$db->do('create table loaded (id int)');
	same($db->do("load data local infile '$file' into table loaded"), 20000);
	same(one('select sum(id) from loaded'), 200010000);
};

check 'many rows' => sub {
	# use_result of DBD::MariaDB 1.22 loses the rows, and with server prepares both drivers hang in it.
	my %how = $driver eq 'mysql' && !$ENV{SERVER_PREPARE} ? (mysql_use_result => 1) : ();
	my $query = $db->prepare("select seq, repeat('x', 500) from seq_1_to_30000", \%how);
	$query->execute;
	my $sum = 0;
	while (my $row = $query->fetchrow_arrayref) {
		$sum += $row->[0];
	}
	same($sum, 450015000);
	same(one('select 7'), 7);
};

check 'session state' => sub {
	$db->do("set \@a = 5, time_zone = '+03:00'");
	$db->do('create temporary table tmp (id int)');
	$db->do('insert into tmp values (1)');
	same([$db->selectrow_array('select @a, @@time_zone, count(*) from tmp')], [5, '+03:00', 1]) for 1 .. 5;
	$db->do('drop temporary table tmp');
};

check 'ping and statistics' => sub {
	same($db->ping ? 1 : 0, 1);
	die 'no statistics' unless ($db->{"${key}_stat"} // '') =~ /Uptime/;
};

check 'kill query' => sub {
	my $id = $db->{"${key}_thread_id"};
	my $child = fork // die 'no fork';
	if (!$child) {
		$db->{InactiveDestroy} = 1;
		my $killer = connect_to();
		# Again and again until the parent's statement has been seen to end.
		for (1 .. 500) {
			eval { $killer->do("kill query $id") };
			Time::HiRes::sleep(0.02);
			last if getppid() == 1;
		}
		$killer->disconnect;
		require POSIX;
		POSIX::_exit(0);
	}
	my ($got) = eval { one('select sleep(60)') };
	kill 'KILL', $child;
	waitpid $child, 0;
	die "got $got" if defined $got && $got != 1;
	# A late KILL may still hit the next statement.
	eventually(sub { (eval { one('select 3') } // 0) == 3 });
};

check 'disconnect' => sub {
	$db->disconnect;
	for (1 .. 30) {
		my $short = connect_to();
		same($short->selectrow_array('select ?', undef, $_), $_);
		$short->disconnect;
	}
};

print "done\n";
