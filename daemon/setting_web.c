/* The settings of the web: listeners, sites, their routes and where those lead. */
#include "daemon/setting_row.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/room.h"
#include "web/settings.h"

static const char *const log_formats[] = { "combined", "json", NULL };
static const char *const switches[] = { "off", "on", NULL };
static const char *const forwarded_fields[] = { "x-forwarded-for", "forwarded", NULL };
static const char *const frame_options[] = { "sameorigin", "deny", "off", NULL };
static const char *const referrer_policies[] = { "strict-origin-when-cross-origin", "same-origin", "no-referrer", "off", NULL };

#define WEB(field)   offsetof(struct web_settings, field)
#define SITE(field)  offsetof(struct web_site, field)
#define ROUTE(field) offsetof(struct web_route, field)

static const struct setting web_rows[] = {
	{ "listen", OTHER(listen, WEB(listen), NULL), SETTING_RESTART,
	  "Where browsers connect in clear. May be given several times." },
	{ "listen_tls", OTHER(listen, WEB(listen_tls), NULL), SETTING_RESTART,
	  "Where browsers connect with TLS. May be given several times." },
	{ "header_timeout", DURATION(WEB(header_timeout_ms), "10s", "100ms", "10min"), 0,
	  "Time from the first byte of a request to the end of its head, and for a TLS "
	  "handshake." },
	{ "body_timeout", DURATION(WEB(body_timeout_ms), "30s", "100ms", "1h"), 0,
	  "Longest silence within a request's body." },
	{ "send_timeout", DURATION(WEB(send_timeout_ms), "1min", "100ms", "1h"), 0,
	  "A client that takes nothing of its answer for this long is closed." },
	{ "idle_timeout", DURATION(WEB(idle_timeout_ms), "75s", "100ms", "1d"), 0,
	  "A connection is kept this long between two requests." },
	{ "connect_timeout", DURATION(WEB(connect_timeout_ms), "2s", "10ms", "1min"), 0,
	  "Time to connect to an upstream server." },
	{ "upstream_timeout", DURATION(WEB(upstream_timeout_ms), "1min", "100ms", "1d"), 0,
	  "An upstream server that says nothing for this long is given up, with 504." },
	{ "queue_timeout", DURATION(WEB(queue_timeout_ms), "5s", "0ms", "10min"), 0,
	  "A request waits this long for an upstream server that is not at max_connections, then gets 503." },
	{ "tunnel_timeout", DURATION(WEB(tunnel_timeout_ms), "1h", "1s", "7d"), 0,
	  "A WebSocket or other upgraded connection on which nobody says anything for this long is closed." },
	{ "max_header", COUNT(WEB(max_header_bytes), "32768", "1024", "1048576"), 0,
	  "Bytes of a request's head; more is refused with 431." },
	{ "max_spool", COUNT(WEB(max_spool_bytes), "268435456", "0", "4294967295"), 0,
	  "Bytes of a body that comes without a length and has to be kept in state_dir until it is whole, as FastCGI needs it; more is refused with 413." },
	{ "http2", CHOICE(WEB(http2), "on", switches), 0, "HTTP/2 is offered to clients that come with TLS." },
	{ "max_clients", COUNT(WEB(max_clients), "0", "0", "1000000"), 0,
	  "Connections at a time; 0 is what the limit on open files allows." },
	{ "max_clients_per_address", COUNT(WEB(max_clients_per_address), "0", "0", "65535"), 0,
	  "Connections at a time of one address, or of one /64 of IPv6; more are closed. trusted_proxies are not counted. 0 is no limit." },
	{ "request_rate", COUNT(WEB(request_rate), "0", "0", "1000000"), 0,
	  "Requests a second of one address, or of one /64 of IPv6; more get 429. 0 is no limit." },
	{ "request_burst", COUNT(WEB(request_burst), "50", "1", "1000000"), 0,
	  "Requests that an address may send at once before request_rate counts: a page and what belongs to it." },
	{ "min_body_rate", COUNT(WEB(min_body_rate), "500", "0", "1000000000"), 0,
	  "Bytes a second: a request's body that comes slower than this on average, once body_timeout is over, is refused with 408. 0 is no limit." },
	{ "allow", OTHER(ranges, WEB(allow), NULL), 0,
	  "Addresses that are served; others get 403. The narrowest range of allow and deny decides. May be given several times." },
	{ "deny", OTHER(ranges, WEB(deny), NULL), 0, "Addresses that get 403. May be given several times." },
	{ "proxy_protocol_from", OTHER(ranges, WEB(proxy_protocol_from), NULL), 0,
	  "Load balancers that begin each connection with a PROXY header (version 1 or 2), which tells the client's address. From these it "
	  "must come; from others it is refused as the malformed request that it is." },
	{ "trusted_proxies", OTHER(ranges, WEB(trusted_proxies), NULL), 0,
	  "HTTP proxies whose word on the client's address and on https is taken: the field of forwarded_by is read from its right end up to the "
	  "first address that is none of these." },
	{ "forwarded_by", CHOICE(WEB(forwarded_by), "x-forwarded-for", forwarded_fields), 0,
	  "The field that trusted_proxies write: X-Forwarded-For with X-Forwarded-Proto, or Forwarded. The other is not looked at, since they "
	  "pass it on as the client made it up." },
	{ "access_log", OTHER(text, WEB(access_log), NULL), 0,
	  "File that gets a line per answer. Default: none." },
	{ "access_log_format", CHOICE(WEB(access_log_format), "combined", log_formats), 0,
	  "Form of its lines: the one that log analysers know, or JSON." },
	{ 0 },
};

