/* The pure parts of the cluster watch: roles, lag, wants of a watcher, judged routines, versions. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cluster/catalog.h"
#include "proxy/cluster/flavour.h"
#include "proxy/cluster/lag.h"
#include "proxy/cluster/roles.h"
#include "proxy/cluster/variables.h"
#include "proxy/cluster/watcher.h"

void suite_cluster(void);

/* ---- Roles ---- */

/*
 * One server per word, db1 first: health (U up, D down, ? not asked; d down and never seen), w writable or r read-only, where it
 * replicates from (- nowhere; 1..4 by server id; a..d the same by address alone; x somewhere else), the role it had (p r s u).
 */
struct role_row {
	const char *what;
	const char *servers;
	const char *roles; /* one letter each: p r s u */
	int primary;	   /* from 1; 0 none */
	const char *why;   /* part of the reason */
};

static const struct role_row role_rows[] = {
	{ "a pair", "Uw-u Ur1u", "pr", 1, NULL },
	{ "a pair, the replica writable too", "Uw-u Uw1u", "pr", 1, NULL },
	{ "a pair known by address only", "Uw-u Ura u", "pr", 1, NULL },
	{ "the primary need not be first", "Ur2u Uw-u Ur2u", "rpr", 2, NULL },
	{ "a chain", "Uw-u Ur1u Ur2u", "prr", 1, NULL },
	{ "alone", "Uw-u", "p", 1, NULL },
	{ "alone and read-only", "Ur-u", "u", 0, "writable" },
	{ "alone, replica of a stranger", "Uwxu", "p", 1, NULL },
	{ "not all asked yet", "Uw-u ?--u", "uu", 0, "db2 has not been asked" },
	{ "a primary in force needs no new proof", "Uw-p ?--u", "pu", 1, NULL },
	{ "a replica answered before its primary", "?--u Ur1u", "uu", 0, "db1 has not been asked" },
	{ "a replica answered before its primary, by address", "?--u Ura u Ura u", "urr", 0,
	  "db1 has not been asked" },
	{ "one down at start", "Uw-u dr-u", "pu", 1, NULL },
	{ "stray and writable beside a pair", "Uw-u Ur1u Uw-u", "prs", 1, NULL },
	{ "two writable, nobody replicates", "Uw-u Uw-u", "uu", 0, "db1 and db2 are writable" },
	{ "two writable, both replicated from", "Uw-u Ur1u Uw-u Ur3u", "urur", 0,
	  "db1 and db3 are writable" },
	{ "a new server switched on contests nothing", "Uw-p Uw-u", "ps", 1, NULL },
	{ "a replica became writable on its own", "Uw-p Uw-r", "uu", 0, "writable" },
	{ "the primary is down", "Dw-p Ur1r", "pr", 0, "db1 is down" },
	{ "down, its replica known by address", "Dw-p Ura r", "pr", 0, "db1 is down" },
	{ "down at start, and never seen", "dw-u Ura u", "pr", 0, "db1 is down" },
	{ "a writable replica is no primary while it replicates", "Dw-p Uw1r", "pr", 0,
	  "db1 is down" },
	{ "down, a stray does not take over", "Dw-p Ur1r Uw-s", "prs", 0,
	  "nobody replicates from it" },
	{ "down, and its replica was promoted", "Dw-p Uw-r", "up", 2, NULL },
	{ "down, promoted, the other follows", "Dw-p Uw-r Ur2r", "upr", 2, NULL },
	{ "promotion seen whole", "Ur2p Uw-r", "rp", 2, NULL },
	{ "promotion half way: fenced", "Ur-p Ur1r", "pr", 0, "db1 is read-only" },
	{ "promotion half way: new one open, old one fenced and unlinked", "Ur-p Uw-r Ur2r", "spr",
	  2, NULL },
	{ "the old primary returns writable, the others follow the new", "Uw-u Uw-p Ur2r", "spr", 2,
	  NULL },
	{ "the old primary returns writable, nobody follows", "Uw-u Uw-p", "sp", 2, NULL },
	{ "a ring, one writable", "Uw2u Ur1u", "pr", 1, NULL },
	{ "a ring, both writable", "Uw2u Uw1u", "uu", 0, "writable" },
	{ "all read-only", "Ur-u Ur1u", "pr", 0, "db1 is read-only" },
	{ "nobody there at start", "d--u d--u", "uu", 0, "no server is up; db1: " },
	{ "all down", "Dw-p Dr1r", "pr", 0, "db1 is down" },
};

