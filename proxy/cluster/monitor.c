/* One server's monitor: connect, look, publish, and read its tables when told to. */
#include "proxy/cluster/member.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/events.h"
#include "proxy/cluster/flavour.h"

enum {
	LOOK_ATTEMPTS = 8,	 /* lines lost within one look, after a login that went well */
	LOOK_PAUSE_MS = 5,	 /* longer by as much with each: 140 ms altogether */
	LOOK_GAP_MS = 20,	 /* a storm of suspicions does not become a storm of looks */
	RESTART_SLACK_MS = 2000, /* boot times are told in whole seconds */
};

/* One turn's own copy of what it needs of the shared state. */
struct turn {
	struct settings *settings;
	const struct server_settings *own;
	unsigned tasks;
	bool stop;
};

static void begin_turn(struct member *m, struct turn *turn)
{
	pthread_mutex_lock(&m->cluster->lock);
	turn->settings = settings_ref(m->settings);
	turn->own = &turn->settings->servers[m->settings_index];
	turn->stop = m->stop;
	turn->tasks = m->tasks;
	pthread_mutex_unlock(&m->cluster->lock);
}

static void drain_event(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

void member_wake(struct member *member)
{
	uint64_t one = 1;

	while (write(member->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Sleeps until `until_ms`, a wake-up, or the line's end: a server that dies closes it, and that is seen here within a millisecond
 * and not at the next look. */
static void sleep_until(struct member *m, uint64_t until_ms)
{
	uint64_t now = clock_ms();
	struct pollfd fds[2] = { { .fd = m->wake_fd, .events = POLLIN },
				 { .fd = -1, .events = POLLIN } };
	int timeout = until_ms > now ? (int)(until_ms - now) : 0;

	if (m->line.mysql)
		fds[1].fd = (int)mysql_get_socket(m->line.mysql);
	if (poll(fds, 2, timeout) > 0 && fds[0].revents)
		drain_event(m->wake_fd);
}

/* How long the server may be silent from now on. Half a time-out is the least a look gets, and counted from the last answer the
 * whole of it is the most, so that a stopped server is noticed within one read_timeout and not interval + read_timeout. */
static uint64_t next_due(const struct member *m, uint64_t now)
{
	const struct monitor_settings *s = &m->settings->monitor;
	uint64_t look = (uint64_t)s->interval_ms + s->read_timeout_ms / 2;

	return now + (look > s->read_timeout_ms ? look : s->read_timeout_ms);
}

static const char *health_word(const struct member *m)
{
	return m->health == HEALTH_UNKNOWN ? "first seen" : "back";
}

static void set_up(struct member *m)
{
	if (m->health == HEALTH_UP)
		return;
	history_note(m->cluster->history, "up", m->server->name, "up (%s), %s, server id %u", health_word(m), m->seen.version_text,
		     m->seen.server_id);
	m->health = HEALTH_UP;
	m->lost_ms = 0;
	m->trouble[0] = '\0';
	m->cluster->changed = true;
}

void member_set_down(struct member *member, const char *why)
{
	member->due_ms = 0;
	if (member->health == HEALTH_DOWN)
		return;
	history_note(member->cluster->history, "down", member->server->name, "down: %s", why);
	snprintf(member->trouble, sizeof(member->trouble), "%s", why);
	member->health = HEALTH_DOWN;
	member->lost_ms = clock_ms();
	member->cluster->changed = true;
}

static bool was_restarted(const struct member *m, const struct observation *now)
{
	if (!m->has_seen || now->greeting == m->seen.greeting)
		return false;
	/* Connection numbers begin anew with the server, and it booted later: both only say so for sure when a restart was not quick. */
	return now->incarnation != m->seen.incarnation || now->connection_id <= m->seen.connection_id ||
	       now->booted_ms > m->seen.booted_ms + RESTART_SLACK_MS;
}

/* The position only grows, but for a restart, a re-clone or RESET MASTER. `before` was on the board before the look began. */
static void take_position(struct member *m, const struct observation *now,
			  const struct gtid_set *before, bool restarted)
{
	if (restarted || !gtid_covers(&now->position, before)) {
		if (!restarted)
			log_warning(NULL, "server %s: its GTID position went back",
				    m->server->name);
		gtid_board_reset(&m->server->applied, &now->position);
	} else {
		gtid_board_raise(&m->server->applied, &now->position);
	}
}

/* The address traffic uses is the one this line was opened to: no second look-up can differ from it. Written once, before the first
 * snapshot that says up. */
static void take_address(struct member *m)
{
	struct server *server = m->server;
	socklen_t len = sizeof(server->address);

	if (server->address_len)
		return;
	if (getpeername((int)mysql_get_socket(m->line.mysql), (struct sockaddr *)&server->address,
			&len) == 0)
		server->address_len = len;
}

static bool differs_publicly(const struct observation *a, const struct observation *b)
{
	return a->version != b->version || a->capabilities != b->capabilities ||
	       a->max_connections != b->max_connections ||
	       a->skip_name_resolve != b->skip_name_resolve || strcmp(a->own_name, b->own_name) ||
	       strcmp(a->own_ip, b->own_ip);
}

static bool is_same_position(const struct gtid_set *a, const struct gtid_set *b)
{
	return gtid_covers(a, b) && gtid_covers(b, a);
}

/* The receiver of a link heard its source since the look before: a heartbeat came, or a transaction. */
static bool has_heard(const struct observation *before, const struct observation *now)
{
	for (unsigned i = 0; i < now->link_count; i++) {
		const struct link_view *was = &before->links[i], *is = &now->links[i];

		if (i >= before->link_count || was->heartbeats != is->heartbeats || was->io != is->io ||
		    !is_same_position(&was->io_position, &is->io_position))
			return is->io == THREAD_RUNNING;
	}
	return false;
}

/* What the judge of a failover wants to know of a replica. Locked, before m->seen is replaced. */
static void take_links(struct member *m, const struct observation *now)
{
	if (!m->has_seen || has_heard(&m->seen, now))
		m->source_heard_ms = clock_ms();
	for (unsigned i = 0; i < now->link_count; i++)
		gtid_merge(&m->received_before, &now->links[i].io_position);
}

/* A primary that restarts is read-only if its settings are as they should be: that it had the role, and how, must not be forgotten. */
static void take_return(struct member *m, const struct observation *now, bool restarted)
{
	const struct cluster *c = m->cluster;

	if (!now->read_only)
		m->came_back = false;
	else if (restarted && c->root >= 0 && c->members[c->root] == m)
		m->came_back = true;
	if (!now->read_only && c->primary >= 0 && c->members[c->primary] == m)
		m->had_waited = now->semi_sync != SEMI_SYNC_OFF;
}

static void publish_seen(struct member *m, const struct observation *now,
			 const struct gtid_set *before, uint64_t started)
{
	bool restarted;

	pthread_mutex_lock(&m->cluster->lock);
	restarted = was_restarted(m, now);
	if (restarted) {
		log_info(NULL, "server %s: was restarted", m->server->name);
		m->epoch++;
		m->is_unproven = true;
		m->cluster->changed = true;
	}
	if (restarted || !m->has_seen)
		m->unproven_ms = started;
	if (!m->has_seen || differs_publicly(&m->seen, now))
		m->cluster->changed = true;
	take_position(m, now, before, restarted);
	take_address(m);
	take_links(m, now);
	take_return(m, now, restarted);
	m->seen = *now;
	m->has_seen = true;
	m->look_started_ms = started;
	m->was_limited = false;
	m->heard_ms = clock_ms();
	m->due_ms = next_due(m, m->heard_ms);
	if (m->cluster->primary >= 0 && m->cluster->members[m->cluster->primary] == m)
		lag_note(&m->cluster->marks, &now->position, m->heard_ms);
	set_up(m);
	pthread_mutex_unlock(&m->cluster->lock);
	cluster_wake(m->cluster);
}

/* Under the lock: a reading this member was asked for has ended. */
static void finish_job(struct member *m, struct job *job, bool done)
{
	if (job->reader != m)
		return;
	job->reader = NULL;
	if (!done)
		return;
	job->served = job->started;
	m->cluster->changed = true;
}

static void publish_failure(struct member *m, uint64_t started)
{
	pthread_mutex_lock(&m->cluster->lock);
	m->failed_ms = started;
	if (line_error_is_limit(&m->line) && m->health == HEALTH_UP) {
		/* It answers, only not to us: full is not down. */
		if (!m->was_limited)
			log_warning(NULL, "server %s: no connection left for the monitor: %s",
				    m->server->name, m->line.error_text);
		m->was_limited = true;
		m->heard_ms = clock_ms();
		m->due_ms = next_due(m, m->heard_ms);
	} else {
		member_set_down(m, m->line.error_text);
	}
	m->tasks = 0;
	finish_job(m, &m->cluster->account_job, false);
	finish_job(m, &m->cluster->catalog_job, false);
	pthread_mutex_unlock(&m->cluster->lock);
	cluster_wake(m->cluster);
}

/* For a server that is up silence goes on counting while its line is opened anew; one that is not gets a limit to answer in, so
 * that the coordinator cuts a line that hangs. */
static void extend_due(struct member *m, uint64_t ms, bool also_up)
{
	pthread_mutex_lock(&m->cluster->lock);
	if (also_up || m->health != HEALTH_UP)
		m->due_ms = clock_ms() + ms;
	pthread_mutex_unlock(&m->cluster->lock);
}

/* The primary's answer is the one that waiting sessions are about. Under the lock. */
static void serve_variables(struct member *m, uint64_t ticket)
{
	struct cluster *c = m->cluster;

	if (c->primary < 0 || c->members[c->primary] != m || c->variables_served >= ticket)
		return;
	c->variables_served = ticket;
	c->changed = true;
}

static bool read_variables(struct member *m, enum sql_flavour flavour)
{
	struct variable_list *list, *old;
	uint64_t ticket;

	pthread_mutex_lock(&m->cluster->lock);
	ticket = m->cluster->variables_given;
	pthread_mutex_unlock(&m->cluster->lock);
	list = variables_read(&m->line, flavour);
	if (!list)
		return false;
	pthread_mutex_lock(&m->cluster->lock);
	serve_variables(m, ticket);
	old = m->variables;
	m->variables = list;
	if (!variables_equal(old, list))
		m->cluster->changed = true;
	pthread_mutex_unlock(&m->cluster->lock);
	variables_free(old);
	return true;
}

/* A refused table is said once, and again after it could be read: logins ask for it as often as they fail. */
static void note_refusal(struct member *m, bool *refused, bool ok, const char *what)
{
	if (ok) {
		*refused = false;
	} else if (m->line.error && !line_error_is_loss(&m->line) && !*refused) {
		*refused = true;
		log_warning(NULL, "server %s: cannot read %s: %s", m->server->name, what,
			    m->line.error_text);
	}
}

static void read_accounts(struct member *m, enum sql_flavour flavour, bool asked)
{
	struct cluster *c = m->cluster;
	size_t count = 0, old_count;
	struct account *accounts = accounts_read(&m->line, flavour, &count);
	struct account *old;

	note_refusal(m, &m->accounts_refused, accounts != NULL, "the account tables");
	pthread_mutex_lock(&c->lock);
	old = c->accounts;
	old_count = c->account_count;
	if (accounts) {
		c->changed |= !accounts_equal(old, old_count, accounts, count);
		c->accounts = accounts;
		c->account_count = count;
		c->accounts_known = true;
	}
	/* A refusal is an answer: whoever waits for a newer snapshot gets one. */
	if (asked)
		finish_job(m, &c->account_job, accounts || !line_error_is_loss(&m->line));
	pthread_mutex_unlock(&c->lock);
	if (accounts)
		accounts_free(old, old_count);
}

/* Said once for each line, and again when it has changed. */
static void note_views(struct member *m, const struct catalog *catalog)
{
	size_t hidden = catalog->views_unknown ? SIZE_MAX : catalog->hidden_views;

	if (hidden == m->hidden_views)
		return;
	m->hidden_views = hidden;
	if (catalog->views_unknown)
		log_warning(NULL, "server %s: cannot read the views: %s; what they call is not known", m->server->name,
			    m->line.error_text);
	else if (hidden)
		log_warning(NULL,
			    "server %s: the text of %zu views is not to be seen, so they are read on the primary; "
			    "the monitor's account needs SELECT and SHOW VIEW on their schemas",
			    m->server->name, hidden);
}

/* What the server has now, NULL when it is `known` or cannot be read. Without the stamp nothing is believed: a monitor that may not
 * read mysql.proc sees information_schema.ROUTINES without an error, and empty. The stamp is taken before the routines, so that a
 * change in between is found at the next check. */
static struct catalog *fetch_catalog(struct member *m, const struct observation *seen,
				     const char *known, char stamp[CATALOG_STAMP_BYTES])
{
	struct catalog *catalog;
	uint64_t began = clock_ms();

	if (!catalog_stamp(&m->line, seen->flavour, stamp)) {
		note_refusal(m, &m->catalog_refused, false, "the stored routines");
		return NULL;
	}
	if (known && !strcmp(known, stamp) && began < m->views_due_ms)
		return NULL;
	catalog = catalog_read(&m->line, seen->flavour, seen->version);
	note_refusal(m, &m->catalog_refused, catalog != NULL, "the stored routines");
	/* Nothing cheap says that a view was changed, and with many tables the list of views takes its time. */
	m->views_due_ms = clock_ms() + CLUSTER_VIEWS_MS + 100 * (clock_ms() - began);
	if (catalog)
		note_views(m, catalog);
	return catalog;
}

static void read_catalog(struct member *m, const struct observation *seen, bool always)
{
	struct cluster *c = m->cluster;
	char known[CATALOG_STAMP_BYTES], stamp[CATALOG_STAMP_BYTES] = "";
	struct catalog *catalog, *old = NULL;

	pthread_mutex_lock(&c->lock);
	memcpy(known, c->catalog_stamp, sizeof(known));
	pthread_mutex_unlock(&c->lock);
	catalog = fetch_catalog(m, seen, always ? NULL : known, stamp);
	pthread_mutex_lock(&c->lock);
	if (catalog) {
		old = c->catalog;
		c->catalog = catalog;
		memcpy(c->catalog_stamp, stamp, sizeof(stamp));
		c->changed |= !catalog_equal(old, catalog);
	}
	if (always)
		finish_job(m, &c->catalog_job, catalog || !line_error_is_loss(&m->line));
	pthread_mutex_unlock(&c->lock);
	catalog_free(old);
}

/* A replica shows every event as disabled, so which ones are to run after a failover has to be known before. */
static void read_events(struct member *m, const struct observation *seen)
{
	struct subject s = { .line = &m->line, .name = m->server->name, .flavour = seen->flavour, .version = seen->version };
	char *events = events_remember(&s), *old;
	bool changed;

	if (!events)
		return; /* an account that may not see them: preflight says so */
	pthread_mutex_lock(&m->cluster->lock);
	old = m->events;
	changed = !old || strcmp(old, events) != 0;
	m->events = events;
	pthread_mutex_unlock(&m->cluster->lock);
	free(old);
	if (changed)
		log_debug(NULL, "server %s: events remembered for a failover: %s", m->server->name, events);
}

static void run_tasks(struct member *m, unsigned tasks, const struct observation *seen)
{
	if (!tasks)
		return;
	pthread_mutex_lock(&m->cluster->lock);
	m->tasks &= ~tasks;
	m->due_ms = clock_ms() + CLUSTER_TABLE_DEADLINE_MS;
	pthread_mutex_unlock(&m->cluster->lock);
	if (tasks & TASK_VARIABLES)
		read_variables(m, seen->flavour);
	if (tasks & (TASK_ACCOUNTS | TASK_ACCOUNTS_CHECK))
		read_accounts(m, seen->flavour, tasks & TASK_ACCOUNTS);
	if (tasks & (TASK_CATALOG | TASK_CATALOG_CHECK)) {
		read_events(m, seen);
		read_catalog(m, seen, tasks & TASK_CATALOG);
	}
	pthread_mutex_lock(&m->cluster->lock);
	m->due_ms = next_due(m, clock_ms());
	pthread_mutex_unlock(&m->cluster->lock);
	cluster_wake(m->cluster);
}

/* Connects, and learns what a connection shows once. */
static bool connect_member(struct member *m, const struct turn *turn, struct observation *seen)
{
	if (m->line.mysql)
		return true;
	extend_due(m,
		   (uint64_t)turn->settings->monitor.connect_timeout_ms +
			   turn->settings->monitor.read_timeout_ms,
		   false);
	if (!line_open(&m->line, turn->own, &turn->settings->monitor))
		return false;
	if (!observe_greeting(&m->line, seen))
		return false;
	/* Before the first "up": a session cannot begin without knowing what its variables start as. */
	extend_due(m, CLUSTER_TABLE_DEADLINE_MS, true);
	return read_variables(m, seen->flavour);
}

static bool is_given_up(struct member *m)
{
	bool given_up;

	pthread_mutex_lock(&m->cluster->lock);
	given_up = m->stop || (m->health == HEALTH_DOWN && m->has_seen);
	pthread_mutex_unlock(&m->cluster->lock);
	return given_up;
}

/* A line may be closed for reasons of its own (KILL, a time-out); a server is down when it cannot be reached anew, or lets nobody
 * stay. Silence is not waited out again here: the coordinator cuts the line only of a server it has already declared down. */
static bool look(struct member *m, const struct turn *turn, struct observation *seen)
{
	for (int attempt = 0; attempt < LOOK_ATTEMPTS; attempt++) {
		if (!connect_member(m, turn, seen)) {
			if (!m->line.logged_in || !line_error_is_loss(&m->line))
				return false;
		} else if (observe_state(&m->line, seen)) {
			return true;
		} else if (!line_error_is_loss(&m->line)) {
			return false;
		}
		if (is_given_up(m))
			return false;
		line_close(&m->line);
		poll(NULL, 0, attempt * LOOK_PAUSE_MS);
	}
	return false;
}

static void take_turn(struct member *m, struct turn *turn, struct observation *seen)
{
	struct gtid_set before;
	uint64_t started = clock_ms();

	atomic_store(&m->suspect, false);
	gtid_board_read(&m->server->applied, &before);
	if (look(m, turn, seen)) {
		publish_seen(m, seen, &before, started);
		return;
	}
	publish_failure(m, started);
	line_close(&m->line);
}

static uint64_t next_look(struct member *m, uint64_t started, const struct settings *settings)
{
	return started + (m->line.mysql ? settings->monitor.interval_ms : CLUSTER_RETRY_MS);
}

/* Sleeps until the next look is due; tasks and suspicions cut it short. */
static void rest(struct member *m, uint64_t started, const struct settings *settings)
{
	uint64_t at = next_look(m, started, settings);

	uint64_t now;

	sleep_until(m, at);
	now = clock_ms();
	if (now < started + LOOK_GAP_MS)
		poll(NULL, 0, (int)(started + LOOK_GAP_MS - now));
}

static void *monitor(void *arg)
{
	struct member *m = arg;
	struct observation seen = { 0 };
	struct turn turn;

	mysql_thread_init();
	for (begin_turn(m, &turn); !turn.stop; begin_turn(m, &turn)) {
		uint64_t started = clock_ms();

		take_turn(m, &turn, &seen);
		if (m->line.mysql)
			run_tasks(m, turn.tasks, &seen);
		rest(m, started, turn.settings);
		settings_unref(turn.settings);
	}
	settings_unref(turn.settings);
	line_close(&m->line);
	mysql_thread_end();
	pthread_mutex_lock(&m->cluster->lock);
	m->finished = true;
	pthread_mutex_unlock(&m->cluster->lock);
	cluster_wake(m->cluster);
	return NULL;
}

bool member_start(struct member *member)
{
	int error;

	line_init(&member->line);
	member->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (member->wake_fd < 0)
		return false;
	if (!watcher_start(&member->watcher, member->server, member->cluster->listener.moved,
			   member->cluster->owner))
		goto close_event;
	member->due_ms = clock_ms() + member->settings->monitor.connect_timeout_ms +
			 member->settings->monitor.read_timeout_ms;
	error = pthread_create(&member->thread, NULL, monitor, member);
	if (!error)
		return true;
	errno = error;
	watcher_stop(&member->watcher);
close_event:
	close(member->wake_fd);
	return false;
}

void member_tell_to_stop(struct member *member)
{
	member->stop = true;
	member_wake(member);
	line_cut(&member->line);
}

void member_join(struct member *member)
{
	pthread_join(member->thread, NULL);
	watcher_stop(&member->watcher);
	line_fini(&member->line);
	close(member->wake_fd);
	member->wake_fd = -1;
}
