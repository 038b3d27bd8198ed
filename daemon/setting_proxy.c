/* The settings of the process and of the MySQL port. */
#include "daemon/setting_row.h"

#include <stdlib.h>
#include <string.h>

static const char *const log_formats[] = { "text", "json", NULL };
static const char *const log_levels[] = { "error", "warning", "info", "debug", NULL };
static const char *const own_writes[] = { "off", "session", "account", "global", NULL };
static const char *const off_on[] = { "off", "on", NULL };
static const char *const client_tls[] = { "off", "preferred", "required", NULL };

#define TANDEM(field) offsetof(struct settings, field)
#define PROXY(field)  offsetof(struct proxy_settings, field)
#define USER(field)   offsetof(struct user_settings, field)

static const struct setting tandem_rows[] = {
	{ "threads", COUNT(TANDEM(threads), "0", "0", "1024"), SETTING_RESTART,
	  "Worker threads; 0 is one per core." },
	{ "state_dir", OTHER(text, TANDEM(state_dir), "/var/lib/tandem"), SETTING_RESTART,
	  "Directory for what must outlive a restart, such as the self-made certificate. Made when "
	  "missing." },
	{ "log_format", CHOICE(TANDEM(log_format), "text", log_formats), 0,
	  "Form of the log lines on standard error." },
	{ "log_level", CHOICE(TANDEM(log_level), "info", log_levels), 0,
	  "The least important lines that are still written." },
	{ "name", OTHER(text, TANDEM(name), NULL), SETTING_RESTART,
	  "What the other Tandems of the cluster call this one in their [peer NAME]. Default: the host's name." },
	{ "cluster", OTHER(text, TANDEM(cluster), "main"), SETTING_RESTART,
	  "The cluster's name, the same at all its Tandems: clusters that share a [witness] need different ones." },
	{ "peer_listen", OTHER(address, TANDEM(peer_listen), NULL), SETTING_RESTART,
	  "Where the other Tandems of the cluster reach this one." },
	{ "peer_secret", OTHER(secret, TANDEM(peer_secret), NULL), SETTING_RESTART,
	  "The same at all Tandems of the cluster: by it they know each other. At least 16 characters." },
	{ 0 },
};

static const struct setting proxy_rows[] = {
	{ "listen", OTHER(listen, PROXY(listen), "127.0.0.1:3307"), SETTING_RESTART,
	  "Where MySQL clients connect. May be given several times." },
	{ "read_your_writes", CHOICE(PROXY(read_your_writes), "account", own_writes), 0,
	  "Whose acknowledged writes a read is sure to see: nobody's, those of its own session, of "
	  "all sessions of "
	  "its account, or everybody's." },
	{ "causal_wait", DURATION(PROXY(causal_wait_ms), "20ms", "0", "1min"), 0,
	  "How long a read waits for a replica to catch up before it goes to the primary." },
	{ "primary_wait", DURATION(PROXY(primary_wait_ms), "10s", "0", "1h"), 0,
	  "How long a write waits for a primary before it fails. A read that might be older than what its session has seen waits as long, and then "
	  "goes to a replica." },
	{ "connect_timeout", DURATION(PROXY(connect_timeout_ms), "3s", "10ms", "1min"), 0,
	  "Time to connect and log in to a server." },
	{ "pool_wait", DURATION(PROXY(pool_wait_ms), "10s", "0", "1h"), 0,
	  "How long a statement waits for a connection when a server is at its limit." },
	{ "login_timeout", DURATION(PROXY(login_timeout_ms), "10s", "100ms", "10min"), 0,
	  "A client that has not logged in by then is closed." },
	{ "wait_timeout", DURATION(PROXY(wait_timeout_ms), "8h", "0", "31d"), 0,
	  "A client idle for this long is closed; 0 never." },
	{ "max_lag", DURATION(PROXY(max_lag_ms), "10s", "0", "1d"), 0,
	  "A replica further behind takes no reads; 0 is no limit." },
	{ "backend_idle_timeout", DURATION(PROXY(backend_idle_ms), "10min", "1s", "1d"), 0,
	  "A pooled connection unused for this long is closed." },
	{ "transaction_replay", CHOICE(PROXY(transaction_replay), "on", off_on), 0,
	  "Whether an open transaction whose primary was lost is run again on the next one. It goes on only if "
	  "every result is the same; else it ends with error 1213." },
	{ "transaction_replay_size", COUNT(PROXY(transaction_replay_size), "1048576", "1024", "1073741824"), 0,
	  "Bytes of statements that are kept of an open transaction for that; a longer one is not run again." },
	{ "max_clients", COUNT(PROXY(max_clients), "0", "0", "1000000"), 0,
	  "Clients at a time; 0 is what the limit on open files allows." },
	{ "worker_load", COUNT(PROXY(worker_load), "75", "0", "100"), 0,
	  "Percent of a core that one of the [tandem] threads may use before another gets some of its sessions: few that have much to do "
	  "cost less than many that have little. 0 spreads sessions evenly by their number and leaves them where they are." },
	{ "tls", CHOICE(PROXY(tls), "preferred", client_tls), SETTING_RESTART,
	  "TLS to clients: not offered, offered, or a must." },
	{ "tls_certificate", OTHER(file, PROXY(tls_certificate), NULL), SETTING_RESTART,
	  "PEM file with the certificate and its chain. Default: self-made in state_dir." },
	{ "tls_key", OTHER(file, PROXY(tls_key), NULL), SETTING_RESTART,
	  "PEM file with the key. Default: it is in the file of tls_certificate." },
	{ "proxy_protocol_from", OTHER(ranges, PROXY(proxy_protocol_from), NULL), 0,
	  "Load balancers that begin each connection with a PROXY header (version 1 or 2), which tells the client's address: accounts are matched "
	  "with it. From these it must come. May be given several times." },
	{ "server_version", OTHER(text, PROXY(server_version), NULL), 0,
	  "Version told to clients. Default: the primary's own." },
	{ 0 },
};

static const struct setting user_rows[] = {
	{ "password", OTHER(secret, USER(password), NULL), SETTING_REQUIRED,
	  "The account's password; may be empty." },
	{ 0 },
};

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

static void *user_at(struct settings *settings, size_t index)
{
	return &settings->users[index];
}

/* An array grows one element at a time: a file has few, and reading it is no hot path. */
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

static void check(struct config_load *load, const struct settings *settings)
{
	if (settings->proxy.tls_key && !settings->proxy.tls_certificate)
		config_add_fault(load, "proxy", NULL, "tls_key",
				 "[proxy] tls_key: tls_certificate is missing");
}

static const struct section sections[] = {
	{ "tandem", SECTION_ONE, tandem_rows, tandem_at, NULL, "The process." },
	{ "proxy", SECTION_ONE, proxy_rows, proxy_at, NULL,
	  "The MySQL port and how statements are spread." },
	{ "user", SECTION_MANY, user_rows, user_at, add_user,
	  "An account whose password Tandem knows. Others are learned from the primary." },
	{ 0 },
};

const struct setting_room setting_room_proxy = { sections, NULL, check };
