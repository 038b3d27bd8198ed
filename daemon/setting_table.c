#include "daemon/setting.h"

#include <stdlib.h>
#include <string.h>

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "error", "warning", "info", "debug", NULL };
static const char *const own_writes[] = { "off", "session", "account", "global", NULL };
static const char *const client_tls[] = { "off", "preferred", "required", NULL };
static const char *const server_tls[] = { "off",       "preferred",   "required",
					  "verify_ca", "verify_full", NULL };
static const char *const promote[] = { "neutral", "prefer", "never", NULL };
static const char *const failover[] = { "manual", "auto", NULL };
static const char *const durability[] = { "available", "strict", NULL };

/* Rows in the order of the manual. */
#define TANDEM(field)	   offsetof(struct settings, field)
#define PROXY(field)	   offsetof(struct proxy_settings, field)
#define MONITOR(field)	   offsetof(struct monitor_settings, field)
#define REPLICATION(field) offsetof(struct replication_settings, field)
#define SERVER(field)	   offsetof(struct server_settings, field)
#define USER(field)	   offsetof(struct user_settings, field)

#define COUNT(place, fallback, min, max)    &setting_count, place, fallback, min, max, NULL
#define DURATION(place, fallback, min, max) &setting_duration, place, fallback, min, max, NULL
#define CHOICE(place, fallback, choices)    &setting_choice, place, fallback, NULL, NULL, choices
#define OTHER(type, place, fallback)	    &setting_##type, place, fallback, NULL, NULL, NULL