static const struct setting site_rows[] = {
	{ "root", OTHER(text, SITE(root), NULL), 0,
	  "Directory of the static files. No path and no link leads out of it." },
	{ "index", OTHER(text, SITE(index), "index.html"), 0, "File served for a directory." },
	{ "certificate", OTHER(file, SITE(certificate), NULL), 0,
	  "PEM file with the certificate and its chain. Default: self-made in state_dir." },
	{ "key", OTHER(file, SITE(key), NULL), 0,
	  "PEM file with the key. Default: it is in the file of certificate." },
	{ "ocsp", OTHER(file, SITE(ocsp), NULL), 0,
	  "DER file with the OCSP response about certificate, which is given to browsers in the handshake. It is read anew at a reload." },
	{ "allow", OTHER(ranges, SITE(allow), NULL), 0, "Addresses that this site serves, besides what [web] says of them; others get 403." },
	{ "deny", OTHER(ranges, SITE(deny), NULL), 0, "Addresses that get 403 of this site." },
	{ "max_body", COUNT(SITE(max_body_bytes), "1073741824", "0", "4294967295"), 0,
	  "Bytes of a request's body; more is refused with 413. 0 is no limit." },
	{ "content_sniffing", CHOICE(SITE(sniffing), "off", switches), 0,
	  "off: X-Content-Type-Options: nosniff is added to answers, as long as the application has not set it itself; so are the next ones." },
	{ "frame_options", CHOICE(SITE(frame_options), "sameorigin", frame_options), 0,
	  "X-Frame-Options: who may show the site within a page of his own." },
	{ "referrer_policy", CHOICE(SITE(referrer_policy), "strict-origin-when-cross-origin", referrer_policies), 0,
	  "Referrer-Policy: what other sites are told of the page a visitor comes from." },
	{ "hsts", COUNT(SITE(hsts_s), "0", "0", "315360000"), 0,
	  "Strict-Transport-Security: the seconds for which browsers insist on https; 31536000 is a year. It cannot be taken back. 0: not sent." },
	{ "hsts_subdomains", CHOICE(SITE(hsts_subdomains), "off", switches), 0, "Whether hsts is for all names below the site's too." },
	{ "tell_software", CHOICE(SITE(tell_software), "off", switches), 0,
	  "Whether Server and X-Powered-By, by which applications tell their names and versions, are passed on." },
	{ "redirect_https", CHOICE(SITE(redirect_https), "off", switches), 0,
	  "Whether requests in clear are sent to the same address by https." },
	{ 0 },
};

