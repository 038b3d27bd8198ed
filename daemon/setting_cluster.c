/* The settings of the servers, how they are watched and how they replicate. */
#include "daemon/setting_row.h"

#include <stdlib.h>
#include <string.h>

static const char *const server_tls[] = { "off",       "preferred",   "required",
					  "verify_ca", "verify_full", NULL };
static const char *const promote[] = { "neutral", "prefer", "never", NULL };
static const char *const failover[] = { "manual", "auto", NULL };
static const char *const durability[] = { "available", "strict", NULL };
static const char *const fence[] = { "required", "best_effort", NULL };

#define MONITOR(field)	   offsetof(struct monitor_settings, field)
#define REPLICATION(field) offsetof(struct replication_settings, field)
#define SERVER(field)	   offsetof(struct server_settings, field)
#define WITNESS(field)	   offsetof(struct witness_settings, field)
#define PEER(field)	   offsetof(struct peer_settings, field)

enum { SECRET_MIN = 16, CLUSTER_NAME_MAX = 24, TANDEM_NAME_MAX = 63 };

static const struct setting monitor_rows[] = {
	{ "user", OTHER(text, MONITOR(user), NULL), SETTING_REQUIRED,
	  "Account that watches the servers." },
	{ "password", OTHER(secret, MONITOR(password), ""), 0, "Its password." },
	{ "interval", DURATION(MONITOR(interval_ms), "500ms", "10ms", "1min"), 0,
	  "Time between two looks at a server." },
	{ "connect_timeout", DURATION(MONITOR(connect_timeout_ms), "2s", "100ms", "1min"), 0,
	  "Time for the watching connection to be made." },
	{ "read_timeout", DURATION(MONITOR(read_timeout_ms), "1500ms", "100ms", "1min"), 0,
	  "A server silent for longer is down." },
	{ "failover", CHOICE(MONITOR(failover), "manual", failover), 0,
	  "Whether a dead primary is replaced by itself, or `tandemctl failover` is waited for." },
	{ "failover_patience", DURATION(MONITOR(failover_patience_ms), "5s", "500ms", "1h"), 0,
	  "How long a silent primary is waited for. Hard evidence does not wait." },
	{ "failover_holddown", DURATION(MONITOR(failover_holddown_ms), "10min", "0", "31d"), 0,
	  "Least time between two automatic failovers." },
	{ "durability", CHOICE(MONITOR(durability), "available", durability), 0,
	  "What happens to writes when no replica acknowledges: they go on, or they wait." },
	{ "degrade_after", DURATION(MONITOR(degrade_after_ms), "10s", "0", "1d"), 0,
	  "With durability = available: how long writes wait before they go on without a "
	  "replica." },
	{ "max_loss", COUNT(MONITOR(max_loss), "0", "0", "1000000000"), 0,
	  "Acknowledged transactions that an automatic failover may lose." },
	{ "fence_command", OTHER(text, MONITOR(fence_command), NULL), 0,
	  "Shell command run before a failover with the facts as JSON on its standard input: to make "
	  "sure that the old primary is gone." },
	{ "fence", CHOICE(MONITOR(fence), "required", fence), 0,
	  "Whether a failover goes on when fence_command fails." },
	{ "clone_command", OTHER(text, MONITOR(clone_command), NULL), 0,
	  "Shell command that makes a server anew as a copy of another one, for `tandemctl rejoin`." },
	{ "event_command", OTHER(text, MONITOR(event_command), NULL), 0,
	  "Shell command run for each event of the cluster, with the facts as JSON on its standard input." },
	{ "event_url", OTHER(text, MONITOR(event_url), NULL), 0,
	  "http:// address to which each event of the cluster is posted as JSON." },
	{ "hook_timeout", DURATION(MONITOR(hook_timeout_ms), "10s", "100ms", "1h"), 0,
	  "Time for one run of fence_command or event_command, or one post." },
	{ "lease", DURATION(MONITOR(lease_ms), "2s", "1s", "1min"), 0,
	  "With [peer] or [witness] sections: a Tandem that cannot renew its votes for so long sends no writes, and another one "
	  "may lead. The same at all Tandems of the cluster." },
	{ 0 },
};

static const struct setting replication_rows[] = {
	{ "user", OTHER(text, REPLICATION(user), NULL), 0,
	  "Account by which servers replicate from each other." },
	{ "password", OTHER(secret, REPLICATION(password), ""), 0, "Its password." },
	{ 0 },
};

