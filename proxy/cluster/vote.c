#include "proxy/cluster/vote.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/member.h"
#include "proxy/cluster/voter.h"

enum {
	TICK_MS = 100,	  /* while votes are held */
	REST_MS = 1000,
	ASK_MS = 500,	  /* for all voters to answer; one that is silent is not waited for longer */
	DEMAND_MS = 1500, /* the same when they have to be connected to first */
	TAKE_MS = 4000,
	WORD_MS = 500,
	BACK_OFF_MS = 400, /* two that asked at the same time do not do so again */
};

/* Of this Tandem, in the eyes of the voters. */
enum vote_state {
	VOTE_REST,   /* no votes are held or watched */
	VOTE_FOLLOW, /* watching: another one leads, or nobody */
	VOTE_ASK,    /* taking what is free */
	VOTE_LEAD,   /* enough are held */
};

struct votes {
	struct cluster *cluster;
	pthread_t thread;
	int wake_fd;
	_Atomic bool stop;
	_Atomic bool leads; /* or may do as if: see votes_is_leader() */
	_Atomic bool has_majority;
	_Atomic unsigned terms;
	pthread_mutex_t lock;
	pthread_cond_t moved; /* the state, or what a voter said */
	/* The thread's own; read by others under the lock. */
	struct settings *settings;
	struct voter *voters;
	size_t count;
	bool always;	 /* [peer] or [witness] sections: votes are held all the time */
	bool no_witness;
	/* Under the lock. */
	enum vote_state state;
	struct voter_order order;
	struct lease_count counted;
	uint32_t primary_id; /* as last seen */
	bool demand, dead, force; /* of votes_take() */
	bool changing;	 /* the word is withdrawn */
	uint64_t ask_until_ms, retry_ms;
	bool writes_wait;
	bool had_lease; /* since the start */
	uint64_t begun_ms;
	unsigned dice;
};

/* What the cluster says, for one round. */
struct scene {
	uint32_t primary_id;
	uint32_t ids[CLUSTER_MAX_SERVERS];
	size_t count;
	struct settings *settings;
	uint32_t trusted_id;
	uint64_t trusted_until_ms;
};

static void wake(struct votes *v)
{
	uint64_t one = 1;

	while (write(v->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* A voter's thread: its paper is new. */
static void on_voted(void *owner)
{
	struct votes *v = owner;

	wake(v);
}

/* ---- The voters ---- */

static void stop_voters(struct voter *voters, size_t count)
{
	for (size_t i = 0; i < count; i++)
		voter_tell_to_stop(&voters[i]);
	for (size_t i = 0; i < count; i++)
		voter_join(&voters[i]);
	free(voters);
}

static bool start_voter(struct votes *v, const struct settings *s, size_t index)
{
	struct voter *voter = &v->voters[index];

	voter->lock = &v->lock;
	voter->order = &v->order;
	voter->voted = on_voted;
	voter->owner = v;
	voter_name(voter, s, index);
	if (voter_start(voter))
		return true;
	log_error(NULL, "votes: no thread for %s: %s", voter->name, strerror(errno));
	return false;
}

static void start_voters(struct votes *v, struct settings *s)
{
	size_t count = s->server_count + s->witness_count;

	if (count > LEASE_MAX_VOTERS)
		count = LEASE_MAX_VOTERS;
	v->voters = calloc(count ? count : 1, sizeof(*v->voters));
	v->always = s->peer_count || s->witness_count;
	v->no_witness = !s->witness_count;
	v->order.cluster = s->cluster;
	v->order.lease_ms = s->monitor.lease_ms;
	v->order.is_alone = !s->peer_count;
	for (size_t i = 0; v->voters && i < count && start_voter(v, s, i); i++)
		v->count++;
}

/* While the voters are exchanged nobody looks after the lease: no write is sent meanwhile. */
static void close_gate(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	c->changed |= c->lease_id != 0;
	c->lease_id = 0;
	pthread_mutex_unlock(&c->lock);
	cluster_wake(c);
}

/* Other voters: all votes are given back and taken anew, which costs writes some milliseconds. */
static void follow_settings(struct votes *v, struct settings *now)
{
	struct settings *before = v->settings;
	struct voter *old;
	size_t count;

	if (before && (before == now || voters_are_same(before, now)))
		return;
	pthread_mutex_lock(&v->lock);
	old = v->voters;
	count = v->count;
	v->voters = NULL;
	v->count = 0;
	v->state = VOTE_REST;
	v->order.active = v->order.want = false;
	pthread_mutex_unlock(&v->lock);
	close_gate(v->cluster);
	stop_voters(old, count);
	pthread_mutex_lock(&v->lock);
	start_voters(v, now);
	pthread_mutex_unlock(&v->lock);
	v->settings = settings_ref(now);
	settings_unref(before);
}

/* ---- One round ---- */

static void take_scene(struct cluster *c, struct scene *s)
{
	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&c->lock);
	s->settings = settings_ref(c->settings);
	for (size_t i = 0; i < c->member_count; i++)
		if (c->members[i]->has_seen)
			s->ids[s->count++] = c->members[i]->seen.server_id;
	if (c->primary >= 0)
		s->primary_id = c->members[c->primary]->seen.server_id;
	s->trusted_id = c->trusted_id;
	s->trusted_until_ms = c->trusted_until_ms;
	pthread_mutex_unlock(&c->lock);
}

static void wake_voters(struct votes *v)
{
	for (size_t i = 0; i < v->count; i++)
		voter_wake(&v->voters[i]);
}

static void order(struct votes *v, bool active, bool want, uint32_t word)
{
	if (v->order.active == active && v->order.want == want && v->order.word == word)
		return;
	v->order.active = active;
	v->order.want = want;
	v->order.word = word;
	v->order.round++;
	wake_voters(v);
}

static void hear_ids(struct votes *v, const struct scene *s)
{
	if (v->order.server_count == s->count && !memcmp(v->order.server_ids, s->ids, s->count * sizeof(*s->ids)))
		return;
	memcpy(v->order.server_ids, s->ids, sizeof(s->ids));
	v->order.server_count = s->count;
	v->order.round++;
	wake_voters(v);
}

static void count_votes(struct votes *v, uint64_t now)
{
	struct lease_paper papers[LEASE_MAX_VOTERS];
	struct lease_terms terms = { now, v->order.lease_ms, v->primary_id, v->changing };

	for (size_t i = 0; i < v->count; i++)
		papers[i] = v->voters[i].paper;
	lease_take_count(papers, v->count, &terms, &v->counted);
}

static bool all_served(const struct votes *v)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->voters[i].served < v->order.round)
			return false;
	return true;
}

