/* What a failover decides: whether the primary is dead, who takes over, who may come back. And what is kept of it. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proxy/cluster/candidate.h"
#include "proxy/cluster/durability.h"
#include "proxy/cluster/evidence.h"
#include "proxy/cluster/history.h"
#include "proxy/cluster/hook.h"
#include "proxy/cluster/quarantine.h"
#include "proxy/cluster/roles.h"
#include "proxy/cluster/semisync.h"

void suite_failover(void);

/* ---- Evidence: lost at 10,000, patience 5,000, heartbeats every 1,000 unless said. ---- */

enum { LOST = 10000 };

struct evidence_row {
	const char *what;
	uint64_t now;
	bool refused;
	struct evidence_replica replicas[3];
	enum evidence_kind kind;
	uint64_t again;
	const char *why;
};

#define R(up, looked, io, heard) { "db", up, looked, THREAD_##io, heard, 1000 }

static const struct evidence_row evidence_rows[] = {
	{ "refused, the replica tries to connect", LOST + 25, true, { R(true, LOST + 20, CONNECTING, 9500) }, EVIDENCE_DEAD, 0, "refuses" },
	{ "refused, the replica still says Yes", LOST + 5, true, { R(true, LOST + 3, RUNNING, 9500) }, EVIDENCE_WAIT, LOST + 25, "1495 ms" },
	{ "refused, the replica said Connecting before", LOST + 5, true, { R(true, LOST - 3, CONNECTING, 9500) }, EVIDENCE_WAIT, LOST + 25,
	  "not been asked" },
	{ "refused, one of two not asked", LOST + 5, true, { R(true, LOST + 3, CONNECTING, 9500), R(true, LOST - 1, CONNECTING, 9500) },
	  EVIDENCE_WAIT, LOST + 25, "not been asked" },
	{ "refused, the replica that hears nothing is down", LOST + 25, true,
	  { R(true, LOST + 20, CONNECTING, 9500), R(false, 100, RUNNING, 100) }, EVIDENCE_DEAD, 0, "refuses" },
	{ "refused, the replica hears it", LOST + 600, true, { R(true, LOST + 590, RUNNING, LOST + 590) }, EVIDENCE_CUT, LOST + 1100,
	  "network" },
	{ "refused, one of two hears it", LOST + 600, true,
	  { R(true, LOST + 590, CONNECTING, 9500), R(true, LOST + 590, RUNNING, LOST + 590) }, EVIDENCE_CUT, LOST + 1100, "network" },
	{ "refused, says Yes but is deaf", LOST + 2000, true, { R(true, LOST + 1990, RUNNING, 9900) }, EVIDENCE_DEAD, 0, "refuses" },
	{ "silent, says Yes, not deaf yet", LOST + 100, false, { R(true, LOST + 90, RUNNING, 9500) }, EVIDENCE_WAIT, LOST + 120, "hears" },
	{ "silent, deaf, patience not over", LOST + 2000, false, { R(true, LOST + 1990, RUNNING, 9500) }, EVIDENCE_WAIT, 14000, "patience" },
	{ "silent, deaf, patience over", LOST + 4000, false, { R(true, LOST + 3990, RUNNING, 9500) }, EVIDENCE_DEAD, 0, "silent" },
	{ "silent, patience over, the replica hears it", LOST + 9000, false, { R(true, LOST + 8990, RUNNING, LOST + 8500) }, EVIDENCE_CUT,
	  LOST + 9500, "network" },
	{ "silent, patience over, no replica answers", LOST + 9000, false, { R(false, 9000, RUNNING, 9000) }, EVIDENCE_WAIT, LOST + 9500,
	  "neither" },
	{ "silent, no heartbeats on the link", LOST + 9000, false, { { "db", true, LOST + 8990, THREAD_RUNNING, 9000, 0 } },
	  EVIDENCE_WAIT, LOST + 9020, "no heartbeat" },
	{ "refused, receiver stopped", LOST + 30, true, { R(true, LOST + 20, STOPPED, 9000) }, EVIDENCE_DEAD, 0, "refuses" },
	{ "no replica at all", LOST + 30, true, { { 0 } }, EVIDENCE_WAIT, LOST + 530, "neither" },
};

