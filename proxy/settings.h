/*
 * The settings that the proxy and its cluster watch live by. Filled by daemon/config.c from the settings file; immutable once
 * published. Times in milliseconds.
 */
#ifndef TANDEM_PROXY_SETTINGS_H
#define TANDEM_PROXY_SETTINGS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/tls.h"

enum read_your_writes { RYW_OFF, RYW_SESSION, RYW_ACCOUNT, RYW_GLOBAL };
enum promote_preference { PROMOTE_NEUTRAL, PROMOTE_PREFER, PROMOTE_NEVER };
enum failover_mode { FAILOVER_MANUAL, FAILOVER_AUTO };
enum durability { DURABILITY_AVAILABLE, DURABILITY_STRICT };
enum fence_need { FENCE_REQUIRED, FENCE_BEST_EFFORT };

struct server_settings {
	char *name;
	char *address; /* host:port or unix:/path */
	unsigned weight;
	enum promote_preference promote;
	char *replication_address; /* NULL: same as address */
	unsigned max_connections;  /* 0: the server's own less a reserve */
	enum tls_mode tls;
	char *tls_ca; /* NULL: system */
};

/* A third vote beside the servers: anything that speaks GET_LOCK. Its account is the monitor's unless it has its own. */
struct witness_settings {
	char *name;
	char *address;
	char *user;	/* NULL: the monitor's */
	char *password; /* NULL: the monitor's; wiped when freed */
	enum tls_mode tls;
	char *tls_ca;
};

/* Another Tandem of the same cluster. */
struct peer_settings {
	char *name;    /* as its own [tandem] name says */
	char *address; /* its peer_listen */
};

struct user_settings {
	char *name;
	char *password; /* may be ""; wiped when freed */
};

struct rule_target {
	enum rule_kind { RULE_NONE, RULE_PRIMARY, RULE_REPLICA, RULE_SERVER } kind;
	char *server; /* its name; NULL but for RULE_SERVER */
};

/* What is NULL or 0 is no condition. */
struct rule_settings {
	char *name;
	char *why; /* "the rule NAME" */
	struct pattern *text;
	uint64_t digest;
	char *user;
	char *schema;
	struct rule_target to;
};

struct proxy_settings {
	char **listen; /* host:port, [v6]:port or unix:/path */
	size_t listen_count;
	enum read_your_writes read_your_writes;
	uint32_t causal_wait_ms;  /* 20 */
	uint32_t primary_wait_ms; /* 10000: how long a write waits for a primary */
	uint32_t connect_timeout_ms; /* 3000: to a backend, login included */
	uint32_t pool_wait_ms;	  /* 10000: how long a statement waits for a connection at the limit */
	uint32_t login_timeout_ms; /* 10000: a client must have logged in by then */
	uint32_t wait_timeout_ms; /* 28800000: idle clients are closed; 0 never */
	uint32_t max_lag_ms;	  /* 10000: replicas further behind take no reads; 0 no limit */
	uint32_t backend_idle_ms; /* 600000: unused pooled connections are closed */
	unsigned transaction_replay; /* 0 off, 1 on */
	uint32_t transaction_replay_size; /* 1048576: bytes of a transaction that are kept so that it can be run again */
	uint32_t max_clients;	  /* 0: what the file limit allows */
	uint32_t worker_load;	  /* percent of a core that a worker uses before the next gets sessions; 0: they are spread evenly */
	enum tls_mode tls;	  /* to clients: off, preferred, required */
	char *tls_certificate;	  /* NULL: self-made in state_dir */
	char *tls_key;
	char *server_version; /* NULL: the primary's own */
	struct address_list proxy_protocol_from; /* their connections begin with a PROXY header */
};

struct monitor_settings {
	char *user;
	char *password;
	uint32_t interval_ms;	      /* 500 */
	uint32_t connect_timeout_ms;  /* 2000 */
	uint32_t read_timeout_ms;     /* 1500: silence longer than this on a probe makes a server down */
	uint32_t failover_patience_ms; /* 5000: for silence; hard evidence does not wait */
	enum failover_mode failover;
	uint32_t failover_holddown_ms; /* 600000: between two automatic failovers */
	enum durability durability;
	uint32_t degrade_after_ms; /* 10000 */
	unsigned max_loss;	   /* 0: acknowledged transactions an automatic failover may lose */
	char *fence_command;	   /* NULL: none. Run before a failover; its failure stops that when required */
	enum fence_need fence;
	char *clone_command;   /* NULL: none. Makes a server anew from another one */
	char *event_command;   /* NULL: none */
	char *event_url;       /* NULL: none. http:// only */
	uint32_t hook_timeout_ms; /* 10000: for each run of a fence or event hook */
	uint32_t lease_ms; /* 2000: a vote that is not renewed for so long is void */
};

struct replication_settings {
	char *user;
	char *password;
};

/* What a room above the proxy lives by: carried along, so that a reload is one switch, and never looked into here. */
struct settings_guest {
	void *data;
	void (*free)(void *data); /* by the last settings_unref() */
};

enum settings_guest_index { SETTINGS_ADMIN, SETTINGS_WEB, SETTINGS_APP, SETTINGS_GUESTS };

struct settings {
	_Atomic unsigned others; /* references besides the first one, so that zeroed memory is a valid new object */
	unsigned threads; /* workers; 0 one per core */
	char *state_dir;
	int log_format; /* enum log_format */
	int log_level;	/* enum log_level */
	char *name;	   /* this Tandem, as its peers call it; NULL: the host's name */
	char *cluster;	   /* in the names of votes, so that clusters may share a witness */
	char *peer_listen; /* NULL: no peer can connect */
	char *peer_secret; /* shared by all peers; NULL: none. Wiped when freed */
	struct proxy_settings proxy;
	struct monitor_settings monitor;
	struct replication_settings replication;
	struct server_settings *servers;
	size_t server_count;
	struct witness_settings *witnesses;
	size_t witness_count;
	struct peer_settings *peers;
	size_t peer_count;
	struct user_settings *users;
	size_t user_count;
	struct rule_settings *rules; /* in the order of the file */
	size_t rule_count;
	struct settings_guest guests[SETTINGS_GUESTS];
};

/* Reference-counted: workers, monitors and snapshots hold it while they use it. */
struct settings *settings_ref(struct settings *settings);
/* The last one wipes the passwords and frees everything. NULL is allowed. */
void settings_unref(struct settings *settings);

#endif
