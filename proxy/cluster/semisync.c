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

static bool set_variable(struct actor *a, const char *name, const char *value)
{
	bool is_number = *value && strspn(value, "0123456789") == strlen(value);

	return conduct_say(a, is_number ? "SET GLOBAL %s = %s" : "SET GLOBAL %s = '%s'", name, value);
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