static size_t count_replicas(const struct evidence_replica *list)
{
	size_t n = 0;

	while (n < 3 && list[n].name)
		n++;
	return n;
}

static void test_evidence(void)
{
	for (size_t i = 0; i < sizeof(evidence_rows) / sizeof(evidence_rows[0]); i++) {
		const struct evidence_row *row = &evidence_rows[i];
		struct evidence e = { .now_ms = row->now, .patience_ms = 5000, .primary = "db1", .heard_ms = LOST - 1000,
				      .lost_ms = LOST, .refused = row->refused, .majority = true, .replicas = row->replicas,
				      .count = count_replicas(row->replicas) };
		struct evidence_verdict v;

		evidence_judge(&e, &v);
		if (v.kind != row->kind || v.again_ms != row->again || !strstr(v.why, row->why))
			printf("\n%s: %d at %llu, \"%s\"\n", row->what, (int)v.kind, (unsigned long long)v.again_ms, v.why);
		CU_ASSERT_EQUAL(v.kind, row->kind);
		CU_ASSERT_EQUAL(v.again_ms, row->again);
		CU_ASSERT_PTR_NOT_NULL(strstr(v.why, row->why));
		e.up = true;
		evidence_judge(&e, &v);
		CU_ASSERT_EQUAL(v.kind, EVIDENCE_ALIVE);
	}
}

/* Two servers of which one answers: silence may be this side's own, a refusal cannot. */
static void test_minority(void)
{
	struct evidence_replica deaf = R(true, LOST + 3990, CONNECTING, 9500);
	struct evidence e = { .now_ms = LOST + 4000, .patience_ms = 5000, .primary = "db1", .heard_ms = LOST - 1000, .lost_ms = LOST,
			      .replicas = &deaf, .count = 1 };
	struct evidence_verdict v;

	evidence_judge(&e, &v);
	CU_ASSERT_EQUAL(v.kind, EVIDENCE_UNPROVEN);
	CU_ASSERT_PTR_NOT_NULL(strstr(v.why, "majority"));
	e.refused = true;
	evidence_judge(&e, &v);
	CU_ASSERT_EQUAL(v.kind, EVIDENCE_DEAD);
}

/* ---- Candidates ---- */

struct candidate_text {
	const char *received, *before;
	enum promote_preference promote;
	const char *unfit;
};

struct candidate_row {
	const char *what;
	struct candidate_text list[3]; /* db2, db3, db4 */
	const char *acknowledged;
	unsigned max_loss;
	bool degraded, unseen, force;
	const char *wanted;
	int index;
	uint64_t loss;
	const char *why;
};

