/* The classifier against the table of tests/sql/statements.txt, and the digest's promises. */
#include <CUnit/CUnit.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sql/lexer.h"
#include "sql/recall.h"
#include "sql/sql.h"
#include "sql/words.h"

#ifndef TESTS_DIR
#define TESTS_DIR "tests"
#endif

void suite_sql(void);

enum { LINE_MAX_LEN = 4096, FACT_BITS = 64 };

struct expectation {
	char verb[32];
	char target[16];
	uint64_t facts;
	unsigned parts;
	char functions[512]; /* comma behind each */
	char name[128];
	char text[256];
	char hint[64];
	char kill[32];
	bool has_using;
};

struct table {
	FILE *file;
	unsigned line;
	unsigned checked;
	unsigned failed;
	struct sql_context context;
	bool is_body;
	struct sql_recall *recall;
};

static void complain(struct table *t, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "\n    tests/sql/statements.txt:%u: ", t->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	t->failed++;
}

/* Reading the table */

static int hex_value(const char *two)
{
	char digits[3] = {two[0], two[1], 0};

	return (int)strtol(digits, NULL, 16);
}

static size_t unescape(const char *from, char *to)
{
	static const char names[] = "nt\\0", bytes[] = "\n\t\\";
	size_t len = 0;

	for (; *from; from++) {
		const char *known;

		if (*from != '\\') {
			to[len++] = *from;
			continue;
		}
		from++;
		if (*from == 'x') {
			to[len++] = (char)hex_value(from + 1);
			from += 2;
		} else if (*from && (known = strchr(names, *from)) != NULL) {
			to[len++] = bytes[known - names];
		} else {
			to[len++] = '\\';
			to[len++] = *from;
		}
	}
	return len;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void read_context_word(struct table *t, const char *word)
{
	if (strcmp(word, "flavour=mysql") == 0)
		t->context.flavour = SQL_MYSQL;
	else if (starts_with(word, "version="))
		t->context.version = (uint32_t)atol(word + 8);
	else if (starts_with(word, "charset="))
		t->context.charset = sql_charset_of(word + 8, strlen(word + 8));
	else if (strcmp(word, "utf8") == 0)
		t->context.utf8 = true;
	else if (strcmp(word, "ansi_quotes") == 0)
		t->context.ansi_quotes = true;
	else if (strcmp(word, "no_backslash_escapes") == 0)
		t->context.no_backslash_escapes = true;
	else if (strcmp(word, "oracle") == 0)
		t->context.oracle = true;
	else if (strcmp(word, "single") == 0)
		t->context.multi_statements = false;
	else if (strcmp(word, "body") == 0)
		t->is_body = true;
	else
		complain(t, "what is %s?", word);
}

static void read_context(struct table *t, char *line)
{
	char *save, *word;

	t->context = (struct sql_context){.flavour = SQL_MARIADB, .version = 101119, .multi_statements = true};
	t->is_body = false;
	for (word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
		read_context_word(t, word);
}

static bool read_fact(struct expectation *e, const char *word)
{
	for (unsigned bit = 0; bit < FACT_BITS; bit++) {
		const char *name = sql_fact_name(bit);

		if (name && strcmp(name, word) == 0) {
			e->facts |= UINT64_C(1) << bit;
			return true;
		}
	}
	return false;
}

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static bool read_word(struct expectation *e, const char *word)
{
	if (starts_with(word, "f="))
		snprintf(e->functions, sizeof(e->functions), "%s,", word + 2);
	else if (starts_with(word, "name="))
		copy(e->name, sizeof(e->name), word + 5);
	else if (starts_with(word, "text="))
		copy(e->text, sizeof(e->text), word + 5);
	else if (starts_with(word, "hint="))
		copy(e->hint, sizeof(e->hint), word + 5);
	else if (starts_with(word, "kill="))
		copy(e->kill, sizeof(e->kill), word + 5);
	else if (starts_with(word, "parts="))
		e->parts = (unsigned)atoi(word + 6);
	else if (strcmp(word, "using") == 0)
		e->has_using = true;
	else
		return read_fact(e, word);
	return true;
}

static void read_expectation(struct table *t, char *words, struct expectation *e)
{
	char *save, *word = strtok_r(words, " ", &save);

	memset(e, 0, sizeof(*e));
	e->parts = 1;
	copy(e->verb, sizeof(e->verb), word ? word : "");
	word = strtok_r(NULL, " ", &save);
	copy(e->target, sizeof(e->target), word ? word : "");
	while ((word = strtok_r(NULL, " ", &save)) != NULL)
		if (!read_word(e, word))
			complain(t, "what is %s?", word);
}

/* Comparing */

static const char *fact_list(uint64_t facts, char *to, size_t size)
{
	size_t len = 0;

	*to = '\0';
	for (unsigned bit = 0; bit < FACT_BITS; bit++)
		if (facts >> bit & 1)
			len += (size_t)snprintf(to + len, size - len, " %s", sql_fact_name(bit) ? sql_fact_name(bit) : "?");
	return to;
}

static void put_span(char *to, size_t size, const char *text, struct sql_span span, const char *behind)
{
	size_t len = strlen(to);

	snprintf(to + len, size - len, "%.*s%s", (int)span.len, text + span.at, behind);
}

static void compare_text(struct table *t, const char *what, const char *wanted, const char *found)
{
	if (strcmp(wanted, found) != 0)
		complain(t, "%s is \"%s\", not \"%s\"", what, found, wanted);
}

static void compare_facts(struct table *t, uint64_t wanted, uint64_t found)
{
	char text[1024];

	if (wanted & ~found)
		complain(t, "missing:%s", fact_list(wanted & ~found, text, sizeof(text)));
	if (found & ~wanted)
		complain(t, "found as well:%s", fact_list(found & ~wanted, text, sizeof(text)));
}

static void compare_spans(struct table *t, const struct expectation *e, const char *text, const struct sql_meaning *m)
{
	char found[1024] = "", escaped[1024], quoted[1024] = "";

	for (unsigned i = 0; i < m->function_count; i++)
		put_span(found, sizeof(found), text, m->functions[i], ",");
	escaped[unescape(e->functions, escaped)] = '\0';
	compare_text(t, "functions", escaped, found);
	*found = '\0';
	if (m->qualifier.len)
		put_span(found, sizeof(found), text, m->qualifier, ".");
	put_span(found, sizeof(found), text, m->name, "");
	compare_text(t, "name", e->name, found);
	put_span(quoted, sizeof(quoted), text, m->text, "");
	for (char *c = quoted; *c; c++)
		*c = *c == ' ' ? '_' : *c;
	if (!m->text.len)
		*quoted = '\0';
	compare_text(t, "text", e->text, quoted);
}

static void compare_hint(struct table *t, const struct expectation *e, const char *text, const struct sql_meaning *m)
{
	static const char *const names[] = {"", "primary", "replica", "server:"};
	char found[128];

	copy(found, sizeof(found), names[m->hint]);
	if (m->hint == SQL_HINT_SERVER)
		put_span(found, sizeof(found), text, m->hint_server, "");
	compare_text(t, "hint", e->hint, found);
}

static void compare_kill(struct table *t, const struct expectation *e, const struct sql_meaning *m)
{
	char found[64] = "";

	if (m->kill_id || m->kill_query)
		snprintf(found, sizeof(found), "%s%llu", m->kill_query_id ? "id:" : m->kill_query ? "query:" : "",
			 (unsigned long long)m->kill_id);
	compare_text(t, "kill", e->kill, found);
}

/* What is said from memory is what judging says, of this text and of others with the same shape. */
static void check_recall(struct table *t, const char *text, size_t len)
{
	char *other = malloc(len ? len : 1);
	struct sql_meaning m, wanted;

	for (int turn = 0; turn < 10; turn++) {
		bool in_string = false;

		for (size_t i = 0; i < len; i++) {
			in_string ^= text[i] == '\'';
			other[i] = text[i];
			if (text[i] >= '0' && text[i] <= '9')
				other[i] = (char)('0' + (text[i] - '0' + turn) % 10);
			else if (in_string && turn && text[i] >= 'a' && text[i] <= 'z')
				other[i] = " ,x;-/#(*)"[(i + (size_t)turn) % 10];
		}
		sql_recall_classify(t->recall, &t->context, other, len, &m);
		sql_classify(&t->context, other, len, &wanted);
		if (m.verb != wanted.verb || m.target != wanted.target || m.facts != wanted.facts || m.digest != wanted.digest ||
		    m.parts != wanted.parts || m.hint != wanted.hint || m.function_count != wanted.function_count ||
		    m.name.len != wanted.name.len || m.text.len != wanted.text.len || m.kill_id != wanted.kill_id) {
			complain(t, "from memory it is something else");
			fprintf(stderr, "\n        %.*s", (int)len, other);
		}
	}
	free(other);
}

static void check_statement(struct table *t, const struct expectation *e, const char *text, size_t len)
{
	struct sql_meaning m;
	unsigned before = t->failed;

	if (t->is_body)
		sql_classify_body(&t->context, text, len, &m);
	else
		sql_classify(&t->context, text, len, &m);
	compare_text(t, "verb", e->verb, sql_verb_name(m.verb));
	compare_text(t, "target", e->target, sql_target_name(m.target));
	compare_facts(t, e->facts, m.facts);
	compare_spans(t, e, text, &m);
	compare_hint(t, e, text, &m);
	compare_kill(t, e, &m);
	if (m.parts != e->parts)
		complain(t, "%u parts, not %u", m.parts, e->parts);
	if (m.has_using != e->has_using)
		complain(t, "USING");
	if (m.digest == 0)
		complain(t, "no digest");
	if (t->failed != before)
		fprintf(stderr, "\n        %.*s", (int)len, text);
	if (!t->is_body)
		check_recall(t, text, len);
	t->checked++;
}

static void check_line(struct table *t, char *line)
{
	char *bar = strchr(line, '|');
	struct expectation e;
	char bytes[LINE_MAX_LEN], *exact;
	size_t len;

	if (!bar) {
		complain(t, "no | in this line");
		return;
	}
	*bar = '\0';
	read_expectation(t, line, &e);
	len = unescape(bar[1] == ' ' ? bar + 2 : bar + 1, bytes);
	/* Its own allocation, so that a sanitizer sees one byte too far. */
	exact = malloc(len ? len : 1);
	memcpy(exact, bytes, len);
	check_statement(t, &e, exact, len);
	free(exact);
}

static void test_statements(void)
{
	struct table t = {.file = fopen(TESTS_DIR "/sql/statements.txt", "r")};
	char line[LINE_MAX_LEN];

	t.recall = sql_recall_new();
	CU_ASSERT_PTR_NOT_NULL_FATAL(t.file);
	CU_ASSERT_PTR_NOT_NULL_FATAL(t.recall);
	while (fgets(line, sizeof(line), t.file)) {
		t.line++;
		line[strcspn(line, "\n")] = '\0';
		if (*line == '@')
			read_context(&t, line + 1);
		else if (*line && *line != '#')
			check_line(&t, line);
	}
	fclose(t.file);
	CU_ASSERT_TRUE(sql_recall_found(t.recall) > 1000);
	sql_recall_free(t.recall);
	CU_ASSERT_EQUAL(t.failed, 0);
	CU_ASSERT_TRUE(t.checked >= 600);
}

/* The digest */

static const struct sql_context plain = {.flavour = SQL_MARIADB, .version = 101119, .multi_statements = true};

static uint64_t digest_of(const char *text)
{
	struct sql_meaning m;

	sql_classify(&plain, text, strlen(text), &m);
	return m.digest;
}

static void test_digest_same(void)
{
	static const char *const pairs[][2] = {
		{"SELECT 1", "select 2"},
		{"SELECT 1", "SELECT 'x'"},
		{"SELECT 1", "SELECT ?"},
		{"SELECT -1", "SELECT 1"},
		{"SELECT a FROM t", "select\tA  from /* x */ T -- y"},
		{"SELECT a FROM t", "SELECT `a` FROM `t`"},
		{"SELECT a FROM t", "SELECT a FROM t;"},
		{"SELECT a FROM t", "/* tandem: primary */ SELECT a FROM t ; -- x"},
		{"SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (1, 'x', 3.5, -4, NULL)"},
		{"INSERT INTO t VALUES (1, 2)", "INSERT INTO t VALUES (1, 2), (3, 'x'), (NULL, DEFAULT), (-1, +2)"},
		{"INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1, 2)"},
		{"SELECT 0x1f", "SELECT x'1f'"},
		{"SELECT 1; SELECT 2", "SELECT 3 ; SELECT 4;"},
		{"SELECT /*!50000 a */ FROM t", "SELECT a FROM t"},
		{"SELECT /*!99999 a */ b FROM t", "SELECT b FROM t"},
		{"SELECT a<=>b", "SELECT a <=> b"},
		{"SELECT @a", "SELECT @`A`"},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (digest_of(pairs[i][0]) != digest_of(pairs[i][1])) {
			fprintf(stderr, "\n    differ: %s | %s", pairs[i][0], pairs[i][1]);
			CU_FAIL("digests differ");
		}
}

static void test_digest_differs(void)
{
	static const char *const pairs[][2] = {
		{"SELECT a FROM t", "SELECT b FROM t"},
		{"SELECT a FROM t", "SELECT a FROM u"},
		{"SELECT a, b FROM t", "SELECT a FROM t"},
		{"SELECT a + 1", "SELECT a - 1"},
		{"SELECT a < 1", "SELECT a <= 1"},
		{"SELECT (1)", "SELECT 1"},
		{"SELECT a - 1", "SELECT a 1"},
		{"INSERT INTO t VALUES (1), (2, a)", "INSERT INTO t VALUES (1)"},
		{"INSERT INTO t VALUES (1), (", "INSERT INTO t VALUES (1)"},
		{"SELECT 1,", "SELECT 1"},
		{"SELECT -", "SELECT"},
		{"SELECT a", "SELECT @a"},
		{"SELECT @@a", "SELECT @a"},
		{"SELECT aaaaaaaaaaaaaaaab", "SELECT aaaaaaaaaaaaaaaac"},
		{"SELECT a.b", "SELECT a, b"},
		{"SELECT 1; SELECT 2", "SELECT 1"},
		{"SELECT a IS NULL", "SELECT a IS NOT NULL"},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (digest_of(pairs[i][0]) == digest_of(pairs[i][1])) {
			fprintf(stderr, "\n    the same: %s | %s", pairs[i][0], pairs[i][1]);
			CU_FAIL("digests are the same");
		}
}

/* Digests are kept by people, so they may never change. */
static void test_digest_stable(void)
{
	CU_ASSERT_EQUAL(digest_of("SELECT c FROM sbtest1 WHERE id=5025"), UINT64_C(0xa6bd416dfb116c56));
	CU_ASSERT_EQUAL(digest_of("INSERT INTO t (a,b) VALUES (1,'x'),(-2,NULL),(3,DEFAULT) ON DUPLICATE KEY UPDATE b=VALUES(b)"),
			UINT64_C(0xde05d5ce77dfe885));
	CU_ASSERT_EQUAL(digest_of("SELECT * FROM t WHERE id IN (1, 2, 3) AND x = -5 - 3 limit 5,10"),
			UINT64_C(0x5d6c2f304f764441));
}

static void check_normal(const char *text, const char *wanted)
{
	char found[256];
	size_t len = sql_normalise(&plain, text, strlen(text), found, sizeof(found));

	CU_ASSERT_STRING_EQUAL(found, wanted);
	CU_ASSERT_EQUAL(len, strlen(wanted));
}

static void test_normalise(void)
{
	char small[8];

	check_normal("SELECT  a,b FROM d.T WHERE x IN (1,2) AND y = -5 -- z",
		     "select a, b from d.t where x in (?) and y = ?");
	check_normal("INSERT INTO t(a,b) VALUES (1,'x'),(2,'y')", "insert into t(a, b) values (?)");
	check_normal("SELECT @a:=@@session.x, COUNT(*)", "select @a := @@session.x, count(*)");
	check_normal("SELECT 1; SELECT 2;", "select ?; select ?");
	check_normal("", "");
	CU_ASSERT_EQUAL(sql_normalise(&plain, "SELECT a FROM t", 15, small, sizeof(small)), 15);
	CU_ASSERT_STRING_EQUAL(small, "select ");
	CU_ASSERT_EQUAL(sql_normalise(&plain, "SELECT a FROM t", 15, NULL, 0), 15);
}

/* Bytes cut off anywhere do no harm, and are never thought longer than they are. */
static void test_every_prefix(void)
{
	static const char text[] = "/*!50000 SELECT*/ @a:=@@session.`x`, 'it''s', \"q\\\"\", x'1f', 1.5e-3, f(1) -- c\n"
				   "FROM `a``b`.c WHERE d IN (1,-2,NULL) # e\n; CREATE PROCEDURE p() BEGIN IF a THEN SET b = 1; END IF; END;"
				   "KILL QUERY 5; SET STATEMENT a=1 FOR EXPLAIN FORMAT=JSON SELECT /* tandem: server='x' */ 1";

	for (size_t len = 0; len < sizeof(text); len++) {
		char *exact = malloc(len ? len : 1);
		struct sql_meaning m;

		memcpy(exact, text, len);
		sql_classify(&plain, exact, len, &m);
		CU_ASSERT_TRUE(m.digest != 0 && m.name.at + m.name.len <= len && m.hint_server.at + m.hint_server.len <= len);
		sql_classify_body(&plain, exact, len, &m);
		CU_ASSERT_TRUE(m.digest != 0);
		free(exact);
	}
}

/* Which statements are found again, and which are always judged anew. */
static void test_recall(void)
{
	static const struct {
		const char *first, *second;
		bool found;
	} cases[] = {
		{"SELECT c FROM sbtest1 WHERE id=50256", "SELECT c FROM sbtest1 WHERE id=7", true},
		{"SELECT c FROM sbtest1 WHERE id=50256", "SELECT c FROM sbtest2 WHERE id=50256", false},
		{"UPDATE t SET a='x' WHERE b = -1.5", "UPDATE t SET a='/* y */ -- ;' WHERE b = -22.75", true},
		{"SELECT a FROM `t 1'` WHERE b=''", "SELECT a FROM `t 1'` WHERE b='`'", true},
		{"SELECT a FROM `t 1` WHERE b=''", "SELECT a FROM `t 2` WHERE b=''", false},
		{"BEGIN", "BEGIN", true},
		{"SELECT 'a\\'b'", "SELECT 'a\\'b'", false},
		{"SELECT 'a''b'", "SELECT 'a''b'", false},
		{"SELECT 1e5", "SELECT 1e5", false},
		{"SELECT x'1f'", "SELECT x'1f'", false},
		{"SELECT 1 -- 2", "SELECT 1 -- 2", false},
		{"SELECT /* tandem: primary */ 1", "SELECT /* tandem: primary */ 1", false},
		{"SELECT @a", "SELECT @a", false},
		{"SELECT f(1)", "SELECT f(1)", false},
		{"KILL 5", "KILL 6", false},
		{"SET autocommit=0", "SET autocommit=1", false},
		{"SELECT \xc3\xa4 FROM t", "SELECT \xc3\xa4 FROM t", false},
		{"SELECT a FROM t WHERE b='\xc3\xa4'", "SELECT a FROM t WHERE b='\xc3\xb6'", true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sql_recall *recall = sql_recall_new();
		struct sql_meaning m;

		CU_ASSERT_PTR_NOT_NULL_FATAL(recall);
		sql_recall_classify(recall, &plain, cases[i].first, strlen(cases[i].first), &m);
		CU_ASSERT_EQUAL(sql_recall_found(recall), 0);
		sql_recall_classify(recall, &plain, cases[i].second, strlen(cases[i].second), &m);
		if (sql_recall_found(recall) != cases[i].found)
			fprintf(stderr, "\n    %s: %s", cases[i].found ? "not found again" : "found", cases[i].second);
		CU_ASSERT_EQUAL(sql_recall_found(recall), cases[i].found);
		sql_recall_free(recall);
	}
}

/* Strings are looked through many bytes at a time: wherever something special stands in one, it is one literal, and nothing behind the end
 * of the text is looked at. */
static void check_string(struct sql_recall *recall, const char *special, int before, int behind, const char *rest, uint64_t wanted)
{
	char text[128];
	int len = snprintf(text, sizeof(text), "SELECT '%.*s%s%.*s'%s", before, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", special, behind,
			   "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", rest);
	char *exact = malloc((size_t)len);
	struct sql_meaning m, recalled;

	memcpy(exact, text, (size_t)len);
	sql_classify(&plain, exact, (size_t)len, &m);
	sql_recall_classify(recall, &plain, exact, (size_t)len, &recalled);
	if (m.digest != wanted || recalled.digest != wanted || m.target != SQL_TO_REPLICA)
		fprintf(stderr, "\n    another digest: %s", text);
	CU_ASSERT_TRUE(m.digest == wanted && recalled.digest == wanted && m.target == SQL_TO_REPLICA);
	/* Without its closing quote it is not to be trusted. */
	sql_classify(&plain, exact, (size_t)len - strlen(rest) - 1, &m);
	CU_ASSERT_EQUAL(m.target, SQL_TO_PRIMARY);
	free(exact);
}

static void test_strings(void)
{
	static const char *const special[] = {"", "''", "\\'", "\\\\", "\"", "\xc3\xa4"};
	static const char *const rest[] = {"", ", b FROM t", " FROM t WHERE a='x' AND b=1"};
	struct sql_recall *recall = sql_recall_new();

	CU_ASSERT_PTR_NOT_NULL_FATAL(recall);
	for (size_t r = 0; r < sizeof(rest) / sizeof(rest[0]); r++) {
		struct sql_meaning m;
		char text[64];
		int len = snprintf(text, sizeof(text), "SELECT 1%s", rest[r]);

		sql_classify(&plain, text, (size_t)len, &m);
		for (size_t s = 0; s < sizeof(special) / sizeof(special[0]); s++)
			for (int before = 0; before <= 36; before++)
				for (int behind = 0; behind <= 36; behind += 9)
					check_string(recall, special[s], before, behind, rest[r], m.digest);
	}
	sql_recall_free(recall);
}

/* What FOUND_ROWS() says afterwards, as it is told and as it is remembered. */
static void test_found_after(void)
{
	static const struct {
		const char *text;
		enum sql_found found;
	} cases[] = {
		{"SELECT a FROM t WHERE b=1", SQL_FOUND_SENT},
		{"SELECT a FROM t LIMIT 5", SQL_FOUND_SENT},
		{"SELECT a, l FROM t LIMIT 5", SQL_FOUND_SENT},
		{"SELECT a FROM t LIMIT 1,5", SQL_FOUND_OTHER},
		{"select a from t limit 5 offset 1", SQL_FOUND_OTHER},
		{"SELECT a FROM t LIMIT 1\n,5", SQL_FOUND_OTHER},
		{"SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 5", SQL_FOUND_OTHER},
		{"SELECT 1 UNION SELECT 2", SQL_FOUND_OTHER},
		{"SELECT 1 union SELECT 2", SQL_FOUND_OTHER},
		{"SELECT 1 EXCEPT SELECT 2", SQL_FOUND_OTHER},
		{"SELECT 1 except SELECT 2", SQL_FOUND_OTHER},
		{"SELECT c FROM sbtest1 WHERE x=1", SQL_FOUND_SENT},
		{"SELECT u FROM t", SQL_FOUND_SENT},
		{"VALUES (1),(2)", SQL_FOUND_KEPT},
		{" \n values (1)", SQL_FOUND_KEPT},
		{"SELECT 'limit 1,2'", SQL_FOUND_OTHER}, /* in doubt */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sql_recall *recall = sql_recall_new();
		size_t len = strlen(cases[i].text);
		struct sql_meaning m;

		CU_ASSERT_PTR_NOT_NULL_FATAL(recall);
		sql_classify(&plain, cases[i].text, len, &m);
		CU_ASSERT_EQUAL(m.verb, SQL_SELECT);
		CU_ASSERT_EQUAL(m.found, SQL_FOUND_UNTOLD);
		if (sql_found_after(&m, cases[i].text, len) != cases[i].found)
			fprintf(stderr, "\n    found after: %s", cases[i].text);
		CU_ASSERT_EQUAL(sql_found_after(&m, cases[i].text, len), cases[i].found);
		for (unsigned turn = 0; turn < 2; turn++) {
			sql_recall_classify(recall, &plain, cases[i].text, len, &m);
			CU_ASSERT_TRUE(m.found == SQL_FOUND_UNTOLD || m.found == cases[i].found);
		}
		CU_ASSERT_TRUE(m.found != SQL_FOUND_UNTOLD || !sql_recall_found(recall));
		sql_recall_free(recall);
	}
}

/* The same text means something else in another sql_mode or to another server. */
static void test_recall_context(void)
{
	struct sql_recall *recall = sql_recall_new();
	struct sql_context other[] = {plain, plain, plain, plain};
	static const char text[] = "SELECT a FROM t";
	struct sql_meaning m;

	other[0].flavour = SQL_MYSQL;
	other[1].version++;
	other[2].ansi_quotes = true;
	other[3].oracle = true;
	sql_recall_classify(recall, &plain, text, strlen(text), &m);
	for (size_t i = 0; i < 4; i++)
		sql_recall_classify(recall, &other[i], text, strlen(text), &m);
	CU_ASSERT_EQUAL(sql_recall_found(recall), 0);
	sql_recall_classify(recall, &other[3], text, strlen(text), &m);
	CU_ASSERT_EQUAL(sql_recall_found(recall), 1);
	sql_recall_free(recall);
}

/* Nothing a client sends may use up the stack or the clock. */
static void test_deep(void)
{
	static const char *const pieces[] = {
		"(", "((SELECT ", "SET STATEMENT a=1 FOR ", "EXPLAIN SET STATEMENT a=1 FOR ", "EXPLAIN ", "WITH a AS (", "LAST_INSERT_ID(",
		"/*!", "/*!99999 /*", "BEGIN NOT ATOMIC ", "IF a THEN ", "x: ", "@@a.", "a.", "f(", "-", "CASE ", ";", "CREATE ", "@", "'",
		"SELECT 1;", "INTO @a,", "PREPARE a FROM 'x';",
	};
	enum { BYTES = 1 << 18 };
	char *text = malloc(BYTES);

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		size_t n = strlen(pieces[i]), len;
		struct sql_meaning m;

		for (len = 0; len + n <= BYTES; len += n)
			memcpy(text + len, pieces[i], n);
		sql_classify(&plain, text, len, &m);
		CU_ASSERT_TRUE(m.digest != 0);
		sql_classify_body(&plain, text, len, &m);
		CU_ASSERT_TRUE(m.digest != 0);
	}
	free(text);
}

/* The names and the tables */

static void test_names(void)
{
	CU_ASSERT_STRING_EQUAL(sql_verb_name(SQL_EXECUTE_IMMEDIATE), "execute_immediate");
	CU_ASSERT_STRING_EQUAL(sql_verb_name(SQL_OTHER), "other");
	CU_ASSERT_STRING_EQUAL(sql_target_name(SQL_TO_ROLE), "role");
	CU_ASSERT_STRING_EQUAL(sql_fact_name(0), "opens_trx");
	CU_ASSERT_STRING_EQUAL(sql_fact_name(50), "temp_named");
	CU_ASSERT_STRING_EQUAL(sql_fact_name(__builtin_ctzll(SQL_F_IDENTITY_READ)), "identity_read");
	CU_ASSERT_STRING_EQUAL(sql_fact_name(__builtin_ctzll(SQL_F_LOCKING_READ)), "locking_read");
	CU_ASSERT_PTR_NULL(sql_fact_name(52));
	CU_ASSERT_PTR_NULL(sql_fact_name(63));
}

static void test_charsets(void)
{
	CU_ASSERT_EQUAL(sql_charset_of("gbk", 3), SQL_CHARSET_GBK);
	CU_ASSERT_EQUAL(sql_charset_of("GBK_chinese_ci", 14), SQL_CHARSET_GBK);
	CU_ASSERT_EQUAL(sql_charset_of("gb18030", 7), SQL_CHARSET_GB18030);
	CU_ASSERT_EQUAL(sql_charset_of("big5_bin", 8), SQL_CHARSET_BIG5);
	CU_ASSERT_EQUAL(sql_charset_of("cp932", 5), SQL_CHARSET_SJIS);
	CU_ASSERT_EQUAL(sql_charset_of("sjis", 4), SQL_CHARSET_SJIS);
	CU_ASSERT_EQUAL(sql_charset_of("utf8mb4", 7), SQL_CHARSET_SAFE);
	CU_ASSERT_EQUAL(sql_charset_of("gb2312", 6), SQL_CHARSET_SAFE);
	CU_ASSERT_EQUAL(sql_charset_of("gbkx", 4), SQL_CHARSET_SAFE);
	CU_ASSERT_EQUAL(sql_charset_of("", 0), SQL_CHARSET_SAFE);
}

static void test_schemas(void)
{
	CU_ASSERT_TRUE(sql_is_server_schema("mysql", 5));
	CU_ASSERT_TRUE(sql_is_server_schema("Information_Schema", 18));
	CU_ASSERT_TRUE(sql_is_server_schema("sys", 3));
	CU_ASSERT_FALSE(sql_is_server_schema("sysx", 4));
	CU_ASSERT_FALSE(sql_is_server_schema("shop", 4));
	CU_ASSERT_FALSE(sql_is_server_schema("", 0));
}

/* The table made by make_words.py and the hash of the lexer agree. */
static void test_words(void)
{
	static const struct {
		const char *text;
		enum word_id id;
	} cases[] = {
		{"SELECT", W_SELECT},
		{"sql_calc_found_rows", W_SQL_CALC_FOUND_ROWS},
		{"No_Write_To_Binlog", W_NO_WRITE_TO_BINLOG},
		{"as", W_AS},
		{"last_insert_id", W_LAST_INSERT_ID},
		{"selec", W_NONE},
		{"sql_calc_found_row", W_NONE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lexer lexer;
		struct token token;

		lexer_init(&lexer, &plain, cases[i].text, strlen(cases[i].text));
		lexer_next(&lexer, &token);
		CU_ASSERT_EQUAL(token.word->id, cases[i].id);
	}
}

static void test_set_names(void)
{
	static const struct {
		const char *text;
		const char *names; /* a space behind each */
	} cases[] = {
		{"SET a = 1", "a "},
		{"SET a = 1, SESSION b = (SELECT 2), @@c = 3, @@session.d := 4, `e` = 5", "a b c d e "},
		{"SET @x = 1, a = @@b, GLOBAL c = 1, d = 2", "a "},
		{"SET NAMES utf8, a = 1", "a "},
		{"SELECT 1; SET a = 1; SET @@a = 2", "a a "},
		{"SET @@tx_read_only = 1, @@session.tx_isolation = 'x'", "tx_isolation "},
		{"SET STATEMENT a = 1 FOR SET b = 2", "b "},
		{"SET STATEMENT a = 1 FOR SELECT 1", ""},
		{"/*!40014 SET UNIQUE_CHECKS=0 */", "UNIQUE_CHECKS "},
		{"/*M!999999 SET a = 1 */", ""},
		{"SELECT 'SET a = 1'", ""},
		{"INSERT INTO t SET a = 1", ""},
		{"SET TRANSACTION READ ONLY", ""},
		{"SET", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sql_span names[8];
		char joined[128] = "";
		unsigned count = sql_set_names(&plain, cases[i].text, strlen(cases[i].text), names, 8);

		for (unsigned n = 0; n < count; n++)
			snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%.*s ", (int)names[n].len, cases[i].text + names[n].at);
		CU_ASSERT_STRING_EQUAL(joined, cases[i].names);
	}
	CU_ASSERT_EQUAL(sql_set_names(&plain, "SET a = 1, b = 2", 16, NULL, 0), 2);
}

static void test_first_part(void)
{
	static const struct {
		const char *text, *first;
	} cases[] = {
		{ "SELECT 1; SELECT 2", "SELECT 1" },
		{ "SELECT ';' /* ; */ -- ;\n, \";\"; COMMIT", "SELECT ';' /* ; */ -- ;\n, \";\"" },
		{ "COMMIT ; ; SELECT 1", "COMMIT " },
		{ "SELECT 1", "SELECT 1" },
		{ "SELECT 1;", "SELECT 1" },
		{ "; SELECT 1", "; SELECT 1" },
		{ "", "" },
		{ "SELECT 'a; SELECT 2", "SELECT 'a; SELECT 2" },
		{ "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END; SELECT 3", "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END" },
	};
	const struct sql_context several = { .version = 101100, .multi_statements = true }, single = { .version = 101100 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t len = strlen(cases[i].text);

		CU_ASSERT_EQUAL(sql_first_part(&several, cases[i].text, len), strlen(cases[i].first));
		CU_ASSERT_EQUAL(sql_first_part(&single, cases[i].text, len), len);
	}
}

void suite_sql(void)
{
	CU_pSuite suite = CU_add_suite("sql", NULL, NULL);

	CU_add_test(suite, "the table of statements", test_statements);
	CU_add_test(suite, "digest: the same", test_digest_same);
	CU_add_test(suite, "digest: different", test_digest_differs);
	CU_add_test(suite, "digest: stable", test_digest_stable);
	CU_add_test(suite, "normal form", test_normalise);
	CU_add_test(suite, "every prefix", test_every_prefix);
	CU_add_test(suite, "recall", test_recall);
	CU_add_test(suite, "recall: contexts", test_recall_context);
	CU_add_test(suite, "FOUND_ROWS() afterwards", test_found_after);
	CU_add_test(suite, "strings of every length", test_strings);
	CU_add_test(suite, "deep nesting", test_deep);
	CU_add_test(suite, "names", test_names);
	CU_add_test(suite, "character sets", test_charsets);
	CU_add_test(suite, "schemas", test_schemas);
	CU_add_test(suite, "words", test_words);
	CU_add_test(suite, "names that are SET", test_set_names);
	CU_add_test(suite, "the first statement of several", test_first_part);
}