/* With two servers and nothing else the death of one must not leave the other without a leader. It may lead, not change the primary. */
static unsigned needed_to_lead(const struct votes *v)
{
	if (v->demand && !v->always)
		return lease_needed(&v->counted, v->dead, v->force);
	return v->no_witness && v->counted.voters == 2 ? v->counted.half : v->counted.majority;
}

static const char *const words[] = { "has voted for nobody", "has voted for this Tandem", "has voted for another Tandem", "does not answer" };

/* Who has voted how. Locked. */
static void describe(const struct votes *v, char *out, size_t size)
{
	uint64_t now = clock_ms();
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < v->count && len < size; i++) {
		const struct voter *voter = &v->voters[i];
		const struct lease_paper *p = &voter->paper;
		bool fresh = p->asked_ms && now < p->asked_ms + LEASE_OWN_MS(v->order.lease_ms);

		len += (size_t)snprintf(out + len, size - len, "%s%s %s", i ? ", " : "", voter->name,
					words[!fresh ? 3 : p->mine ? 1 : p->taken ? 2 : 0]);
		if (!fresh && voter->trouble[0] && len < size)
			len += (size_t)snprintf(out + len, size - len, " (%.120s)", voter->trouble);
	}
}

static void note_state(struct votes *v, const char *news)
{
	char text[300];

	if (!v->always)
		return;
	describe(v, text, sizeof(text));
	history_note(v->cluster->history, "votes", "", "%s: %s", news, text);
}

static void lead(struct votes *v)
{
	v->state = VOTE_LEAD;
	atomic_fetch_add(&v->terms, 1);
	note_state(v, "this Tandem leads");
}

static void follow(struct votes *v, uint64_t now)
{
	v->state = VOTE_FOLLOW;
	v->retry_ms = now + TICK_MS + (uint64_t)(rand_r(&v->dice) % BACK_OFF_MS);
	order(v, true, false, 0);
}

static void ask(struct votes *v, uint64_t now)
{
	v->state = VOTE_ASK;
	v->ask_until_ms = now + (v->always ? ASK_MS : DEMAND_MS);
	order(v, true, true, 0);
}

