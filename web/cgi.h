/*
 * The meaning of CGI (RFC 3875) on both sides: the meta-variables that a request becomes, and the head of an application's answer. Pure.
 */
#ifndef TANDEM_WEB_CGI_H
#define TANDEM_WEB_CGI_H

#include "base/buf.h"
#include "web/http1.h"

/* What the variables are made from besides the head. Texts are terminated; none may be NULL. */
struct cgi_request {
	const struct http_head *head;
	const char *path;	 /* normal form */
	const char *script_name; /* the part of `path` that names the script */
	const char *path_info;	 /* what follows it, or "" */
	const char *root;	 /* DOCUMENT_ROOT */
	const char *client;	 /* address */
	const char *request_id;	 /* by which logs know it; may be NULL */
	const char *server_name; /* when the request names no host */
	const char *server_port;
	bool tls;
};

/*
 * Appends the name-value pairs of the request in FastCGI's form. Fields become HTTP_ variables, but for names with an underscore, which
 * could pass for another, and Proxy, which programs take for a setting. False: memory.
 */
bool cgi_put_params(struct buf *out, const struct cgi_request *request) __attribute__((warn_unused_result));

/* Splits a path behind the first segment that ends in ".php": "/a.php/b" -> "/a.php", "/b". False when there is none. */
bool cgi_split_script(const char *path, char *script, size_t script_size, const char **path_info);

struct cgi_answer {
	uint16_t status;
	uint64_t length; /* of the body, UINT64_MAX when it is not said */
	size_t field_count;
	struct http_field fields[HTTP_MAX_FIELDS]; /* to be passed on: those of the connection and of the length are left out */
};

/* The length of a head with its empty line within the bytes (lines end in LF or CRLF); 0: it is not whole yet. */
size_t cgi_head_length(const char *bytes, size_t len);
/* Parses it; false when it is none that can be passed on. Fields point into the bytes. */
bool cgi_parse_head(const char *bytes, size_t len, struct cgi_answer *out);

#endif
