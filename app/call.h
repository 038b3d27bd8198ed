/*
 * One request on its way through the application room, shared by two sides. The carrier is an event loop that has the client: a web worker, or
 * the FastCGI listener. The other side is the app's thread, which may block. Bytes go through two bounded queues; whoever finds his full
 * waits, the thread on a condition, the loop for news in its inbox.
 *
 *    carrier                                                          app's thread
 *    app_call_new, params, app_call_feed..., app_call_start  ------>  queue, then the handler
 *    news() <------ inbox                                    <------  output, or room for more input
 *    app_call_leave                                          ------>  reads and writes fail, the handler ends
 */
#ifndef TANDEM_APP_CALL_H
#define TANDEM_APP_CALL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/inbox.h"
#include "base/log.h"

struct app_call;
struct app_module;
struct app_room;

enum { APP_IN_HIGH = 256 * 1024, APP_OUT_HIGH = 256 * 1024 };

/* The carrier's own thread, soon after something happened: see app_call_take(). */
typedef void (*app_news)(struct app_call *call, void *owner);

struct app_call {
	struct log_subject subject;
	struct inbox_message message; /* of news; holds a reference while it is posted */
	TAILQ_ENTRY(app_call) link;   /* waiting for a thread */
	_Atomic unsigned refs;
	struct app_room *room;
	struct app_module *module; /* held */
	/* The carrier's. */
	struct inbox *inbox;
	app_news news;
	void *owner;	   /* NULL once it left */
	struct buf params; /* FastCGI's name-value pairs; not changed once started */
	char *prefix;	   /* of the route: "/people", "" for "/" */
	/* Both sides', under `lock`. */
	pthread_mutex_t lock;
	pthread_cond_t moved; /* the app's thread waits for it */
	bool posted;
	bool gone; /* nobody takes the answer any more: no news is posted from then on */
	struct buf in;
	bool in_over;
	bool in_full; /* the carrier waits for room */
	struct buf out;
	unsigned status; /* 0: the head is not there yet */
	struct buf head; /* NAME\0VALUE\0... */
	bool head_taken;
	bool over;   /* the handler has returned */
	bool failed; /* the answer is not what it should have been: memory */
	uint64_t sql_us;
};

/* What there is to be passed on. */
struct app_output {
	unsigned status; /* not 0: the head, told once */
	struct buf head; /* NAME\0VALUE\0...; the taker frees it */
	struct buf body; /* the taker frees it */
	bool over;	 /* nothing follows; with the status, the body is whole */
	bool failed;
	bool room;	 /* more input is welcome */
	uint64_t sql_us; /* spent in SQL so far */
};

/* Takes over the module's reference. NULL: memory; the reference is given back then. */
struct app_call *app_call_new(struct app_room *room, struct app_module *module, const char *prefix, struct inbox *inbox, app_news news,
			      void *owner);
/* Input. False: no more for now; news will tell when there is room. What was given is taken in any case, unless memory runs out. */
bool app_call_feed(struct app_call *call, const void *bytes, size_t len) __attribute__((warn_unused_result));
/* All of it has come. `whole`: as it should; otherwise the app is told of an error. */
void app_call_feed_over(struct app_call *call, bool whole);
void app_call_take(struct app_call *call, struct app_output *out);
/* The next field of a head; false behind the last. `*at` begins as 0. */
bool app_head_next(const struct buf *head, size_t *at, const char **name, const char **value);
/* The carrier has no more use for it: no news follows. The carrier's reference ends. */
void app_call_leave(struct app_call *call);

/* For the room and the app's side. */
void app_call_ref(struct app_call *call);
void app_call_unref(struct app_call *call);
/* Waits for input. The number of bytes, 0 at the end, -1 when it is cut. */
ssize_t app_call_read(struct app_call *call, void *bytes, size_t size);
/* What the app's side has to give: emptied by whoever takes it. */
struct app_piece {
	unsigned status; /* of the head; 0: it was given before */
	struct buf *head;
	struct buf *body;
};
/* Passes output on. Waits for room. False: the client is gone. */
bool app_call_write(struct app_call *call, const struct app_piece *piece);
/* The handler has returned, `piece` is the last. */
void app_call_finish(struct app_call *call, const struct app_piece *piece, bool failed, uint64_t sql_us);
bool app_call_is_gone(struct app_call *call);

#endif