const struct setting setting_rows[] = {
	{ "tandem", "threads", COUNT(TANDEM(threads), "0", "0", "1024"), SETTING_RESTART,
	  "Worker threads; 0 is one per core." },
	{ "tandem", "state_dir", OTHER(text, TANDEM(state_dir), "/var/lib/tandem"), SETTING_RESTART,
	  "Directory for what must outlive a restart, such as the self-made certificate. Made when "
	  "missing." },
	{ "tandem", "log_format", CHOICE(TANDEM(log_format), "text", log_formats), 0,
	  "Form of the log lines on standard error." },
	{ "tandem", "log_level", CHOICE(TANDEM(log_level), "info", log_levels), 0,
	  "The least important lines that are still written." },

	{ "proxy", "listen", OTHER(listen, PROXY(listen), "127.0.0.1:3307"), SETTING_RESTART,
	  "Where MySQL clients connect. May be given several times." },
	{ "proxy", "read_your_writes", CHOICE(PROXY(read_your_writes), "account", own_writes), 0,
	  "Whose acknowledged writes a read is sure to see: nobody's, those of its own session, of "
	  "all sessions of "
	  "its account, or everybody's." },
	{ "proxy", "causal_wait", DURATION(PROXY(causal_wait_ms), "20ms", "0", "1min"), 0,
	  "How long a read waits for a replica to catch up before it goes to the primary." },
	{ "proxy", "primary_wait", DURATION(PROXY(primary_wait_ms), "10s", "0", "1h"), 0,
	  "How long a write waits for a primary before it fails." },
	{ "proxy", "connect_timeout", DURATION(PROXY(connect_timeout_ms), "3s", "10ms", "1min"), 0,
	  "Time to connect and log in to a server." },
	{ "proxy", "pool_wait", DURATION(PROXY(pool_wait_ms), "10s", "0", "1h"), 0,
	  "How long a statement waits for a connection when a server is at its limit." },
	{ "proxy", "login_timeout", DURATION(PROXY(login_timeout_ms), "10s", "100ms", "10min"), 0,
	  "A client that has not logged in by then is closed." },
	{ "proxy", "wait_timeout", DURATION(PROXY(wait_timeout_ms), "8h", "0", "31d"), 0,
	  "A client idle for this long is closed; 0 never." },
	{ "proxy", "max_lag", DURATION(PROXY(max_lag_ms), "10s", "0", "1d"), 0,
	  "A replica further behind takes no reads; 0 is no limit." },
	{ "proxy", "backend_idle_timeout", DURATION(PROXY(backend_idle_ms), "10min", "1s", "1d"), 0,
	  "A pooled connection unused for this long is closed." },
	{ "proxy", "max_clients", COUNT(PROXY(max_clients), "0", "0", "1000000"), 0,
	  "Clients at a time; 0 is what the limit on open files allows." },
	{ "proxy", "tls", CHOICE(PROXY(tls), "preferred", client_tls), SETTING_RESTART,
	  "TLS to clients: not offered, offered, or a must." },
	{ "proxy", "tls_certificate", OTHER(file, PROXY(tls_certificate), NULL), SETTING_RESTART,
	  "PEM file with the certificate and its chain. Default: self-made in state_dir." },
	{ "proxy", "tls_key", OTHER(file, PROXY(tls_key), NULL), SETTING_RESTART,
	  "PEM file with the key. Default: it is in the file of tls_certificate." },
	{ "proxy", "server_version", OTHER(text, PROXY(server_version), NULL), 0,
	  "Version told to clients. Default: the primary's own." },

	{ "monitor", "user", OTHER(text, MONITOR(user), NULL), SETTING_REQUIRED,
	  "Account that watches the servers." },
	{ "monitor", "password", OTHER(secret, MONITOR(password), ""), 0, "Its password." },
	{ "monitor", "interval", DURATION(MONITOR(interval_ms), "500ms", "10ms", "1min"), 0,
	  "Time between two looks at a server." },
	{ "monitor", "connect_timeout",
	  DURATION(MONITOR(connect_timeout_ms), "2s", "100ms", "1min"), 0,
	  "Time for the watching connection to be made." },
	{ "monitor", "read_timeout", DURATION(MONITOR(read_timeout_ms), "1500ms", "100ms", "1min"),
	  0, "A server silent for longer is down." },
	{ "monitor", "failover", CHOICE(0, "manual", failover), SETTING_LATER,
	  "Whether a dead primary is replaced by itself." },
	{ "monitor", "failover_patience",
	  DURATION(MONITOR(failover_patience_ms), "5s", "500ms", "1h"), 0,
	  "How long a silent primary is waited for. Hard evidence does not wait." },
	{ "monitor", "failover_holddown", DURATION(0, "10min", "0", "31d"), SETTING_LATER,
	  "Least time between two automatic failovers." },
	{ "monitor", "durability", CHOICE(0, "available", durability), SETTING_LATER,
	  "What happens to writes when no replica acknowledges: they go on, or they wait." },
	{ "monitor", "degrade_after", DURATION(0, "10s", "0", "1d"), SETTING_LATER,
	  "With durability = available: how long writes wait before they go on without a "
	  "replica." },
	{ "monitor", "max_loss", COUNT(0, "0", "0", "1000000000"), SETTING_LATER,
	  "Acknowledged transactions that an automatic failover may lose." },

	{ "replication", "user", OTHER(text, REPLICATION(user), NULL), 0,
	  "Account by which servers replicate from each other." },
	{ "replication", "password", OTHER(secret, REPLICATION(password), ""), 0, "Its password." },

	{ "server", "address", OTHER(address, SERVER(address), NULL), SETTING_REQUIRED,
	  "Where Tandem reaches the server; port 3306 when none is given." },
	{ "server", "weight", COUNT(SERVER(weight), "1", "0", "1000"), 0,
	  "Share of the reads against other replicas; 0 is none." },
	{ "server", "promote", CHOICE(SERVER(promote), "neutral", promote), 0,
	  "Whether the server should become primary." },
	{ "server", "replication_address", OTHER(address, SERVER(replication_address), NULL), 0,
	  "Where other servers reach it. Default: address." },
	{ "server", "max_connections", COUNT(SERVER(max_connections), "0", "0", "100000"), 0,
	  "Connections that Tandem opens at most; 0 is the server's own limit less a reserve." },
	{ "server", "tls", CHOICE(SERVER(tls), "preferred", server_tls), 0,
	  "TLS to the server: never, when it offers it, always, always from a known CA, or that "
	  "and with its name." },
	{ "server", "tls_ca", OTHER(file, SERVER(tls_ca), NULL), 0,
	  "PEM file with the CA certificates to trust. Default: the system's." },

	{ "user", "password", OTHER(secret, USER(password), NULL), SETTING_REQUIRED,
	  "The account's password; may be empty." },
	{ 0 },
};

_Static_assert(sizeof(setting_rows) / sizeof(setting_rows[0]) <= SETTING_ROWS_MAX,
	       "too many settings");
_Static_assert(sizeof(int) == sizeof(uint32_t) && sizeof(enum tls_mode) == sizeof(uint32_t),
	       "numbers and choices are stored as 32 bits");