static const struct candidate_row candidate_rows[] = {
	{ .what = "one, level", .list = { { "0-1-10", "0-1-10" } }, .acknowledged = "0-1-10", .index = 0, .why = "most" },
	{ .what = "the one ahead", .list = { { "0-1-9", "0-1-9" }, { "0-1-10", "0-1-10" } }, .acknowledged = "0-1-9", .index = 1, .why = "most" },
	{ .what = "ahead beats preferred", .list = { { "0-1-9", "", PROMOTE_PREFER }, { "0-1-10", "" } }, .index = 1, .why = "most" },
	{ .what = "among equals the preferred", .list = { { "0-1-9", "" }, { "0-1-9", "", PROMOTE_PREFER } }, .index = 1, .why = "preferred" },
	{ .what = "never", .list = { { "0-1-9", "", PROMOTE_NEVER }, { "0-1-9", "" } }, .index = 1, .why = "most" },
	{ .what = "only never", .list = { { "0-1-9", "", PROMOTE_NEVER } }, .index = -1, .why = "promote = never" },
	{ .what = "never, but a person says so", .list = { { "0-1-9", "", PROMOTE_NEVER } }, .wanted = "db2", .index = 0, .why = "most" },
	{ .what = "never is ahead", .list = { { "0-1-9", "", PROMOTE_NEVER }, { "0-1-8", "" } }, .index = -1, .why = "db2 has transactions" },
	{ .what = "the named one lags", .list = { { "0-1-9", "" }, { "0-1-8", "" } }, .wanted = "db3", .index = -1, .why = "db2 has" },
	{ .what = "an unknown name", .list = { { "0-1-9", "" } }, .wanted = "db9", .index = -1, .why = "no such replica" },
	{ .what = "unfit", .list = { { "", "", PROMOTE_NEUTRAL, "is down" } }, .index = -1, .why = "db2 is down" },
	{ .what = "a loss", .list = { { "0-1-8", "0-1-8" } }, .acknowledged = "0-1-10", .index = -1, .loss = 2, .why = "lacks 2" },
	{ .what = "a loss within bounds", .list = { { "0-1-8", "0-1-8" } }, .acknowledged = "0-1-10", .max_loss = 2, .index = 0, .loss = 2,
	  .why = "most" },
	{ .what = "a loss accepted", .list = { { "0-1-8", "0-1-8" } }, .acknowledged = "0-1-10", .force = true, .index = 0, .loss = 2,
	  .why = "most" },
	{ .what = "a loss in one of two domains", .list = { { "0-1-8,1-1-5", "" } }, .acknowledged = "0-1-8,1-1-6", .index = -1, .loss = 1,
	  .why = "lacks 1" },
	{ .what = "restarted", .list = { { "0-1-8", "0-1-12" } }, .acknowledged = "0-1-8", .index = -1, .why = "restarted and has lost 4" },
	{ .what = "degraded", .list = { { "0-1-8", "" } }, .acknowledged = "0-1-8", .degraded = true, .index = -1, .why = "stopped waiting" },
	{ .what = "never seen alive", .list = { { "0-1-8", "" } }, .unseen = true, .index = -1, .why = "not seen the primary" },
	{ .what = "degraded, a loss is allowed", .list = { { "0-1-8", "" } }, .degraded = true, .max_loss = 1, .index = 0, .why = "most" },
};

static struct gtid_set set_of(const char *text)
{
	struct gtid_set set = { 0 };

	CU_ASSERT_TRUE(gtid_parse(text ? text : "", text ? strlen(text) : 0, &set));
	return set;
}

static size_t make_candidates(const struct candidate_text *texts, struct candidate *out)
{
	static const char *const names[] = { "db2", "db3", "db4" };
	size_t n = 0;

	for (; n < 3 && texts[n].received; n++)
		out[n] = (struct candidate){ names[n], texts[n].unfit, texts[n].promote, set_of(texts[n].received), set_of(texts[n].before) };
	return n;
}

static void test_candidates(void)
{
	for (size_t i = 0; i < sizeof(candidate_rows) / sizeof(candidate_rows[0]); i++) {
		const struct candidate_row *row = &candidate_rows[i];
		struct candidate list[3];
		size_t count = make_candidates(row->list, list);
		struct candidate_terms terms = { set_of(row->acknowledged), row->max_loss, row->degraded, row->unseen, row->force, row->wanted };
		struct candidate_choice choice;

		candidate_choose(list, count, &terms, &choice);
		if (choice.index != row->index || choice.loss != row->loss || !strstr(choice.why, row->why))
			printf("\n%s: %d, loss %llu, \"%s\"\n", row->what, choice.index, (unsigned long long)choice.loss, choice.why);
		CU_ASSERT_EQUAL(choice.index, row->index);
		CU_ASSERT_EQUAL(choice.loss, row->loss);
		CU_ASSERT_PTR_NOT_NULL(strstr(choice.why, row->why));
	}
}

/* ---- Durability ---- */

#define FOREVER SEMI_SYNC_FOREVER_MS

