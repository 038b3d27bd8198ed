#include "proxy/cluster/semisync.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* The names of both flavours: MariaDB's, then MySQL's. */
enum { S_SOURCE, S_TIMEOUT, S_POINT, S_ALONE, S_REPLICA, S_COUNT };
static const char *const names[S_COUNT][2] = {
	[S_SOURCE] = { "rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled" },
	[S_TIMEOUT] = { "rpl_semi_sync_master_timeout", "rpl_semi_sync_source_timeout" },
	[S_POINT] = { "rpl_semi_sync_master_wait_point", "rpl_semi_sync_source_wait_point" },
	[S_ALONE] = { "rpl_semi_sync_master_wait_no_slave", "rpl_semi_sync_source_wait_no_replica" },
	[S_REPLICA] = { "rpl_semi_sync_slave_enabled", "rpl_semi_sync_replica_enabled" },
};

static const char *name_of(const struct actor *a, int what)
{
	return names[what][a->subject.flavour == SQL_MYSQL];
}

/* Empty when the server does not know it: no plugin, no semi-sync. */
static bool read_variable(struct actor *a, const char *name, char out[64])
{
	char question[128];

	snprintf(question, sizeof(question), "SELECT @@global.%s", name);
	return conduct_ask(a, question, out, 64);
}

/* As its monitor saw it last. */
static enum semi_sync_state state_of(struct operation *op, const struct actor *a, bool *has_clients)
{
	enum semi_sync_state state;

	pthread_mutex_lock(&op->cluster->lock);
	state = a->member->seen.semi_sync;
	*has_clients = a->member->seen.terms.clients > 0;
	pthread_mutex_unlock(&op->cluster->lock);
	return state;
}

static bool had_used(struct operation *op, const struct actor *a)
{
	bool yes;

	pthread_mutex_lock(&op->cluster->lock);
	yes = a->member->seen.semi_sync != SEMI_SYNC_OFF || a->member->had_waited;
	pthread_mutex_unlock(&op->cluster->lock);
	return yes;
}

static bool receives_and_applies(struct operation *op, const struct actor *a)
{
	const struct observation *seen = &a->member->seen;
	bool yes;

	pthread_mutex_lock(&op->cluster->lock);
	yes = seen->link_count && seen->links[0].sql == THREAD_RUNNING && seen->links[0].io == THREAD_RUNNING;
	pthread_mutex_unlock(&op->cluster->lock);
	return yes;
}

bool semisync_is_on(struct operation *op, const struct actor *actor)
{
	bool ignored;

	return state_of(op, actor, &ignored) != SEMI_SYNC_OFF;
}

static bool set_variable(struct actor *a, const char *name, const char *value)
{
	bool is_number = *value && strspn(value, "0123456789") == strlen(value);

	return line_say(&a->line, is_number ? "SET GLOBAL %s = %s" : "SET GLOBAL %s = '%s'", name, value);
}

/* Notes what was there first, so that it can be put back. */
static bool change(struct operation *op, struct actor *a, int what, const char *value)
{
	struct semi_sync_change *c = &op->changes[op->change_count];
	char before[64];

	if (!read_variable(a, name_of(a, what), before))
		return false;
	if (!strcmp(before, value))
		return true;
	if (op->change_count == SEMI_SYNC_CHANGES || !set_variable(a, name_of(a, what), value))
		return false;
	c->actor = a;
	snprintf(c->name, sizeof(c->name), "%s", name_of(a, what));
	snprintf(c->before, sizeof(c->before), "%s", before);
	op->change_count++;
	return true;
}

bool semisync_prepare(struct operation *op)
{
	char value[64];

	if (!read_variable(op->from, name_of(op->from, S_SOURCE), value) || !strcmp(value, "0"))
		return conduct_note(op, NULL, "%s does not use semi-synchronous replication", op->from->subject.name);
	op->semi_sync = true;
	for (int what = S_TIMEOUT; what <= S_ALONE; what++)
		if (!read_variable(op->from, name_of(op->from, what), value) || !change(op, op->to, what, value))
			return conduct_fail_line(op, op->to, "semi-synchronous replication cannot be carried over");
	if (!change(op, op->from, S_REPLICA, "1"))
		return conduct_fail_line(op, op->from, "it cannot be made a semi-synchronous replica");
	return conduct_note(op, op->to, "will wait for acknowledgements as %s does", op->from->subject.name);
}

bool semisync_switch(struct operation *op, struct actor *actor, bool on)
{
	return !op->semi_sync || set_variable(actor, name_of(actor, S_SOURCE), on ? "1" : "0");
}

