#include "web/server_address.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { WEIGHT_MAX = 256, CONNECTIONS_MAX = 1000000 };

static bool read_count(const char *word, unsigned max, unsigned *out, char *why, size_t why_size)
{
	const char *text = strchr(word, '=') + 1;
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*out = (unsigned)value;
	if (*text >= '0' && *text <= '9' && !*end && value >= 1 && value <= max)
		return true;
	snprintf(why, why_size, "%s: expected a number from 1 to %u", word, max);
	return false;
}

static bool read_word(struct server_address *s, const char *word, char *why, size_t why_size)
{
	if (!strcmp(word, "backup")) {
		s->backup = true;
		return true;
	}
	if (!strncmp(word, "weight=", 7))
		return read_count(word, WEIGHT_MAX, &s->weight, why, why_size);
	if (!strncmp(word, "max_connections=", 16))
		return read_count(word, CONNECTIONS_MAX, &s->max_connections, why, why_size);
	snprintf(why, why_size, "%s: expected weight=N, max_connections=N or backup", word);
	return false;
}

static bool set_path(struct server_address *s, char *why, size_t why_size)
{
	struct sockaddr_un *at = (struct sockaddr_un *)&s->address;

	at->sun_family = AF_UNIX;
	s->address_len = sizeof(*at);
	if ((size_t)snprintf(at->sun_path, sizeof(at->sun_path), "%s", s->name + 5) < sizeof(at->sun_path))
		return true;
	snprintf(why, why_size, "%s: the path is too long for a Unix socket", s->name);
	return false;
}

static bool resolve(struct server_address *s, char *why, size_t why_size)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	char host[sizeof(s->name)];
	char *colon;
	int error;

	snprintf(host, sizeof(host), "%s", s->name);
	colon = strrchr(host, ':');
	if (!colon || colon == host || !colon[1]) {
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

bool server_address_read(const char *text, struct server_address *out, char *why, size_t why_size)
{
	char *copy = strdup(text), *save = NULL, *word = copy ? strtok_r(copy, " \t", &save) : NULL;
	bool ok = word && strlen(word) < sizeof(out->name);

	*out = (struct server_address){ .weight = 1 };
	if (ok)
		memcpy(out->name, word, strlen(word) + 1);
	else
		snprintf(why, why_size, "%.80s: no address", text);
	while (ok && (word = strtok_r(NULL, " \t", &save)))
		ok = read_word(out, word, why, why_size);
	free(copy);
	if (!ok)
		return false;
	return !strncmp(out->name, "unix:", 5) ? set_path(out, why, why_size) : resolve(out, why, why_size);
}
