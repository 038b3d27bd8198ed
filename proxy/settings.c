#include "proxy/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/pattern.h"

static void free_secret(char *secret)
{
	if (secret)
		secret_wipe(secret, strlen(secret));
	free(secret);
}

static void fini_proxy(struct proxy_settings *proxy)
{
	for (size_t i = 0; i < proxy->listen_count; i++)
		free(proxy->listen[i]);
	free(proxy->listen);
	free(proxy->tls_certificate);
	free(proxy->tls_key);
	free(proxy->server_version);
	free(proxy->proxy_protocol_from.ranges);
}

static void fini_monitor(struct monitor_settings *monitor)
{
	free(monitor->user);
	free_secret(monitor->password);
	free(monitor->fence_command);
	free(monitor->clone_command);
	free(monitor->event_command);
	free(monitor->event_url);
}

static void fini_server(struct server_settings *server)
{
	free(server->name);
	free(server->address);
	free(server->replication_address);
	free(server->tls_ca);
}

static void fini_witness(struct witness_settings *witness)
{
	free(witness->name);
	free(witness->address);
	free(witness->user);
	free_secret(witness->password);
	free(witness->tls_ca);
}

static void fini_peer(struct peer_settings *peer)
{
	free(peer->name);
	free(peer->address);
}

static void fini_rule(struct rule_settings *rule)
{
	free(rule->name);
	free(rule->why);
	pattern_free(rule->text);
	free(rule->user);
	free(rule->schema);
	free(rule->to.server);
}

static void free_settings(struct settings *settings)
{
	free(settings->state_dir);
	free(settings->name);
	free(settings->cluster);
	free(settings->peer_listen);
	free_secret(settings->peer_secret);
	fini_proxy(&settings->proxy);
	fini_monitor(&settings->monitor);
	free(settings->replication.user);
	free_secret(settings->replication.password);
	for (size_t i = 0; i < settings->server_count; i++)
		fini_server(&settings->servers[i]);
	free(settings->servers);
	for (size_t i = 0; i < settings->witness_count; i++)
		fini_witness(&settings->witnesses[i]);
	free(settings->witnesses);
	for (size_t i = 0; i < settings->peer_count; i++)
		fini_peer(&settings->peers[i]);
	free(settings->peers);
	for (size_t i = 0; i < settings->user_count; i++) {
		free(settings->users[i].name);
		free_secret(settings->users[i].password);
	}
	free(settings->users);
	for (size_t i = 0; i < settings->rule_count; i++)
		fini_rule(&settings->rules[i]);
	free(settings->rules);
	for (size_t i = 0; i < SETTINGS_GUESTS; i++)
		if (settings->guests[i].data)
			settings->guests[i].free(settings->guests[i].data);
	free(settings);
}

struct settings *settings_ref(struct settings *settings)
{
	atomic_fetch_add_explicit(&settings->others, 1, memory_order_relaxed);
	return settings;
}

void settings_unref(struct settings *settings)
{
	if (settings && atomic_fetch_sub_explicit(&settings->others, 1, memory_order_acq_rel) == 0)
		free_settings(settings);
}
