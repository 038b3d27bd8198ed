/* What the peers ask of this Tandem: a thread that accepts, and one for each that is connected. */
#include "proxy/cluster/peer_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/vote.h"

enum {
	LOOK_MS = 100,	     /* how often a thread looks whether it is to stop */
	SILENCE_MS = 10000,  /* a peer that says nothing for so long is gone: it speaks twice a second */
	HOLD_SILENCE_MS = 3000, /* and while it has this Tandem hold writes */
	MESSAGE_MS = 2000,   /* from its first byte to its last */
	COUNT_MS = 20,	     /* an answer to `hold` waits as long for open writes to end, so that it is asked seldom */
	RELEASE_MS = 1000,
};

/* ---- State ---- */

static void add_acknowledged(json_t *state, const struct member *m)
{
	struct gtid_set set;
	char text[1024];

	gtid_board_read(&m->server->acknowledged, &set);
	if (m->seen.flavour == SQL_MYSQL)
		gtid_format_mysql(&set, text, sizeof(text));
	else
		gtid_format(&set, text, sizeof(text));
	json_object_set_new(state, "acknowledged", json_string(text));
}

json_t *peers_make_state(struct cluster *cluster, const char *say)
{
	json_t *state = json_object();
	bool has_lease;

	pthread_mutex_lock(&cluster->lock);
	has_lease = cluster->has_lease;
	pthread_mutex_unlock(&cluster->lock);
	json_object_set_new(state, "say", json_string(say));
	json_object_set_new(state, "leads", json_boolean(cluster->votes && has_lease && votes_is_leader(cluster)));
	pthread_mutex_lock(&cluster->lock);
	json_object_set_new(state, "epoch", json_integer((json_int_t)cluster_epoch(cluster)));
	if (cluster->root >= 0) {
		const struct member *m = cluster->members[cluster->root];

		json_object_set_new(state, "primary", json_string(m->server->name));
		json_object_set_new(state, "primary_id", json_integer(m->seen.server_id));
		json_object_set_new(state, "primary_up", json_boolean(m->health == HEALTH_UP));
		add_acknowledged(state, m);
	}
	pthread_mutex_unlock(&cluster->lock);
	return state;
}

void peers_take_acknowledged(struct cluster *cluster, const json_t *state)
{
	const char *text = json_string_value(json_object_get(state, "acknowledged"));
	json_int_t id = json_integer_value(json_object_get(state, "primary_id"));
	struct gtid_set set;

	if (!text || !gtid_parse(text, strlen(text), &set) || !set.count)
		return;
	pthread_mutex_lock(&cluster->lock);
	if (cluster->root >= 0 && cluster->members[cluster->root]->seen.server_id == id)
		gtid_board_raise(&cluster->members[cluster->root]->server->acknowledged, &set);
	pthread_mutex_unlock(&cluster->lock);
}

/* ---- Answers ---- */

static bool answer_state(struct caller *c, const json_t *message, const char *say)
{
	json_t *answer = peers_make_state(c->peers->cluster, say);
	bool ok = answer && peer_send(&c->link, answer);

	peers_take_acknowledged(c->peers->cluster, message);
	json_decref(answer);
	return ok;
}

/* The peer has lost the primary: this Tandem looks whether it has, too. */
static bool answer_look(struct caller *c, const json_t *message)
{
	struct cluster *cluster = c->peers->cluster;

	pthread_mutex_lock(&cluster->lock);
	if (cluster->root >= 0 && !atomic_exchange(&cluster->members[cluster->root]->suspect, true))
		member_wake(cluster->members[cluster->root]);
	pthread_mutex_unlock(&cluster->lock);
	return answer_state(c, message, "state");
}

static bool refuse(struct caller *c, const char *why)
{
	json_t *answer = json_pack("{s:s, s:s}", "say", "refused", "why", why);
	bool ok = answer && peer_send(&c->link, answer);

	log_warning(NULL, "peer %s wants writes held: refused, it %s", c->name, why);
	json_decref(answer);
	return ok;
}

/* An operation that begins from what is not so any more must not go on. */
static bool is_current(struct caller *c, const json_t *message, char *why, size_t size)
{
	struct cluster *cluster = c->peers->cluster;
	uint64_t theirs = (uint64_t)json_integer_value(json_object_get(message, "new_epoch")), mine;
	json_int_t primary = json_integer_value(json_object_get(message, "primary_id"));
	uint32_t own = 0;

	pthread_mutex_lock(&cluster->lock);
	mine = cluster_epoch(cluster);
	if (cluster->root >= 0)
		own = cluster->members[cluster->root]->seen.server_id;
	pthread_mutex_unlock(&cluster->lock);
	/* Its row may have been seen already. */
	if (theirs < mine)
		snprintf(why, size, "knows of epoch %llu already, and %llu is to begin: does this Tandem see all servers?",
			 (unsigned long long)mine, (unsigned long long)theirs);
	else if (own && own != primary)
		snprintf(why, size, "has server id %u as the primary, and not %lld: wait until both see the same", own, (long long)primary);
	else
		return true;
	return false;
}

