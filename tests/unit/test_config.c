/* The settings file: what is read, what is refused and with which words. */
#include "daemon/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "base/log.h"
#include "daemon/setting.h"

void suite_config(void);

static char path[] = "/tmp/tandem-unit-XXXXXX";
static char *said; /* by the last load; the file's name is cut off each line */

static int make_file(void)
{
	int fd = mkstemp(path);

	if (fd < 0)
		return 1;
	close(fd);
	return 0;
}

static int remove_file(void)
{
	free(said);
	return unlink(path);
}

static void cut_name(char *text)
{
	size_t len = strlen(path) + 1;
	char *found;

	while ((found = strstr(text, path)))
		memmove(found, found + len, strlen(found + len) + 1);
}

static struct settings *load_bytes(const char *text, size_t text_len)
{
	FILE *file = fopen(path, "w"), *stream;
	struct settings *settings;
	size_t len;

	fwrite(text, 1, text_len, file);
	fclose(file);
	free(said);
	stream = open_memstream(&said, &len);
	settings = config_load(path, stream);
	fclose(stream);
	cut_name(said);
	return settings;
}

static struct settings *load(const char *text)
{
	return load_bytes(text, strlen(text));
}

#define MINIMUM "[monitor]\nuser = m\n[server db1]\naddress = db1\n"

/* --- good files --- */

static void test_defaults(void)
{
	struct settings *s = load(MINIMUM);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_STRING_EQUAL(said, "");
	CU_ASSERT_EQUAL(s->threads, 0);
	CU_ASSERT_STRING_EQUAL(s->state_dir, "/var/lib/tandem");
	CU_ASSERT_EQUAL(s->log_format, LOG_FORMAT_TEXT);
	CU_ASSERT_EQUAL(s->log_level, LOG_LEVEL_INFO);
	CU_ASSERT_EQUAL(s->proxy.listen_count, 1);
	CU_ASSERT_STRING_EQUAL(s->proxy.listen[0], "127.0.0.1:3307");
	CU_ASSERT_EQUAL(s->proxy.read_your_writes, RYW_ACCOUNT);
	CU_ASSERT_EQUAL(s->proxy.causal_wait_ms, 20);
	CU_ASSERT_EQUAL(s->proxy.primary_wait_ms, 10000);
	CU_ASSERT_EQUAL(s->proxy.connect_timeout_ms, 3000);
	CU_ASSERT_EQUAL(s->proxy.pool_wait_ms, 10000);
	CU_ASSERT_EQUAL(s->proxy.login_timeout_ms, 10000);
	CU_ASSERT_EQUAL(s->proxy.wait_timeout_ms, 28800000);
	CU_ASSERT_EQUAL(s->proxy.max_lag_ms, 10000);
	CU_ASSERT_EQUAL(s->proxy.backend_idle_ms, 600000);
	CU_ASSERT_EQUAL(s->proxy.max_clients, 0);
	CU_ASSERT_EQUAL(s->proxy.tls, TLS_PREFERRED);
	CU_ASSERT_PTR_NULL(s->proxy.tls_certificate);
	CU_ASSERT_PTR_NULL(s->proxy.server_version);
	CU_ASSERT_STRING_EQUAL(s->monitor.user, "m");
	CU_ASSERT_STRING_EQUAL(s->monitor.password, "");
	CU_ASSERT_EQUAL(s->monitor.interval_ms, 500);
	CU_ASSERT_EQUAL(s->monitor.connect_timeout_ms, 2000);
	CU_ASSERT_EQUAL(s->monitor.read_timeout_ms, 1500);
	CU_ASSERT_EQUAL(s->monitor.failover_patience_ms, 5000);
	CU_ASSERT_PTR_NULL(s->replication.user);
	CU_ASSERT_EQUAL_FATAL(s->server_count, 1);
	CU_ASSERT_STRING_EQUAL(s->servers[0].name, "db1");
	CU_ASSERT_STRING_EQUAL(s->servers[0].address, "db1:3306");
	CU_ASSERT_EQUAL(s->servers[0].weight, 1);
	CU_ASSERT_EQUAL(s->servers[0].promote, PROMOTE_NEUTRAL);
	CU_ASSERT_PTR_NULL(s->servers[0].replication_address);
	CU_ASSERT_EQUAL(s->servers[0].tls, TLS_PREFERRED);
	CU_ASSERT_EQUAL(s->user_count, 0);
	settings_unref(s);
}

