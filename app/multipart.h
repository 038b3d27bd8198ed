/*
 * multipart/form-data (RFC 7578, RFC 2046 section 5.1), taken apart as it comes in pieces of any size. No input or output of its own; what
 * waits is at most a part's head or a boundary.
 */
#ifndef TANDEM_APP_MULTIPART_H
#define TANDEM_APP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

enum { MULTIPART_BOUNDARY_MAX = 70, MULTIPART_HEAD_MAX = 8192, MULTIPART_NAME_MAX = 512 };

/* A part's head; texts live until the handler returns. */
struct multipart_part {
	const char *name;
	const char *file_name; /* NULL: a field, no file */
	const char *type;      /* "" when it is not said */
};

/* Each returns false to stop: the feed is then MULTIPART_STOPPED. */
struct multipart_handler {
	bool (*begin)(void *owner, const struct multipart_part *part);
	bool (*data)(void *owner, const void *bytes, size_t len);
	bool (*end)(void *owner);
};

enum multipart_result {
	MULTIPART_MORE,
	MULTIPART_END, /* the closing boundary came; what follows is dropped */
	MULTIPART_BAD,
	MULTIPART_STOPPED,
};

enum multipart_state {
	MULTIPART_BEFORE, /* in front of the first boundary */
	MULTIPART_BEHIND, /* behind a boundary: a line end, or -- and the end */
	MULTIPART_HEAD,
	MULTIPART_DATA,
	MULTIPART_OVER,
};

struct multipart {
	enum multipart_state state;
	const struct multipart_handler *handler;
	void *owner;
	char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* "\r\n--" and the boundary */
	size_t delimiter_len;
	struct buf window;
};

/* The boundary parameter of a Content-Type; false when it is no multipart/form-data or has none that is allowed. */
bool multipart_boundary(const char *content_type, char out[MULTIPART_BOUNDARY_MAX + 1]);
void multipart_init(struct multipart *m, const char *boundary, const struct multipart_handler *handler, void *owner);
void multipart_fini(struct multipart *m);
enum multipart_result multipart_feed(struct multipart *m, const void *bytes, size_t len);

#endif
