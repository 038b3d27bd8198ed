/*
 * The settings of the web room: listeners, sites by host name, routes by path prefix. Filled by daemon/setting_web.c, immutable once
 * published. Times in milliseconds, sizes in bytes.
 */
#ifndef TANDEM_WEB_SETTINGS_H
#define TANDEM_WEB_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "web/forwarded.h"

struct settings;

/* Fields that make browsers careful, see security.h. */
enum security_field { SECURITY_SNIFF, SECURITY_FRAMES, SECURITY_REFERRER, SECURITY_HSTS, SECURITY_FIELDS };
enum frame_options { FRAMES_SAMEORIGIN, FRAMES_DENY, FRAMES_OFF };

/* [site HOST] */
struct web_site {
	char *host; /* lower case; "*" takes every host that no other site has */
	char *root; /* directory of the static files; NULL: none */
	char *index; /* file served for a directory: index.html */
	char *certificate; /* PEM files for the TLS listeners; NULL: the self-made one */
	char *key;	   /* NULL: in the certificate's file */
	char *ocsp;	   /* DER file with the certificate's OCSP response; NULL: none is stapled */
	int redirect_https; /* 0, 1: answers on clear listeners are a redirect */
	struct address_list allow; /* see web_address_may() */
	struct address_list deny;
	unsigned max_body_bytes; /* 1 GiB; 0: no limit */
	int sniffing;		/* 0: browsers are told to believe the Content-Type; 1: they may guess */
	int frame_options;	/* enum frame_options */
	int referrer_policy;	/* index into the setting's choices */
	unsigned hsts_s;	/* 0: browsers are not told to insist on https */
	int hsts_subdomains;	/* 0, 1 */
	int tell_software;	/* 0, 1: Server and X-Powered-By of applications are passed on */
	char *security[SECURITY_FIELDS]; /* whole lines, made of the above; NULL: off */
};

enum web_target {
	WEB_STATIC,   /* the site's root */
	WEB_REDIRECT, /* elsewhere */
	WEB_READY,    /* whether this daemon should be sent work */
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

enum web_protocol { WEB_FASTCGI, WEB_HTTP };
enum web_check { WEB_CHECK_OFF, WEB_CHECK_TCP, WEB_CHECK_REQUEST };

/* web_upstream.keepalive: 64 for HTTP, none for FastCGI. */
#define WEB_KEEPALIVE_AUTO UINT32_MAX

/* [upstream NAME] */
struct web_upstream {
	char *name;
	char **servers; /* "ADDRESS [weight=N] [max_connections=N] [backup]" */
	size_t server_count;
	int protocol; /* enum web_protocol */
	int balance;  /* enum balance_rule */
	char *sticky; /* name of the cookie that keeps clients with their server; NULL: none */
	char *host;   /* http: Host sent to the servers; NULL: the client's */
	unsigned keepalive; /* idle connections of all workers; WEB_KEEPALIVE_AUTO */
	unsigned max_connections; /* requests at a time; 0: no limit but the servers' */
	unsigned queue;		  /* requests that wait for a server */
	unsigned fails;		  /* in a row, until a server is left out */
	uint32_t fail_timeout_ms; /* for this long; and failures further apart do not add up */
	uint32_t slow_start_ms;
	int check;	  /* enum web_check */
	char *check_path; /* WEB_CHECK_REQUEST: path and query, of FastCGI the script */
	unsigned check_status; /* 0: 200 to 399 */
	uint32_t check_interval_ms;
	uint32_t check_timeout_ms;
	unsigned check_rise;
	unsigned check_fall;
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
	uint32_t queue_timeout_ms;    /* 5000: for a server that is not at its limit */
	uint32_t tunnel_timeout_ms;   /* 1h: silence of a WebSocket */
	unsigned max_header_bytes;  /* 32768 */
	unsigned max_spool_bytes;   /* 256 MiB */
	int http2;		    /* 0, 1: offered to TLS clients */
	unsigned max_clients;	    /* 0: what the file limit allows */
	unsigned max_clients_per_address; /* 0: no limit */
	unsigned request_rate;	    /* per second and address; 0: no limit */
	unsigned request_burst;	    /* 50: above it for a moment */
	unsigned min_body_rate;	    /* 500 bytes per second on average, once body_timeout is over; 0: any */
	struct address_list allow;
	struct address_list deny;
	struct address_list proxy_protocol_from; /* their connections begin with a PROXY header */
	struct address_list trusted_proxies;	 /* ... tell whose request it is, in the field */
	int forwarded_by;			 /* enum forwarded_by */
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
/* Whether lists let an address in: the narrowest range that holds it decides, at a tie `deny`; where `allow` is not empty it lets in no others. */
bool web_address_may(const struct address_list *allow, const struct address_list *deny, const struct address *address);
/* The route of a site with the longest prefix that holds `path`; NULL when none does. */
const struct web_route *web_find_route(const struct web_settings *web, const struct web_site *site, const char *path);

#endif