static const struct {
	const char *what;
	struct durability_view view;
	enum durability wanted;
	uint32_t degrade_after_ms;
	enum durability_step step;
} durability_rows[] = {
	{ "strict, as it should be", { SEMI_SYNC_ON, { FOREVER, true, true, 2, 0 }, 2 }, DURABILITY_STRICT, 10000, DURABILITY_KEEP },
	{ "strict, no semi-sync", { SEMI_SYNC_OFF, { 0 }, 2 }, DURABILITY_STRICT, 10000, DURABILITY_ENFORCE },
	{ "strict, has stopped waiting", { SEMI_SYNC_DEGRADED, { FOREVER, true, true, 0, 0 }, 0 }, DURABILITY_STRICT, 0, DURABILITY_ENFORCE },
	{ "strict, a time-out", { SEMI_SYNC_ON, { 10000, true, true, 2, 0 }, 2 }, DURABILITY_STRICT, 10000, DURABILITY_ENFORCE },
	{ "strict, others see it first", { SEMI_SYNC_ON, { FOREVER, false, true, 2, 0 }, 2 }, DURABILITY_STRICT, 0, DURABILITY_ENFORCE },
	{ "strict, goes on alone", { SEMI_SYNC_ON, { FOREVER, true, false, 2, 0 }, 2 }, DURABILITY_STRICT, 0, DURABILITY_ENFORCE },
	{ "strict, replicas that do not acknowledge", { SEMI_SYNC_ON, { FOREVER, true, true, 0, 0 }, 1 }, DURABILITY_STRICT, 0, DURABILITY_ENFORCE },
	{ "strict, no replica there", { SEMI_SYNC_ON, { FOREVER, true, true, 0, 3 }, 0 }, DURABILITY_STRICT, 0, DURABILITY_KEEP },
	{ "available, as found without", { SEMI_SYNC_OFF, { 0 }, 2 }, DURABILITY_AVAILABLE, 10000, DURABILITY_KEEP },
	{ "available, within bounds", { SEMI_SYNC_ON, { 10000, true, true, 2, 5 }, 2 }, DURABILITY_AVAILABLE, 10000, DURABILITY_KEEP },
	{ "available, would wait too long", { SEMI_SYNC_ON, { 10001, true, true, 2, 5 }, 2 }, DURABILITY_AVAILABLE, 10000, DURABILITY_LIMIT },
	{ "available, waits for nobody", { SEMI_SYNC_ON, { FOREVER, true, true, 0, 5 }, 0 }, DURABILITY_AVAILABLE, 10000, DURABILITY_RELEASE },
	{ "available, nobody there, nobody waits", { SEMI_SYNC_ON, { FOREVER, true, true, 0, 0 }, 0 }, DURABILITY_AVAILABLE, 10000, DURABILITY_LIMIT },
	{ "available, at once", { SEMI_SYNC_ON, { 1, true, true, 0, 0 }, 0 }, DURABILITY_AVAILABLE, 0, DURABILITY_KEEP },
	{ "available, has stopped waiting", { SEMI_SYNC_DEGRADED, { 10000, true, true, 0, 0 }, 0 }, DURABILITY_AVAILABLE, 10000, DURABILITY_KEEP },
};

static void test_durability(void)
{
	for (size_t i = 0; i < sizeof(durability_rows) / sizeof(*durability_rows); i++) {
		enum durability_step step =
			durability_judge(&durability_rows[i].view, durability_rows[i].wanted, durability_rows[i].degrade_after_ms);

		if (step != durability_rows[i].step)
			printf("\n%s: %d\n", durability_rows[i].what, step);
		CU_ASSERT_EQUAL(step, durability_rows[i].step);
	}
}

/* ---- Returning servers ---- */

