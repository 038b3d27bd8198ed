/*
 * A byte queue that owns its memory only while it holds something: bytes are appended at the tail and consumed at
 * the head, and an emptied buffer gives its memory back. Idle connections therefore cost no buffer.
 */
#ifndef TANDEM_BASE_BUF_H
#define TANDEM_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* NULL when empty */
	size_t head;   /* first byte not consumed; head <= tail <= size */
	size_t tail;
	size_t size;
};

/* All zero is a valid empty buffer. */
void buf_fini(struct buf *buf);

static inline size_t buf_len(const struct buf *buf)
{
	return buf->tail - buf->head;
}

static inline uint8_t *buf_head(const struct buf *buf)
{
	return buf->data ? buf->data + buf->head : NULL;
}

/* Makes room for `more` bytes behind the tail and returns the place; NULL when memory ran out. */
uint8_t *buf_reserve(struct buf *buf, size_t more);
/* The caller wrote `len` bytes at the place buf_reserve() gave. */
void buf_commit(struct buf *buf, size_t len);
/* Appends a copy. False when memory ran out; the buffer is then unchanged. */
bool buf_append(struct buf *buf, const void *bytes, size_t len) __attribute__((warn_unused_result));
/* Drops `len` bytes at the head; frees the memory when nothing is left. */
void buf_consume(struct buf *buf, size_t len);
/* Moves everything of `from` behind `to`; `from` is empty afterwards. */
bool buf_move(struct buf *to, struct buf *from) __attribute__((warn_unused_result));

#endif