static const struct setting route_rows[] = {
	{ "to", OTHER(text, ROUTE(to), NULL), SETTING_REQUIRED,
	  "Who answers: static (the site's root), redirect:URL, upstream:NAME, or app:NAME." },
	{ "front", OTHER(text, ROUTE(front), NULL), 0,
	  "upstream: the script, such as /index.php, that answers what is no script itself." },
	{ "files", CHOICE(ROUTE(files), "off", switches), 0,
	  "upstream: whether files of the root that exist are served without asking it, scripts apart." },
	{ 0 },
};

/* ---- Servers of an upstream ---- */

struct list {
	char **items;
	size_t count;
};

static bool parse_server(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	struct list *list = place;
	char **items = realloc(list->items, (list->count + 1) * sizeof(*items));

	(void)setting;
	if (!*text)
		snprintf(fault->text, sizeof(fault->text), "is empty");
	if (items)
		list->items = items;
	if (!*text || !items)
		return false;
	items[list->count] = strdup(text);
	return items[list->count++] != NULL;
}

static bool same_servers(const void *a, const void *b)
{
	const struct list *x = a, *y = b;

	if (x->count != y->count)
		return false;
	for (size_t i = 0; i < x->count; i++)
		if (strcmp(x->items[i], y->items[i]))
			return false;
	return true;
}

/* A number, or "auto". */
static bool parse_keepalive(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	const struct setting bounded = { .name = setting->name, .type = &setting_count, .min = "0", .max = "65536" };

	if (strcmp(text, "auto"))
		return setting_count.parse(&bounded, text, place, fault);
	*(unsigned *)place = WEB_KEEPALIVE_AUTO;
	return true;
}

static bool same_keepalive(const void *a, const void *b)
{
	return *(const unsigned *)a == *(const unsigned *)b;
}

static const struct setting_type setting_keepalive = { "auto|NUMBER", parse_keepalive, same_keepalive, false, false };

static const struct setting_type setting_server = { "ADDRESS [weight=N] [max_connections=N] [backup]", parse_server, same_servers, true, false };

#define UPSTREAM(field) offsetof(struct web_upstream, field)

static const char *const protocols[] = { "fastcgi", "http", NULL };
static const char *const balances[] = { "round_robin", "least_connections", NULL };
static const char *const checks[] = { "off", "tcp", "request", NULL };