/* Half of the votes keep a leader what he is: nobody else can have more. */
static bool is_beaten(const struct votes *v)
{
	return v->always && v->counted.mine < v->counted.half;
}

static void step(struct votes *v, uint64_t now)
{
	const struct lease_count *c = &v->counted;
	unsigned needed = needed_to_lead(v);

	switch (v->state) {
	case VOTE_REST:
		if (v->always || v->demand) {
			order(v, true, false, 0);
			v->state = VOTE_FOLLOW;
			v->retry_ms = now;
		}
		break;
	case VOTE_FOLLOW:
		if (v->demand && !v->always)
			ask(v, now);
		else if (v->always && now >= v->retry_ms && c->mine + c->open >= needed && (all_served(v) || c->open >= c->majority))
			ask(v, now);
		break;
	case VOTE_ASK:
		if (c->mine >= needed && (!v->force || v->always || all_served(v) || now >= v->ask_until_ms))
			lead(v);
		else if (all_served(v) || now >= v->ask_until_ms)
			follow(v, now);
		break;
	case VOTE_LEAD:
		if (is_beaten(v)) {
			note_state(v, "this Tandem does not lead any more");
			follow(v, now);
		}
		break;
	}
}

/* The word follows the primary in force, but for the time of a change. When the primary is down it stays as it is. */
static void update_word(struct votes *v)
{
	if (v->state != VOTE_LEAD || !v->always)
		return;
	if (v->changing)
		order(v, true, true, 0);
	else if (v->primary_id)
		order(v, true, true, v->primary_id);
}

static void rest_again(struct votes *v)
{
	if (v->always || v->demand || v->state == VOTE_REST)
		return;
	v->state = VOTE_REST;
	order(v, false, false, 0);
}

static uint64_t writes_until(const struct votes *v, const struct scene *s)
{
	uint64_t until = v->counted.writes_until_ms;

	if (s->primary_id && s->trusted_id == s->primary_id && s->trusted_until_ms > until)
		until = s->trusted_until_ms;
	return until;
}

/* What this Tandem hears is more than what it sees, until it leads and has given its own word. */
static bool has_own_word(const struct votes *v)
{
	return v->state == VOTE_LEAD && v->order.word;
}

static void tell_lease(struct votes *v, bool wait)
{
	char text[300];

	v->had_lease |= !wait && v->primary_id;
	/* At the start it takes a moment until everybody has voted. */
	if (v->writes_wait == wait || (!v->had_lease && clock_ms() < v->begun_ms + v->order.lease_ms))
		return;
	v->writes_wait = wait;
	describe(v, text, sizeof(text));
	if (wait)
		history_note(v->cluster->history, "lease", "", "writes wait, reads go on: not half of the votes say that they may go to the primary: %s",
			     text);
	else if (v->primary_id) /* else it is the primary that is missed, of which others tell */
		history_note(v->cluster->history, "lease", "", "writes go on: %u of %u votes answer", v->counted.answered, v->counted.voters);
}

/* What the coordinator and the judge need of it. */
static void tell_cluster(struct votes *v, const struct scene *s, uint64_t until, uint32_t heard, bool is_own)
{
	struct cluster *c = v->cluster;
	uint32_t id = clock_ms() < until ? s->primary_id : 0;
	bool changed;

	pthread_mutex_lock(&c->lock);
	/* An operation that has ended meanwhile has its own word. */
	if (c->trusted_until_ms != s->trusted_until_ms) {
		pthread_mutex_unlock(&c->lock);
		wake(v);
		return;
	}
	if (is_own)
		heard = 0;
	else if (!heard)
		heard = c->heard_id;
	changed = c->has_lease != v->always || c->lease_id != id || c->heard_id != heard;
	c->has_lease = v->always;
	c->lease_id = id;
	c->heard_id = heard;
	/* Votes that were taken back (a leader that died) end the lease at once, but whoever leads next waits as long as it was to last. */
	if (until > atomic_load(&c->writes_until_ms))
		atomic_store(&c->writes_until_ms, until);
	c->changed |= changed;
	pthread_mutex_unlock(&c->lock);
	if (changed)
		cluster_wake(c);
}