static void test_everything_given(void)
{
	struct settings *s =
		load("[tandem]\nthreads = 2\nstate_dir = /s\nlog_format = json\nlog_level = debug\n"
		     "[proxy]\nlisten = 0.0.0.0:1, [::1]:2\nlisten = unix:/run/x.sock\n"
		     "read_your_writes = global\ncausal_wait = 1s\nprimary_wait = 2s\n"
		     "connect_timeout = 4s\npool_wait = 5s\nlogin_timeout = 6s\nwait_timeout = 7h\n"
		     "max_lag = 0\nbackend_idle_timeout = 8min\nmax_clients = 9\ntls = required\n"
		     "tls_certificate = /dev/null\ntls_key = /dev/zero\nserver_version = "
		     "11.8.6-MariaDB\n"
		     "[monitor]\nuser = mon\npassword = secret\ninterval = 100 ms\n"
		     "connect_timeout = 1s\nread_timeout = 3s\nfailover_patience = 10s\n"
		     "[replication]\nuser = repl\npassword = pw\n"
		     "[server db1]\naddress = 10.0.0.1\n"
		     "[server db2]\naddress = [fe80::2]:3310\nweight = 5\npromote = never\n"
		     "replication_address = 10.1.0.2\nmax_connections = 77\ntls = verify_full\n"
		     "tls_ca = /dev/null\n"
		     "[user app]\npassword = apw\n[user other]\npassword =\n");

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_EQUAL(s->threads, 2);
	CU_ASSERT_STRING_EQUAL(s->state_dir, "/s");
	CU_ASSERT_EQUAL(s->log_format, LOG_FORMAT_JSON);
	CU_ASSERT_EQUAL(s->log_level, LOG_LEVEL_DEBUG);
	CU_ASSERT_EQUAL_FATAL(s->proxy.listen_count, 3);
	CU_ASSERT_STRING_EQUAL(s->proxy.listen[1], "[::1]:2");
	CU_ASSERT_STRING_EQUAL(s->proxy.listen[2], "unix:/run/x.sock");
	CU_ASSERT_EQUAL(s->proxy.read_your_writes, RYW_GLOBAL);
	CU_ASSERT_EQUAL(s->proxy.causal_wait_ms, 1000);
	CU_ASSERT_EQUAL(s->proxy.wait_timeout_ms, 7 * 3600000);
	CU_ASSERT_EQUAL(s->proxy.max_lag_ms, 0);
	CU_ASSERT_EQUAL(s->proxy.max_clients, 9);
	CU_ASSERT_EQUAL(s->proxy.tls, TLS_REQUIRED);
	CU_ASSERT_STRING_EQUAL(s->proxy.tls_key, "/dev/zero");
	CU_ASSERT_STRING_EQUAL(s->proxy.server_version, "11.8.6-MariaDB");
	CU_ASSERT_STRING_EQUAL(s->monitor.password, "secret");
	CU_ASSERT_EQUAL(s->monitor.interval_ms, 100);
	CU_ASSERT_STRING_EQUAL(s->replication.user, "repl");
	CU_ASSERT_EQUAL_FATAL(s->server_count, 2);
	CU_ASSERT_STRING_EQUAL(s->servers[1].address, "[fe80::2]:3310");
	CU_ASSERT_EQUAL(s->servers[1].weight, 5);
	CU_ASSERT_EQUAL(s->servers[1].promote, PROMOTE_NEVER);
	CU_ASSERT_STRING_EQUAL(s->servers[1].replication_address, "10.1.0.2:3306");
	CU_ASSERT_EQUAL(s->servers[1].max_connections, 77);
	CU_ASSERT_EQUAL(s->servers[1].tls, TLS_VERIFY_FULL);
	CU_ASSERT_EQUAL_FATAL(s->user_count, 2);
	CU_ASSERT_STRING_EQUAL(s->users[0].password, "apw");
	CU_ASSERT_STRING_EQUAL(s->users[1].password, "");
	settings_unref(s);
}