static const struct {
	const char *what, *mine, *theirs, *fork, *extra;
} state_rows[] = {
	{ "nothing since", "0-1-10", "0-1-10,0-2-15", "0-1-10", "" },
	{ "behind", "0-1-8", "0-1-10,0-2-15", "0-1-10", "" },
	{ "one of its own", "0-1-11", "0-1-10,0-2-15", "0-1-10", "0-1 10..11" },
	{ "one of its own, no fork point known", "0-1-11", "0-1-10,0-2-15", "", "0-1 10..11" },
	/* What a comparison of positions calls a subset: 15 is beyond 12. */
	{ "one of its own under the new primary's number", "0-1-12,0-2-11", "0-1-10,0-2-15", "0-1-10", "0-1 10..12" },
	{ "followed the new primary for a while", "0-1-10,0-2-12", "0-1-10,0-2-15", "", "" },
	{ "another domain", "0-1-10,7-1-3", "0-1-10", "0-1-10", "7-1 0..3" },
	{ "empty", "", "0-1-10", "0-1-10", "" },
};

static void test_binlog_states(void)
{
	for (size_t i = 0; i < sizeof(state_rows) / sizeof(state_rows[0]); i++) {
		struct binlog_state mine, theirs;
		struct gtid_set fork = set_of(state_rows[i].fork);
		struct extra_range ranges[8];
		char text[256] = "";
		size_t n, len = 0;

		CU_ASSERT_TRUE(binlog_state_parse(state_rows[i].mine, &mine));
		CU_ASSERT_TRUE(binlog_state_parse(state_rows[i].theirs, &theirs));
		n = quarantine_compare(&mine, &theirs, &fork, 1, ranges, 8);
		for (size_t r = 0; r < n; r++)
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u-%u %llu..%llu", len ? " " : "", ranges[r].domain,
						ranges[r].server_id, (unsigned long long)ranges[r].from,
						(unsigned long long)ranges[r].to);
		if (strcmp(text, state_rows[i].extra))
			printf("\n%s: \"%s\"\n", state_rows[i].what, text);
		CU_ASSERT_STRING_EQUAL(text, state_rows[i].extra);
	}
}

static void test_bad_binlog_states(void)
{
	static const char *const rows[] = { "x", "0", "0-1", "0-1-", "0-1-1-1", "0--1", "4294967296-1-1", "0-1-1;0-2-2", "-1-1-1" };
	struct binlog_state state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CU_ASSERT_FALSE(binlog_state_parse(rows[i], &state));
	CU_ASSERT_TRUE(binlog_state_parse(" 0-1-1 ,\n0-2-2", &state));
	CU_ASSERT_EQUAL(state.count, 2);
}

/* ---- Who is the primary after servers were away: db1 writable with no link unless said, db2 likewise ---- */

static const struct {
	const char *what;
	enum server_health health1, health2;
	enum server_role was1, was2;
	uint64_t epoch1, epoch2;
	bool db2_follows, db3_follows_1;
	int primary; /* from 1; 0 none */
	const char *why;
} epoch_rows[] = {
	{ "both writable, nothing written down", HEALTH_UP, HEALTH_UP, ROLE_UNKNOWN, ROLE_UNKNOWN, 0, 0, false, false, 0, "make all but one" },
	{ "both writable, db2 has the newer epoch", HEALTH_UP, HEALTH_UP, ROLE_UNKNOWN, ROLE_UNKNOWN, 4, 5, false, false, 2, "" },
	{ "db2, the newer one, is away", HEALTH_UP, HEALTH_DOWN, ROLE_UNKNOWN, ROLE_UNKNOWN, 4, 5, false, false, 0, "db2 became the primary" },
	{ "the newer one has come to follow", HEALTH_UP, HEALTH_UP, ROLE_UNKNOWN, ROLE_UNKNOWN, 0, 5, true, false, 1, "" },
	{ "in force, whatever is written", HEALTH_UP, HEALTH_UP, ROLE_PRIMARY, ROLE_STRAY, 4, 5, false, false, 1, "" },
	{ "a deposed one comes back, followed by a third", HEALTH_UP, HEALTH_UP, ROLE_STRAY, ROLE_PRIMARY, 0, 0, false, true, 2, "" },
	{ "the same without anybody in force", HEALTH_UP, HEALTH_UP, ROLE_UNKNOWN, ROLE_UNKNOWN, 0, 5, false, true, 2, "" },
};

