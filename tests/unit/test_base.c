/* Log lines, byte queues, inboxes and TLS contexts. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/inbox.h"
#include "base/log.h"
#include "base/tls.h"

void suite_base(void);

/* --- log --- */

static char caught[65536];

/* What was written to standard error between these two is in `caught`. */
static int catch_begin(FILE **file)
{
	int saved = dup(STDERR_FILENO);

	*file = tmpfile();
	dup2(fileno(*file), STDERR_FILENO);
	return saved;
}

static void catch_end(FILE *file, int saved)
{
	size_t len;

	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(file);
	len = fread(caught, 1, sizeof(caught) - 1, file);
	caught[len] = '\0';
	fclose(file);
}

static void describe_client(const struct log_subject *subject, char *out, size_t size)
{
	(void)subject;
	snprintf(out, size, "client 7 app@\"x\n");
}

static const struct log_subject client = { describe_client };

/* One line, without its time and newline. */
static const char *logged(enum log_format format, const struct log_subject *subject,
			  const char *message)
{
	FILE *file;
	int saved = catch_begin(&file);
	size_t len;

	log_init(format, LOG_LEVEL_INFO);
	log_write(LOG_LEVEL_WARNING, subject, "%s", message);
	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	catch_end(file, saved);
	len = strlen(caught);
	CU_ASSERT_TRUE_FATAL(len > 26 && caught[len - 1] == '\n');
	caught[len - 1] = '\0';
	return caught + (format == LOG_FORMAT_TEXT
				 ? strlen("2026-01-01T00:00:00.000Z ")
				 : strlen("{\"time\":\"2026-01-01T00:00:00.000Z\","));
}

