#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST_BYTES = 4096 };

void buf_fini(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){ 0 };
}

/* Consumed space at the head is used again before more memory is asked for. */
static void move_to_front(struct buf *buf)
{
	size_t len = buf_len(buf);

	memmove(buf->data, buf->data + buf->head, len);
	buf->head = 0;
	buf->tail = len;
}

static bool grow(struct buf *buf, size_t need)
{
	size_t size = buf->size ? buf->size : BUF_FIRST_BYTES;
	uint8_t *data;

	while (size < need) {
		if (size > SIZE_MAX / 2)
			return false;
		size *= 2;
	}
	data = realloc(buf->data, size);
	if (!data)
		return false;
	buf->data = data;
	buf->size = size;
	return true;
}

uint8_t *buf_reserve(struct buf *buf, size_t more)
{
	size_t len = buf_len(buf);

	if (more > SIZE_MAX - len)
		return NULL;
	if (buf->data && more <= buf->size - buf->tail)
		return buf->data + buf->tail;
	/* Moving less than is free pays for itself; a nearly full buffer grows instead, so that a queue that is
	 * fed and drained a little at a time is not copied over and over. */
	if (buf->data && len + more <= buf->size && len <= buf->size / 2)
		move_to_front(buf);
	else if (!grow(buf, buf->tail + more))
		return NULL;
	return buf->data + buf->tail;
}

void buf_commit(struct buf *buf, size_t len)
{
	buf->tail += len;
}

bool buf_append(struct buf *buf, const void *bytes, size_t len)
{
	uint8_t *place;

	if (len == 0)
		return true;
	place = buf_reserve(buf, len);
	if (!place)
		return false;
	memcpy(place, bytes, len);
	buf_commit(buf, len);
	return true;
}

void buf_consume(struct buf *buf, size_t len)
{
	buf->head += len;
	if (buf->head == buf->tail)
		buf_fini(buf);
}

bool buf_move(struct buf *to, struct buf *from)
{
	if (buf_len(from) == 0) {
		buf_fini(from);
		return true;
	}
	if (buf_len(to) == 0) {
		buf_fini(to);
		*to = *from;
		*from = (struct buf){ 0 };
		return true;
	}
	if (!buf_append(to, buf_head(from), buf_len(from)))
		return false;
	buf_fini(from);
	return true;
}
