/*
 * Inside the room: what its faces and commands share.
 */
#ifndef TANDEM_ADMIN_ROOM_H
#define TANDEM_ADMIN_ROOM_H

#include <openssl/ssl.h>
#include <pthread.h>

#include "admin/admin.h"
#include "admin/answer.h"
#include "admin/channel.h"
#include "admin/command.h"
#include "admin/settings.h"
#include "base/listen.h"

enum {
	ADMIN_CLIENTS = 250, /* at the same time */
	ADMIN_LISTENERS = 9,
	ADMIN_LOGIN_MS = 10000, /* a client must have said who it is, or what it wants, by then */
};

/* A client while it is served. */
struct visitor {
	struct admin *admin;
	struct channel channel;
	char from[128]; /* "uid 0 over the socket", "admin from 127.0.0.1:4711": for log lines */
	char host[64];
	uint16_t port;
	uint32_t number;
};

/* A way in. */
struct face {
	void (*serve)(struct visitor *visitor);
	/* There are too many clients: says so. */
	void (*refuse)(struct visitor *visitor);
};
extern const struct face face_socket;
extern const struct face face_console;

struct way_in {
	const struct face *face;
	struct listen_socket socket;
};

struct admin {
	struct admin_host host;
	int stop_fd; /* eventfd: readable from the stop on */
	pthread_t acceptor;
	bool accepting;
	struct way_in ways[ADMIN_LISTENERS];
	size_t way_count;
	char socket_path[300];
	SSL_CTX *tls; /* of the console; NULL: none */
	uint8_t fingerprint[32];
	bool self_signed;
	pthread_mutex_t lock;
	pthread_cond_t all_gone;
	/* Under the lock. */
	struct settings *settings;
	unsigned clients;
	uint32_t last_number;
};

/* A command being carried out. */
struct call {
	struct admin *admin;
	const struct request *request;
	struct answer *answer;
	const char *from;
	struct channel *channel; /* NULL: the face does not stream */
};

/* Carries it out and fills the answer, whatever comes. Blocks. */
void call_run(struct call *call);

#endif