_Static_assert(offsetof(struct proxy_settings, listen_count) ==
		       offsetof(struct proxy_settings, listen) + sizeof(char **),
	       "a list's count follows it");

static void *tandem_at(struct settings *settings, size_t index)
{
	(void)index;
	return settings;
}

static void *proxy_at(struct settings *settings, size_t index)
{
	(void)index;
	return &settings->proxy;
}

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

static void *user_at(struct settings *settings, size_t index)
{
	return &settings->users[index];
}

/* Arrays grow one element at a time: a file has few, and reading it is no hot path. */
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

static bool add_user(struct settings *settings, const char *name)
{
	struct user_settings *users =
		realloc(settings->users, (settings->user_count + 1) * sizeof(*users));

	if (!users)
		return false;
	settings->users = users;
	users[settings->user_count] = (struct user_settings){ .name = strdup(name) };
	return users[settings->user_count++].name != NULL;
}

const struct section setting_sections[] = {
	{ "tandem", SECTION_ONE, tandem_at, NULL, "The process." },
	{ "proxy", SECTION_ONE, proxy_at, NULL, "The MySQL port and how statements are spread." },
	{ "monitor", SECTION_ONE, monitor_at, NULL, "How servers are watched." },
	{ "replication", SECTION_ONE, replication_at, NULL, "How servers replicate." },
	{ "server", SECTION_MANY, server_at, add_server, "A database server; at least one." },
	{ "user", SECTION_MANY, user_at, add_user,
	  "An account whose password Tandem knows. Others are learned from the primary." },
	{ "witness", SECTION_LATER, NULL, NULL, NULL },
	{ "peer", SECTION_LATER, NULL, NULL, NULL },
	{ "admin", SECTION_LATER, NULL, NULL, NULL },
	{ "web", SECTION_LATER, NULL, NULL, NULL },
	{ "site", SECTION_LATER, NULL, NULL, NULL },
	{ "route", SECTION_LATER, NULL, NULL, NULL },
	{ "upstream", SECTION_LATER, NULL, NULL, NULL },
	{ "rule", SECTION_LATER, NULL, NULL, NULL },
	{ 0 },
};

const struct section *section_find(const char *name)
{
	for (const struct section *section = setting_sections; section->name; section++)
		if (strcmp(section->name, name) == 0)
			return section;
	return NULL;
}

const struct setting *setting_find(const char *section, const char *name)
{
	for (const struct setting *row = setting_rows; row->name; row++)
		if (strcmp(row->section, section) == 0 && strcmp(row->name, name) == 0)
			return row;
	return NULL;
}

/* --- names that were meant --- */

static unsigned smallest(unsigned a, unsigned b, unsigned c)
{
	unsigned least = a < b ? a : b;

	return least < c ? least : c;
}

/* Letters to insert, drop or change to get from one to the other; too long ones are just far. */
static unsigned distance(const char *from, const char *to)
{
	unsigned row[40];
	size_t from_len = strlen(from), to_len = strlen(to);

	if (from_len >= 40 || to_len >= 40)
		return 40;
	for (unsigned i = 0; i <= to_len; i++)
		row[i] = i;
	for (unsigned i = 1; i <= from_len; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= to_len; j++) {
			unsigned change = diagonal + (from[i - 1] != to[j - 1]);

			diagonal = row[j];
			row[j] = smallest(change, row[j] + 1, row[j - 1] + 1);
		}
	}
	return row[to_len];
}

struct nearest {
	const char *name;
	unsigned distance;
};

/* A third of the letters may differ, or one is the beginning of the other. */
static void consider(struct nearest *best, const char *candidate, const char *name)
{
	size_t len = strlen(name);
	unsigned far = distance(name, candidate);

	if (len >= 3 && strncmp(candidate, name, len) == 0)
		far = 1;
	if (far <= 1 + len / 4 && far < best->distance)
		*best = (struct nearest){ candidate, far };
}

const char *setting_nearest(const char *section, const char *name)
{
	struct nearest best = { NULL, 40 };

	for (const struct setting *row = setting_rows; row->name; row++)
		if (strcmp(row->section, section) == 0)
			consider(&best, row->name, name);
	return best.name;
}

const char *section_nearest(const char *name)
{
	struct nearest best = { NULL, 40 };

	for (const struct section *section = setting_sections; section->name; section++)
		consider(&best, section->name, name);
	return best.name;
}