static void test_log_lines(void)
{
	static const struct {
		const char *message, *text, *json;
	} rows[] = {
		{ "hello", "warning hello", "\"level\":\"warning\",\"message\":\"hello\"}" },
		{ "", "warning ", "\"level\":\"warning\",\"message\":\"\"}" },
		{ "a\nb", "warning a\\x0ab", "\"level\":\"warning\",\"message\":\"a\\u000ab\"}" },
		{ "\"\\", "warning \"\\", "\"level\":\"warning\",\"message\":\"\\\"\\\\\"}" },
		{ "\x1b[31m\x7f", "warning \\x1b[31m\\x7f",
		  "\"level\":\"warning\",\"message\":\"\\u001b[31m\\u007f\"}" },
		{ "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "warning \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "\"level\":\"warning\",\"message\":\"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\"}" },
		/* cut, overlong, surrogate, beyond the end, C1 control, lone continuation */
		{ "\xe2\x82", "warning \\xe2\\x82",
		  "\"level\":\"warning\",\"message\":\"\\u00e2\\u0082\"}" },
		{ "\xc0\xaf", "warning \\xc0\\xaf",
		  "\"level\":\"warning\",\"message\":\"\\u00c0\\u00af\"}" },
		{ "\xe0\x80\xaf", "warning \\xe0\\x80\\xaf", NULL },
		{ "\xed\xa0\x80", "warning \\xed\\xa0\\x80", NULL },
		{ "\xf4\x90\x80\x80", "warning \\xf4\\x90\\x80\\x80", NULL },
		{ "\xc2\x9b", "warning \\xc2\\x9b", NULL },
		{ "\x80z", "warning \\x80z", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CU_ASSERT_STRING_EQUAL(logged(LOG_FORMAT_TEXT, NULL, rows[i].message),
				       rows[i].text);
		if (rows[i].json)
			CU_ASSERT_STRING_EQUAL(logged(LOG_FORMAT_JSON, NULL, rows[i].message),
					       rows[i].json);
	}
}

static void test_log_subject(void)
{
	CU_ASSERT_STRING_EQUAL(logged(LOG_FORMAT_TEXT, &client, "gone"),
			       "warning client 7 app@\"x\\x0a: gone");
	CU_ASSERT_STRING_EQUAL(logged(LOG_FORMAT_JSON, &client, "gone"),
			       "\"level\":\"warning\",\"subject\":\"client 7 "
			       "app@\\\"x\\u000a\",\"message\":\"gone\"}");
}

/* The longest line there can be: all of it as \u00xx. */
static void test_log_long_message(void)
{
	static char message[10000];
	const char *line;

	memset(message, 1, sizeof(message) - 1);
	line = logged(LOG_FORMAT_JSON, &client, message);
	CU_ASSERT_TRUE(strlen(line) > 12000);
	CU_ASSERT_STRING_EQUAL(line + strlen(line) - 5, "...\"}");
}

static void test_log_levels(void)
{
	FILE *file;
	int saved = catch_begin(&file);

	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_WARNING);
	log_info(NULL, "not this");
	log_debug(NULL, "nor this");
	log_error(NULL, "but this");
	CU_ASSERT_FALSE(log_enabled(LOG_LEVEL_INFO));
	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	log_debug(NULL, "and this");
	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	catch_end(file, saved);
	CU_ASSERT_PTR_NULL(strstr(caught, "not this"));
	CU_ASSERT_PTR_NULL(strstr(caught, "nor this"));
	CU_ASSERT_PTR_NOT_NULL(strstr(caught, "error but this\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(caught, "debug and this\n"));
}

static unsigned count(const char *text, const char *word)
{
	unsigned n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

/* A burst about a peer is cut, and what was left out is told; other lines, and debug lines, are not. */
static void test_log_burst(void)
{
	FILE *file;
	int saved = catch_begin(&file);
	uint64_t began = clock_ms();

	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_DEBUG);
	for (unsigned i = 0; i < 3 * LOG_BURST; i++) {
		log_info(&client, "rude %u", i);
		log_info(NULL, "plain %u", i);
		log_debug(&client, "detail %u", i);
	}
	log_info(&client, "polite");
	CU_ASSERT_TRUE_FATAL(clock_ms() - began < 1000);
	while (clock_ms() - began < 1100) /* its second must be over */
		usleep(1000);
	log_flush();
	log_info(&client, "rude %u", 0);
	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
	catch_end(file, saved);
	CU_ASSERT_EQUAL(count(caught, ": rude "), LOG_BURST + 1);
	CU_ASSERT_EQUAL(count(caught, "info plain "), 3 * LOG_BURST);
	CU_ASSERT_EQUAL(count(caught, ": detail "), 3 * LOG_BURST);
	CU_ASSERT_EQUAL(count(caught, ": polite"), 1);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(caught, "info 40 more lines were left out like \"rude 19\"\n"));
	CU_ASSERT_EQUAL(count(caught, "left out"), 1);
}

/* --- clock --- */

static void test_clock(void)
{
	uint64_t first = clock_us(), ms = clock_ms();

	CU_ASSERT_TRUE(ms >= first / 1000);
	CU_ASSERT_TRUE(clock_us() >= first);
}

/* --- buf --- */

static void test_buf_is_empty(void)
{
	struct buf buf = { 0 }, other = { 0 };

	CU_ASSERT_EQUAL(buf_len(&buf), 0);
	CU_ASSERT_PTR_NULL(buf_head(&buf));
	CU_ASSERT_TRUE(buf_append(&buf, NULL, 0));
	CU_ASSERT_TRUE(buf_move(&buf, &other));
	CU_ASSERT_PTR_NULL(buf.data);
	buf_consume(&buf, 0);
	buf_fini(&buf);
}

static void test_buf_gives_memory_back(void)
{
	struct buf buf = { 0 };

	CU_ASSERT_TRUE(buf_append(&buf, "abc", 3));
	buf_consume(&buf, 2);
	CU_ASSERT_EQUAL(*buf_head(&buf), 'c');
	buf_consume(&buf, 1);
	CU_ASSERT_PTR_NULL(buf.data);
	CU_ASSERT_EQUAL(buf.size, 0);
}

static void test_buf_too_much(void)
{
	struct buf buf = { 0 };

	CU_ASSERT_TRUE(buf_append(&buf, "abc", 3));
	CU_ASSERT_PTR_NULL(buf_reserve(&buf, SIZE_MAX));
	CU_ASSERT_PTR_NULL(buf_reserve(&buf, SIZE_MAX - 3));
	CU_ASSERT_EQUAL(buf_len(&buf), 3);
	buf_fini(&buf);
}

/* A queue that is fed and drained for long holds what it should and does not grow for ever. */
static void test_buf_queue(void)
{
	struct buf buf = { 0 };
	uint8_t in = 0, out = 0, bytes[700];

	for (int turn = 0; turn < 20000; turn++) {
		size_t put = (size_t)(turn * 37 % 700), take = (size_t)(turn * 53 % 700);

		for (size_t i = 0; i < put; i++)
			bytes[i] = in++;
		CU_ASSERT_TRUE_FATAL(buf_append(&buf, bytes, put));
		if (take > buf_len(&buf))
			take = buf_len(&buf);
		for (size_t i = 0; i < take; i++)
			CU_ASSERT_EQUAL_FATAL(buf_head(&buf)[i], out++);
		buf_consume(&buf, take);
	}
	CU_ASSERT_TRUE(buf.size <= 256 * 1024);
	buf_fini(&buf);
}

static void test_buf_move(void)
{
	struct buf to = { 0 }, from = { 0 };

	CU_ASSERT_TRUE(buf_append(&from, "xab", 3));
	buf_consume(&from, 1);
	CU_ASSERT_TRUE(buf_move(&to, &from));
	CU_ASSERT_PTR_NULL(from.data);
	CU_ASSERT_TRUE(buf_append(&from, "cd", 2));
	CU_ASSERT_TRUE(buf_move(&to, &from));
	CU_ASSERT_PTR_NULL(from.data);
	CU_ASSERT_EQUAL(buf_len(&to), 4);
	CU_ASSERT_EQUAL(memcmp(buf_head(&to), "abcd", 4), 0);
	buf_fini(&to);
}

/* --- inbox --- */

enum { POSTERS = 4, EACH = 20000 };

struct note {
	struct inbox_message message;
	int poster, number;
};

struct owner {
	struct inbox inbox;
	int last[POSTERS];
	int count;
	bool in_order;
};

static void take_note(struct inbox_message *message, void *arg)
{
	struct note *note = (struct note *)message;
	struct owner *owner = arg;

	if (note->number != owner->last[note->poster] + 1)
		owner->in_order = false;
	owner->last[note->poster] = note->number;
	owner->count++;
	free(note);
}

static void post_note(struct owner *owner, int poster, int number)
{
	struct note *note = malloc(sizeof(*note));

	*note = (struct note){ { NULL, take_note }, poster, number };
	inbox_post(&owner->inbox, &note->message);
}

struct poster {
	pthread_t thread;
	struct owner *owner;
	int number;
};

static void *post_many(void *arg)
{
	struct poster *poster = arg;

	for (int i = 1; i <= EACH; i++)
		post_note(poster->owner, poster->number, i);
	return NULL;
}

static void test_inbox_many_posters(void)
{
	struct poller poller;
	struct owner owner = { .in_order = true };
	struct poster posters[POSTERS];

	CU_ASSERT_TRUE_FATAL(poller_init(&poller, NULL) && inbox_init(&owner.inbox, &poller, &owner));
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .owner = &owner, .number = i };
		pthread_create(&posters[i].thread, NULL, post_many, &posters[i]);
	}
	/* A wake-up that got lost would leave this waiting for ever. */
	while (owner.count < POSTERS * EACH)
		poller_turn(&poller);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	CU_ASSERT_TRUE(owner.in_order);
	inbox_fini(&owner.inbox);
	poller_fini(&poller);
}