static const struct setting server_rows[] = {
	{ "address", OTHER(address, SERVER(address), NULL), SETTING_REQUIRED,
	  "Where Tandem reaches the server; port 3306 when none is given." },
	{ "weight", COUNT(SERVER(weight), "1", "0", "1000"), 0,
	  "Share of the reads against other replicas; 0 is none." },
	{ "promote", CHOICE(SERVER(promote), "neutral", promote), 0,
	  "Whether the server should become primary." },
	{ "replication_address", OTHER(address, SERVER(replication_address), NULL), 0,
	  "Where other servers reach it. Default: address." },
	{ "max_connections", COUNT(SERVER(max_connections), "0", "0", "100000"), 0,
	  "Connections that Tandem opens at most; 0 is the server's own limit less a reserve." },
	{ "tls", CHOICE(SERVER(tls), "preferred", server_tls), 0,
	  "TLS to the server: never, when it offers it, always, always from a known CA, or that "
	  "and with its name." },
	{ "tls_ca", OTHER(file, SERVER(tls_ca), NULL), 0,
	  "PEM file with the CA certificates to trust. Default: the system's." },
	{ 0 },
};

static const struct setting witness_rows[] = {
	{ "address", OTHER(address, WITNESS(address), NULL), SETTING_REQUIRED,
	  "Where Tandem reaches it; port 3306 when none is given." },
	{ "user", OTHER(text, WITNESS(user), NULL), 0, "Account there; it needs no rights. Default: [monitor] user." },
	{ "password", OTHER(secret, WITNESS(password), NULL), 0, "Its password. Default: [monitor] password." },
	{ "tls", CHOICE(WITNESS(tls), "preferred", server_tls), 0, "TLS to it, as for a [server]." },
	{ "tls_ca", OTHER(file, WITNESS(tls_ca), NULL), 0,
	  "PEM file with the CA certificates to trust. Default: the system's." },
	{ 0 },
};

static const struct setting peer_rows[] = {
	{ "address", OTHER(address, PEER(address), NULL), SETTING_REQUIRED, "Its [tandem] peer_listen, as reached from here." },
	{ 0 },
};

static void *monitor_at(struct settings *settings, size_t index)
{
	(void)index;
	return &settings->monitor;
}

static void *replication_at(struct settings *settings, size_t index)
{
	(void)index;
	return &settings->replication;
}

static void *server_at(struct settings *settings, size_t index)
{
	return &settings->servers[index];
}

/* An array grows one element at a time: a file has few, and reading it is no hot path. */
static bool add_server(struct settings *settings, const char *name)
{
	struct server_settings *servers =
		realloc(settings->servers, (settings->server_count + 1) * sizeof(*servers));

	if (!servers)
		return false;
	settings->servers = servers;
	servers[settings->server_count] = (struct server_settings){ .name = strdup(name) };
	return servers[settings->server_count++].name != NULL;
}

static void *witness_at(struct settings *settings, size_t index)
{
	return &settings->witnesses[index];
}

static bool add_witness(struct settings *settings, const char *name)
{
	struct witness_settings *list = realloc(settings->witnesses, (settings->witness_count + 1) * sizeof(*list));

	if (!list)
		return false;
	settings->witnesses = list;
	list[settings->witness_count] = (struct witness_settings){ .name = strdup(name) };
	return list[settings->witness_count++].name != NULL;
}

static void *peer_at(struct settings *settings, size_t index)
{
	return &settings->peers[index];
}

static bool add_peer(struct settings *settings, const char *name)
{
	struct peer_settings *list = realloc(settings->peers, (settings->peer_count + 1) * sizeof(*list));

	if (!list)
		return false;
	settings->peers = list;
	list[settings->peer_count] = (struct peer_settings){ .name = strdup(name) };
	return list[settings->peer_count++].name != NULL;
}

/* Two names for one server would count its votes, its connections and its lag twice. */
static void check_address(struct config_load *load, const struct settings *settings, size_t index)
{
	const struct server_settings *server = &settings->servers[index];

	for (size_t i = 0; i < index; i++) {
		const struct server_settings *other = &settings->servers[i];

		if (server->address && other->address &&
		    strcmp(server->address, other->address) == 0)
			config_add_fault(load, "server", server->name, NULL,
					 "[server %s] has the address of [server %s]", server->name,
					 other->name);
	}
}