struct cluster_text {
	struct role_view views[CLUSTER_MAX_SERVERS];
	struct observation seen[CLUSTER_MAX_SERVERS];
	char names[CLUSTER_MAX_SERVERS][8];
	char addresses[CLUSTER_MAX_SERVERS][32];
	size_t count;
};

static enum server_role role_from(char letter)
{
	return letter == 'p'   ? ROLE_PRIMARY
	       : letter == 'r' ? ROLE_REPLICA
	       : letter == 's' ? ROLE_STRAY
			       : ROLE_UNKNOWN;
}

static void link_from(struct observation *seen, char letter)
{
	struct link_view *link = &seen->links[0];

	if (letter == '-')
		return;
	seen->link_count = 1;
	link->io = link->sql = THREAD_RUNNING;
	if (letter >= '1' && letter <= '9') {
		link->master_server_id = (uint32_t)(letter - '0');
		snprintf(link->host, sizeof(link->host), "elsewhere");
		return;
	}
	snprintf(link->host, sizeof(link->host), "%s", letter == 'x' ? "203.0.113.9" : "10.0.0.1");
	link->port = letter == 'x' ? 3306 : 3306 + (unsigned)(letter - 'a');
}

static void read_cluster(const char *text, struct cluster_text *out)
{
	memset(out, 0, sizeof(*out));
	while (*text) {
		size_t i = out->count++;
		struct role_view *v = &out->views[i];
		char health = text[0], mode = text[1], source = text[2];

		text += 3 + (text[3] == ' ' && text[4] && text[4] != 'U' && text[4] != 'D');
		snprintf(out->names[i], sizeof(out->names[i]), "db%zu", i + 1);
		snprintf(out->addresses[i], sizeof(out->addresses[i]), "10.0.0.1:%zu", 3306 + i);
		v->name = out->names[i];
		v->address = out->addresses[i];
		v->health = health == 'U'   ? HEALTH_UP
			    : health == '?' ? HEALTH_UNKNOWN
					    : HEALTH_DOWN;
		v->was = role_from(*text++);
		if (health == 'U' || health == 'D') {
			v->seen = &out->seen[i];
			out->seen[i].server_id = (uint32_t)i + 1;
			out->seen[i].read_only = mode == 'r';
			link_from(&out->seen[i], source);
		}
		while (*text == ' ')
			text++;
	}
}

static char letter_of(enum server_role role)
{
	return role == ROLE_PRIMARY   ? 'p'
	       : role == ROLE_REPLICA ? 'r'
	       : role == ROLE_STRAY   ? 's'
				      : 'u';
}

static void set_position(struct gtid_set *set, const char *text)
{
	CU_ASSERT_TRUE(gtid_parse(text, strlen(text), set));
}

