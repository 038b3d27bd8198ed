#include "web/settings.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/settings.h"
#include "web/path.h"

static void free_list(char **items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(items[i]);
	free(items);
}

static void fini_site(struct web_site *site)
{
	free(site->host);
	free(site->root);
	free(site->index);
	free(site->certificate);
	free(site->key);
	free(site->ocsp);
	free(site->allow.ranges);
	free(site->deny.ranges);
	for (size_t i = 0; i < SECURITY_FIELDS; i++)
		free(site->security[i]);
}

static void fini_route(struct web_route *route)
{
	free(route->name);
	free(route->to);
	free(route->host);
	free(route->prefix);
	free(route->front);
}

static void fini_upstream(struct web_upstream *upstream)
{
	free(upstream->name);
	free_list(upstream->servers, upstream->server_count);
	free(upstream->sticky);
	free(upstream->host);
	free(upstream->check_path);
}

static void free_web(void *data)
{
	struct web_settings *web = data;

	free_list(web->listen, web->listen_count);
	free_list(web->listen_tls, web->listen_tls_count);
	free(web->access_log);
	free(web->allow.ranges);
	free(web->deny.ranges);
	free(web->proxy_protocol_from.ranges);
	free(web->trusted_proxies.ranges);
	for (size_t i = 0; i < web->site_count; i++)
		fini_site(&web->sites[i]);
	free(web->sites);
	for (size_t i = 0; i < web->route_count; i++)
		fini_route(&web->routes[i]);
	free(web->routes);
	for (size_t i = 0; i < web->upstream_count; i++)
		fini_upstream(&web->upstreams[i]);
	free(web->upstreams);
	free(web);
}

struct web_settings *web_settings_of(const struct settings *settings)
{
	return settings->guests[SETTINGS_WEB].data;
}

struct web_settings *web_settings_make(struct settings *settings)
{
	struct web_settings *web = calloc(1, sizeof(*web));

	if (web)
		settings->guests[SETTINGS_WEB] = (struct settings_guest){ web, free_web };
	return web;
}

const struct web_site *web_find_site(const struct web_settings *web, const char *host, size_t len)
{
	const struct web_site *any = NULL;

	for (size_t i = 0; i < web->site_count; i++) {
		const struct web_site *site = &web->sites[i];

		if (strlen(site->host) == len && !strncasecmp(site->host, host, len))
			return site;
		if (!strcmp(site->host, "*"))
			any = site;
	}
	return any;
}

bool web_address_may(const struct address_list *allow, const struct address_list *deny, const struct address *address)
{
	int allowed = address_list_match(allow, address);
	int denied = address_list_match(deny, address);

	return denied < 0 ? allowed >= 0 || !allow->count : allowed > denied;
}

const struct web_route *web_find_route(const struct web_settings *web, const struct web_site *site, const char *path)
{
	const struct web_route *best = NULL;

	for (size_t i = 0; i < web->route_count; i++) {
		const struct web_route *route = &web->routes[i];

		if (strcmp(route->host, site->host) || !path_is_below(path, route->prefix))
			continue;
		if (!best || strlen(route->prefix) > strlen(best->prefix))
			best = route;
	}
	return best;
}
