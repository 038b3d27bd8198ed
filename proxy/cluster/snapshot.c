#include "proxy/cluster/snapshot.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/cluster/accounts.h"

struct server *server_ref(struct server *server)
{
	atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
	return server;
}

void server_unref(struct server *server)
{
	if (!server || atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (server->waiting)
		server->free_waiting(server->waiting);
	free(server->name);
	free(server->address_text);
	free(server);
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
	atomic_fetch_add_explicit(&snapshot->refs, 1, memory_order_relaxed);
	return snapshot;
}

static void free_variables(struct snapshot *s)
{
	for (size_t i = 0; i < s->variable_count; i++) {
		free(s->variables[i].name);
		free(s->variables[i].primary_value);
		for (size_t k = 0; k < CLUSTER_MAX_SERVERS; k++)
			free(s->variables[i].server_value[k]);
	}
	free(s->variables);
}

static void free_snapshot(struct snapshot *s)
{
	for (size_t i = 0; i < CLUSTER_MAX_SERVERS; i++) {
		server_unref(s->servers[i].server);
		free(s->track_list[i]);
	}
	free_variables(s);
	accounts_free(s->accounts, s->account_count);
	for (size_t i = 0; i < s->routine_count; i++)
		free(s->routines[i].name);
	free(s->routines);
	for (size_t i = 0; i < s->view_count; i++)
		free(s->views[i].name);
	free(s->views);
	free(s->default_charset);
	free(s->default_collation);
	free(s->primary_why);
	if (s->settings)
		settings_unref(s->settings);
	free(s);
}

void snapshot_unref(struct snapshot *snapshot)
{
	if (snapshot && atomic_fetch_sub_explicit(&snapshot->refs, 1, memory_order_acq_rel) == 1)
		free_snapshot(snapshot);
}

/* Order of a NUL-terminated lower-case name against len bytes in any case. */
static int compare_name(const char *name, const char *text, size_t len)
{
	int order = strncasecmp(name, text, len);

	return order ? order : name[len] != '\0';
}

const struct tracked_variable *snapshot_variable(const struct snapshot *snapshot, const char *name,
						 size_t len)
{
	size_t low = 0, high = snapshot->variable_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = compare_name(snapshot->variables[middle].name, name, len);

		if (!order)
			return &snapshot->variables[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* A name that no built-in has and that was not found as written: letters outside ASCII may be stored in another case, and a
 * quoted quote is doubled. Not finding it proves nothing. */
static const struct routine unproven = { .name = (char *)"",
					 .writes = true,
					 .facts = SQL_F_OPAQUE };

static bool is_plain_name(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return true;
}

static const struct routine *find_routine(const struct routine *sorted, size_t count,
					  const char *name, size_t len)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = compare_name(sorted[middle].name, name, len);

		if (!order)
			return &sorted[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const struct routine *snapshot_routine(const struct snapshot *snapshot, const char *name,
				       size_t len)
{
	const struct routine *found =
		find_routine(snapshot->routines, snapshot->routine_count, name, len);

	return found || is_plain_name(name, len) ? found : &unproven;
}

const struct routine *snapshot_view(const struct snapshot *snapshot, const char *name, size_t len)
{
	return find_routine(snapshot->views, snapshot->view_count, name, len);
}

const struct account *snapshot_account(const struct snapshot *snapshot, const char *user,
				       size_t user_len, const char *host, bool is_loopback)
{
	bool is_name = !strcasecmp(host, "localhost");
	const char *name =
		is_name || (is_loopback && !snapshot->skip_name_resolve) ? "localhost" : NULL;

	return accounts_find(snapshot->accounts, snapshot->account_count, user, user_len, name,
			     is_name ? NULL : host);
}
