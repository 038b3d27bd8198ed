/*
 * What an application is written against: a C module that answers requests, with the view of a request that CGI and FastCGI give. One page
 * that tells all of it: docs/APP.md. Further headers: db.h (SQL), form.h (what browsers send), session.h (who it is), json.h.
 *
 * A handler runs on a thread of a pool, which has this one request; it may block. Functions here may be called by that thread only, until
 * the handler returns. Texts that come back live as long as the request. Nothing here aborts for want of memory or because the client
 * hung up: what fails says so, and a handler that looks away only works in vain.
 */
#ifndef TANDEM_APP_APP_H
#define TANDEM_APP_APP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Grows when a module that was built against an older header could not run. */
#define APP_ABI 1u

struct app_request;

struct app {
	unsigned abi;	  /* APP_ABI */
	const char *name; /* [route ...] to = app:NAME */
	/* Once, before the first request; false with a one-line reason: the app is not taken. NULL: nothing to do. */
	bool (*init)(char *why, size_t why_size);
	/* Answers one request. Runs on several threads at a time. */
	void (*handle)(struct app_request *r);
	/* Once, when the last request has ended. NULL: nothing to do. */
	void (*drop)(void);
};

/*
 * What a module defines at its end: APP_MODULE(hello) = { .abi = APP_ABI, .name = "hello", .handle = handle };
 * A shared object that [app NAME] module = /path/x.so loads has one, which is called tandem_app.
 */
#ifdef APP_BUILTIN
#define APP_MODULE(id)                  \
	extern const struct app id##_app; \
	const struct app id##_app
#else
#define APP_MODULE(id)                          \
	extern const struct app tandem_app;     \
	__attribute__((visibility("default"))) const struct app tandem_app
#endif

/* ---- The request ---- */

/* A variable by its CGI name: "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "HTTP_USER_AGENT"; NULL when there is none. */
const char *app_param(struct app_request *r, const char *name);
/* All of them: false behind the last one. */
bool app_param_at(struct app_request *r, size_t index, const char **name, const char **value);
/* True when the method is this one; HEAD counts as GET (its body is not sent). */
bool app_method_is(struct app_request *r, const char *method);
/* The path below the route's prefix, decoded: "/edit/7" of "/people/edit/7" when the route is "/people"; at least "/". */
const char *app_path(struct app_request *r);
/* The path of something of this app, as a browser must ask for it: the route's prefix and `path`, which begins with a slash. */
const char *app_link(struct app_request *r, const char *path);

/*
 * Standard input, the request's body: waits until there is some. Returns how many bytes, 0 at its end, -1 when the client is gone or sent
 * less than it said.
 */
ssize_t app_read(struct app_request *r, void *bytes, size_t size);

/* Memory that lives as long as the request; NULL when there is none. */
void *app_alloc(struct app_request *r, size_t size);
char *app_copy(struct app_request *r, const char *text, size_t len);
/* A text made by printf's rules; "" when memory ran out. */
const char *app_text(struct app_request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- The answer ---- */

/* 200 when it is never said. Has no effect once the head is on its way. */
void app_status(struct app_request *r, unsigned status);
/*
 * A field of the head. False when it is none that can be sent (control characters, a length or a connection's field, which are Tandem's
 * own), or too late. Content-Type is "text/html; charset=utf-8" when it is never said; a second one of that name replaces the first.
 */
bool app_header(struct app_request *r, const char *name, const char *value);

/*
 * Standard output, the body. It is collected and sent when it is much, or at the end; then the length is known and stated. False: the
 * client is gone, and it makes no sense to go on.
 */
bool app_write(struct app_request *r, const void *bytes, size_t len);
bool app_puts(struct app_request *r, const char *text);
bool app_printf(struct app_request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/*
 * HTML by a template: like printf, but each text that %s puts in is escaped, so that it can stand between tags and within quotes. The format
 * itself is sent as it is. Conversions: %s %.*s %c %d %i %u %x %f %g with l, ll, z.
 */
bool app_html(struct app_request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sends what there is so far. */
bool app_flush(struct app_request *r);
/* True when nobody waits for the answer any more. */
bool app_is_gone(struct app_request *r);

/* 303 to a path or URL, for a browser to GET: the end of each POST that changed something. */
void app_redirect(struct app_request *r, const char *location);
/* A whole plain page that says what is the matter; "text" is escaped. What was collected so far is dropped. */
void app_fail(struct app_request *r, unsigned status, const char *text);

/* A line in Tandem's log, with the app's name: FastCGI's standard error. */
void app_log(struct app_request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- Text for other places ---- */

/* The length of the UTF-8 character at `text`, 0: there is none. (app_html() shows a sign in the place of what is none.) */
size_t app_utf8(const char *text);

/* `text` as a part of a URL: all but letters, digits and -._~ percent-encoded. */
const char *app_url(struct app_request *r, const char *text);
/* Decodes %XX, and + as a blank when `plus`. NULL when it is none or holds a NUL. */
char *app_url_decode(struct app_request *r, const char *text, size_t len, bool plus);

#endif
