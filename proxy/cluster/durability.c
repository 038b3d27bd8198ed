#include "proxy/cluster/durability.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/operation.h"
#include "proxy/cluster/semisync.h"

enum {
	RETRY_MS = 5000,
	STUCK_MS = 2000, /* commits that wait, a replica that acknowledges, and nothing moves */
};

static bool is_strict(const struct durability_view *v)
{
	return v->state == SEMI_SYNC_ON && v->terms.after_sync && v->terms.waits_alone && v->terms.timeout_ms >= SEMI_SYNC_FOREVER_MS;
}

enum durability_step durability_judge(const struct durability_view *view, enum durability wanted, uint32_t degrade_after_ms)
{
	if (wanted == DURABILITY_STRICT)
		return is_strict(view) && (view->terms.clients || !view->receivers) ? DURABILITY_KEEP : DURABILITY_ENFORCE;
	if (view->state == SEMI_SYNC_OFF || view->terms.timeout_ms <= (degrade_after_ms ? degrade_after_ms : 1))
		return DURABILITY_KEEP;
	return view->terms.waiting && !view->terms.clients ? DURABILITY_RELEASE : DURABILITY_LIMIT;
}

/* What is known of the primary at this moment. */
struct scene {
	struct durability_view view;
	struct gtid_set position;
	struct monitor_settings settings;
	struct member *primary;
	const char *name;
};

/* False: there is nothing to keep. */
static bool take_scene(struct cluster *c, struct scene *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&c->lock);
	s->settings = c->settings->monitor;
	if (!c->operating[0] && !c->stop && c->primary >= 0 && c->member_count > 1 && c->members[c->primary]->has_seen &&
	    c->members[c->primary]->health == HEALTH_UP) {
		s->primary = c->members[c->primary];
		s->name = s->primary->server->name;
		s->view.state = s->primary->seen.semi_sync;
		s->view.terms = s->primary->seen.terms;
		s->position = s->primary->seen.position;
	}
	for (size_t i = 0; s->primary && i < c->member_count; i++) {
		const struct member *m = c->members[i];

		s->view.receivers += m->role == ROLE_REPLICA && m->health == HEALTH_UP && m->seen.link_count &&
				     m->seen.links[0].io == THREAD_RUNNING;
	}
	pthread_mutex_unlock(&c->lock);
	return s->primary != NULL;
}

/* ---- What is said ---- */

static void tell_state(struct cluster *c, const struct scene *s, const struct durability_watch *w)
{
	bool refused = s->settings.failover == FAILOVER_AUTO && !s->settings.max_loss;

	if (s->view.state == SEMI_SYNC_DEGRADED)
		history_note(c->history, "durability", s->name,
			     "has stopped waiting for its replicas: what it tells clients is stored may be lost with it, until one acknowledges "
			     "again%s",
			     refused ? ". No failover by itself meanwhile (max_loss = 0)" : "");
	else if (w->state == SEMI_SYNC_DEGRADED && s->view.state == SEMI_SYNC_ON)
		history_note(c->history, "durability", s->name, "waits for its replicas again");
}

static void tell_alone(struct cluster *c, const struct scene *s, bool is_alone)
{
	if (is_alone)
		history_note(c->history, "durability", s->name,
			     "no replica acknowledges what it writes: writes wait until one does (durability = strict). Bring a replica back, or "
			     "set durability = available and reload");
	else
		history_note(c->history, "durability", s->name, "a replica acknowledges again: writes go on");
}

static void tell_changes(struct cluster *c, const struct scene *s, struct durability_watch *w)
{
	bool is_alone = s->settings.durability == DURABILITY_STRICT && s->view.state == SEMI_SYNC_ON && !s->view.terms.clients;

	if (strcmp(w->primary, s->name) != 0) {
		*w = (struct durability_watch){ .state = s->view.state == SEMI_SYNC_DEGRADED ? SEMI_SYNC_ON : s->view.state };
		snprintf(w->primary, sizeof(w->primary), "%s", s->name);
	}
	if (w->state != s->view.state)
		tell_state(c, s, w);
	if (w->is_alone != is_alone)
		tell_alone(c, s, is_alone);
	w->state = s->view.state;
	w->is_alone = is_alone;
}

static void tell_failure(struct durability_watch *w, const char *name, const char *why)
{
	if (!strncmp(w->told, why, sizeof(w->told) - 1))
		return;
	snprintf(w->told, sizeof(w->told), "%.199s", why);
	log_warning(NULL, "server %s: durability: %s", name, why);
}

/* ---- What is done ---- */