/* A writable server that was not the primary since its start is compared with what its replicas have received. */
static void test_unproven_primary(void)
{
	static const struct {
		const char *has, *received;
		uint64_t looked_ms, replica_looked_ms;
		bool is_unproven;
		int primary, again;
		const char *why;
	} rows[] = {
		{ "0-1-100", "0-1-100", 5, 15, true, 0, -1, NULL },
		{ "0-1-101", "0-1-100", 30, 15, true, 0, -1, NULL },
		{ "0-1-100", "0-1-101", 30, 15, true, -1, -1, "lacks what db2 has received" },
		{ "0-1-100", "0-1-101", 5, 15, true, -1, 0, "compared" }, /* written in between, perhaps */
		{ "0-1-100", "0-1-100", 5, 4, true, -1, 1, "compared" }, /* received in between, perhaps */
		{ "0-1-100", "0-1-101", 30, 4, true, -1, 1, "compared" },
		{ "0-1-100", "0-1-101", 30, 4, false, 0, -1, NULL },
		{ "0-1-100", "0-1-100,3-1-1", 30, 15, true, -1, -1, "lacks what db2 has received" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cluster_text text;
		struct role_verdict verdict;

		read_cluster("Uw-u Ur1u", &text);
		set_position(&text.seen[0].position, rows[i].has);
		set_position(&text.seen[1].links[0].io_position, rows[i].received);
		text.views[0].is_unproven = rows[i].is_unproven;
		text.views[0].looked_ms = rows[i].looked_ms;
		text.views[0].unproven_ms = 5;
		text.views[1].looked_ms = text.views[1].asked_ms = rows[i].replica_looked_ms;
		text.views[1].heard_ms = 20;
		roles_judge(text.views, text.count, &verdict);
		CU_ASSERT_EQUAL(verdict.primary, rows[i].primary);
		CU_ASSERT_EQUAL(verdict.again, rows[i].again);
		CU_ASSERT_EQUAL(verdict.pending, rows[i].again >= 0);
		CU_ASSERT_TRUE(!rows[i].why || strstr(verdict.why, rows[i].why));
		CU_ASSERT_EQUAL(verdict.roles[1], ROLE_REPLICA);
	}
}

/* A replica that is down is asked as well; when it does not answer, nobody waits for it any longer. */
static void test_unproven_beside_a_dead_replica(void)
{
	static const struct {
		uint64_t asked_ms;
		int primary, again;
	} rows[] = { { 4, -1, 1 }, { 5, 0, -1 }, { 9, 0, -1 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cluster_text text;
		struct role_verdict verdict;

		read_cluster("Uw-u Ur1u", &text);
		set_position(&text.seen[0].position, "0-1-100");
		set_position(&text.seen[1].links[0].io_position, "0-1-101");
		text.views[0].is_unproven = true;
		text.views[0].unproven_ms = 5;
		text.views[1].health = HEALTH_DOWN;
		text.views[1].asked_ms = rows[i].asked_ms;
		roles_judge(text.views, text.count, &verdict);
		CU_ASSERT_EQUAL(verdict.primary, rows[i].primary);
		CU_ASSERT_EQUAL(verdict.again, rows[i].again);
	}
}

static void test_roles(void)
{
	for (size_t r = 0; r < sizeof(role_rows) / sizeof(role_rows[0]); r++) {
		const struct role_row *row = &role_rows[r];
		struct cluster_text text;
		struct role_verdict verdict;
		char roles[CLUSTER_MAX_SERVERS + 1] = "";

		read_cluster(row->servers, &text);
		roles_judge(text.views, text.count, &verdict);
		for (size_t i = 0; i < text.count; i++)
			roles[i] = letter_of(verdict.roles[i]);
		if (strcmp(roles, row->roles) || verdict.primary != row->primary - 1 ||
		    (row->why && !strstr(verdict.why, row->why))) {
			printf("%s: %s, primary %d, %s\n", row->what, roles, verdict.primary + 1,
			       verdict.why);
			CU_FAIL("roles");
		}
	}
}

static void test_sound_links(void)
{
	static const struct {
		struct link_view link;
		bool sound;
	} rows[] = {
		{ { .io = THREAD_RUNNING, .sql = THREAD_RUNNING }, true },
		/* The primary died: not the replica's fault. */
		{ { .io = THREAD_CONNECTING, .io_errno = 2003, .sql = THREAD_RUNNING }, true },
		/* STOP SLAVE by hand. */
		{ { .io = THREAD_STOPPED, .sql = THREAD_STOPPED }, true },
		{ { .io = THREAD_RUNNING, .sql = THREAD_STOPPED, .sql_errno = 1062 }, false },
		{ { .io = THREAD_STOPPED, .io_errno = 1236, .sql = THREAD_RUNNING }, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CU_ASSERT_EQUAL(roles_link_is_sound(&rows[i].link), rows[i].sound);
}

/* ---- Lag ---- */

static struct gtid_set at(uint64_t sequence)
{
	return (struct gtid_set){ .count = 1, .points = { { 0, sequence } } };
}

static uint64_t lag_at(const struct lag_ring *ring, uint64_t applied, uint64_t now, bool *is_bound)
{
	struct gtid_set set = at(applied);

	return lag_of(ring, &set, now, is_bound);
}

static void note(struct lag_ring *ring, uint64_t sequence, uint64_t now)
{
	struct gtid_set set = at(sequence);

	lag_note(ring, &set, now);
}

static void test_lag(void)
{
	static struct lag_ring ring;
	bool bound;

	CU_ASSERT_EQUAL(lag_at(&ring, 1, 1000, &bound), UINT64_MAX);
	note(&ring, 10, 1000);
	CU_ASSERT_EQUAL(lag_at(&ring, 10, 1500, &bound), 0);
	CU_ASSERT_FALSE(bound);
	CU_ASSERT_EQUAL(lag_at(&ring, 9, 1500, &bound), 500);
	CU_ASSERT_TRUE(bound);
	/* An idle primary's position is as old as when it was first seen, not as the last look. */
	note(&ring, 10, 2000);
	CU_ASSERT_EQUAL(lag_at(&ring, 9, 2500, &bound), 1500);
	/* Constant writes: a replica 3 s behind stays 3 s behind. */
	for (uint64_t t = 3; t <= 20; t++)
		note(&ring, t * 10, t * 1000);
	CU_ASSERT_EQUAL(lag_at(&ring, 165, 20000, &bound), 3000);
	CU_ASSERT_FALSE(bound);
	CU_ASSERT_EQUAL(lag_at(&ring, 200, 25000, &bound), 0);
	/* A mark noted after the replica was looked at says nothing. */
	CU_ASSERT_EQUAL(lag_at(&ring, 190, 19500, &bound), 0);
	/* Longer than the ring remembers. */
	for (uint64_t t = 21; t <= 21 + LAG_MARKS; t++)
		note(&ring, t * 10, t * 1000);
	CU_ASSERT_EQUAL(lag_at(&ring, 1, 300000, &bound), 300000 - 22000);
	CU_ASSERT_TRUE(bound);
	lag_clear(&ring);
	CU_ASSERT_EQUAL(lag_at(&ring, 1, 1000, &bound), UINT64_MAX);
}

/* ---- Wants ---- */

static void test_wants(void)
{
	struct watcher_want wants[WATCHER_WANTS];
	size_t count = 0;
	struct gtid_set set;

	for (uint64_t i = 0; i < 3; i++) {
		set = at(100 + 10 * ((i + 1) % 3));
		watcher_add(wants, &count, &set, 50);
	}
	CU_ASSERT_EQUAL(count, 3);
	set = at(100);
	watcher_add(wants, &count, &set, 90);
	CU_ASSERT_EQUAL(count, 3);
	CU_ASSERT_EQUAL(wants[watcher_smallest(wants, count)].position.points[0].sequence, 100);
	CU_ASSERT_EQUAL(wants[watcher_smallest(wants, count)].until_ms, 90);
	set = at(99);
	CU_ASSERT_FALSE(watcher_drop(wants, &count, &set, 10));
	CU_ASSERT_EQUAL(count, 3);
	set = at(110);
	CU_ASSERT_TRUE(watcher_drop(wants, &count, &set, 10));
	CU_ASSERT_EQUAL(count, 1);
	CU_ASSERT_EQUAL(wants[0].position.points[0].sequence, 120);
	/* Nobody waits longer. */
	CU_ASSERT_FALSE(watcher_drop(wants, &count, &set, 50));
	CU_ASSERT_EQUAL(count, 0);
}

/* With no room left nothing is forgotten: the furthest covers two. */
static void test_many_wants(void)
{
	struct watcher_want wants[WATCHER_WANTS];
	size_t count = 0;
	struct gtid_set set;

	for (uint64_t i = 0; i < WATCHER_WANTS; i++) {
		set = at(1000 + i);
		watcher_add(wants, &count, &set, 50);
	}
	set = at(2000);
	watcher_add(wants, &count, &set, 60);
	set = at(5);
	watcher_add(wants, &count, &set, 60);
	CU_ASSERT_EQUAL(count, WATCHER_WANTS);
	set = at(1000 + WATCHER_WANTS);
	CU_ASSERT_TRUE(watcher_drop(wants, &count, &set, 10));
	CU_ASSERT_EQUAL(count, 1);
	CU_ASSERT_EQUAL(wants[0].position.points[0].sequence, 2000);
}

/* ---- Routines ---- */

static const struct routine *routine(const struct catalog *catalog, const char *name)
{
	for (size_t i = 0; i < catalog->count; i++)
		if (!strcmp(catalog->routines[i].name, name))
			return &catalog->routines[i];
	return NULL;
}

static void test_catalog(void)
{
	static const struct routine_source sources[] = {
		{ "reads", "FUNCTION",
		  "begin declare x int; select count(*) into x from t; return x; end", "" },
		{ "plain", "FUNCTION", "return a + 1", "" },
		{ "writes", "FUNCTION", "begin insert into t values (1); return 1; end", "" },
		{ "sets", "FUNCTION", "begin set @x = 1; return 1; end", "" },
		{ "calls_reads", "FUNCTION", "return db.reads(plain(1))", "" },
		{ "calls_writes", "FUNCTION", "return 1 + writes(2)", "" },
		{ "calls_calls_writes", "FUNCTION", "return calls_writes(1)", "" },
		{ "ping", "FUNCTION", "return pong(1)", "" },
		{ "pong", "FUNCTION", "return ping(1)", "" },
		{ "twice", "FUNCTION", "return 1", "" },
		{ "twice", "FUNCTION", "begin delete from t; return 1; end", "" },
		{ "hidden", "FUNCTION", NULL, "" },
		{ "udf", "LOADABLE", NULL, "" },
		{ "calls_udf", "FUNCTION", "return udf(1)", "" },
		{ "calls_builtin", "FUNCTION", "return concat(upper('x'), soundex('y'))", "" },
		{ "quotes", "FUNCTION", "return \"writes(1)\"", "" },
		{ "p", "PROCEDURE", "begin insert into t values (1); end", "" },
		{ "pkg", "PACKAGE BODY",
		  "as function Inner_One return int as begin return 1; end; procedure two as begin "
		  "null; end; end",
		  "ORACLE" },
	};
	static const struct {
		const char *name;
		bool harmless, writes;
	} rows[] = {
		{ "reads", true, false },
		{ "plain", true, false },
		{ "writes", false, true },
		{ "calls_reads", true, false },
		{ "calls_writes", false, true },
		{ "calls_calls_writes", false, true },
		{ "ping", false, false },
		{ "pong", false, false },
		{ "twice", false, true },
		{ "hidden", false, true },
		{ "udf", false, true },
		{ "calls_udf", false, true },
		{ "calls_builtin", true, false },
		{ "quotes", true, false },
		{ "p", false, true },
		{ "pkg", false, true },
		{ "inner_one", false, true },
		{ "two", false, true },
	};
	struct catalog *catalog =
		catalog_judge(sources, sizeof(sources) / sizeof(sources[0]), SQL_MARIADB, 101100);

	CU_ASSERT_PTR_NOT_NULL_FATAL(catalog);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct routine *r = routine(catalog, rows[i].name);

		if (!r || r->harmless != rows[i].harmless || r->writes != rows[i].writes) {
			printf("%s: harmless %d writes %d\n", rows[i].name, r ? r->harmless : -1,
			       r ? r->writes : -1);
			CU_FAIL("judged wrongly");
		}
	}
	CU_ASSERT_FALSE(routine(catalog, "sets")->harmless);
	CU_ASSERT_TRUE(catalog_equal(catalog, catalog));
	CU_ASSERT_FALSE(catalog_equal(catalog, NULL));
	catalog_free(catalog);
}

static const struct routine *suspect(const struct catalog *catalog, const char *name)
{
	for (size_t i = 0; i < catalog->view_count; i++)
		if (!strcmp(catalog->views[i].name, name))
			return &catalog->views[i];
	return NULL;
}

static void test_views(void)
{
	static const struct routine_source sources[] = {
		{ "writes", "FUNCTION", "BEGIN INSERT INTO t VALUES (1); RETURN 1; END", "" },
		{ "reads", "FUNCTION", "RETURN 1", "" },
		{ "variable", "FUNCTION", "RETURN @a", "" },
		{ "v_plain", "VIEW", "select `t`.`a` AS `a`,ucase(`t`.`b`) AS `b` from `s`.`t`", "" },
		{ "v_reads", "VIEW", "select `reads`() AS `x`", "" },
		{ "both", "FUNCTION", "RETURN 1", "" },
		{ "v_writes", "VIEW", "select `s`.`writes`() AS `x`", "" },
		{ "v_lock", "VIEW", "select get_lock('a',0) AS `x`", "" },
		{ "v_next", "VIEW", "select nextval(`s`.`q`) AS `x`", "" },
		{ "v_id", "VIEW", "select connection_id() AS `x`", "" },
		{ "v_variable", "VIEW", "select `variable`() AS `x`", "" },
		{ "v_over", "VIEW", "select `v_over_over`.`x` AS `x` from `s`.`v_over_over`", "" },
		{ "v_over_over", "VIEW", "select `V_lock`.`x` AS `x` from `s`.`V_lock`", "" },
		{ "v_hidden", "VIEW", "", "" },
		{ "v_of_hidden", "VIEW", "select `v_hidden`.`x` AS `x` from `s`.`v_hidden`", "" },
		{ "twice", "VIEW", "select 1", "" },
		{ "twice", "VIEW", "select `writes`()", "" },
		{ "both", "VIEW", "select get_lock('b',0)", "" },
	};
	static const char *const bad[] = { "v_writes", "v_lock",   "v_next",	  "v_id",  "v_over",
					   "v_over_over", "v_hidden", "v_of_hidden", "twice", "both" };
	static const char *const good[] = { "v_plain", "v_reads", "writes" };
	struct catalog *catalog =
		catalog_judge(sources, sizeof(sources) / sizeof(sources[0]), SQL_MARIADB, 101100);

	CU_ASSERT_PTR_NOT_NULL_FATAL(catalog);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!suspect(catalog, bad[i]) || suspect(catalog, bad[i])->harmless) {
			printf("%s\n", bad[i]);
			CU_FAIL("a view believed to be harmless");
		}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CU_ASSERT_PTR_NULL(suspect(catalog, good[i]));
	CU_ASSERT_TRUE(suspect(catalog, "v_variable")->harmless);
	CU_ASSERT_TRUE(suspect(catalog, "v_variable")->facts & SQL_F_READS_UVAR);
	CU_ASSERT_TRUE(suspect(catalog, "v_over")->facts & SQL_F_GET_LOCK);
	CU_ASSERT_EQUAL(suspect(catalog, "v_hidden")->facts, 0);
	CU_ASSERT_EQUAL(catalog->hidden_views, 1);
	CU_ASSERT_TRUE(routine(catalog, "both")->harmless); /* the function, not the view */
	catalog_free(catalog);
}

/* ---- Versions and variables ---- */

static void test_versions(void)
{
	CU_ASSERT_EQUAL(flavour_version_number("10.11.8-MariaDB-log"), 101108);
	CU_ASSERT_EQUAL(flavour_version_number("5.5.5-10.4.2-MariaDB"), 100402);
	CU_ASSERT_EQUAL(flavour_version_number("9.7.4"), 90704);
	CU_ASSERT_EQUAL(flavour_version_number("rubbish"), 0);
	CU_ASSERT_EQUAL(flavour_from_version("10.11.8-MariaDB-log"), SQL_MARIADB);
	CU_ASSERT_EQUAL(flavour_from_version("9.7.4"), SQL_MYSQL);
}

static void test_variable_names(void)
{
	static const char *const tracked[] = { "sql_mode",     "time_zone",
					       "tx_read_only", "tx_isolation",
					       "autocommit",   "gtid_domain_id",
					       "sql_log_bin",  "skip_replication",
					       "wait_timeout", "character_set_client" };
	static const char *const untracked[] = { "timestamp",
						 "insert_id",
						 "last_insert_id",
						 "identity",
						 "rand_seed1",
						 "pseudo_thread_id",
						 "session_track_schema",
						 "server_id",
						 "max_allowed_packet",
						 "error_count",
						 "last_gtid",
						 "debug_dbug",
						 "character_set_database" };

	for (size_t i = 0; i < sizeof(tracked) / sizeof(tracked[0]); i++)
		CU_ASSERT_TRUE(variables_is_tracked(tracked[i]));
	for (size_t i = 0; i < sizeof(untracked) / sizeof(untracked[0]); i++)
		CU_ASSERT_FALSE(variables_is_tracked(untracked[i]));
}

static void test_variables(void)
{
	struct variable_entry first[] = {
		{ (char *)"binlog_format", (char *)"MIXED", false, false },
		{ (char *)"default_storage_engine", (char *)"InnoDB", false, true },
		{ (char *)"div_precision_increment", (char *)"4", true, false },
		{ (char *)"sql_mode", (char *)"", false, false },
		{ (char *)"storage_engine", (char *)"InnoDB", false, true },
	};
	struct variable_entry second[] = {
		{ (char *)"binlog_format", (char *)"ROW", false, false },
		{ (char *)"div_precision_increment", (char *)"6", true, false },
		{ (char *)"extra", (char *)"1", true, false },
		{ (char *)"sql_mode", (char *)"", false, false },
	};
	struct variable_list one = { 5, first }, two = { 4, second };
	struct variable_list *lists[] = { &one, &two, NULL };
	struct snapshot *s = calloc(1, sizeof(*s));
	const struct tracked_variable *v;

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	atomic_init(&s->refs, 1);
	s->server_count = 3;
	variables_build(s, lists, 0, SQL_MARIADB);
	CU_ASSERT_EQUAL(s->variable_count, 5);
	CU_ASSERT_STRING_EQUAL(s->track_list[1],
			       "last_gtid,binlog_format,div_precision_increment,extra,sql_mode");
	CU_ASSERT_PTR_NULL(s->track_list[2]);
	v = snapshot_variable(s, "div_precision_increment", 23);
	CU_ASSERT_TRUE(v && v->is_number && v->exists[1] && !v->same_default[1] && !v->exists[2]);
	CU_ASSERT_STRING_EQUAL(v->server_value[1], "6");
	/* Needs a privilege that the user may not have, and changes no read: left as it is. */
	v = snapshot_variable(s, "binlog_format", 13);
	CU_ASSERT_TRUE(v && v->same_default[1]);
	v = snapshot_variable(s, "storage_engine", 14);
	CU_ASSERT_TRUE(v && v->stands_for && !strcmp(v->stands_for, "default_storage_engine") &&
		       !v->exists[1]);
	CU_ASSERT_PTR_NULL(snapshot_variable(s, "extra", 5));
	snapshot_unref(s);
}

void suite_cluster(void)
{
	CU_pSuite suite = CU_add_suite("cluster", NULL, NULL);

	CU_add_test(suite, "roles", test_roles);
	CU_add_test(suite, "a writable server is compared first", test_unproven_primary);
	CU_add_test(suite, "... beside a dead replica too", test_unproven_beside_a_dead_replica);
	CU_add_test(suite, "sound links", test_sound_links);
	CU_add_test(suite, "lag", test_lag);
	CU_add_test(suite, "wants", test_wants);
	CU_add_test(suite, "more wants than room", test_many_wants);
	CU_add_test(suite, "routines judged", test_catalog);
	CU_add_test(suite, "views are looked through", test_views);
	CU_add_test(suite, "versions", test_versions);
	CU_add_test(suite, "tracked names", test_variable_names);
	CU_add_test(suite, "variables of several servers", test_variables);
}