/* How people write files: blanks, comments, quotes, Windows line ends, a byte order mark, sections in parts. */
static void test_spellings(void)
{
	struct settings *s =
		load("\xef\xbb\xbf; a comment\r\n\r\n# another\r\n  [ monitor ]  ; watch\r\n"
		     "\tuser=m\r\n    password = \" a b \"\r\n"
		     "[server   db-1.x_y]\r\naddress: 10.0.0.1 ; first\r\n[proxy]\r\ntls = OFF\r\n"
		     "[tandem]\nthreads = 3\n[proxy]\nmax_lag = 1min\n"
		     "[user a b]\npassword = 'p;w#x'\n[user c]\npassword = \"\"");

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	CU_ASSERT_STRING_EQUAL(s->monitor.password, " a b ");
	CU_ASSERT_STRING_EQUAL(s->servers[0].name, "db-1.x_y");
	CU_ASSERT_STRING_EQUAL(s->servers[0].address, "10.0.0.1:3306");
	CU_ASSERT_EQUAL(s->proxy.tls, TLS_OFF);
	CU_ASSERT_EQUAL(s->proxy.max_lag_ms, 60000);
	CU_ASSERT_EQUAL(s->threads, 3);
	CU_ASSERT_STRING_EQUAL(s->users[0].name, "a b");
	CU_ASSERT_STRING_EQUAL(s->users[0].password, "p;w#x");
	CU_ASSERT_STRING_EQUAL(s->users[1].password, "");
	settings_unref(s);
}

