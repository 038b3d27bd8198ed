#include "web/upstream.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOWN_MS = 2000, SERVERS_MAX = 64, WEIGHT_MAX = 256 };

/* ---- Addresses: "unix:/path" or host:port, then weight=N and backup ---- */

static bool read_word(struct upstream_server *s, const char *word, char *why, size_t why_size)
{
	char *end;

	if (!strcmp(word, "backup")) {
		s->backup = true;
		return true;
	}
	if (!strncmp(word, "weight=", 7)) {
		unsigned long weight = strtoul(word + 7, &end, 10);

		s->weight = (unsigned)weight;
		if (word[7] >= '0' && word[7] <= '9' && !*end && weight >= 1 && weight <= WEIGHT_MAX)
			return true;
		snprintf(why, why_size, "%s: a weight is 1 to %d", word, WEIGHT_MAX);
		return false;
	}
	snprintf(why, why_size, "%s: expected weight=N or backup", word);
	return false;
}

static bool resolve(struct upstream_server *s, char *why, size_t why_size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	char host[256];
	char *colon;
	int error;

	if (!strncmp(s->name, "unix:", 5)) {
		struct sockaddr_un *at = (struct sockaddr_un *)&s->address;

		at->sun_family = AF_UNIX;
		s->address_len = sizeof(*at);
		if ((size_t)snprintf(at->sun_path, sizeof(at->sun_path), "%s", s->name + 5) < sizeof(at->sun_path))
			return true;
		snprintf(why, why_size, "%s: the path is too long for a Unix socket", s->name);
		return false;
	}
	snprintf(host, sizeof(host), "%s", s->name);
	colon = strrchr(host, ':');
	if (!colon || !colon[1]) {
		snprintf(why, why_size, "%s: expected host:port or unix:/path", s->name);
		return false;
	}
	*colon = '\0';
	if (host[0] == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		memmove(host, host + 1, strlen(host));
	}
	error = getaddrinfo(host, colon + 1, &hints, &found);
	if (error) {
		snprintf(why, why_size, "%s: %s", s->name, gai_strerror(error));
		return false;
	}
	memcpy(&s->address, found->ai_addr, found->ai_addrlen);
	s->address_len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

static bool read_server(struct upstream_server *s, const char *text, char *why, size_t why_size)
{
	char *copy = strdup(text), *save = NULL, *word = copy ? strtok_r(copy, " \t", &save) : NULL;
	bool ok = word && (s->name = strdup(word)) != NULL;

	s->weight = 1;
	while (ok && (word = strtok_r(NULL, " \t", &save)))
		ok = read_word(s, word, why, why_size);
	free(copy);
	return ok && resolve(s, why, why_size);
}

/* ---- The order ---- */

/* Smooth weighted round-robin: each turn everybody gains its weight, the richest is next and pays the total. Backups count among themselves. */
static void add_order(struct upstream *u, bool backup)
{
	int have[SERVERS_MAX] = { 0 };
	int total = 0;

	for (size_t i = 0; i < u->server_count; i++)
		if (u->servers[i].backup == backup)
			total += (int)u->servers[i].weight;
	for (int turn = 0; turn < total; turn++) {
		size_t best = SERVERS_MAX;

		for (size_t i = 0; i < u->server_count; i++) {
			if (u->servers[i].backup != backup)
				continue;
			have[i] += (int)u->servers[i].weight;
			if (best == SERVERS_MAX || have[i] > have[best])
				best = i;
		}
		if (best == SERVERS_MAX)
			return; /* none is of that kind */
		have[best] -= total;
		u->order[u->order_count++] = (uint16_t)best;
	}
}

static bool make_order(struct upstream *u)
{
	size_t total = 0;

	for (size_t i = 0; i < u->server_count; i++)
		total += u->servers[i].weight;
	u->order = calloc(total, sizeof(*u->order));
	if (!u->order)
		return false;
	add_order(u, false);
	return true;
}

struct upstream *upstream_new(const struct web_upstream *settings, char *why, size_t why_size)
{
	struct upstream *u = calloc(1, sizeof(*u));

	snprintf(why, why_size, "out of memory");
	if (!u)
		return NULL;
	u->settings = settings;
	u->servers = calloc(settings->server_count, sizeof(*u->servers));
	if (settings->server_count > SERVERS_MAX) {
		snprintf(why, why_size, "more than %d servers", SERVERS_MAX);
	} else if (u->servers) {
		while (u->server_count < settings->server_count &&
		       read_server(&u->servers[u->server_count], settings->servers[u->server_count], why, why_size))
			u->server_count++;
		if (u->server_count == settings->server_count && make_order(u))
			return u;
	}
	upstream_free(u);
	return NULL;
}

void upstream_free(struct upstream *upstream)
{
	if (!upstream)
		return;
	for (size_t i = 0; upstream->servers && i < upstream->settings->server_count; i++)
		free(upstream->servers[i].name);
	free(upstream->servers);
	free(upstream->order);
	free(upstream);
}

/* ---- Choosing ---- */

static bool is_up(const struct upstream_server *s, uint64_t now_ms)
{
	return atomic_load_explicit(&s->down_until_ms, memory_order_relaxed) <= now_ms;
}

static bool was_tried(const struct upstream *u, const struct upstream_server *s, uint64_t tried)
{
	return tried >> (s - u->servers) & 1;
}

/* The next in the order that may be taken; one step of the counter however many are passed over. */
static struct upstream_server *pick_in_order(struct upstream *u, uint64_t tried, uint64_t now_ms)
{
	size_t start = atomic_fetch_add_explicit(&u->next, 1, memory_order_relaxed);

	for (size_t i = 0; i < u->order_count; i++) {
		struct upstream_server *s = &u->servers[u->order[(start + i) % u->order_count]];

		if (!was_tried(u, s, tried) && is_up(s, now_ms))
			return s;
	}
	return NULL;
}

static struct upstream_server *pick_any(struct upstream *u, uint64_t tried, uint64_t now_ms, bool backups, bool also_down)
{
	for (size_t i = 0; i < u->server_count; i++) {
		struct upstream_server *s = &u->servers[i];

		if (s->backup == backups && !was_tried(u, s, tried) && (also_down || is_up(s, now_ms)))
			return s;
	}
	return NULL;
}

struct upstream_server *upstream_pick(struct upstream *upstream, uint64_t tried, uint64_t now_ms)
{
	struct upstream_server *s = pick_in_order(upstream, tried, now_ms);

	if (!s)
		s = pick_any(upstream, tried, now_ms, true, false);
	/* All seem down: one that came back is found by trying. */
	if (!s)
		s = pick_any(upstream, tried, now_ms, false, true);
	return s ? s : pick_any(upstream, tried, now_ms, true, true);
}

void upstream_failed(struct upstream_server *server, uint64_t now_ms)
{
	atomic_store_explicit(&server->down_until_ms, now_ms + DOWN_MS, memory_order_relaxed);
}
