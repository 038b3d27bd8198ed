/*
 * What browsers send: the query, forms (urlencoded and multipart, with files), cookies.
 */
#ifndef TANDEM_APP_FORM_H
#define TANDEM_APP_FORM_H

#include "app/app.h"

/* A value of the query string, decoded; the first of that name. NULL: there is none. */
const char *app_query(struct app_request *r, const char *name);
bool app_query_at(struct app_request *r, size_t index, const char **name, const char **value);

/* A cookie that the client sent; NULL: none. */
const char *app_cookie(struct app_request *r, const char *name);
/*
 * Sets one for the whole site: HttpOnly, SameSite=Lax, and Secure when the request came by https. `seconds`: how long it lives, 0 as long as
 * the browser runs, below 0 it is removed. False when the value holds what a cookie cannot.
 */
bool app_set_cookie(struct app_request *r, const char *name, const char *value, long seconds);

/* How a form was taken in. */
enum app_form_result {
	APP_FORM_FINE,	    /* also when the request has no body: the form is empty */
	APP_FORM_BAD,	    /* it is none, or cut: answer 400 */
	APP_FORM_TOO_LARGE, /* answer 413 */
	APP_FORM_UNKNOWN,   /* another content type: answer 415 */
};

struct app_form_limits {
	size_t text_bytes; /* of all fields together; 0: 256 KiB */
	size_t fields;	   /* their number, files too; 0: 200 */
	uint64_t file_bytes; /* of all files together, which are spooled to unnamed files; 0: no files are taken */
};

/* Reads the whole body. Once; later calls return the same. `limits` may be NULL. */
enum app_form_result app_form_read(struct app_request *r, const struct app_form_limits *limits);
/* app_form_read() with the usual limits, and the answer to a form that is none: false when that was given. */
bool app_form(struct app_request *r);
/* A field's value; "" when there is none, so that it can be shown again. Reads the form if that was not done. */
const char *app_field(struct app_request *r, const char *name);
bool app_field_at(struct app_request *r, size_t index, const char **name, const char **value);

struct app_file {
	const char *field; /* name of the form's field */
	const char *name;  /* as the browser tells: nothing to open a file by */
	const char *type;  /* likewise: nothing to trust */
	uint64_t size;
	int fd; /* open for reading at its begin; closed when the request ends */
};
/* A file of a multipart form; NULL: none was sent. */
const struct app_file *app_file(struct app_request *r, const char *field);

#endif