static void check_ca(struct config_load *load, const struct server_settings *server)
{
	if (server->tls_ca && server->tls != TLS_VERIFY_CA && server->tls != TLS_VERIFY_FULL)
		config_add_warning(load, "server", server->name, NULL,
				   "[server %s]: tls_ca is not used unless tls is verify_ca or "
				   "verify_full",
				   server->name);
}

/* What would be found out only when it is needed. */
static void check_monitor(struct config_load *load, const struct monitor_settings *monitor)
{
	if (monitor->event_url && strncmp(monitor->event_url, "http://", 7))
		config_add_fault(load, "monitor", NULL, "event_url",
				 "[monitor] event_url = %s: must begin with http://; for https use event_command "
				 "with a program such as curl",
				 monitor->event_url);
}

/* A witness at the address of a server would give that one two votes. */
static void check_witness(struct config_load *load, const struct settings *settings, size_t index)
{
	const struct witness_settings *w = &settings->witnesses[index];

	for (size_t i = 0; i < settings->server_count; i++)
		if (w->address && settings->servers[i].address && !strcmp(w->address, settings->servers[i].address))
			config_add_fault(load, "witness", w->name, NULL, "[witness %s] has the address of [server %s]: it would vote twice",
					 w->name, settings->servers[i].name);
	for (size_t i = 0; i < index; i++)
		if (w->address && settings->witnesses[i].address && !strcmp(w->address, settings->witnesses[i].address))
			config_add_fault(load, "witness", w->name, NULL, "[witness %s] has the address of [witness %s]: it would vote twice",
					 w->name, settings->witnesses[i].name);
}

static void check_peers(struct config_load *load, const struct settings *settings)
{
	const struct peer_settings *first = settings->peers;

	if (settings->name && strlen(settings->name) > TANDEM_NAME_MAX)
		config_add_fault(load, "tandem", NULL, "name", "[tandem] name: longer than %d characters", TANDEM_NAME_MAX);
	if (settings->cluster && strlen(settings->cluster) > CLUSTER_NAME_MAX)
		config_add_fault(load, "tandem", NULL, "cluster", "[tandem] cluster: longer than %d characters", CLUSTER_NAME_MAX);
	if (settings->cluster && strpbrk(settings->cluster, "'\\\""))
		config_add_fault(load, "tandem", NULL, "cluster", "[tandem] cluster: may have no quotes and backslashes");
	if (settings->peer_secret && strlen(settings->peer_secret) < SECRET_MIN)
		config_add_fault(load, "tandem", NULL, "peer_secret",
				 "[tandem] peer_secret: shorter than %d characters; `openssl rand -hex 32` makes a good one", SECRET_MIN);
	if (first && !settings->peer_secret)
		config_add_fault(load, "peer", first->name, NULL, "[peer %s] needs [tandem] peer_secret, the same at both", first->name);
	if (first && !settings->peer_listen)
		config_add_fault(load, "peer", first->name, NULL, "[peer %s] needs [tandem] peer_listen, where it reaches this Tandem",
				 first->name);
}

static void check(struct config_load *load, const struct settings *settings)
{
	if (!config_has_section(load, "server"))
		config_add_fault(load, "server", NULL, NULL,
				 "no [server NAME] section; at least one server is needed");
	check_monitor(load, &settings->monitor);
	for (size_t i = 0; i < settings->server_count; i++) {
		check_address(load, settings, i);
		check_ca(load, &settings->servers[i]);
	}
	for (size_t i = 0; i < settings->witness_count; i++)
		check_witness(load, settings, i);
	check_peers(load, settings);
}

static const struct section sections[] = {
	{ "monitor", SECTION_ONE, monitor_rows, monitor_at, NULL, "How servers are watched." },
	{ "replication", SECTION_ONE, replication_rows, replication_at, NULL,
	  "How servers replicate." },
	{ "server", SECTION_MANY, server_rows, server_at, add_server,
	  "A database server; at least one." },
	{ "witness", SECTION_MANY, witness_rows, witness_at, add_witness,
	  "A vote beside the servers' own, so that a majority is left when one is lost." },
	{ "peer", SECTION_MANY, peer_rows, peer_at, add_peer, "Another Tandem of the same cluster. Needs a restart." },
	{ 0 },
};

const struct setting_room setting_room_cluster = { sections, NULL, check };
