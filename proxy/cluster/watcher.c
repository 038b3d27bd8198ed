#include "proxy/cluster/watcher.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/flavour.h"

enum {
	SHORTEST_WAIT_MS = 20,
	LONGEST_WAIT_MS = 1000,
	RETRY_MS = 100, /* between attempts to connect */
};

/* Sum over domains: orders positions of one domain exactly and those of several well enough. */
static uint64_t weight(const struct gtid_set *position)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < position->count; i++)
		sum += position->points[i].sequence;
	return sum;
}

static size_t furthest(const struct watcher_want *wants, size_t count)
{
	size_t at = 0;

	for (size_t i = 1; i < count; i++)
		if (weight(&wants[i].position) > weight(&wants[at].position))
			at = i;
	return at;
}

void watcher_add(struct watcher_want *wants, size_t *count, const struct gtid_set *position,
		 uint64_t until_ms)
{
	for (size_t i = 0; i < *count; i++) {
		if (!gtid_covers(&wants[i].position, position) ||
		    !gtid_covers(position, &wants[i].position))
			continue;
		if (wants[i].until_ms < until_ms)
			wants[i].until_ms = until_ms;
		return;
	}
	if (*count < WATCHER_WANTS) {
		wants[(*count)++] = (struct watcher_want){ *position, until_ms };
		return;
	}
	/* Joined with the furthest: it is told a little late instead of never, and every progress before is told anyway. */
	struct watcher_want *last = &wants[furthest(wants, *count)];

	gtid_merge(&last->position, position);
	if (last->until_ms < until_ms)
		last->until_ms = until_ms;
}

size_t watcher_smallest(const struct watcher_want *wants, size_t count)
{
	size_t at = 0;

	for (size_t i = 1; i < count; i++)
		if (weight(&wants[i].position) < weight(&wants[at].position))
			at = i;
	return at;
}

bool watcher_drop(struct watcher_want *wants, size_t *count, const struct gtid_set *reached,
		  uint64_t now_ms)
{
	bool covered = false;
	size_t kept = 0;

	for (size_t i = 0; i < *count; i++) {
		bool done = gtid_covers(reached, &wants[i].position);

		covered |= done;
		if (!done && wants[i].until_ms > now_ms)
			wants[kept++] = wants[i];
	}
	*count = kept;
	return covered;
}

/* One wait: what to ask and how long. */
struct errand {
	struct gtid_set position;
	uint32_t wait_ms;
	enum sql_flavour flavour;
	struct settings *settings;
	size_t settings_index;
};

static uint32_t wait_of(const struct settings *settings)
{
	uint32_t ms = settings->proxy.causal_wait_ms;

	return ms < SHORTEST_WAIT_MS  ? SHORTEST_WAIT_MS
	       : ms > LONGEST_WAIT_MS ? LONGEST_WAIT_MS
				      : ms;
}

/* Sleeps until there is something to do. False: the end. */
static bool next_errand(struct watcher *w, struct errand *out)
{
	bool go;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && (!w->armed || !w->want_count))
		pthread_cond_wait(&w->changed, &w->lock);
	go = !w->stop;
	if (go) {
		out->position = w->wants[watcher_smallest(w->wants, w->want_count)].position;
		out->wait_ms = wait_of(w->settings);
		out->flavour = w->flavour;
		out->settings = settings_ref(w->settings);
		out->settings_index = w->settings_index;
	}
	pthread_mutex_unlock(&w->lock);
	return go;
}

static void forget_wants(struct watcher *w)
{
	pthread_mutex_lock(&w->lock);
	w->want_count = 0;
	pthread_mutex_unlock(&w->lock);
}

static void pause_ms(struct watcher *w, uint32_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&w->lock);
	while (!w->stop && pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&w->lock);
}

static bool connect_line(struct watcher *w, const struct errand *errand)
{
	const struct settings *s = errand->settings;

	if (w->line.mysql)
		return true;
	if (line_open(&w->line, &s->servers[errand->settings_index], &s->monitor))
		return true;
	/* The monitor tells the world when the server is down; who is parked goes elsewhere at the deadline. */
	log_debug(NULL, "server %s: watcher cannot connect: %s", w->server->name,
		  w->line.error_text);
	forget_wants(w);
	pause_ms(w, RETRY_MS);
	return false;
}

static bool ask(struct watcher *w, const struct errand *errand, struct gtid_set *reached)
{
	const struct flavour *f = flavour_of(errand->flavour);
	char position[GTID_MAX_DOMAINS * 100];
	char statement[sizeof(position) + 128];
	MYSQL_RES *result;
	MYSQL_ROW row;
	bool ok = false;

	f->format_position(&errand->position, position, sizeof(position));
	snprintf(statement, sizeof(statement), f->wait, position, errand->wait_ms / 1000.0);
	result = line_query(&w->line, statement);
	row = result ? mysql_fetch_row(result) : NULL;
	if (row)
		ok = gtid_parse(row_text(row, 1), strlen(row_text(row, 1)), reached);
	mysql_free_result(result);
	return ok;
}