static bool begin_hold(struct caller *c, const json_t *message, char *why, size_t size)
{
	const char *operation = json_string_value(json_object_get(message, "operation"));
	char what[CONTROL_NAME], busy[CONTROL_NAME];

	if (!is_current(c, message, why, size))
		return false;
	snprintf(what, sizeof(what), "%.50s by %.40s", operation ? operation : "operation", c->name);
	if (!control_begin(c->peers->cluster, what, busy)) {
		snprintf(why, size, "is busy with %s: wait until that is over", busy);
		return false;
	}
	c->holds = true;
	c->is_failover = operation && !strncmp(operation, "failover", 8);
	log_info(NULL, "peer %s: %s begins, writes are held", c->name, operation ? operation : "an operation");
	return true;
}

static void set_gate(struct caller *c, enum gate gate)
{
	struct cluster *cluster = c->peers->cluster;
	bool same;

	pthread_mutex_lock(&cluster->lock);
	same = cluster->gate == gate;
	pthread_mutex_unlock(&cluster->lock);
	if (!same)
		control_set_gate(cluster, gate);
}

static bool answer_hold(struct caller *c, const json_t *message)
{
	const char *gate = json_string_value(json_object_get(message, "gate"));
	uint64_t until = clock_ms() + COUNT_MS;
	struct gate_count count;
	char why[200];
	json_t *answer;
	bool ok;

	if (!c->holds && !begin_hold(c, message, why, sizeof(why)))
		return refuse(c, why);
	set_gate(c, c->is_failover ? GATE_TAKEOVER : gate && !strcmp(gate, "hold") ? GATE_HOLD : GATE_SEALED);
	while ((!control_count(c->peers->cluster, &count) || count.open_writes) && clock_ms() < until)
		control_wait_moved(c->peers->cluster, 2);
	answer = peers_make_state(c->peers->cluster, "held");
	json_object_set_new(answer, "adopted", json_boolean(count.adopted));
	json_object_set_new(answer, "open", json_integer(count.open_writes));
	ok = answer && peer_send(&c->link, answer);
	json_decref(answer);
	return ok;
}

static struct member *find_member(struct cluster *cluster, json_int_t id)
{
	struct member *found = NULL;

	pthread_mutex_lock(&cluster->lock);
	for (size_t i = 0; i < cluster->member_count; i++)
		if (cluster->members[i]->has_seen && cluster->members[i]->seen.server_id == id)
			found = cluster->members[i];
	pthread_mutex_unlock(&cluster->lock);
	return found;
}

/* Every worker has clamped its tokens before the gate opens; see control_adopt(). */
static void adopt(struct cluster *cluster, struct member *primary, const char *text)
{
	uint64_t until = clock_ms() + RELEASE_MS;
	struct gate_count count;
	struct gtid_set fork;

	if (!text || !text[0]) {
		control_adopt(cluster, primary, NULL);
		return;
	}
	if (!gtid_parse(text, strlen(text), &fork))
		fork = (struct gtid_set){ .lost = true };
	control_adopt(cluster, primary, &fork);
	while (!control_count(cluster, &count) && clock_ms() < until)
		control_wait_moved(cluster, 2);
	control_set_gate(cluster, GATE_OPEN);
}

/* A server that this Tandem has never reached stays unknown to it; what the votes say keeps it from writing to another. */
static bool answer_release(struct caller *c, const json_t *message)
{
	struct member *primary = find_member(c->peers->cluster, json_integer_value(json_object_get(message, "new_primary_id")));

	if (c->holds && primary) {
		adopt(c->peers->cluster, primary, json_string_value(json_object_get(message, "fork")));
		log_info(NULL, "peer %s: the primary is %s, writes go on", c->name, primary->server->name);
	}
	return answer_state(c, message, "released");
}

static void end_hold(struct caller *c)
{
	if (!c->holds)
		return;
	control_end(c->peers->cluster);
	c->holds = false;
}

static bool answer_finish(struct caller *c, const json_t *message)
{
	bool ok = answer_state(c, message, "finished");

	end_hold(c);
	return ok;
}

static const struct {
	const char *say;
	bool (*answer)(struct caller *c, const json_t *message);
} words[] = {
	{ "look", answer_look }, { "hold", answer_hold }, { "release", answer_release }, { "finish", answer_finish },
};

static bool answer(struct caller *c, const json_t *message)
{
	const char *say = json_string_value(json_object_get(message, "say"));

	for (size_t i = 0; say && i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(words[i].say, say))
			return words[i].answer(c, message);
	return answer_state(c, message, "state");
}

/* ---- Connections ---- */