static int hold_ballot(struct votes *v)
{
	struct scene s;
	uint64_t now, until;
	uint32_t heard;
	bool is_resting, is_own;

	take_scene(v->cluster, &s);
	follow_settings(v, s.settings);
	settings_unref(s.settings);
	pthread_mutex_lock(&v->lock);
	now = clock_ms();
	v->primary_id = s.primary_id;
	hear_ids(v, &s);
	count_votes(v, now);
	step(v, now);
	update_word(v);
	rest_again(v);
	atomic_store(&v->leads, !v->always || (v->state == VOTE_LEAD && v->counted.mine >= v->counted.half));
	atomic_store(&v->has_majority, v->always && v->state == VOTE_LEAD && v->counted.mine >= v->counted.majority);
	until = writes_until(v, &s);
	heard = v->counted.primary_id;
	is_own = !v->always || has_own_word(v);
	is_resting = v->state == VOTE_REST;
	tell_lease(v, v->always && s.primary_id && now >= until);
	pthread_cond_broadcast(&v->moved);
	pthread_mutex_unlock(&v->lock);
	tell_cluster(v, &s, until, heard, is_own);
	if (!is_resting && until > now && until - now < TICK_MS)
		return (int)(until - now) + 1;
	return is_resting ? REST_MS : TICK_MS;
}

