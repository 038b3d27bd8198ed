/*
 * The app's side of a call: what stands behind struct app_request. For the room itself; an application sees app.h.
 */
#ifndef TANDEM_APP_REQUEST_H
#define TANDEM_APP_REQUEST_H

#include "app/app.h"
#include "app/arena.h"
#include "app/call.h"

struct app_thread;
struct app_form;
struct app_session;

struct app_variable {
	const char *name, *value;
};

struct app_request {
	struct app_call *call;
	struct app_thread *thread;
	struct arena arena;
	struct app_variable *variables;
	size_t variable_count;
	const char *path; /* app_path(), made when asked for */
	/* The answer. */
	unsigned status;
	struct buf head;    /* NAME\0VALUE\0... */
	struct buf pending; /* collected, not handed over */
	bool head_gone;	    /* handed over */
	bool failed;	    /* memory */
	bool gone;	    /* the client is: what is written goes nowhere */
	uint64_t sql_us;
	/* Made when asked for. */
	struct app_form *form;
	struct app_session *session;
	struct app_variable *query;
	size_t query_count;
	bool query_made;
};

/* Runs the handler. */
void app_request_serve(struct app_call *call, struct app_thread *thread);

/* "a=1&b=2" as pairs, decoded, at most `limit`; false when there are more or it is none. In the request's memory. */
bool app_pairs_parse(struct app_request *r, const char *text, size_t len, size_t limit, struct app_variable **out, size_t *count);

/* The session, if it was changed, as a field of the head. */
void app_session_save(struct app_request *r);
/* Closes the files of the form, if one was read. */
void app_form_close(struct app_request *r);

#endif
