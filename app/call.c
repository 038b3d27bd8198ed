#include "app/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/module.h"

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct app_call *call = (const struct app_call *)((const char *)subject - offsetof(struct app_call, subject));

	snprintf(out, size, "app %s", call->module->app->name);
}

struct app_call *app_call_new(struct app_room *room, struct app_module *module, const char *prefix, struct inbox *inbox, app_news news,
			      void *owner)
{
	struct app_call *call = calloc(1, sizeof(*call));
	char *copy = strdup(prefix);

	if (!call || !copy) {
		free(call);
		free(copy);
		app_module_unref(module);
		return NULL;
	}
	call->subject.describe = describe;
	call->room = room;
	call->module = module;
	call->prefix = copy;
	call->inbox = inbox;
	call->news = news;
	call->owner = owner;
	atomic_init(&call->refs, 1);
	pthread_mutex_init(&call->lock, NULL);
	pthread_cond_init(&call->moved, NULL);
	return call;
}

void app_call_ref(struct app_call *call)
{
	atomic_fetch_add_explicit(&call->refs, 1, memory_order_relaxed);
}

void app_call_unref(struct app_call *call)
{
	if (atomic_fetch_sub_explicit(&call->refs, 1, memory_order_acq_rel) != 1)
		return;
	buf_fini(&call->params);
	buf_fini(&call->in);
	buf_fini(&call->out);
	buf_fini(&call->head);
	pthread_cond_destroy(&call->moved);
	pthread_mutex_destroy(&call->lock);
	app_module_unref(call->module);
	free(call->prefix);
	free(call);
}

/* ---- News ---- */

static void deliver(struct inbox_message *message, void *inbox_owner)
{
	struct app_call *call = (struct app_call *)((char *)message - offsetof(struct app_call, message));

	(void)inbox_owner;
	pthread_mutex_lock(&call->lock);
	call->posted = false;
	pthread_mutex_unlock(&call->lock);
	if (call->owner)
		call->news(call, call->owner);
	app_call_unref(call);
}

/* Under the lock: the inbox is there as long as the carrier has not left. */
static void post(struct app_call *call)
{
	if (call->posted || call->gone)
		return;
	call->posted = true;
	call->message.deliver = deliver;
	app_call_ref(call);
	inbox_post(call->inbox, &call->message);
}

/* ---- The carrier's side ---- */

bool app_call_feed(struct app_call *call, const void *bytes, size_t len)
{
	bool room;

	pthread_mutex_lock(&call->lock);
	if (!call->gone && !call->over && !buf_append(&call->in, bytes, len)) {
		call->failed = true;
		call->in_over = true;
	}
	/* Once full, the carrier waits for the news of room, whatever the app has read meanwhile: it is posted to none but who waits. */
	call->in_full |= !call->over && buf_len(&call->in) >= APP_IN_HIGH;
	room = call->over || !call->in_full;
	pthread_cond_signal(&call->moved);
	pthread_mutex_unlock(&call->lock);
	return room;
}

void app_call_feed_over(struct app_call *call, bool whole)
{
	pthread_mutex_lock(&call->lock);
	call->in_over = true;
	call->failed |= !whole;
	pthread_cond_signal(&call->moved);
	pthread_mutex_unlock(&call->lock);
}

static struct buf take_buf(struct buf *from)
{
	struct buf taken = *from;

	*from = (struct buf){ 0 };
	return taken;
}

void app_call_take(struct app_call *call, struct app_output *out)
{
	*out = (struct app_output){ 0 };
	pthread_mutex_lock(&call->lock);
	if (call->status && !call->head_taken) {
		call->head_taken = true;
		out->status = call->status;
		out->head = take_buf(&call->head);
	}
	out->body = take_buf(&call->out);
	out->over = call->over;
	out->failed = call->failed;
	out->room = call->in_full && (call->over || buf_len(&call->in) < APP_IN_HIGH);
	if (out->room)
		call->in_full = false;
	out->sql_us = call->sql_us;
	pthread_cond_signal(&call->moved);
	pthread_mutex_unlock(&call->lock);
}

bool app_head_next(const struct buf *head, size_t *at, const char **name, const char **value)
{
	const char *text = (const char *)buf_head(head);

	if (*at >= buf_len(head))
		return false;
	*name = text + *at;
	*value = *name + strlen(*name) + 1;
	*at = (size_t)(*value - text) + strlen(*value) + 1;
	return true;
}

void app_call_leave(struct app_call *call)
{
	call->owner = NULL;
	pthread_mutex_lock(&call->lock);
	call->gone = true;
	buf_fini(&call->in);
	buf_fini(&call->out);
	pthread_cond_signal(&call->moved);
	pthread_mutex_unlock(&call->lock);
	app_call_unref(call);
}

/* ---- The app's side ---- */

ssize_t app_call_read(struct app_call *call, void *bytes, size_t size)
{
	ssize_t n = -1;

	pthread_mutex_lock(&call->lock);
	while (!call->gone && !buf_len(&call->in) && !call->in_over)
		pthread_cond_wait(&call->moved, &call->lock);
	if (!call->gone && buf_len(&call->in)) {
		n = (ssize_t)(buf_len(&call->in) < size ? buf_len(&call->in) : size);
		memcpy(bytes, buf_head(&call->in), (size_t)n);
		buf_consume(&call->in, (size_t)n);
		if (call->in_full && buf_len(&call->in) < APP_IN_HIGH / 2)
			post(call);
	} else if (!call->gone && !call->failed) {
		n = 0;
	}
	pthread_mutex_unlock(&call->lock);
	return n;
}

/* Under the lock. */
static void give(struct app_call *call, const struct app_piece *piece)
{
	if (piece->status && !call->status) {
		call->status = piece->status;
		call->head = take_buf(piece->head);
	}
	if (!buf_move(&call->out, piece->body))
		call->failed = true;
}

bool app_call_write(struct app_call *call, const struct app_piece *piece)
{
	bool fine;

	pthread_mutex_lock(&call->lock);
	while (!call->gone && buf_len(&call->out) >= APP_OUT_HIGH)
		pthread_cond_wait(&call->moved, &call->lock);
	fine = !call->gone;
	if (fine)
		give(call, piece);
	post(call);
	pthread_mutex_unlock(&call->lock);
	return fine;
}

void app_call_finish(struct app_call *call, const struct app_piece *piece, bool failed, uint64_t sql_us)
{
	pthread_mutex_lock(&call->lock);
	if (!call->gone)
		give(call, piece);
	call->over = true;
	call->failed |= failed;
	call->sql_us = sql_us;
	buf_fini(&call->in);
	post(call);
	pthread_mutex_unlock(&call->lock);
}

bool app_call_is_gone(struct app_call *call)
{
	bool gone;

	pthread_mutex_lock(&call->lock);
	gone = call->gone;
	pthread_mutex_unlock(&call->lock);
	return gone;
}
