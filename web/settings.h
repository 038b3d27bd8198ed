/*
 * The settings of the web room: listeners, sites by host name, routes by path prefix. Filled by daemon/setting_web.c, immutable once
 * published. Times in milliseconds, sizes in bytes.
 */
#ifndef TANDEM_WEB_SETTINGS_H
#define TANDEM_WEB_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

struct settings;

/* [site HOST] */
struct web_site {
	char *host; /* lower case; "*" takes every host that no other site has */
	char *root; /* directory of the static files; NULL: none */
	char *index; /* file served for a directory: index.html */
	char *certificate; /* PEM files for the TLS listeners; NULL: the self-made one */
	char *key;	   /* NULL: in the certificate's file */
	int redirect_https; /* 0, 1: answers on clear listeners are a redirect */
};

enum web_target {
	WEB_STATIC,   /* the site's root */
	WEB_REDIRECT, /* elsewhere */
	WEB_UPSTREAM, /* a group of servers */
	WEB_APP,      /* an application in this process */
};

/* [route HOST/PREFIX] */
struct web_route {
	char *name; /* as written */
	char *to;   /* as written: static, redirect:URL, upstream:NAME */
	char *front; /* script that answers what is neither a script nor a file; NULL: none */
	int files;  /* 0, 1: files of the root that exist are served as such, scripts apart */
	char *host; /* of `name`, lower case */
	char *prefix; /* of `name`, from its first slash */
	enum web_target target;
	const char *argument; /* within `to`, behind the colon; "" for none */
};

enum web_protocol { WEB_FASTCGI };

/* [upstream NAME] */
struct web_upstream {
	char *name;
	char **servers; /* "ADDRESS [weight=N] [backup]" */
	size_t server_count;
	int protocol; /* enum web_protocol */
};

struct web_settings {
	char **listen; /* in clear */
	size_t listen_count;
	char **listen_tls;
	size_t listen_tls_count;
	uint32_t header_timeout_ms; /* 10000: from the first byte of a request to the end of its head */
	uint32_t body_timeout_ms;   /* 30000: between two pieces of a body */
	uint32_t send_timeout_ms;   /* 60000: in which a client takes nothing of an answer */
	uint32_t idle_timeout_ms;   /* 75000: between two requests */
	uint32_t connect_timeout_ms; /* 2000: to an upstream server */
	uint32_t upstream_timeout_ms; /* 60000: in which it says nothing */
	unsigned max_header_bytes;  /* 32768 */
	unsigned max_clients;	    /* 0: what the file limit allows */
	char *access_log;	    /* a file; NULL: none */
	int access_log_format;	    /* enum web_log_format */
	struct web_site *sites;
	size_t site_count;
	struct web_route *routes;
	size_t route_count;
	struct web_upstream *upstreams;
	size_t upstream_count;
};

enum web_log_format { WEB_LOG_COMBINED, WEB_LOG_JSON };

/* The web room's part of the settings; NULL when none were made for it. */
struct web_settings *web_settings_of(const struct settings *settings);
/* Makes zeroed ones within `settings`, freed with them. NULL when memory ran out. */
struct web_settings *web_settings_make(struct settings *settings);

/* The site for a host (any case): its own, else "*", else NULL. */
const struct web_site *web_find_site(const struct web_settings *web, const char *host, size_t len);
/* The route of a site with the longest prefix that holds `path`; NULL when none does. */
const struct web_route *web_find_route(const struct web_settings *web, const struct web_site *site, const char *path);

#endif
