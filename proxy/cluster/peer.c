/* What this Tandem asks of its peers: a connection to each, kept by a thread of its own. What they ask of it is peer_server.c. */
#include "proxy/cluster/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/peer_inside.h"

enum {
	CONNECT_MS = 2000,
	ANSWER_MS = 1500,
	STATE_MS = 500,	  /* between two tellings */
	LOOK_MS = 20,	  /* how often the thread looks whether it is to stop */
	NOTICE_MS = 1000, /* for a peer to notice that the primary is gone */
};

/* ---- Connecting ---- */

static bool split_address(const char *address, char host[256], char port[16])
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	if (!len || len >= 256)
		return false;
	if (address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	snprintf(host, 256, "%.*s", (int)len, address);
	snprintf(port, 16, "%s", colon + 1);
	return true;
}

static int try_connect(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int error = 0;

	if (fd < 0)
		return -1;
	if (connect(fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS)
		error = errno;
	else if (poll(&p, 1, CONNECT_MS) <= 0)
		error = ETIMEDOUT;
	else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		error = errno;
	if (!error)
		return fd;
	close(fd);
	errno = error;
	return -1;
}

static int dial(const char *address, char *why, size_t size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char host[256], port[16];
	int fd = -1, error;

	if (!split_address(address, host, port)) {
		snprintf(why, size, "%.120s is no address with a port", address);
		return -1;
	}
	error = getaddrinfo(host, port, &hints, &list);
	if (error) {
		snprintf(why, size, "%.120s: %s", host, gai_strerror(error));
		return -1;
	}
	for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
		fd = try_connect(a);
	if (fd < 0)
		snprintf(why, size, "%.80s: %s; does Tandem run there with that peer_listen?", address, strerror(errno));
	freeaddrinfo(list);
	return fd;
}

static void explain_greeting(const struct peer *p, enum peer_greeting greeting, const char *theirs, char *why, size_t size)
{
	const char *mine = p->peers->name;

	if (greeting == PEER_STRANGE)
		snprintf(why, size, "whoever listens at %.100s is no Tandem", p->address);
	else if (greeting == PEER_GONE)
		snprintf(why, size, "it hangs up: is peer_secret the same there, and this Tandem one of its [peer]s, as %.64s?", mine);
	else if (greeting == PEER_WRONG_SECRET)
		snprintf(why, size, "it does not know peer_secret");
	else
		snprintf(why, size, "at %.70s is a Tandem called %.40s: [peer] and its [tandem] name must agree", p->address, theirs);
}

/* The link's lock is held. */
static bool connect_peer(struct peer *p, char *why, size_t size)
{
	char theirs[PEER_NAME];
	enum peer_greeting greeting;
	int fd = dial(p->address, why, size);

	if (fd < 0)
		return false;
	greeting = peer_connected(&p->link, fd, p->peers->secret, p->peers->name, theirs);
	if (greeting == PEER_GREETED && !strcmp(theirs, p->name))
		return true;
	explain_greeting(p, greeting, theirs, why, size);
	peer_close(&p->link);
	return false;
}

/* ---- What is known of it ---- */

static void tell_connected(struct peer *p, bool connected, const char *why)
{
	struct peers *all = p->peers;
	bool news;

	pthread_mutex_lock(&all->lock);
	news = p->is_told ? p->view.is_connected != connected || (!connected && strcmp(p->view.trouble, why) != 0) : true;
	p->is_told = true;
	p->view.is_connected = connected;
	snprintf(p->view.trouble, sizeof(p->view.trouble), "%s", connected ? "" : why);
	pthread_mutex_unlock(&all->lock);
	if (news && connected)
		history_note(all->cluster->history, "peer", "", "peer %s is there", p->name);
	else if (news)
		history_note(all->cluster->history, "peer", "", "peer %s does not answer: %.250s", p->name, why);
}

static void take_state(struct peer *p, const json_t *state)
{
	const char *primary = json_string_value(json_object_get(state, "primary"));

	pthread_mutex_lock(&p->peers->lock);
	p->view.leads = json_is_true(json_object_get(state, "leads"));
	p->view.epoch = (uint64_t)json_integer_value(json_object_get(state, "epoch"));
	p->reaches_primary = json_is_true(json_object_get(state, "primary_up"));
	snprintf(p->view.primary, sizeof(p->view.primary), "%.63s", primary ? primary : "");
	pthread_mutex_unlock(&p->peers->lock);
	peers_take_acknowledged(p->peers->cluster, state);
}

/* Question and answer; NULL when it is not there. Takes the question. */
static json_t *ask(struct peer *p, json_t *question)
{
	json_t *answer = NULL;
	bool had;

	pthread_mutex_lock(&p->link_lock);
	had = p->link.fd >= 0;
	if (had && question && peer_send(&p->link, question))
		answer = peer_receive(&p->link, ANSWER_MS);
	pthread_mutex_unlock(&p->link_lock);
	json_decref(question);
	if (had && !answer)
		tell_connected(p, false, "it has closed the connection, or fell silent");
	return answer;
}

static void exchange_states(struct peer *p)
{
	char why[200] = "";
	json_t *answer;

	pthread_mutex_lock(&p->link_lock);
	if (p->link.fd < 0 && !connect_peer(p, why, sizeof(why))) {
		pthread_mutex_unlock(&p->link_lock);
		tell_connected(p, false, why);
		return;
	}
	pthread_mutex_unlock(&p->link_lock);
	answer = ask(p, peers_make_state(p->peers->cluster, "state"));
	if (!answer)
		return;
	take_state(p, answer);
	json_decref(answer);
	tell_connected(p, true, "");
}

static void *run_peer(void *arg)
{
	struct peer *p = arg;

	while (!atomic_load(&p->peers->stop)) {
		exchange_states(p);
		for (int i = 0; i < STATE_MS / LOOK_MS && !atomic_load(&p->peers->stop); i++)
			poll(NULL, 0, LOOK_MS);
	}
	pthread_mutex_lock(&p->link_lock);
	peer_close(&p->link);
	pthread_mutex_unlock(&p->link_lock);
	return NULL;
}

/* ---- Operations ---- */

static bool is_connected(struct peer *p)
{
	bool connected;

	pthread_mutex_lock(&p->peers->lock);
	connected = p->view.is_connected;
	pthread_mutex_unlock(&p->peers->lock);
	return connected;
}

/* One that is not connected is not waited for. */
static json_t *ask_one(struct peer *p, json_t *question)
{
	if (is_connected(p))
		return ask(p, question);
	json_decref(question);
	return NULL;
}

static void note_missing(struct peers_answer *out, const struct peer *p, const char *why)
{
	snprintf(out->missing, sizeof(out->missing), "%s", p->name);
	snprintf(out->why, sizeof(out->why), "peer %s %.200s", p->name, why);
}

static bool still_reaches(struct peer *p)
{
	json_t *answer = ask_one(p, peers_make_state(p->peers->cluster, "look"));
	bool reaches;

	if (!answer)
		return false;
	take_state(p, answer);
	json_decref(answer);
	pthread_mutex_lock(&p->peers->lock);
	reaches = p->reaches_primary;
	pthread_mutex_unlock(&p->peers->lock);
	return reaches;
}

void peers_ask(struct cluster *cluster, struct peers_answer *out, char reaches[64])
{
	struct peers *all = cluster->peers;
	uint64_t until = clock_ms() + NOTICE_MS;

	memset(out, 0, sizeof(*out));
	reaches[0] = '\0';
	for (size_t i = 0; all && i < all->count; i++) {
		struct peer *p = &all->list[i];
		bool reached = still_reaches(p);

		while (reached && clock_ms() < until) {
			poll(NULL, 0, LOOK_MS);
			reached = still_reaches(p);
		}
		if (reached)
			snprintf(reaches, 64, "%.63s", p->name);
		if (is_connected(p))
			out->answered++;
		else
			note_missing(out, p, "does not answer");
	}
}

static void take_held(struct peers_answer *out, const struct peer *p, const json_t *answer)
{
	const char *said = answer ? json_string_value(json_object_get(answer, "say")) : NULL;
	const char *why = answer ? json_string_value(json_object_get(answer, "why")) : NULL;

	if (!said) {
		note_missing(out, p, "does not answer");
	} else if (strcmp(said, "held") != 0) {
		note_missing(out, p, why ? why : "does not want to hold");
	} else {
		unsigned open = (unsigned)json_integer_value(json_object_get(answer, "open"));

		out->answered++;
		if (!json_is_true(json_object_get(answer, "adopted")))
			out->open_writes = UINT_MAX;
		else if (out->open_writes != UINT_MAX)
			out->open_writes += open;
	}
}

void peers_hold(struct cluster *cluster, const char *what, enum gate gate, uint64_t epoch, struct peers_answer *out)
{
	struct peers *all = cluster->peers;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; all && i < all->count; i++) {
		json_t *question = peers_make_state(cluster, "hold"), *answer;

		json_object_set_new(question, "operation", json_string(what));
		json_object_set_new(question, "gate", json_string(gate == GATE_HOLD ? "hold" : "sealed"));
		json_object_set_new(question, "new_epoch", json_integer((json_int_t)epoch));
		answer = ask_one(&all->list[i], question);
		take_held(out, &all->list[i], answer);
		if (answer)
			peers_take_acknowledged(cluster, answer);
		json_decref(answer);
	}
}