static void test_warnings(void)
{
	static const struct {
		const char *text, *said;
	} rows[] = {
		{ MINIMUM "[admin]\nlisten = x\n", "6: warning: [admin] listen: this version does not act on it\n" },
		{ MINIMUM "[witness w1]\naddress = x\n[peer t2]\naddress = y:1\n[tandem]\npeer_listen = z:1\n"
			  "peer_secret = 0123456789abcdef\n",
		  "" },
		{ MINIMUM "[monitor]\nfailover = auto\n", "" },
		{ MINIMUM "[monitor]\nfailover = manual\nfailover_holddown = 10min\ndurability = "
			  "available\n"
			  "max_loss = 0\n",
		  "" },
		{ MINIMUM "tls_ca = /dev/null\n",
		  "3: warning: [server db1]: tls_ca is not used unless "
		  "tls is verify_ca or verify_full\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct settings *s = load(rows[i].text);

		CU_ASSERT_PTR_NOT_NULL(s);
		CU_ASSERT_STRING_EQUAL(said, rows[i].said);
		settings_unref(s);
	}
}

static void test_readable_by_everybody(void)
{
	struct settings *s;

	chmod(path, 0644);
	s = load(MINIMUM "[user a]\npassword = x\n");
	CU_ASSERT_STRING_EQUAL(said, " warning: holds passwords and can be read by everybody; "
				     "chmod o-r would mend it\n");
	settings_unref(s);
	s = load(MINIMUM "[user a]\npassword =\n");
	CU_ASSERT_STRING_EQUAL(said, "");
	settings_unref(s);
	chmod(path, 0640);
	s = load(MINIMUM "[user a]\npassword = x\n");
	CU_ASSERT_STRING_EQUAL(said, "");
	settings_unref(s);
	chmod(path, 0600);
}

/* --- bad files --- */

static void test_faults(void)
{
	static const struct {
		const char *text, *said;
	} rows[] = {
		{ "", " [monitor]: user is missing\n no [server NAME] section; at least one server "
		      "is needed\n" },
		{ MINIMUM "[server db1]\naddress = x\n",
		  "5: [server db1] is given twice, first in line 3\n" },
		{ MINIMUM "[server db2]\naddress = db1:3306\n",
		  "5: [server db2] has the address of [server db1]\n" },
		{ MINIMUM "[server db2]\n", "5: [server db2]: address is missing\n" },
		{ MINIMUM "[witness w]\naddress = db1\n", "5: [witness w] has the address of [server db1]: it would vote twice\n" },
		{ MINIMUM "[witness w]\naddress = x\n[witness v]\naddress = x\n",
		  "7: [witness v] has the address of [witness w]: it would vote twice\n" },
		{ MINIMUM "[peer t2]\naddress = x:1\n", "5: [peer t2] needs [tandem] peer_secret, the same at both\n"
							"5: [peer t2] needs [tandem] peer_listen, where it reaches this Tandem\n" },
		{ MINIMUM "[tandem]\npeer_secret = short\ncluster = a'b\n",
		  "7: [tandem] cluster: may have no quotes and backslashes\n"
		  "6: [tandem] peer_secret: shorter than 16 characters; `openssl rand -hex 32` makes a good one\n" },
		{ MINIMUM "[server]\naddress = x\n", "5: [server] needs a name: [server NAME]\n" },
		{ MINIMUM "[server a b]\n",
		  "5: [server a b]: a name has only letters, digits and the signs _ . -\n" },
		{ MINIMUM "[user u]\n",
		  "5: [user u]: password is missing; write \"password =\" for an empty one\n" },
		{ MINIMUM "[user u]\npassword=\n[user u]\n",
		  "7: [user u] is given twice, first in line 5\n" },
		{ MINIMUM "[tandem x]\n", "5: [tandem x]: this section takes no name\n" },
		{ MINIMUM "[servers db2]\n",
		  "5: [servers]: unknown section; did you mean [server]?\n" },
		{ MINIMUM "[mysqld]\nuser = x\n", "5: [mysqld]: unknown section\n" },
		{ MINIMUM "[]\n", "5: []: unknown section\n" },
		{ MINIMUM "[proxy\nlisten = 1\n",
		  "5: a section is written [name] or [name NAME], alone on its line\n" },
		{ MINIMUM "[proxy] x\n",
		  "5: a section is written [name] or [name NAME], alone on its line\n" },
		{ "threads = 1\n" MINIMUM, "1: threads: a setting needs a [section] above it\n" },
		{ MINIMUM "secret words\n", "5: neither a [section] nor name = value\n" },
		{ MINIMUM "wieght = 1\n",
		  "5: [server db1] wieght: unknown setting; did you mean weight?\n" },
		{ MINIMUM "prom = never\n",
		  "5: [server db1] prom: unknown setting; did you mean promote?\n" },
		{ MINIMUM "causal_wait = 1s\n",
		  "5: [server db1] causal_wait: unknown setting; it belongs in [proxy]\n" },
		{ MINIMUM "qqq = 1s\n", "5: [server db1] qqq: unknown setting\n" },
		{ MINIMUM "address = y\n",
		  "5: [server db1] address is given twice, first in line 4\n" },
		{ MINIMUM "weight =\n",
		  "5: [server db1] weight: not a whole number from 0 to 1000\n" },
		{ MINIMUM "weight = -1\n",
		  "5: [server db1] weight = -1: not a whole number from 0 to 1000\n" },
		{ MINIMUM "weight = 1.5\n",
		  "5: [server db1] weight = 1.5: not a whole number from 0 to 1000\n" },
		{ MINIMUM "weight = 0x10\n",
		  "5: [server db1] weight = 0x10: not a whole number from 0 to 1000\n" },
		{ MINIMUM "weight = 1001\n",
		  "5: [server db1] weight = 1001: out of bounds; from 0 to 1000\n" },
		{ MINIMUM "weight = 4294967297\n",
		  "5: [server db1] weight = 4294967297: out of bounds; from 0 to 1000\n" },
		{ MINIMUM "weight = 99999999999999999999999\n",
		  "5: [server db1] weight = 99999999999999999999999: not a whole number from 0 to "
		  "1000\n" },
		{ MINIMUM "promote = maybe\n",
		  "5: [server db1] promote = maybe: must be one of neutral, prefer, never\n" },
		{ MINIMUM "[proxy]\ntls = verify_ca\n",
		  "6: [proxy] tls = verify_ca: must be one of off, preferred, required\n" },
		{ MINIMUM "[proxy]\ntls_key = /dev/null\n",
		  "6: [proxy] tls_key: tls_certificate is missing\n" },
		{ MINIMUM "tls_ca = /nowhere.pem\n",
		  "5: [server db1] tls_ca = /nowhere.pem: cannot be "
		  "read: No such file or directory\n" },
		{ MINIMUM "tls_ca = /etc\n",
		  "5: [server db1] tls_ca = /etc: is a directory, not a file\n" },
		{ MINIMUM "tls_ca =\n", "5: [server db1] tls_ca: is empty\n" },
		{ MINIMUM "[tandem]\nstate_dir =\n", "6: [tandem] state_dir: is empty\n" },
		{ MINIMUM "[user u]\npassword = \"abc\n",
		  "6: [user u] password: a quote is not closed (a ';' behind a blank begins a "
		  "comment)\n" },
		{ MINIMUM "[user u]\npassword = \"abc ;def\"\n",
		  "6: [user u] password: a quote is not closed (a ';' behind a blank begins a "
		  "comment)\n" },
		{ MINIMUM "[user u]\npassword = \"\npassword = b",
		  "6: [user u] password: a quote is not closed (a ';' behind a blank begins a "
		  "comment)\n"
		  "7: [user u] password is given twice, first in line 6\n" },
		{ "[server db1]\naddress = x\n", " [monitor]: user is missing\n" },
		{ "[server db1]\naddress = x\n[monitor]\npassword = x",
		  "3: [monitor]: user is missing\n" },
		{ "[monitor]\nuser =\n[server db1]\naddress = x\n",
		  "2: [monitor] user: is empty\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct settings *s = load(rows[i].text);

		CU_ASSERT_PTR_NULL(s);
		if (strcmp(said, rows[i].said) != 0)
			printf("\n    row %zu: %s", i, said);
		CU_ASSERT_STRING_EQUAL(said, rows[i].said);
	}
}

static void test_durations(void)
{
	static const struct {
		const char *text;
		long long ms; /* -1: no duration, -2: out of bounds */
	} rows[] = {
		{ "20ms", 20 },
		{ "1s", 1000 },
		{ "2min", 120000 },
		{ "1h", 3600000 },
		{ "1d", 86400000 },
		{ "31d", 2678400000LL },
		{ "0", 0 },
		{ "0s", 0 },
		{ "7  s", 7000 },
		{ "007s", 7000 },
		{ "20", -1 },
		{ "", -1 },
		{ "s", -1 },
		{ "-1s", -1 },
		{ "1.5s", -1 },
		{ "1m", -1 },
		{ "1 s x", -1 },
		{ "1S", -1 },
		{ "1sec", -1 },
		{ "32d", -2 },
		{ "4294967295d", -2 },
		{ "4294967296ms", -1 },
		{ "99999999999999999999s", -1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[256];
		struct settings *s;

		snprintf(text, sizeof(text), "%s[proxy]\nwait_timeout = %s\n", MINIMUM,
			 rows[i].text);
		s = load(text);
		CU_ASSERT_EQUAL(s != NULL, rows[i].ms >= 0);
		if (s)
			CU_ASSERT_EQUAL(s->proxy.wait_timeout_ms, rows[i].ms);
		if (rows[i].ms == -1)
			CU_ASSERT_PTR_NOT_NULL(strstr(said, ": not a duration; write"));
		if (rows[i].ms == -2)
			CU_ASSERT_PTR_NOT_NULL(strstr(said, ": out of bounds; from 0 to 31d"));
		settings_unref(s);
	}
}

static void test_addresses(void)
{
	static const struct {
		const char *text, *address; /* NULL: refused */
	} rows[] = {
		{ "10.0.0.1", "10.0.0.1:3306" },
		{ "db-1.example.com:3310", "db-1.example.com:3310" },
		{ "[::1]", "[::1]:3306" },
		{ "[fe80::1]:65535", "[fe80::1]:65535" },
		{ "unix:/run/my sql.sock", "unix:/run/my sql.sock" },
		{ "::1", NULL },
		{ "::1:3306", NULL },
		{ "[::1", NULL },
		{ "[::1]x", NULL },
		{ "[::1]:", NULL },
		{ "[10.0.0.1]:1", NULL },
		{ "db1:", NULL },
		{ "db1:0", NULL },
		{ "db1:65536", NULL },
		{ "db1:33o6", NULL },
		{ ":3306", NULL },
		{ "", NULL },
		{ "db 1", NULL },
		{ "db1, db2", NULL },
		{ "http//db1", NULL },
		{ "unix:run/x.sock", NULL },
		{ "unix:", NULL },
		{ "unix:/"
		  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		  "aaaaaaaaaaaaaaaaaaaaaaaaaaa",
		  NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[300];
		struct settings *s;

		snprintf(text, sizeof(text), "[monitor]\nuser = m\n[server a]\naddress = %s\n",
			 rows[i].text);
		s = load(text);
		CU_ASSERT_EQUAL(s != NULL, rows[i].address != NULL);
		if (s) {
			CU_ASSERT_STRING_EQUAL(s->servers[0].address, rows[i].address);
		} else {
			CU_ASSERT_EQUAL(strncmp(said, "4: [server a] address", 21), 0);
		}
		settings_unref(s);
	}
}

static void test_listen(void)
{
	static const struct {
		const char *text, *said; /* NULL: taken */
	} rows[] = {
		{ "0.0.0.0:3306", NULL },
		{ "a:1,b:2 , unix:/x", NULL },
		{ "127.0.0.1", "6: [proxy] listen = 127.0.0.1: the port is missing; write "
			       "HOST:PORT or unix:/PATH\n" },
		{ "3307", "6: [proxy] listen = 3307: the port is missing; write HOST:PORT or "
			  "unix:/PATH\n" },
		{ "*:3307", "6: [proxy] listen = *:3307: '*' cannot be in a host name; write "
			    "HOST:PORT or unix:/PATH\n" },
		{ "", "6: [proxy] listen: is empty\n" },
		{ " , ", "6: [proxy] listen = ,: is empty\n" },
		{ "a:1,", "6: [proxy] listen = a:1,: the host is missing; write HOST:PORT or "
			  "unix:/PATH\n" },
		{ "a:1, a:1", "6: [proxy] listen = a:1, a:1: a:1 is given twice\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[300];
		struct settings *s;

		snprintf(text, sizeof(text), "%s[proxy]\nlisten = %s\n", MINIMUM, rows[i].text);
		s = load(text);
		CU_ASSERT_EQUAL(s != NULL, rows[i].said == NULL);
		CU_ASSERT_STRING_EQUAL(said, rows[i].said ? rows[i].said : "");
		settings_unref(s);
	}
}

/* All at once, in the order of their lines, and none of them shows a password. */
static void test_all_faults_at_once(void)
{
	CU_ASSERT_PTR_NULL(
		load("[proxy]\nlisten = x\nhunter2\ntls = 5\n[monitor]\npassword = \"hunter2\n"
		     "[server a]\nweight = q\n"));
	CU_ASSERT_STRING_EQUAL(
		said, "2: [proxy] listen = x: the port is missing; write HOST:PORT or unix:/PATH\n"
		      "3: neither a [section] nor name = value\n"
		      "4: [proxy] tls = 5: must be one of off, preferred, required\n"
		      "6: [monitor] password: a quote is not closed (a ';' behind a blank begins a "
		      "comment)\n"
		      "8: [server a] weight = q: not a whole number from 0 to 1000\n"
		      "5: [monitor]: user is missing\n"
		      "7: [server a]: address is missing\n");
}

static void test_odd_bytes(void)
{
	static char longest[5000];

	CU_ASSERT_PTR_NULL(
		load_bytes(MINIMUM "weight\0 = 1\n", sizeof(MINIMUM "weight\0 = 1\n") - 1));
	CU_ASSERT_STRING_EQUAL(said, "5: a zero byte is in the line\n");
	CU_ASSERT_PTR_NULL(load_bytes("\0\0\0", 3));
	memset(longest, 'x', sizeof(longest) - 1);
	memcpy(longest, "[tandem]\nstate_dir = ", 21);
	CU_ASSERT_PTR_NULL(load(longest));
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "2: longer than "));
	memset(longest, '[', sizeof(longest) - 1);
	CU_ASSERT_PTR_NULL(load(longest));
	memset(longest, '\n', sizeof(longest) - 1);
	CU_ASSERT_PTR_NULL(load(longest));
}

/* A file cut anywhere is taken or refused, and never half of it. */
static void test_cut_anywhere(void)
{
	static const char text[] =
		"[tandem]\nthreads = 2\n[proxy]\nlisten = a:1, b:2\ncausal_wait = 5ms\n"
		"[user x]\npassword = 'y z'\n[server db1]\naddress = unix:/x\ntls = required\n"
		"[monitor]\nuser = m ; c\n";

	for (size_t len = 0; len < sizeof(text); len++) {
		struct settings *s = load_bytes(text, len);

		CU_ASSERT_EQUAL(s != NULL, len >= sizeof(text) - 6);
		settings_unref(s);
	}
}

static void test_no_file(void)
{
	char *text;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	CU_ASSERT_PTR_NULL(config_load("/nowhere/tandem.cnf", stream));
	CU_ASSERT_PTR_NULL(config_load("/tmp", stream));
	fclose(stream);
	CU_ASSERT_STRING_EQUAL(text,
			       "/nowhere/tandem.cnf: cannot be read: No such file or directory\n"
			       "/tmp: cannot be read: Is a directory\n");
	free(text);
}

/* --- reload, sharing, manual --- */

static void test_needs_restart(void)
{
	static const struct {
		const char *more, *what; /* NULL: a reload can do it */
	} rows[] = {
		{ "", NULL },
		{ "[server db2]\naddress = y\n[tandem]\nlog_level = debug\n", NULL },
		{ "[proxy]\nlisten = 127.0.0.1:3307\n", NULL },
		{ "[proxy]\nlisten = 127.0.0.1:3308\n", "[proxy] listen" },
		{ "[proxy]\nlisten = 127.0.0.1:3307, 127.0.0.1:3308\n", "[proxy] listen" },
		{ "[tandem]\nthreads = 7\n", "[tandem] threads" },
		{ "[tandem]\nstate_dir = /x\n", "[tandem] state_dir" },
		{ "[proxy]\ntls = required\n", "[proxy] tls" },
		{ "[proxy]\ntls_certificate = /dev/null\n", "[proxy] tls_certificate" },
	};
	struct settings *now = load(MINIMUM);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[300], what[64] = "";
		struct settings *wanted;

		snprintf(text, sizeof(text), "%s%s", MINIMUM, rows[i].more);
		wanted = load(text);
		CU_ASSERT_PTR_NOT_NULL_FATAL(wanted);
		CU_ASSERT_EQUAL(config_needs_restart(now, wanted, what, sizeof(what)),
				rows[i].what != NULL);
		CU_ASSERT_STRING_EQUAL(what, rows[i].what ? rows[i].what : "");
		settings_unref(wanted);
	}
	settings_unref(now);
}

/* The last of several holders frees; a sanitizer build tells when it is another. */
static void test_references(void)
{
	struct settings *s = load(MINIMUM "[user a]\npassword = b\n");

	CU_ASSERT_PTR_EQUAL(settings_ref(s), s);
	settings_ref(s);
	settings_unref(s);
	settings_unref(s);
	CU_ASSERT_STRING_EQUAL(s->users[0].password, "b");
	settings_unref(s);
	settings_unref(NULL);
}

static void look_for(const char *manual, const struct setting *row)
{
	char line[100];

	snprintf(line, sizeof(line), "\n  %s = ", row->name);
	CU_ASSERT_PTR_NOT_NULL(strstr(manual, line));
	snprintf(line, sizeof(line), "      %.20s", row->help);
	CU_ASSERT_PTR_NOT_NULL(strstr(manual, line));
}

static void test_manual_names_every_setting(void)
{
	const struct section *section;
	char *text;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	config_print_help(stream);
	fclose(stream);
	for (size_t i = 0; (section = section_at(i)); i++)
		for (const struct setting *row = section->rows; row && row->name; row++)
			look_for(text, row);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
		CU_ASSERT_TRUE(strlen(line) <= 100);
	free(text);
}

static void check_row(const struct section *section, const struct setting *row)
{
	CU_ASSERT_NOT_EQUAL(section->kind, SECTION_LATER);
	CU_ASSERT_TRUE_FATAL(row - section->rows < SETTING_ROWS_MAX);
	CU_ASSERT_PTR_EQUAL(setting_find(section, row->name), row);
	CU_ASSERT_EQUAL(row->type == &setting_choice, row->choices != NULL);
	CU_ASSERT_EQUAL(row->type == &setting_count || row->type == &setting_duration,
			row->min && row->max);
	CU_ASSERT_FALSE(row->flags & SETTING_REQUIRED && row->fallback);
	CU_ASSERT_FALSE(row->flags & SETTING_RESTART && section->kind != SECTION_ONE);
	CU_ASSERT_FALSE(row->flags & SETTING_LATER && !row->fallback);
}

/* A row that cannot be read, or whose default is no value, is a fault of the table. */
static void test_table_is_sound(void)
{
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++) {
		CU_ASSERT_PTR_EQUAL(section_find_kind(section->name, section->kind == SECTION_MANY), section);
		CU_ASSERT_EQUAL(section->kind == SECTION_LATER, section->rows == NULL);
		CU_ASSERT_EQUAL(section->kind == SECTION_MANY, section->add != NULL);
		for (const struct setting *row = section->rows; row && row->name; row++)
			check_row(section, row);
	}
}

void suite_config(void)
{
	static CU_TestInfo tests[] = {
		{ "defaults", test_defaults },
		{ "everything given", test_everything_given },
		{ "spellings", test_spellings },
		{ "warnings", test_warnings },
		{ "readable by everybody", test_readable_by_everybody },
		{ "faults", test_faults },
		{ "durations", test_durations },
		{ "addresses", test_addresses },
		{ "listen", test_listen },
		{ "all faults at once", test_all_faults_at_once },
		{ "odd bytes", test_odd_bytes },
		{ "cut anywhere", test_cut_anywhere },
		{ "no file", test_no_file },
		{ "needs restart", test_needs_restart },
		{ "references", test_references },
		{ "manual names every setting", test_manual_names_every_setting },
		{ "table is sound", test_table_is_sound },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "config", make_file, remove_file, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