static void test_epochs(void)
{
	for (size_t i = 0; i < sizeof(epoch_rows) / sizeof(epoch_rows[0]); i++) {
		struct observation seen[3] = { { .server_id = 1 }, { .server_id = 2 }, { .server_id = 3, .read_only = true } };
		struct role_view views[3] = {
			{ .name = "db1", .address = "a:1", .health = epoch_rows[i].health1, .was = epoch_rows[i].was1, .epoch = epoch_rows[i].epoch1 },
			{ .name = "db2", .address = "b:1", .health = epoch_rows[i].health2, .was = epoch_rows[i].was2, .epoch = epoch_rows[i].epoch2 },
			{ .name = "db3", .address = "c:1", .health = HEALTH_UP },
		};
		struct role_verdict v;

		for (int k = 0; k < 3; k++)
			views[k].seen = &seen[k];
		if (epoch_rows[i].db2_follows)
			seen[1] = (struct observation){ .server_id = 2, .read_only = true, .link_count = 1, .links = { { .master_server_id = 1 } } };
		if (epoch_rows[i].db3_follows_1) {
			seen[2].link_count = 1;
			seen[2].links[0].master_server_id = 1;
		}
		roles_judge(views, 3, &v);
		if (v.primary + 1 != epoch_rows[i].primary || !strstr(v.why, epoch_rows[i].why))
			printf("\n%s: %d \"%s\"\n", epoch_rows[i].what, v.primary + 1, v.why);
		CU_ASSERT_EQUAL(v.primary + 1, epoch_rows[i].primary);
		CU_ASSERT_PTR_NOT_NULL(strstr(v.why, epoch_rows[i].why));
	}
}

/* ---- History ---- */

static void count_noted(void *owner)
{
	++*(int *)owner;
}

static void test_history(void)
{
	struct history *history = history_new();
	struct history_event events[4];
	int noted = 0;

	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	CU_ASSERT_EQUAL(history_read(history, 0, events, 4), 0);
	history_listen(history, count_noted, &noted);
	history_note(history, "primary", "db1", "is %s", "the primary");
	history_note(history, "settings", NULL, "reloaded");
	CU_ASSERT_EQUAL(history_read(history, 0, events, 4), 2);
	CU_ASSERT_EQUAL(events[0].number, 1);
	CU_ASSERT_STRING_EQUAL(events[0].text, "is the primary");
	CU_ASSERT_STRING_EQUAL(events[0].server, "db1");
	CU_ASSERT_STRING_EQUAL(events[1].server, "");
	CU_ASSERT_TRUE(events[1].time_ms >= events[0].time_ms);
	CU_ASSERT_EQUAL(history_read(history, 1, events, 4), 1);
	CU_ASSERT_EQUAL(history_read(history, 2, events, 4), 0);
	CU_ASSERT_EQUAL(noted, 2);
	history_listen(history, NULL, NULL);
	for (int i = 0; i < 2 * HISTORY_KEPT; i++)
		history_note(history, "role", "db1", "%d", i);
	CU_ASSERT_EQUAL(noted, 2);
	CU_ASSERT_EQUAL(history_read(history, 0, events, 4), 4);
	CU_ASSERT_EQUAL(events[3].number, 2 + 2 * HISTORY_KEPT);
	CU_ASSERT_EQUAL(events[0].number, 2 * HISTORY_KEPT - 1);
	history_free(history);
	history_free(NULL);
	log_init(LOG_FORMAT_TEXT, LOG_LEVEL_INFO);
}

/* ---- Hooks ---- */

static void take_line(void *owner, const char *text)
{
	char *said = owner;

	snprintf(said + strlen(said), 128 - strlen(said), "%.60s|", text);
}

