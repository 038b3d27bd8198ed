/*
 * Conditional and range requests (RFC 9110 sections 13 and 14): which of 200, 206, 304, 412 and 416 a request for one representation
 * gets. Pure.
 */
#ifndef TANDEM_WEB_CONDITION_H
#define TANDEM_WEB_CONDITION_H

#include <time.h>

#include "web/http1.h"

/* What is there to be served. */
struct representation {
	const char *etag; /* with its quotes, strong */
	time_t modified;
	uint64_t size;
};

struct condition {
	uint16_t status; /* 200, 206, 304, 412, 416 */
	uint64_t first;	 /* of 206: the first byte, and how many */
	uint64_t count;	 /* of 200: first 0, count the size */
};

/* A request for several ranges, one that is malformed, or one whose If-Range does not hold, gets the whole: 200. */
struct condition condition_judge(const struct http_head *head, const struct representation *what);

enum { HTTP_DATE_BYTES = 30 };
/* "Sun, 06 Nov 1994 08:49:37 GMT" */
void http_date_put(time_t time, char out[HTTP_DATE_BYTES]);
/* The same form, and the two obsolete ones that must be understood; -1 when it is none. */
time_t http_date_parse(struct http_text text);

#endif