static void *run_votes(void *arg)
{
	struct votes *v = arg;
	struct pollfd fd = { .fd = v->wake_fd, .events = POLLIN };
	uint64_t count;

	while (!atomic_load(&v->stop)) {
		if (poll(&fd, 1, hold_ballot(v)) > 0)
			while (read(v->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
				;
	}
	return NULL;
}

/* ---- For operations ---- */

static void deadline_of(struct timespec *at, unsigned ms)
{
	clock_gettime(CLOCK_MONOTONIC, at);
	at->tv_sec += ms / 1000;
	at->tv_nsec += (long)(ms % 1000) * 1000000;
	if (at->tv_nsec >= 1000000000) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000;
	}
}

static bool has_enough(const struct votes *v)
{
	return v->state == VOTE_LEAD && v->counted.mine >= lease_needed(&v->counted, v->dead, v->force);
}

/* Nothing that is waited for can come. */
static bool is_hopeless(const struct votes *v)
{
	return v->always && v->state == VOTE_FOLLOW && v->counted.taken >= v->counted.half;
}

static void explain(const struct votes *v, char *why, size_t size)
{
	char text[300];
	unsigned needed = lease_needed(&v->counted, v->dead, v->force);

	describe(v, text, sizeof(text));
	if (v->counted.taken)
		snprintf(why, size, "another Tandem has the votes: do it there, or stop it first (%s)", text);
	else
		snprintf(why, size,
			 "this Tandem has %u of %u votes, and %u are needed so that no other one does the same: %s; if those that do not answer "
			 "are gone for good, --force goes on without them",
			 v->counted.mine, v->counted.voters, needed, text);
}

bool votes_take(struct cluster *cluster, bool dead, bool force, char *why, size_t size)
{
	struct votes *v = cluster->votes;
	struct timespec until;
	bool ok;

	deadline_of(&until, TAKE_MS);
	pthread_mutex_lock(&v->lock);
	v->demand = true;
	v->dead = dead;
	v->force = force;
	if (!v->always && v->state == VOTE_REST)
		ask(v, clock_ms());
	wake(v);
	for (;;) {
		count_votes(v, clock_ms());
		ok = has_enough(v) && !(force && v->counted.taken);
		if (ok || is_hopeless(v) || (!v->always && v->state == VOTE_FOLLOW) ||
		    pthread_cond_timedwait(&v->moved, &v->lock, &until) == ETIMEDOUT)
			break;
	}
	if (!ok)
		explain(v, why, size);
	v->demand = ok;
	pthread_mutex_unlock(&v->lock);
	wake(v);
	return ok;
}

void votes_give(struct cluster *cluster)
{
	struct votes *v = cluster->votes;

	pthread_mutex_lock(&v->lock);
	v->demand = v->dead = v->force = v->changing = false;
	rest_again(v);
	pthread_mutex_unlock(&v->lock);
	wake(v);
}

bool votes_is_leader(struct cluster *cluster)
{
	return atomic_load(&cluster->votes->leads);
}

bool votes_stand(struct cluster *cluster)
{
	struct votes *v = cluster->votes;
	bool stand;

	pthread_mutex_lock(&v->lock);
	count_votes(v, clock_ms());
	stand = !v->always || (v->state == VOTE_LEAD && v->counted.mine >= v->counted.half);
	pthread_mutex_unlock(&v->lock);
	return stand;
}

bool votes_has_majority(struct cluster *cluster)
{
	return atomic_load(&cluster->votes->has_majority);
}

void votes_wake(struct cluster *cluster)
{
	if (cluster->votes)
		wake(cluster->votes);
}

unsigned votes_terms(struct cluster *cluster)
{
	return atomic_load(&cluster->votes->terms);
}

/* Until each voter has done what was ordered, or could not. Locked. */
static void await_voters(struct votes *v)
{
	struct timespec until;

	deadline_of(&until, WORD_MS);
	while (!all_served(v) && pthread_cond_timedwait(&v->moved, &v->lock, &until) != ETIMEDOUT)
		;
}

uint64_t votes_withdraw_word(struct cluster *cluster)
{
	struct votes *v = cluster->votes;
	uint64_t lease_ms;

	pthread_mutex_lock(&v->lock);
	v->changing = true;
	update_word(v);
	if (v->always)
		await_voters(v);
	lease_ms = v->order.lease_ms;
	pthread_mutex_unlock(&v->lock);
	return clock_ms() + lease_ms;
}

void votes_give_word(struct cluster *cluster)
{
	struct votes *v = cluster->votes;
	uint32_t id = 0;

	pthread_mutex_lock(&cluster->lock);
	if (cluster->primary >= 0)
		id = cluster->members[cluster->primary]->seen.server_id;
	pthread_mutex_unlock(&cluster->lock);
	pthread_mutex_lock(&v->lock);
	v->changing = false;
	v->primary_id = id;
	update_word(v);
	if (v->always)
		await_voters(v);
	pthread_mutex_unlock(&v->lock);
}

/* ---- The rest ---- */

bool votes_stranger(struct cluster *cluster, char voter[72], char host[64])
{
	struct votes *v = cluster->votes;
	uint64_t now = clock_ms();
	bool found = false;

	pthread_mutex_lock(&v->lock);
	for (size_t i = 0; i < v->count && v->always && !found; i++) {
		const struct voter *one = &v->voters[i];

		/* One's own connection of before a restart is gone after a lease. */
		found = one->stranger_ms && now > one->stranger_ms + 2 * (uint64_t)v->order.lease_ms;
		if (!found)
			continue;
		snprintf(voter, 72, "%s", one->name);
		snprintf(host, 64, "%s", one->stranger);
	}
	pthread_mutex_unlock(&v->lock);
	return found;
}

void votes_status(struct cluster *cluster, struct votes_status *out)
{
	struct votes *v = cluster->votes;
	uint64_t now = clock_ms();

	memset(out, 0, sizeof(*out));
	out->lease_left_ms = -1;
	if (!v)
		return;
	pthread_mutex_lock(&v->lock);
	count_votes(v, now);
	out->is_held = v->always;
	out->is_leader = v->state == VOTE_LEAD;
	out->other_leads = v->counted.taken >= v->counted.half && v->counted.taken;
	out->mine = v->counted.mine;
	out->voters = v->counted.voters;
	out->majority = v->counted.majority;
	out->writes_wait = v->writes_wait;
	if (v->always)
		out->lease_left_ms = v->counted.writes_until_ms > now ? (int64_t)(v->counted.writes_until_ms - now) : 0;
	describe(v, out->text, sizeof(out->text));
	pthread_mutex_unlock(&v->lock);
}

bool votes_start(struct cluster *cluster)
{
	struct votes *v = calloc(1, sizeof(*v));
	pthread_condattr_t monotonic;
	int error;

	if (!v)
		return false;
	v->cluster = cluster;
	v->begun_ms = clock_ms();
	v->dice = (unsigned)clock_us() ^ (unsigned)getpid() << 16;
	pthread_mutex_init(&v->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&v->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	cluster->votes = v;
	v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = v->wake_fd < 0 ? errno : pthread_create(&v->thread, NULL, run_votes, v);
	if (!error)
		return true;
	if (v->wake_fd >= 0)
		close(v->wake_fd);
	free(v);
	cluster->votes = NULL;
	errno = error;
	return false;
}

void votes_stop(struct cluster *cluster)
{
	struct votes *v = cluster->votes;

	if (!v)
		return;
	atomic_store(&v->stop, true);
	wake(v);
	pthread_join(v->thread, NULL);
	stop_voters(v->voters, v->count);
	settings_unref(v->settings);
	pthread_cond_destroy(&v->moved);
	pthread_mutex_destroy(&v->lock);
	close(v->wake_fd);
	free(v);
	cluster->votes = NULL;
}