static const struct {
	const char *command;
	uint32_t timeout_ms;
	bool stop;
	enum hook_outcome outcome;
	const char *why, *said;
} hook_rows[] = {
	{ "cat", 5000, false, HOOK_DONE, "", "{\"a\":1}|" },
	{ "echo one; echo two >&2; printf three", 5000, false, HOOK_DONE, "", "one|two|three|" },
	{ "exit 3", 5000, false, HOOK_FAILED, "status 3", "" },
	{ "kill -9 $$", 5000, false, HOOK_FAILED, "signal 9", "" },
	{ "no-such-program-anywhere 2>/dev/null", 5000, false, HOOK_FAILED, "status 127", "" },
	{ "echo begun; sleep 60", 200, false, HOOK_TIMED_OUT, "200 ms", "begun|" },
	{ "sleep 60", 5000, true, HOOK_STOPPED, "stops", "" },
	{ "sleep 60 >/dev/null 2>&1 & exit 0", 5000, false, HOOK_DONE, "", "" },
	{ "exec >/dev/null 2>&1 <&1; exit 0", 0, false, HOOK_DONE, "", "" },
};

static void test_hook_commands(void)
{
	for (size_t i = 0; i < sizeof(hook_rows) / sizeof(hook_rows[0]); i++) {
		char said[128] = "";
		_Atomic bool stop = hook_rows[i].stop;
		struct hook_run run = { .input = "{\"a\":1}", .timeout_ms = hook_rows[i].timeout_ms, .stop = &stop,
					.line = take_line, .owner = said };
		enum hook_outcome outcome = hook_command(hook_rows[i].command, &run);

		if (outcome != hook_rows[i].outcome || strcmp(said, hook_rows[i].said))
			printf("\n%s: %d, \"%s\", \"%s\"\n", hook_rows[i].command, outcome, run.why, said);
		CU_ASSERT_EQUAL(outcome, hook_rows[i].outcome);
		CU_ASSERT_PTR_NOT_NULL(strstr(run.why, hook_rows[i].why));
		CU_ASSERT_STRING_EQUAL(said, hook_rows[i].said);
	}
}

/* More than a socket holds, to a command that reads none of it, and to one that gives all of it back. */
static void test_hook_large_input(void)
{
	static char input[1000001];
	struct hook_run run = { .input = input, .timeout_ms = 20000 };

	memset(input, 'x', sizeof(input) - 1);
	CU_ASSERT_EQUAL(hook_command("exec sleep 0.1", &run), HOOK_DONE);
	CU_ASSERT_EQUAL(hook_command("test $(cat | wc -c) = 1000000", &run), HOOK_DONE);
	CU_ASSERT_EQUAL(hook_command("cat", &run), HOOK_DONE);
}

static void test_hook_posts(void)
{
	struct hook_run run = { .input = "{}", .timeout_ms = 1000 };

	CU_ASSERT_EQUAL(hook_post("https://127.0.0.1/", &run), HOOK_FAILED);
	CU_ASSERT_PTR_NOT_NULL(strstr(run.why, "http://"));
	CU_ASSERT_EQUAL(hook_post("http://", &run), HOOK_FAILED);
	CU_ASSERT_EQUAL(hook_post("http://127.0.0.1:1/x", &run), HOOK_FAILED);
	CU_ASSERT_PTR_NOT_NULL(strstr(run.why, "refused"));
	CU_ASSERT_EQUAL(hook_post("http://[::1]:1", &run), HOOK_FAILED);
}

void suite_failover(void)
{
	CU_pSuite suite = CU_add_suite("failover", NULL, NULL);

	CU_add_test(suite, "evidence", test_evidence);
	CU_add_test(suite, "evidence without a majority", test_minority);
	CU_add_test(suite, "candidates", test_candidates);
	CU_add_test(suite, "durability", test_durability);
	CU_add_test(suite, "binlog states", test_binlog_states);
	CU_add_test(suite, "bad binlog states", test_bad_binlog_states);
	CU_add_test(suite, "epochs", test_epochs);
	CU_add_test(suite, "history", test_history);
	CU_add_test(suite, "hooks: commands", test_hook_commands);
	CU_add_test(suite, "hooks: large input", test_hook_large_input);
	CU_add_test(suite, "hooks: posts", test_hook_posts);
}
