/*
 * The access log: one line per answer, in combined or JSON form. Workers collect lines and write them together, at the latest each second; a
 * line is never torn. The file is opened anew at a reload, so that it can be rotated.
 */
#ifndef TANDEM_WEB_ACCESS_LOG_H
#define TANDEM_WEB_ACCESS_LOG_H

#include <stdbool.h>
#include <stddef.h>

struct access_log;
struct exchange;

enum { LOG_LINES_BYTES = 16 * 1024 };

/* A worker's lines on their way. */
struct log_lines {
	size_t len;
	char bytes[LOG_LINES_BYTES];
};

/* Without a path nothing is written. NULL with errno set. */
struct access_log *access_log_open(const char *path);
/* The same path is a new file when the old one was moved away. False with errno set: all is as it was. */
bool access_log_reopen(struct access_log *log, const char *path);
void access_log_close(struct access_log *log);

void access_log_add(struct access_log *log, struct log_lines *lines, const struct exchange *x);
void access_log_flush(struct access_log *log, struct log_lines *lines);

#endif