/* Replicas first: a primary that waits for those that do not acknowledge would hold everything up. */
static bool enforce(struct operation *op)
{
	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if (a != op->from && a->role == ROLE_REPLICA && a->line.mysql && !semisync_acknowledge(op, a))
			log_warning(NULL, "server %s: durability: %s", a->subject.name, op->note);
	}
	if (!semisync_enforce(op, op->from))
		return false;
	history_note(op->cluster->history, "durability", op->from->subject.name,
		     "every commit waits for a replica, without a time-out (durability = strict)");
	return true;
}

static bool limit(struct operation *op, bool release)
{
	uint32_t ms = op->settings->monitor.degrade_after_ms;

	if (!semisync_limit(op, op->from, ms, release))
		return false;
	history_note(op->cluster->history, "durability", op->from->subject.name,
		     "commits wait for a replica for %u ms at the most (degrade_after; durability = available)%s", ms,
		     release ? "; those that waited for one that is not there go on" : "");
	return true;
}

/* Found by whoever did not see this primary alive. */
static bool record(struct operation *op, bool is_degraded)
{
	char position[POSITION_BYTES];

	return (replication_binlog_position(&op->from->subject, position) && journal_prepare(&op->from->subject) &&
		journal_write_degraded(&op->from->subject, op->from->subject.name, is_degraded, position)) ||
	       conduct_fail_line(op, op->from, "tandem.cluster cannot be written");
}

static bool act(struct operation *op, enum durability_step step, struct durability_watch *w)
{
	bool is_degraded = w->state == SEMI_SYNC_DEGRADED;
	bool done = true;

	if (!op->from || strcmp(op->from->subject.name, w->primary) != 0 || !conduct_open(op, op->from))
		return false;
	if (step == DURABILITY_ENFORCE) {
		conduct_open_all(op);
		done = enforce(op);
	} else if (step == DURABILITY_NUDGE) {
		log_info(NULL, "server %s: commits wait for what a replica has received before it began to acknowledge: a transaction behind them "
			       "frees them",
			 w->primary);
		done = record(op, is_degraded);
	} else if (step != DURABILITY_KEEP) {
		done = limit(op, step == DURABILITY_RELEASE);
	}
	if (done && is_degraded != w->has_recorded) {
		done = record(op, is_degraded);
		w->has_recorded = done ? is_degraded : w->has_recorded;
	}
	if (!done)
		tell_failure(w, w->primary, op->note);
	return done;
}

/* With the grip of an operation: what is set here must not meet a promotion that moves the same settings to another server. */
static bool act_alone(struct cluster *c, enum durability_step step, struct durability_watch *w)
{
	static const struct operation_request request = { .kind = OPERATION_PROMOTE };
	struct operation *op = calloc(1, sizeof(*op));
	struct report report = { 0 };
	char busy[CONTROL_NAME];
	bool done = false;

	if (op && control_begin(c, DURABILITY_GRIP, busy)) {
		mysql_thread_init();
		done = conduct_init(op, c, &request, &report) && act(op, step, w);
		conduct_fini(op);
		mysql_thread_end();
		control_end(c);
	}
	report_free(&report);
	free(op);
	return done;
}

/* A replica that received a transaction before it was made to acknowledge never does for that one: whoever waits for it is freed by the
 * acknowledgement of a later transaction, and if all writers wait there is none. */
static bool is_stuck(const struct scene *s, struct durability_watch *w)
{
	uint64_t now = clock_ms();
	bool moved = !gtid_covers(&s->position, &w->position) || !gtid_covers(&w->position, &s->position);

	if (moved || !s->view.terms.waiting || !s->view.terms.clients || s->view.state != SEMI_SYNC_ON) {
		w->position = s->position;
		w->moved_ms = now;
	}
	return now >= w->moved_ms + STUCK_MS;
}

void durability_keep(struct cluster *cluster, struct durability_watch *watch)
{
	enum durability_step step;
	struct scene scene;

	if (!take_scene(cluster, &scene))
		return;
	tell_changes(cluster, &scene, watch);
	step = durability_judge(&scene.view, scene.settings.durability, scene.settings.degrade_after_ms);
	if (is_stuck(&scene, watch) && step == DURABILITY_KEEP)
		step = DURABILITY_NUDGE;
	if (step == DURABILITY_KEEP && (scene.view.state == SEMI_SYNC_DEGRADED) == watch->has_recorded)
		return;
	if (clock_ms() < watch->retry_ms)
		return;
	/* Receivers that were started anew need a moment before they acknowledge: no second attempt meanwhile. */
	watch->retry_ms = act_alone(cluster, step, watch) && step != DURABILITY_ENFORCE ? 0 : clock_ms() + RETRY_MS;
}