static void tell_all(struct cluster *cluster, json_t *(*make)(struct cluster *cluster, const void *about), const void *about)
{
	struct peers *all = cluster->peers;

	for (size_t i = 0; all && i < all->count; i++)
		json_decref(ask_one(&all->list[i], make(cluster, about)));
}

struct release {
	const struct member *primary;
	const char *fork;
};

static json_t *make_release(struct cluster *cluster, const void *about)
{
	const struct release *r = about;
	json_t *message = peers_make_state(cluster, "release");

	json_object_set_new(message, "new_primary_id", json_integer(r->primary->seen.server_id));
	json_object_set_new(message, "fork", json_string(r->fork));
	return message;
}

static json_t *make_finish(struct cluster *cluster, const void *about)
{
	(void)about;
	return peers_make_state(cluster, "finish");
}

void peers_release(struct cluster *cluster, const struct member *primary, const char *fork)
{
	struct release r = { primary, fork };

	tell_all(cluster, make_release, &r);
}

void peers_finish(struct cluster *cluster)
{
	tell_all(cluster, make_finish, NULL);
}

/* ---- The rest ---- */

size_t peers_count(struct cluster *cluster)
{
	return cluster->peers ? cluster->peers->count : 0;
}

size_t peers_status(struct cluster *cluster, struct peer_view out[PEERS_MAX])
{
	struct peers *all = cluster->peers;

	if (!all)
		return 0;
	pthread_mutex_lock(&all->lock);
	for (size_t i = 0; i < all->count; i++)
		out[i] = all->list[i].view;
	pthread_mutex_unlock(&all->lock);
	return all->count;
}