static bool is_peer(void *owner, const char *name)
{
	const struct settings *s = ((struct caller *)owner)->peers->settings;

	for (size_t i = 0; i < s->peer_count; i++)
		if (!strcmp(s->peers[i].name, name))
			return true;
	return false;
}

static bool greet(struct caller *c)
{
	struct peers *all = c->peers;

	switch (peer_accepted(&c->link, c->fd, all->secret, all->name, c->name, is_peer, c)) {
	case PEER_GREETED:
		return true;
	case PEER_STRANGE:
		if (c->name[0])
			log_warning(NULL, "a Tandem called %s connects from %s and is not a [peer] here: hung up on", c->name, c->from);
		else
			log_warning(NULL, "peer_listen: what connects from %s is no Tandem: hung up on", c->from);
		break;
	case PEER_WRONG_SECRET:
		log_warning(NULL, "peer_listen: whoever connects from %s has another peer_secret: hung up on", c->from);
		break;
	case PEER_GONE:
		log_debug(NULL, "peer_listen: the connection from %s ended before it said who it is", c->from);
		break;
	}
	return false;
}

/* False: silent for too long, closed, or the daemon stops. */
static bool await_message(struct caller *c)
{
	uint64_t until = clock_ms() + (c->holds ? HOLD_SILENCE_MS : SILENCE_MS);
	struct pollfd p = { .fd = c->link.fd, .events = POLLIN };

	while (!atomic_load(&c->peers->is_deaf) && clock_ms() < until)
		if (poll(&p, 1, LOOK_MS) > 0)
			return true;
	return false;
}

static bool hear(struct caller *c)
{
	json_t *message = await_message(c) ? peer_receive(&c->link, MESSAGE_MS) : NULL;
	bool ok = message && answer(c, message);

	json_decref(message);
	return ok;
}

/* Whoever fails over without having told the end may have got as far as another primary: what this Tandem knew before the votes said
 * nothing any more must have run out before it writes again. */
static void lose(struct caller *c)
{
	uint64_t until = clock_ms() + c->peers->settings->monitor.lease_ms;

	if (!c->holds)
		return;
	log_warning(NULL, "peer %s is lost in the middle of its operation: writes are not held for it any more", c->name);
	while (c->is_failover && clock_ms() < until && !atomic_load(&c->peers->is_deaf))
		poll(NULL, 0, LOOK_MS);
	end_hold(c);
}

static void *run_caller(void *arg)
{
	struct caller *c = arg;

	if (greet(c)) {
		log_debug(NULL, "peer %s connected from %s", c->name, c->from);
		while (hear(c))
			;
		lose(c);
	}
	peer_close(&c->link);
	atomic_store(&c->is_over, true);
	return NULL;
}

static struct caller *free_caller(struct peers *all)
{
	for (size_t i = 0; i < PEER_CALLERS; i++) {
		struct caller *c = &all->callers[i];

		if (c->is_used && atomic_load(&c->is_over)) {
			pthread_join(c->thread, NULL);
			c->is_used = false;
		}
		if (!c->is_used)
			return c;
	}
	return NULL;
}

static void take_caller(struct peers *all, int fd, const struct sockaddr_storage *from)
{
	struct caller *c = free_caller(all);
	uint16_t port;

	if (!c) {
		log_warning(NULL, "peer_listen: more than %d connections: one is hung up on", PEER_CALLERS);
		close(fd);
		return;
	}
	memset(c, 0, sizeof(*c));
	c->peers = all;
	c->fd = fd;
	c->link.fd = -1;
	peer_describe(from, c->from, sizeof(c->from), &port);
	c->is_used = pthread_create(&c->thread, NULL, run_caller, c) == 0;
	if (!c->is_used)
		close(fd);
}

static void *run_server(void *arg)
{
	struct peers *all = arg;
	struct pollfd p = { .fd = all->listener.fd, .events = POLLIN };

	while (!atomic_load(&all->is_deaf)) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		int fd = poll(&p, 1, LOOK_MS) > 0 ? accept4(all->listener.fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC) : -1;

		if (fd >= 0)
			take_caller(all, fd, &from);
	}
	return NULL;
}

bool peer_server_start(struct peers *peers)
{
	char why[256];
	int error;

	if (!listen_open(&peers->listener, peers->settings->peer_listen, 0600, why, sizeof(why))) {
		log_error(NULL, "[tandem] peer_listen = %s: %s", peers->settings->peer_listen, why);
		return false;
	}
	error = pthread_create(&peers->thread, NULL, run_server, peers);
	peers->is_serving = !error;
	if (error)
		log_error(NULL, "peer_listen: no thread: %s", strerror(error));
	return !error;
}

void peer_server_stop(struct peers *peers)
{
	if (peers->is_serving)
		pthread_join(peers->thread, NULL);
	for (size_t i = 0; i < PEER_CALLERS; i++)
		if (peers->callers[i].is_used)
			pthread_join(peers->callers[i].thread, NULL);
	listen_close(&peers->listener);
}