static const struct setting upstream_rows[] = {
	{ "server", OTHER(server, UPSTREAM(servers), NULL), SETTING_REQUIRED,
	  "host:port or unix:/path; weight: how many requests it gets beside the others; max_connections: how many at a time; "
	  "backup: only when no other is left. May be given several times." },
	{ "protocol", CHOICE(UPSTREAM(protocol), "fastcgi", protocols), 0, "What the servers speak." },
	{ "balance", CHOICE(UPSTREAM(balance), "round_robin", balances), 0,
	  "Who is next: in turn by weight, or whoever has the fewest requests for its weight." },
	{ "sticky", OTHER(text, UPSTREAM(sticky), NULL), 0,
	  "Name of a cookie that keeps a client with the server that answered it first, as long as that one is up. Default: none." },
	{ "host", OTHER(text, UPSTREAM(host), NULL), 0, "http: the Host sent to the servers. Default: the one the client asked for." },
	{ "keepalive", OTHER(keepalive, UPSTREAM(keepalive), "auto"), 0,
	  "Idle connections to the servers that are kept, by all threads together. auto: 64 for http; none for fastcgi, whose programs "
	  "serve one connection at a time." },
	{ "max_connections", COUNT(UPSTREAM(max_connections), "0", "0", "1000000"), 0,
	  "Requests at a time, for all servers together; 0 is no limit. Others wait up to queue_timeout." },
	{ "queue", COUNT(UPSTREAM(queue), "1000", "0", "1000000"), 0,
	  "Requests that may wait when all servers are at max_connections; more get 503 at once." },
	{ "fails", COUNT(UPSTREAM(fails), "3", "1", "1000"), 0,
	  "A server that fails this many requests in a row is left out for fail_timeout; one that takes no connection at once." },
	{ "fail_timeout", DURATION(UPSTREAM(fail_timeout_ms), "2s", "100ms", "1h"), 0,
	  "How long that is, and how far apart failures may be to count together." },
	{ "slow_start", DURATION(UPSTREAM(slow_start_ms), "0ms", "0ms", "1h"), 0,
	  "The weight of a server that comes back grows to its full value within this time." },
	{ "check", CHOICE(UPSTREAM(check), "off", checks), 0,
	  "Health check: none, a connection (tcp), or a request of the servers' protocol." },
	{ "check_path", OTHER(text, UPSTREAM(check_path), "/"), 0,
	  "What the check asks for: a path; for fastcgi the script's file, as /srv/site/health.php or php-fpm's ping.path." },
	{ "check_status", COUNT(UPSTREAM(check_status), "0", "0", "599"), 0, "The status it expects; 0 is any from 200 to 399." },
	{ "check_interval", DURATION(UPSTREAM(check_interval_ms), "2s", "50ms", "1h"), 0, "Time between two checks of a server." },
	{ "check_timeout", DURATION(UPSTREAM(check_timeout_ms), "2s", "50ms", "1min"), 0, "A check that takes longer has failed." },
	{ "check_rise", COUNT(UPSTREAM(check_rise), "2", "1", "100"), 0, "Good checks in a row that bring a server back." },
	{ "check_fall", COUNT(UPSTREAM(check_fall), "3", "1", "100"), 0, "Failed checks in a row that take a server out." },
	{ 0 },
};

_Static_assert(UPSTREAM(server_count) == UPSTREAM(servers) + sizeof(char **), "a list's count follows it");

_Static_assert(WEB(listen_count) == WEB(listen) + sizeof(char **) &&
		       WEB(listen_tls_count) == WEB(listen_tls) + sizeof(char **),
	       "a list's count follows it");

static void *web_at(struct settings *settings, size_t index)
{
	(void)index;
	return web_settings_of(settings);
}

static void *site_at(struct settings *settings, size_t index)
{
	return &web_settings_of(settings)->sites[index];
}

static void *route_at(struct settings *settings, size_t index)
{
	return &web_settings_of(settings)->routes[index];
}