/* Turned off and on: a server that has stopped waiting begins again only so, or when a replica has caught up. */
bool semisync_enforce(struct operation *op, struct actor *actor)
{
	char value[64], forever[32];
	bool ignored;

	if (!read_variable(actor, name_of(actor, S_SOURCE), value))
		return conduct_fail(op, actor, "it has no semi-synchronous replication: %s",
				    actor->subject.flavour == SQL_MYSQL ? "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so' there, and "
									  "rpl_semi_sync_replica on its replicas"
									: "MariaDB has it from 10.3 on");
	snprintf(forever, sizeof(forever), "%llu", SEMI_SYNC_FOREVER_MS);
	if (!set_variable(actor, name_of(actor, S_TIMEOUT), forever) || !set_variable(actor, name_of(actor, S_POINT), "AFTER_SYNC") ||
	    !set_variable(actor, name_of(actor, S_ALONE), "1"))
		return conduct_fail_line(op, actor, "how it waits for replicas cannot be set");
	if (state_of(op, actor, &ignored) == SEMI_SYNC_DEGRADED && !set_variable(actor, name_of(actor, S_SOURCE), "0"))
		return conduct_fail_line(op, actor, "it cannot be made to wait for replicas again");
	return set_variable(actor, name_of(actor, S_SOURCE), "1") || conduct_fail_line(op, actor, "it cannot be made to wait for replicas");
}

bool semisync_limit(struct operation *op, struct actor *actor, uint32_t ms, bool release)
{
	char value[32];

	snprintf(value, sizeof(value), "%u", ms ? ms : 1);
	/* A shorter time-out does not free those that wait already; turning it off does. */
	if ((release && !set_variable(actor, name_of(actor, S_SOURCE), "0")) || !set_variable(actor, name_of(actor, S_TIMEOUT), value) ||
	    (release && !set_variable(actor, name_of(actor, S_SOURCE), "1")))
		return conduct_fail_line(op, actor, "how long it waits for replicas cannot be set");
	return true;
}

/* Nobody waits longer than degrade_after, and for replicas that are not there not at all. The server waits again by itself when one is. */
static bool relax(struct operation *op, unsigned followers)
{
	const char *timeout = name_of(op->to, S_TIMEOUT);

	if (!line_say(&op->to->line, "SET GLOBAL %s = LEAST(@@global.%s, %u)", timeout, timeout, op->settings->monitor.degrade_after_ms))
		return false;
	return followers || set_variable(op->to, name_of(op->to, S_ALONE), "0");
}

bool semisync_take_over(struct operation *op, unsigned followers)
{
	bool is_available = op->settings->monitor.durability == DURABILITY_AVAILABLE;
	char value[64];

	if (!read_variable(op->to, name_of(op->to, S_SOURCE), value))
		return conduct_note(op, op->to, "it has no semi-synchronous replication");
	if (!is_available)
		return semisync_enforce(op, op->to) && conduct_note(op, op->to, "every commit waits for a replica, without a time-out");
	if (!strcmp(value, "0") && !had_used(op, op->from))
		return conduct_note(op, op->to, "not used");
	if (!relax(op, followers))
		return conduct_fail_line(op, op->to, "its semi-synchronous replication cannot be set");
	if (!strcmp(value, "0") && !set_variable(op->to, name_of(op->to, S_SOURCE), "1"))
		return conduct_fail_line(op, op->to, "its semi-synchronous replication cannot be enabled");
	return conduct_note(op, op->to, followers ? "commits wait for a replica" : "commits do not wait for a replica until one follows");
}

bool semisync_acknowledge(struct operation *op, struct actor *actor)
{
	bool has_clients, is_missed = state_of(op, op->from, &has_clients) != SEMI_SYNC_OFF && !has_clients;
	bool works = receives_and_applies(op, actor);
	char value[64];

	if (!read_variable(actor, name_of(actor, S_REPLICA), value))
		return conduct_fail_line(op, actor, "it cannot acknowledge what it receives");
	if (!strcmp(value, "1") && !is_missed)
		return true;
	if (strcmp(value, "1") != 0 && !set_variable(actor, name_of(actor, S_REPLICA), "1"))
		return conduct_fail_line(op, actor, "it cannot be made to acknowledge what it receives");
	/* With the applying thread stopped as well its relay log would be thrown away. */
	if (!works)
		return true;
	if (!replication_stop_receiver(&actor->subject) || !replication_start(&actor->subject))
		return conduct_fail_line(op, actor, "its receiver cannot be started anew");
	return true;
}

void semisync_recall(struct operation *op)
{
	char from[64] = "0", to[64] = "0";

	op->semi_sync = (read_variable(op->from, name_of(op->from, S_SOURCE), from) && !strcmp(from, "1")) ||
			(read_variable(op->to, name_of(op->to, S_SOURCE), to) && !strcmp(to, "1"));
}

void semisync_restore(struct operation *op)
{
	while (op->change_count) {
		struct semi_sync_change *c = &op->changes[--op->change_count];

		if (!conduct_reopen(op, c->actor) || !set_variable(c->actor, c->name, c->before))
			log_warning(NULL, "server %s: %s is not back to %s: %s", c->actor->subject.name, c->name,
				    c->before, c->actor->line.error_text);
	}
}