/* A message that posts the next one, four times; fini must deliver them all. */
static void post_again(struct inbox_message *message, void *arg)
{
	struct note *note = (struct note *)message;
	struct owner *owner = arg;

	owner->count++;
	if (note->number == 4) {
		free(note);
		return;
	}
	note->number++;
	inbox_post(&owner->inbox, message);
}

static void test_inbox_posts_while_delivering(void)
{
	struct owner owner = { .count = 0 };
	struct poller poller;

	CU_ASSERT_TRUE_FATAL(poller_init(&poller, NULL));
	for (int i = 0; i < 2; i++) {
		struct note *note = malloc(sizeof(*note));

		*note = (struct note){ { NULL, post_again }, 0, 1 };
		owner.count = 0;
		CU_ASSERT_TRUE_FATAL(inbox_init(&owner.inbox, &poller, &owner));
		inbox_post(&owner.inbox, &note->message);
		while (i == 0 && owner.count < 4)
			poller_turn(&poller);
		inbox_fini(&owner.inbox);
		CU_ASSERT_EQUAL(owner.count, 4);
	}
	poller_fini(&poller);
}

/* --- tls --- */

static char dir[] = "/tmp/tandem-unit-XXXXXX", why[256];

static const char *in_dir(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static int make_dir(void)
{
	return mkdtemp(dir) ? 0 : 1;
}

static int remove_dir(void)
{
	unlink(in_dir("tandem-cert.pem"));
	unlink(in_dir("tandem-key.pem"));
	unlink(in_dir("garbage.pem"));
	return rmdir(dir);
}

static void test_tls_self_made(void)
{
	uint8_t first[32], second[32], other[32];
	struct stat status;
	SSL_CTX *ctx = tls_server_context(NULL, NULL, dir, why, sizeof(why));

	CU_ASSERT_PTR_NOT_NULL_FATAL(ctx);
	CU_ASSERT_TRUE(tls_is_self_signed(ctx));
	CU_ASSERT_TRUE(tls_fingerprint(ctx, first));
	SSL_CTX_free(ctx);
	CU_ASSERT_EQUAL(stat(in_dir("tandem-key.pem"), &status), 0);
	CU_ASSERT_EQUAL(status.st_mode & 0777, 0600);

	ctx = tls_server_context(NULL, NULL, dir, why, sizeof(why)); /* the same one again */
	CU_ASSERT_PTR_NOT_NULL_FATAL(ctx);
	CU_ASSERT_TRUE(tls_fingerprint(ctx, second));
	CU_ASSERT_EQUAL(memcmp(first, second, 32), 0);
	SSL_CTX_free(ctx);

	unlink(in_dir("tandem-cert.pem")); /* as a crash between the two files leaves it */
	ctx = tls_server_context(NULL, NULL, dir, why, sizeof(why));
	CU_ASSERT_PTR_NOT_NULL_FATAL(ctx);
	CU_ASSERT_TRUE(tls_fingerprint(ctx, other));
	CU_ASSERT_NOT_EQUAL(memcmp(first, other, 32), 0);
	SSL_CTX_free(ctx);
}

static void test_tls_given_files(void)
{
	SSL_CTX *ctx = tls_server_context(in_dir("tandem-cert.pem"), in_dir("tandem-key.pem"), NULL,
					  why, sizeof(why));

	CU_ASSERT_PTR_NOT_NULL(ctx);
	SSL_CTX_free(ctx);
	ctx = tls_client_context(TLS_VERIFY_FULL, in_dir("tandem-cert.pem"),
				 in_dir("tandem-cert.pem"), in_dir("tandem-key.pem"), why,
				 sizeof(why));
	CU_ASSERT_PTR_NOT_NULL(ctx);
	SSL_CTX_free(ctx);
}

static void test_tls_bad_files(void)
{
	FILE *file = fopen(in_dir("garbage.pem"), "w");

	fputs("no certificate\n", file);
	fclose(file);
	CU_ASSERT_PTR_NULL(tls_server_context("/nowhere.pem", NULL, dir, why, sizeof(why)));
	CU_ASSERT_STRING_EQUAL(why, "certificate /nowhere.pem: No such file or directory");
	CU_ASSERT_PTR_NULL(tls_server_context(in_dir("garbage.pem"), NULL, dir, why, sizeof(why)));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "garbage.pem: no start line"));
	CU_ASSERT_PTR_NULL(
		tls_server_context(in_dir("tandem-cert.pem"), NULL, dir, why, sizeof(why)));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "key "));
	CU_ASSERT_PTR_NULL(tls_server_context(NULL, NULL, "/nowhere", why, sizeof(why)));
	CU_ASSERT_STRING_EQUAL(
		why, "/nowhere/tandem-key.pem.new: cannot be written: No such file or directory");
	CU_ASSERT_PTR_NULL(
		tls_client_context(TLS_VERIFY_CA, "/nowhere.pem", NULL, NULL, why, sizeof(why)));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "CA certificates /nowhere.pem: "));
}