static void publish(struct watcher *w, const struct gtid_set *reached)
{
	uint64_t before = atomic_load(&w->server->applied.generation);
	bool covered;

	gtid_board_raise(&w->server->applied, reached);
	pthread_mutex_lock(&w->lock);
	covered = watcher_drop(w->wants, &w->want_count, reached, clock_ms());
	pthread_mutex_unlock(&w->lock);
	/* A want may be covered by what the monitor had published already: its owner is told all the same. */
	if (covered || before != atomic_load(&w->server->applied.generation))
		w->moved(w->owner, w->server);
}

static void run_errand(struct watcher *w, const struct errand *errand)
{
	struct gtid_set reached;

	if (!connect_line(w, errand))
		return;
	if (ask(w, errand, &reached)) {
		publish(w, &reached);
		return;
	}
	/* A line that died while idle is opened again at once; an error the server answers with would come back for ever. */
	log_debug(NULL, "server %s: watcher: %s", w->server->name, w->line.error_text);
	if (!line_error_is_loss(&w->line))
		forget_wants(w);
	line_close(&w->line);
}

/* Connects ahead of the first want, so that nobody parked pays for it. */
static void warm_up(struct watcher *w)
{
	struct errand errand = { .settings = NULL };

	pthread_mutex_lock(&w->lock);
	while (!w->stop && !w->armed)
		pthread_cond_wait(&w->changed, &w->lock);
	if (!w->stop) {
		errand.settings = settings_ref(w->settings);
		errand.settings_index = w->settings_index;
	}
	pthread_mutex_unlock(&w->lock);
	if (!errand.settings)
		return;
	connect_line(w, &errand);
	settings_unref(errand.settings);
}

static void *watch(void *arg)
{
	struct watcher *w = arg;
	struct errand errand;

	mysql_thread_init();
	warm_up(w);
	while (next_errand(w, &errand)) {
		run_errand(w, &errand);
		settings_unref(errand.settings);
	}
	line_close(&w->line);
	mysql_thread_end();
	return NULL;
}

bool watcher_start(struct watcher *watcher, struct server *server,
		   void (*moved)(void *owner, struct server *server), void *owner)
{
	pthread_condattr_t attr;
	int error;

	memset(watcher, 0, sizeof(*watcher));
	watcher->server = server;
	watcher->moved = moved;
	watcher->owner = owner;
	line_init(&watcher->line);
	pthread_mutex_init(&watcher->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watcher->changed, &attr);
	pthread_condattr_destroy(&attr);
	error = pthread_create(&watcher->thread, NULL, watch, watcher);
	if (!error)
		return true;
	errno = error;
	line_fini(&watcher->line);
	pthread_cond_destroy(&watcher->changed);
	pthread_mutex_destroy(&watcher->lock);
	return false;
}

void watcher_stop(struct watcher *watcher)
{
	pthread_mutex_lock(&watcher->lock);
	watcher->stop = true;
	pthread_cond_broadcast(&watcher->changed);
	pthread_mutex_unlock(&watcher->lock);
	line_cut(&watcher->line);
	pthread_join(watcher->thread, NULL);
	line_fini(&watcher->line);
	if (watcher->settings)
		settings_unref(watcher->settings);
	pthread_cond_destroy(&watcher->changed);
	pthread_mutex_destroy(&watcher->lock);
}

void watcher_arm(struct watcher *watcher, bool armed, enum sql_flavour flavour,
		 struct settings *settings, size_t settings_index)
{
	struct settings *before;

	pthread_mutex_lock(&watcher->lock);
	before = watcher->settings;
	watcher->armed = armed;
	watcher->flavour = flavour;
	watcher->settings = settings_ref(settings);
	watcher->settings_index = settings_index;
	if (!armed)
		watcher->want_count = 0;
	pthread_cond_broadcast(&watcher->changed);
	pthread_mutex_unlock(&watcher->lock);
	if (before)
		settings_unref(before);
	/* A wait in progress on a server that is down or became the primary must not go on. */
	if (!armed)
		line_cut(&watcher->line);
}

void watcher_want(struct watcher *watcher, const struct gtid_set *position)
{
	if (position->lost || !position->count)
		return;
	pthread_mutex_lock(&watcher->lock);
	if (watcher->armed && !watcher->stop) {
		watcher_add(watcher->wants, &watcher->want_count, position,
			    clock_ms() + 2 * (uint64_t)wait_of(watcher->settings));
		pthread_cond_signal(&watcher->changed);
	}
	pthread_mutex_unlock(&watcher->lock);
}
