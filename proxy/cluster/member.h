/*
 * Inside the cluster watch: one configured server with its threads, and the state that monitors, coordinator and callers share. One
 * lock guards it all (`cluster.lock`); it is never held across a call to a server or to the listener.
 */
#ifndef TANDEM_CLUSTER_MEMBER_H
#define TANDEM_CLUSTER_MEMBER_H

#include <pthread.h>
#include <stdatomic.h>

#include "proxy/cluster/accounts.h"
#include "proxy/cluster/catalog.h"
#include "proxy/cluster/cluster.h"
#include "proxy/cluster/hook.h"
#include "proxy/cluster/lag.h"
#include "proxy/cluster/line.h"
#include "proxy/cluster/observation.h"
#include "proxy/cluster/variables.h"
#include "proxy/cluster/watcher.h"

enum {
	CLUSTER_RETRY_MS = 250,		   /* a server that is down is tried this often */
	CLUSTER_REFRESH_GAP_MS = 200,	   /* between two readings of the account tables */
	CLUSTER_VIEWS_MS = 30000,	   /* views, changed behind Tandem's back */
	CLUSTER_CHECK_MS = 5000,	   /* accounts and routines, changed behind Tandem's back */
	CLUSTER_VARIABLES_MS = 30000,	   /* what SET GLOBAL changed there */
	CLUSTER_TABLE_DEADLINE_MS = 10000, /* reading a whole table takes longer than a look */
	CONTROL_NAME = 96,		   /* what an operation calls itself */
};

/* Work for a monitor besides looking. */
#define TASK_ACCOUNTS	    1u
#define TASK_CATALOG	    2u /* read */
#define TASK_CATALOG_CHECK  4u /* read if its stamp differs */
#define TASK_ACCOUNTS_CHECK 8u /* read; nobody waits for it */
#define TASK_VARIABLES	    16u

struct member {
	struct cluster *cluster;
	struct server *server;
	struct member *next;
	pthread_t thread;
	int wake_fd;	       /* eventfd: stop, suspect, task */
	_Atomic bool suspect;  /* look at once */
	struct line line;      /* the monitor's */
	bool accounts_refused; /* the monitor's: already said */
	bool catalog_refused;
	uint64_t views_due_ms; /* the monitor's: when the views are read again, even if no routine has changed */
	size_t hidden_views;   /* the monitor's: how many it has complained of */
	struct watcher watcher;

	/* Under cluster.lock. */
	bool stop;
	bool finished; /* the thread is at its end and may be joined */
	struct settings *
		settings; /* with the entry this member lives by: settings->servers[settings_index] */
	size_t settings_index;
	enum server_health health;
	char trouble[300]; /* why it is down */
	bool has_seen;
	struct observation seen;
	uint64_t heard_ms; /* last answer */
	uint64_t look_started_ms; /* when the look began that brought `seen` */
	uint64_t lost_ms;  /* when it was declared down; 0 while it is not */
	uint64_t source_heard_ms; /* the look that last showed its receiver to have got something: clock_ms() */
	struct gtid_set received_before; /* the most it was seen to have received from the primary in force */
	uint64_t due_ms;   /* no answer by then: down by silence; 0 not waiting */
	unsigned tasks;
	struct variable_list *variables;
	bool was_limited; /* the last attempt met a full server */
	bool drained;	  /* by command: takes no reads */

	/* The coordinator's verdict, under cluster.lock. */
	enum server_role role;
	enum server_role last_role; /* last one that was not UNKNOWN */
	int source;
	bool takes_reads;
	bool lagging; /* as last judged while there was a primary */
	uint64_t epoch;
	bool logged_broken;
	bool is_unproven; /* see struct role_view */
	uint64_t unproven_ms;
	uint64_t failed_ms; /* when the last look began that brought nothing */
	bool came_back; /* restarted while it had the role, and not writable since */
	char *events; /* as events_remember() gave them when it was last read as the primary; NULL: never. Owned */
	bool had_waited; /* as a writable primary it waited for its replicas when last seen */
	bool link_told; /* what a failover would need of its link was looked at and told */
	bool is_astray; /* it belonged to the cluster at the last change of the primary, and was not seen to follow the new one */
	uint64_t rejoin_ms;    /* clock_ms(): no attempt to re-join it before */
	uint64_t judged_epoch; /* the `epoch` in which it was found to have transactions of its own; 0: not */
	bool armed; /* as the watcher was last told */
	const struct settings *armed_settings;
};