static void test_secrets(void)
{
	char secret[] = "secret";

	CU_ASSERT_TRUE(secret_equal("abc", "abc", 3));
	CU_ASSERT_FALSE(secret_equal("abc", "abd", 3));
	CU_ASSERT_TRUE(secret_equal("", "", 0));
	secret_wipe(secret, sizeof(secret));
	CU_ASSERT_EQUAL(memcmp(secret, "\0\0\0\0\0\0", sizeof(secret)), 0);
	secret_wipe(NULL, 0);
}

void suite_base(void)
{
	static CU_TestInfo tests[] = {
		{ "log lines", test_log_lines },
		{ "log subject", test_log_subject },
		{ "log long message", test_log_long_message },
		{ "log levels", test_log_levels },
		{ "log burst", test_log_burst },
		{ "clock", test_clock },
		{ "buf is empty", test_buf_is_empty },
		{ "buf gives memory back", test_buf_gives_memory_back },
		{ "buf too much", test_buf_too_much },
		{ "buf queue", test_buf_queue },
		{ "buf move", test_buf_move },
		{ "inbox many posters", test_inbox_many_posters },
		{ "inbox posts while delivering", test_inbox_posts_while_delivering },
		{ "tls self-made", test_tls_self_made },
		{ "tls given files", test_tls_given_files },
		{ "tls bad files", test_tls_bad_files },
		{ "secrets", test_secrets },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "base", make_dir, remove_dir, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