bool peers_leader(struct cluster *cluster, char name[64])
{
	struct peer_view views[PEERS_MAX] = { 0 };
	size_t n = peers_status(cluster, views);

	for (size_t i = 0; i < n; i++)
		if (views[i].is_connected && views[i].leads) {
			memcpy(name, views[i].name, 64);
			return true;
		}
	return false;
}

static bool start_peer(struct peers *all, const struct peer_settings *s)
{
	struct peer *p = &all->list[all->count];
	int error;

	p->peers = all;
	p->link.fd = -1;
	p->name = s->name;
	p->address = s->address;
	snprintf(p->view.name, sizeof(p->view.name), "%s", s->name);
	snprintf(p->view.address, sizeof(p->view.address), "%s", s->address);
	pthread_mutex_init(&p->link_lock, NULL);
	error = pthread_create(&p->thread, NULL, run_peer, p);
	if (!error) {
		all->count++;
		return true;
	}
	pthread_mutex_destroy(&p->link_lock);
	log_error(NULL, "peer %s: no thread: %s", s->name, strerror(error));
	return false;
}

static void take_name(struct peers *all)
{
	if (all->settings->name)
		snprintf(all->name, sizeof(all->name), "%s", all->settings->name);
	else if (gethostname(all->name, sizeof(all->name) - 1))
		snprintf(all->name, sizeof(all->name), "tandem");
}

bool peers_start(struct cluster *cluster, struct settings *settings)
{
	struct peers *all = calloc(1, sizeof(*all));
	bool ok;

	if (!all)
		return false;
	cluster->peers = all;
	all->cluster = cluster;
	all->settings = settings_ref(settings);
	all->secret = settings->peer_secret;
	pthread_mutex_init(&all->lock, NULL);
	all->listener.fd = -1;
	take_name(all);
	ok = !settings->peer_listen || !settings->peer_secret || peer_server_start(all);
	for (size_t i = 0; ok && i < settings->peer_count && i < PEERS_MAX; i++)
		ok = start_peer(all, &settings->peers[i]);
	return ok;
}

void peers_hang_up(struct cluster *cluster)
{
	if (cluster->peers)
		atomic_store(&cluster->peers->is_deaf, true);
}

void peers_stop(struct cluster *cluster)
{
	struct peers *all = cluster->peers;

	if (!all)
		return;
	atomic_store(&all->stop, true);
	atomic_store(&all->is_deaf, true);
	peer_server_stop(all);
	for (size_t i = 0; i < all->count; i++) {
		pthread_join(all->list[i].thread, NULL);
		pthread_mutex_destroy(&all->list[i].link_lock);
	}
	pthread_mutex_destroy(&all->lock);
	settings_unref(all->settings);
	free(all);
	cluster->peers = NULL;
}