/* Something to be read from one server at somebody's request. Under cluster.lock but for `asked`. */
struct job {
	_Atomic uint64_t asked; /* grows with each request */
	uint64_t started;	/* the value of `asked` the reading under way will satisfy */
	uint64_t served;
	struct member *reader; /* NULL: none under way */
	uint64_t last_start_ms;
};

struct cluster {
	struct history *history;
	struct hooks *hooks;
	struct sentry *sentry;
	struct votes *votes;
	struct peers *peers;
	bool votes_told; /* that two servers are no majority; under the lock */
	_Atomic bool stopping; /* cluster_stop() was called */
	struct cluster_listener listener;
	void *owner;
	pthread_t thread;
	int wake_fd; /* eventfd of the coordinator */
	pthread_mutex_t lock;

	/* Under the lock. */
	bool stop;
	struct settings *settings;
	struct settings *next_settings;		     /* from cluster_reload(), not adopted yet */
	struct member *members[CLUSTER_MAX_SERVERS]; /* in the order of the settings */
	size_t member_count;
	struct member *leaving;	  /* told to stop, not joined */
	struct member *graveyard; /* joined; kept because callers may hold their server */
	struct lag_ring marks;
	struct account *accounts;
	size_t account_count;
	bool accounts_known;
	struct catalog *catalog;
	char catalog_stamp[CATALOG_STAMP_BYTES];
	bool changed; /* something a worker must hear of */
	struct job account_job;
	struct job catalog_job;
	uint64_t next_check_ms;
	uint64_t next_refresh_ms;
	_Atomic uint64_t variables_asked; /* tickets: the newest given out, */
	uint64_t variables_given;	  /* told to the members, */
	uint64_t variables_served;	  /* answered by the primary */
	/* control.c: */
	char operating[CONTROL_NAME]; /* the operation that has the grip, "" none: roles stay, settings are not adopted */
	pthread_cond_t idle;	      /* `operating` became "" */
	enum gate gate;
	uint64_t gate_number; /* the first snapshot with this gate; 0: not made yet */
	uint64_t fork_number;
	struct gtid_set fork;
	int gate_fd; /* eventfd: cluster_gate_moved() */
	/* vote.c: */
	bool has_lease;	   /* writes need one */
	uint32_t lease_id; /* server id of the primary for which it is good now; 0 none */
	_Atomic uint64_t writes_until_ms; /* see struct snapshot */
	uint32_t heard_id; /* of the primary, as whoever leads says; 0: nobody does, or this Tandem leads */
	uint32_t trusted_id; /* an operation has just made it the primary: good without votes until */
	uint64_t trusted_until_ms; /* clock_ms() */

	char stranger[600]; /* stranger.c: of another Tandem that is no peer; "" none was seen */

	/* The sentry's own. */
	bool stranger_looked;
	uint64_t stranger_epoch; /* of the row as last looked at */

	/* The coordinator's own. */
	pthread_t recovery; /* operation_recover() */
	bool recovery_tried, recovery_started;
	_Atomic bool recovery_over; /* its thread has nothing left to do */
	unsigned recovery_term;	    /* votes_terms() at which it began */
	uint64_t number;
	int primary;
	int root;
	/* What state_dir says of the last operation that was done: its epoch (0: nothing), and who is the primary since. */
	uint64_t remembered_epoch;
	char remembered[64];
	const struct member *last_primary; /* the last one there was; only compared */
	char primary_why[512];
};

/* monitor.c */
bool member_start(struct member *member) __attribute__((warn_unused_result));
/* Asks the threads to end. Locked. */
void member_tell_to_stop(struct member *member);
/* Joins the monitor; the watcher too. Unlocked. */
void member_join(struct member *member);
void member_wake(struct member *member);
/* Declares it down. Locked. */
void member_set_down(struct member *member, const char *why);

/* publish.c: the snapshot of this moment. Locked. NULL when memory ran out. */
struct snapshot *cluster_make_snapshot(struct cluster *cluster);
/* How many connections Tandem makes to it at the most. Locked. */
unsigned member_connection_limit(const struct member *member);

/* judge.c: roles, lag and who takes reads, from what the monitors brought. Locked; sets cluster->changed. */
void cluster_judge(struct cluster *cluster);

/* publish.c: the newest epoch that a server or state_dir tells of; 0 none. Locked. */
uint64_t cluster_epoch(const struct cluster *cluster);

/* judge.c: gives `primary` the role by decree; every other replica follows it. Locked; sets cluster->changed. */
void cluster_enthrone(struct cluster *cluster, struct member *primary);

/* cluster.c */
void cluster_wake(struct cluster *cluster);

#endif