/* Host names have no case. */
static char *lower_copy(const char *text, size_t len)
{
	char *copy = strndup(text, len);

	for (char *c = copy; c && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return copy;
}

static bool add_site(struct settings *settings, const char *name)
{
	struct web_settings *web = web_settings_of(settings);
	struct web_site *sites = realloc(web->sites, (web->site_count + 1) * sizeof(*sites));

	if (!sites)
		return false;
	web->sites = sites;
	sites[web->site_count] = (struct web_site){ .host = lower_copy(name, strlen(name)) };
	return sites[web->site_count++].host != NULL;
}

static bool add_route(struct settings *settings, const char *name)
{
	struct web_settings *web = web_settings_of(settings);
	struct web_route *routes = realloc(web->routes, (web->route_count + 1) * sizeof(*routes));
	size_t host = strcspn(name, "/");
	struct web_route *route;

	if (!routes)
		return false;
	web->routes = routes;
	route = &routes[web->route_count++];
	*route = (struct web_route){ .name = strdup(name),
				     .host = lower_copy(name, host),
				     .prefix = strdup(name + host),
				     .argument = "" };
	return route->name && route->host && route->prefix;
}

static void *upstream_at(struct settings *settings, size_t index)
{
	return &web_settings_of(settings)->upstreams[index];
}

static bool add_upstream(struct settings *settings, const char *name)
{
	struct web_settings *web = web_settings_of(settings);
	struct web_upstream *upstreams = realloc(web->upstreams, (web->upstream_count + 1) * sizeof(*upstreams));

	if (!upstreams)
		return false;
	web->upstreams = upstreams;
	upstreams[web->upstream_count] = (struct web_upstream){ .name = strdup(name) };
	return upstreams[web->upstream_count++].name != NULL;
}

static bool init(struct settings *settings)
{
	return web_settings_make(settings) != NULL;
}

/* ---- What no single value can tell ---- */

static char *security_line(const char *name, const char *value)
{
	char *line;

	if (!strcmp(value, "off"))
		return NULL;
	return asprintf(&line, "%s: %s\r\n", name, value) < 0 ? NULL : line;
}

/* The lines that go into each answer as they are. */
static void make_security_lines(struct web_site *site)
{
	char age[64];

	snprintf(age, sizeof(age), "max-age=%u%s", site->hsts_s, site->hsts_subdomains ? "; includeSubDomains" : "");
	site->security[SECURITY_SNIFF] = security_line("X-Content-Type-Options", site->sniffing ? "off" : "nosniff");
	site->security[SECURITY_FRAMES] = security_line("X-Frame-Options",
							site->frame_options == FRAMES_OFF ? "off" : site->frame_options ? "DENY" : "SAMEORIGIN");
	site->security[SECURITY_REFERRER] = security_line("Referrer-Policy", referrer_policies[site->referrer_policy]);
	site->security[SECURITY_HSTS] = security_line("Strict-Transport-Security", site->hsts_s ? age : "off");
}

static const struct web_site *site_named(const struct web_settings *web, const char *host)
{
	for (size_t i = 0; i < web->site_count; i++)
		if (!strcmp(web->sites[i].host, host))
			return &web->sites[i];
	return NULL;
}

static bool has_upstream(const struct web_settings *web, const char *name)
{
	for (size_t i = 0; i < web->upstream_count; i++)
		if (!strcmp(web->upstreams[i].name, name))
			return true;
	return false;
}

static void check_upstream(struct config_load *load, const struct web_settings *web, struct web_route *route)
{
	route->target = WEB_UPSTREAM;
	route->argument = strchr(route->to, ':') + 1;
	if (!has_upstream(web, route->argument))
		config_add_fault(load, "route", route->name, "to", "[route %s] to = %s: there is no [upstream %s]", route->name,
				 route->to, route->argument);
	if (route->front && route->front[0] != '/')
		config_add_fault(load, "route", route->name, "front", "[route %s] front = %s: begins with a slash", route->name,
				 route->front);
}

static void check_app(struct config_load *load, struct web_route *route, bool is_there)
{
	route->target = WEB_APP;
	route->argument = strchr(route->to, ':') + 1;
	if (!is_there)
		config_add_fault(load, "route", route->name, "to",
				 "[route %s] to = %s: there is no such app; one that is loaded needs an [app %s] with its module",
				 route->name, route->to, route->argument);
}

static void check_target(struct config_load *load, const struct settings *settings, struct web_route *route,
			 const struct web_site *site)
{
	const char *colon = strchr(route->to, ':');

	if (!strcmp(route->to, "static")) {
		route->target = WEB_STATIC;
		if (!site->root)
			config_add_fault(load, "route", route->name, "to",
					 "[route %s] to = static, but [site %s] has no root",
					 route->name, site->host);
	} else if (!strcmp(route->to, "ready")) {
		route->target = WEB_READY;
	} else if (!strncmp(route->to, "redirect:", 9) && colon[1]) {
		route->target = WEB_REDIRECT;
		route->argument = colon + 1;
	} else if (!strncmp(route->to, "upstream:", 9)) {
		check_upstream(load, web_settings_of(settings), route);
	} else if (!strncmp(route->to, "app:", 4) && colon[1]) {
		check_app(load, route, app_room_has(settings, colon + 1));
	} else {
		config_add_fault(load, "route", route->name, "to",
				 "[route %s] to = %s: expected static, ready, redirect:URL, app:NAME or upstream:NAME",
				 route->name, route->to);
	}
}

static void check_route(struct config_load *load, const struct settings *settings, struct web_route *route)
{
	const struct web_site *site = site_named(web_settings_of(settings), route->host);

	if (!*route->prefix)
		config_add_fault(load, "route", route->name, NULL,
				 "[route %s]: a route is written [route HOST/PREFIX]", route->name);
	else if (!site)
		config_add_fault(load, "route", route->name, NULL,
				 "[route %s]: there is no [site %s]", route->name, route->host);
	else if (route->to)
		check_target(load, settings, route, site);
}

static void check_site(struct config_load *load, const struct web_settings *web, struct web_site *site)
{
	make_security_lines(site);
	if (site->key && !site->certificate)
		config_add_fault(load, "site", site->host, "key", "[site %s] key: certificate is missing", site->host);
	if (site->ocsp && !site->certificate)
		config_add_fault(load, "site", site->host, "ocsp", "[site %s] ocsp: certificate is missing", site->host);
	if (site->hsts_s && !web->listen_tls_count && !web->trusted_proxies.count && !web->proxy_protocol_from.count)
		config_add_warning(load, "site", site->host, "hsts",
				   "[site %s] hsts: nobody will hear of it, it is told over TLS only and [web] listen_tls is not set", site->host);
}

/* A cookie's name is a token (RFC 6265 section 4.1.1). */
static bool is_token(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", *c))
			return false;
	return *text != '\0';
}

static bool is_visible(const char *text)
{
	for (const char *c = text; *c; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	return true;
}

static void check_servers(struct config_load *load, const struct web_upstream *u)
{
	if (u->sticky && !is_token(u->sticky))
		config_add_fault(load, "upstream", u->name, "sticky", "[upstream %s] sticky = %s: not a cookie's name", u->name, u->sticky);
	if (u->host && !is_visible(u->host))
		config_add_fault(load, "upstream", u->name, "host", "[upstream %s] host: not a host name", u->name);
	if (u->check_path && (u->check_path[0] != '/' || !is_visible(u->check_path)))
		config_add_fault(load, "upstream", u->name, "check_path",
				 "[upstream %s] check_path: begins with a slash, and blanks are written %%20", u->name);
}

static void check(struct config_load *load, const struct settings *settings)
{
	struct web_settings *web = web_settings_of(settings);

	for (size_t i = 0; i < web->site_count; i++)
		check_site(load, web, &web->sites[i]);
	for (size_t i = 0; i < web->upstream_count; i++)
		check_servers(load, &web->upstreams[i]);
	for (size_t i = 0; i < web->route_count; i++)
		check_route(load, settings, &web->routes[i]);
	if ((web->listen_count || web->listen_tls_count) && !web->site_count)
		config_add_fault(load, "web", NULL, "listen",
				 "[web] listens, but there is no [site HOST]");
	if (web->site_count && !web->listen_count && !web->listen_tls_count)
		config_add_warning(load, "site", web->sites[0].host, NULL,
				   "[site %s]: nobody can reach it, [web] listen is not set",
				   web->sites[0].host);
}

static const struct section sections[] = {
	{ "web", SECTION_ONE, web_rows, web_at, NULL, "Where browsers connect, and for how long." },
	{ "site", SECTION_MANY, site_rows, site_at, add_site,
	  "A host name that is served; * takes every other name." },
	{ "route", SECTION_MANY, route_rows, route_at, add_route,
	  "[route HOST/PREFIX]: who answers paths below the prefix. The longest prefix decides." },
	{ "upstream", SECTION_MANY, upstream_rows, upstream_at, add_upstream, "Servers that answer requests, and how." },
	{ 0 },
};

const struct setting_room setting_room_web = { sections, init, check };
