#include "web/access_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "web/exchange.h"

/* The descriptor is replaced under the lock; lines are written by many threads, each whole batch by one write(2) with O_APPEND. */
struct access_log {
	pthread_mutex_t lock;
	int fd;
	bool failing; /* said already */
};

enum { LINE_BYTES = 4096, TEXT_SHOWN = 1024 };

static int open_file(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

struct access_log *access_log_open(const char *path)
{
	struct access_log *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	log->fd = path ? open_file(path) : -1;
	if (path && log->fd < 0) {
		free(log);
		return NULL;
	}
	pthread_mutex_init(&log->lock, NULL);
	return log;
}

bool access_log_reopen(struct access_log *log, const char *path)
{
	int fd = path ? open_file(path) : -1;

	if (path && fd < 0)
		return false;
	pthread_mutex_lock(&log->lock);
	if (log->fd >= 0)
		close(log->fd);
	log->fd = fd;
	log->failing = false;
	pthread_mutex_unlock(&log->lock);
	return true;
}

void access_log_close(struct access_log *log)
{
	if (!log)
		return;
	if (log->fd >= 0)
		close(log->fd);
	pthread_mutex_destroy(&log->lock);
	free(log);
}

/* ---- A line ---- */

struct line {
	char bytes[LINE_BYTES];
	size_t len;
};

static void put(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct line *line, const char *format, ...)
{
	size_t room = LINE_BYTES - line->len;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line->bytes + line->len, room, format, args);
	va_end(args);
	line->len += len < 0 ? 0 : (size_t)len < room ? (size_t)len : room - 1;
}

/* What a client sent, so that it can end neither its quotes nor the line, in the form that both kinds of log understand. It is cut in good time:
 * the line has room for three of them and the rest. */
static void put_text(struct line *line, struct http_text text)
{
	size_t end = line->len + TEXT_SHOWN;

	for (size_t i = 0; i < text.len && line->len < end; i++) {
		unsigned char c = (unsigned char)text.at[i];

		if (c == '"' || c == '\\')
			put(line, "\\%c", c);
		else if (c < ' ' || c >= 0x7f)
			put(line, "\\u%04x", c);
		else
			put(line, "%c", c);
	}
}

static void put_field(struct line *line, const struct exchange *x, const char *name)
{
	const struct http_text *value = http_head_field(&x->head, name);

	put_text(line, value ? *value : (struct http_text){ "-", 1 });
}

static void put_time(struct line *line, const char *format)
{
	char text[64];
	time_t now = time(NULL);
	struct tm tm;

	localtime_r(&now, &tm);
	strftime(text, sizeof(text), format, &tm);
	put(line, "%s", text);
}

static double seconds(uint64_t us)
{
	return (double)us / 1e6;
}

/* host - - [time] "GET /x HTTP/1.1" status bytes "referer" "agent", then what a dashboard wants besides: seconds, site, seconds of the upstream
 * and of its SQL, the request's id */
static void combined(struct line *line, const struct exchange *x)
{
	put(line, "%s - - [", x->client_text);
	put_time(line, "%d/%b/%Y:%H:%M:%S %z");
	put(line, "] \"%s ", x->head.target.len ? http_method_name(x->head.method) : "-");
	put_text(line, x->head.target);
	put(line, " HTTP/%u.%u\" %u %llu \"", x->head.major, x->head.minor, x->status, (unsigned long long)x->body_sent);
	put_field(line, x, "Referer");
	put(line, "\" \"");
	put_field(line, x, "User-Agent");
	put(line, "\" %.6f %s ", seconds(clock_us() - x->started_us), x->site ? x->site->host : "-");
	put(line, x->upstream_us ? "%.6f " : "- ", seconds(x->upstream_us));
	put(line, x->sql_us ? "%.6f " : "- ", seconds(x->sql_us));
	put(line, "%s\n", x->id[0] ? x->id : "-");
}

static void json(struct line *line, const struct exchange *x)
{
	put(line, "{\"time\":\"");
	put_time(line, "%Y-%m-%dT%H:%M:%S%z");
	put(line, "\",\"client\":\"%s\",\"method\":\"%s\",\"target\":\"", x->client_text,
	    x->head.target.len ? http_method_name(x->head.method) : "-");
	put_text(line, x->head.target);
	put(line, "\",\"status\":%u,\"bytes\":%llu,\"seconds\":%.6f,\"site\":\"%s\",\"referer\":\"", x->status,
	    (unsigned long long)x->body_sent, seconds(clock_us() - x->started_us), x->site ? x->site->host : "-");
	put_field(line, x, "Referer");
	put(line, "\",\"agent\":\"");
	put_field(line, x, "User-Agent");
	put(line, "\",\"tls\":%s,\"upstream_seconds\":%.6f,\"sql_seconds\":%.6f,\"request\":\"%s\"}\n", x->tls ? "true" : "false",
	    seconds(x->upstream_us), seconds(x->sql_us), x->id);
}

/* ---- Writing ---- */

static void tell(struct access_log *log, int error)
{
	if (!log->failing)
		log_warning(NULL, "the access log cannot be written, its lines are lost: %s", strerror(error));
	log->failing = true;
}

void access_log_flush(struct access_log *log, struct log_lines *lines)
{
	if (!lines->len)
		return;
	pthread_mutex_lock(&log->lock);
	if (log->fd >= 0 && write(log->fd, lines->bytes, lines->len) != (ssize_t)lines->len)
		tell(log, errno);
	pthread_mutex_unlock(&log->lock);
	lines->len = 0;
}

void access_log_add(struct access_log *log, struct log_lines *lines, const struct exchange *x)
{
	struct line line;

	if (!x->config->web->access_log)
		return;
	line.len = 0;
	if (x->config->web->access_log_format == WEB_LOG_JSON)
		json(&line, x);
	else
		combined(&line, x);
	line.bytes[line.len - 1] = '\n'; /* also of one that was cut */
	if (lines->len + line.len > sizeof(lines->bytes))
		access_log_flush(log, lines);
	memcpy(lines->bytes + lines->len, line.bytes, line.len);
	lines->len += line.len;
}
