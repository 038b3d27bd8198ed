#include "proxy/cluster/accounts.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/tls.h"

/* % any run, _ any one character, backslash takes the next as it is; letters without case. */
static bool wild_match(const char *pattern, const char *text)
{
	for (; *pattern; pattern++, text++) {
		if (*pattern == '%') {
			while (*pattern == '%')
				pattern++;
			for (;; text++) {
				if (wild_match(pattern, text))
					return true;
				if (!*text)
					return false;
			}
		}
		if (!*text)
			return false;
		if (*pattern == '_')
			continue;
		if (*pattern == '\\' && pattern[1])
			pattern++;
		if (tolower((unsigned char)*pattern) != tolower((unsigned char)*text))
			return false;
	}
	return !*text;
}

/* "192.168.1.0/255.255.255.0", on MySQL also "192.168.1.0/24". */
static bool mask_match(const char *pattern, const char *ip)
{
	const char *slash = strchr(pattern, '/');
	char net_text[INET_ADDRSTRLEN];
	struct in_addr net, mask, address;
	size_t len = slash ? (size_t)(slash - pattern) : 0;

	if (!len || len >= sizeof(net_text) || inet_pton(AF_INET, ip, &address) != 1)
		return false;
	memcpy(net_text, pattern, len);
	net_text[len] = '\0';
	if (inet_pton(AF_INET, net_text, &net) != 1)
		return false;
	if (inet_pton(AF_INET, slash + 1, &mask) != 1) {
		char *end;
		unsigned long bits = strtoul(slash + 1, &end, 10);

		if (*end || end == slash + 1 || bits > 32)
			return false;
		mask.s_addr = bits ? htonl(UINT32_MAX << (32 - bits)) : 0;
	}
	return (address.s_addr & mask.s_addr) == net.s_addr;
}

bool accounts_host_matches(const char *pattern, const char *name, const char *ip)
{
	if (!*pattern)
		return true;
	return (name && wild_match(pattern, name)) || (ip && wild_match(pattern, ip)) ||
	       (ip && mask_match(pattern, ip));
}

/* How specific a host is: without wildcards most, then by the place of the first one. The same numbers as in the server. */
static unsigned host_rank(const char *host)
{
	for (const char *p = host; *p; p++) {
		if (*p == '\\' && p[1]) {
			p++;
		} else if (*p == '%' || *p == '_') {
			size_t place = (size_t)(p - host) + 1;

			return place < 127 ? (unsigned)place : 127;
		}
	}
	return *host ? 128 : 0;
}

static int compare_accounts(const void *left, const void *right)
{
	const struct account *a = left;
	const struct account *b = right;
	int order = strcmp(a->user, b->user);

	if (order)
		return order;
	if (host_rank(a->host) != host_rank(b->host))
		return host_rank(a->host) > host_rank(b->host) ? -1 : 1;
	return -strcmp(a->host, b->host);
}

void accounts_sort(struct account *accounts, size_t count)
{
	if (count)
		qsort(accounts, count, sizeof(*accounts), compare_accounts);
}

static int compare_user(const char *user, const char *text, size_t len)
{
	int order = strncmp(user, text, len);

	return order ? order : user[len] != '\0';
}

/* Accounts of one user lie together; the first that accepts the peer is the most specific. */
static const struct account *first_match(const struct account *accounts, size_t count,
					 const char *user, size_t user_len, const char *name,
					 const char *ip)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (compare_user(accounts[middle].user, user, user_len) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < count && !compare_user(accounts[low].user, user, user_len); low++)
		if (!accounts[low].is_role && accounts_host_matches(accounts[low].host, name, ip))
			return &accounts[low];
	return NULL;
}

const struct account *accounts_find(const struct account *accounts, size_t count, const char *user,
				    size_t user_len, const char *name, const char *ip)
{
	const struct account *named = first_match(accounts, count, user, user_len, name, ip);
	const struct account *anonymous;

	if (!user_len)
		return named;
	/* The well-known trap: ''@'localhost' beats 'app'@'%', because the more specific host wins. */
	anonymous = first_match(accounts, count, "", 0, name, ip);
	if (anonymous && (!named || host_rank(anonymous->host) > host_rank(named->host)))
		return anonymous;
	return named;
}

void accounts_judge_fit(struct account *accounts, size_t count,
			const struct account_origin *origins, size_t origin_count)
{
	for (size_t i = 0; i < count; i++) {
		const struct account *a = &accounts[i];
		bool fits = origin_count > 0;

		for (size_t o = 0; o < origin_count && fits; o++)
			fits = accounts_find(accounts, count, a->user, strlen(a->user),
					     origins[o].name[0] ? origins[o].name : NULL,
					     origins[o].ip[0] ? origins[o].ip : NULL) == a;
		accounts[i].fits_backends = fits;
	}
}

bool accounts_equal(const struct account *a, size_t a_count, const struct account *b,
		    size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (strcmp(a[i].user, b[i].user) || strcmp(a[i].host, b[i].host) ||
		    strcmp(a[i].plugin, b[i].plugin) || strcmp(a[i].auth, b[i].auth) ||
		    a[i].locked != b[i].locked || a[i].requires_tls != b[i].requires_tls ||
		    a[i].is_super != b[i].is_super || a[i].is_role != b[i].is_role)
			return false;
	return true;
}

struct account *accounts_copy(const struct account *accounts, size_t count)
{
	struct account *copy = count ? calloc(count, sizeof(*copy)) : NULL;
	bool ok = copy != NULL;

	for (size_t i = 0; ok && i < count; i++) {
		copy[i] = accounts[i];
		copy[i].user = strdup(accounts[i].user);
		copy[i].host = strdup(accounts[i].host);
		copy[i].plugin = strdup(accounts[i].plugin);
		copy[i].auth = strdup(accounts[i].auth);
		ok = copy[i].user && copy[i].host && copy[i].plugin && copy[i].auth;
	}
	if (copy && !ok) {
		accounts_free(copy, count);
		return NULL;
	}
	return copy;
}

static void free_secret(char *text)
{
	if (text)
		secret_wipe(text, strlen(text));
	free(text);
}

void accounts_free(struct account *accounts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(accounts[i].user);
		free(accounts[i].host);
		free(accounts[i].plugin);
		free_secret(accounts[i].auth);
	}
	free(accounts);
}
