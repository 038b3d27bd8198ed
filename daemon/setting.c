#include "daemon/setting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool refuse(struct setting_fault *fault, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Always false, so that a parser can return it. */
static bool refuse(struct setting_fault *fault, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fault->text, sizeof(fault->text), format, args);
	va_end(args);
	return false;
}

/* --- numbers --- */

static bool same_number(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(uint32_t)) == 0;
}

/* Digits only; `*end` is behind them. Values beyond 2^53 are refused, so that a unit cannot overflow them. */
static bool read_digits(const char *text, uint64_t *value, const char **end)
{
	const char *c = text;

	*value = 0;
	while (*c >= '0' && *c <= '9') {
		*value = *value * 10 + (uint64_t)(*c++ - '0');
		if (*value > UINT64_C(1) << 53)
			return false;
	}
	*end = c;
	return c != text;
}

static bool read_count(const char *text, uint64_t *value)
{
	const char *end;

	return read_digits(text, value, &end) && *end == '\0';
}

/* "20ms", "5 min"; 0 needs no unit. */
static bool read_duration(const char *text, uint64_t *value)
{
	static const struct {
		const char *name;
		unsigned ms;
	} units[] = {
		{ "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 }
	};
	const char *end;

	if (!read_digits(text, value, &end) || *value > UINT32_MAX)
		return false;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].name) == 0) {
			*value *= units[i].ms;
			return true;
		}
	}
	return *end == '\0' && *value == 0;
}

typedef bool (*read_number)(const char *text, uint64_t *value);

static bool is_within_bounds(const struct setting *setting, read_number read, uint64_t value,
			     struct setting_fault *fault)
{
	uint64_t min, max;

	if (read(setting->min, &min) && read(setting->max, &max) && value >= min && value <= max)
		return true;
	return refuse(fault, "out of bounds; from %s to %s", setting->min, setting->max);
}

static bool parse_number(const struct setting *setting, read_number read, uint64_t value,
			 void *place, struct setting_fault *fault)
{
	uint32_t stored = (uint32_t)value;

	if (!is_within_bounds(setting, read, value, fault))
		return false;
	memcpy(place, &stored, sizeof(stored));
	return true;
}

static bool parse_count(const struct setting *setting, const char *text, void *place,
			struct setting_fault *fault)
{
	uint64_t value;

	if (!read_count(text, &value))
		return refuse(fault, "not a whole number from %s to %s", setting->min,
			      setting->max);
	return parse_number(setting, read_count, value, place, fault);
}

static bool parse_duration(const struct setting *setting, const char *text, void *place,
			   struct setting_fault *fault)
{
	uint64_t value;

	if (!read_duration(text, &value))
		return refuse(fault, "not a duration; write a whole number and ms, s, min, h or d, "
				     "such as 20ms");
	return parse_number(setting, read_duration, value, place, fault);
}

static bool parse_choice(const struct setting *setting, const char *text, void *place,
			 struct setting_fault *fault)
{
	size_t len;

	for (uint32_t i = 0; setting->choices[i]; i++) {
		if (strcasecmp(text, setting->choices[i]) == 0) {
			memcpy(place, &i, sizeof(i));
			return true;
		}
	}
	refuse(fault, "must be one of");
	for (size_t i = 0; setting->choices[i]; i++) {
		len = strlen(fault->text);
		snprintf(fault->text + len, sizeof(fault->text) - len, "%s %s", i ? "," : "",
			 setting->choices[i]);
	}
	return false;
}

/* --- texts --- */

static bool same_text(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;

	return x && y ? strcmp(x, y) == 0 : x == y;
}

static bool store_text(const char *text, void *place, struct setting_fault *fault)
{
	char **copy = place;

	*copy = strdup(text);
	return *copy || refuse(fault, "out of memory");
}

static bool parse_secret(const struct setting *setting, const char *text, void *place,
			 struct setting_fault *fault)
{
	(void)setting;
	return store_text(text, place, fault);
}

static bool parse_text(const struct setting *setting, const char *text, void *place,
		       struct setting_fault *fault)
{
	(void)setting;
	return *text ? store_text(text, place, fault) : refuse(fault, "is empty");
}

static bool parse_file(const struct setting *setting, const char *text, void *place,
		       struct setting_fault *fault)
{
	struct stat status;

	if (*text && access(text, R_OK) != 0)
		return refuse(fault, "cannot be read: %s", strerror(errno));
	if (*text && stat(text, &status) == 0 && S_ISDIR(status.st_mode))
		return refuse(fault, "is a directory, not a file");
	return parse_text(setting, text, place, fault);
}

/* --- addresses --- */

static bool check_unix_path(const char *path, struct setting_fault *fault)
{
	if (path[0] != '/')
		return refuse(
			fault,
			"a Unix socket needs a full path, such as unix:/run/tandem/mysql.sock");
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return refuse(fault, "a Unix socket path has at most %zu characters",
			      sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	return true;
}

static bool check_port(const char *port, struct setting_fault *fault)
{
	uint64_t value;

	if (read_count(port, &value) && value >= 1 && value <= 65535)
		return true;
	return refuse(fault, "the port must be a number from 1 to 65535");
}

static bool check_host(const char *host, struct setting_fault *fault)
{
	if (!*host)
		return refuse(fault, "the host is missing; write HOST:PORT or unix:/PATH");
	if (strlen(host) > 253)
		return refuse(fault, "the host name is too long");
	for (const char *c = host; *c; c++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_",
			    *c))
			return refuse(
				fault,
				"'%c' cannot be in a host name; write HOST:PORT or unix:/PATH", *c);
	return true;
}

static bool check_v6(const char *host, struct setting_fault *fault)
{
	struct in6_addr address;

	return inet_pton(AF_INET6, host, &address) == 1 ||
	       refuse(fault, "[%.60s] is not an IPv6 address", host);
}

/* Splits `text`, in place, into host and port; the port is NULL when it is not there. */
static bool split_address(char *text, char **host, char **port, struct setting_fault *fault)
{
	char *colon = strrchr(text, ':'), *close = strchr(text, ']');

	*host = text;
	*port = NULL;
	if (*text == '[') {
		if (!close || (close[1] != ':' && close[1] != '\0'))
			return refuse(fault, "write an IPv6 address as [ADDRESS]:PORT");
		*host = text + 1;
		*port = close[1] ? close + 2 : NULL;
		*close = '\0';
		return check_v6(*host, fault);
	}
	if (colon && strchr(text, ':') != colon)
		return refuse(fault, "write an IPv6 address as [ADDRESS]:PORT");
	if (colon) {
		*colon = '\0';
		*port = colon + 1;
	}
	return check_host(*host, fault);
}

/* The spelling the rest of the program relies on: host:port, [v6]:port or unix:/path. NULL with a fault. */
static char *normal_address(const char *text, const char *default_port, struct setting_fault *fault)
{
	char copy[300], *host, *port, *normal = NULL;

	if (strncmp(text, "unix:", 5) == 0)
		return check_unix_path(text + 5, fault) ? strdup(text) : NULL;
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy)) {
		refuse(fault, "is too long");
		return NULL;
	}
	if (!split_address(copy, &host, &port, fault))
		return NULL;
	if (!port)
		port = (char *)default_port;
	if (!port) {
		refuse(fault, "the port is missing; write HOST:PORT or unix:/PATH");
		return NULL;
	}
	if (!check_port(port, fault))
		return NULL;
	if (asprintf(&normal, copy[0] == '[' ? "[%s]:%s" : "%s:%s", host, port) < 0)
		return NULL;
	return normal;
}

static bool parse_address(const struct setting *setting, const char *text, void *place,
			  struct setting_fault *fault)
{
	char *address = normal_address(text, "3306", fault);

	(void)setting;
	if (!address)
		return false;
	memcpy(place, &address, sizeof(address));
	return true;
}

/* --- lists of addresses --- */

struct list {
	char **items;
	size_t count;
};

static bool append(struct list *list, char *item, struct setting_fault *fault)
{
	char **items = realloc(list->items, (list->count + 1) * sizeof(*items));

	if (!items) {
		free(item);
		return refuse(fault, "out of memory");
	}
	list->items = items;
	list->items[list->count++] = item;
	return true;
}

static bool has_item(const struct list *list, const char *item)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], item) == 0)
			return true;
	return false;
}

static bool append_address(struct list *list, const char *text, struct setting_fault *fault)
{
	char *address = normal_address(text, NULL, fault);

	if (!address)
		return false;
	if (has_item(list, address)) {
		refuse(fault, "%.100s is given twice", address);
		free(address);
		return false;
	}
	return append(list, address, fault);
}

static bool parse_listen(const struct setting *setting, const char *text, void *place,
			 struct setting_fault *fault)
{
	char *copy = strdup(text), *rest = copy, *item;
	bool ok = copy != NULL;

	(void)setting;
	if (copy && strspn(copy, " \t,") == strlen(copy))
		ok = refuse(fault, "is empty");
	while (ok && (item = strsep(&rest, ","))) {
		item += strspn(item, " \t");
		item[strcspn(item, " \t")] = '\0';
		ok = append_address(place, item, fault);
	}
	free(copy);
	return ok;
}

static bool same_list(const void *a, const void *b)
{
	const struct list *x = a, *y = b;

	if (x->count != y->count)
		return false;
	for (size_t i = 0; i < x->count; i++)
		if (!has_item(y, x->items[i]))
			return false;
	return true;
}

const struct setting_type setting_count = { "NUMBER", parse_count, same_number, false, false };
const struct setting_type setting_duration = { "DURATION", parse_duration, same_number, false,
					       false };
const struct setting_type setting_choice = { NULL, parse_choice, same_number, false, false };
const struct setting_type setting_text = { "TEXT", parse_text, same_text, false, false };
const struct setting_type setting_file = { "FILE", parse_file, same_text, false, false };
const struct setting_type setting_secret = { "PASSWORD", parse_secret, same_text, false, true };
const struct setting_type setting_address = { "HOST[:PORT] | unix:/PATH", parse_address, same_text,
					      false, false };
const struct setting_type setting_listen = { "HOST:PORT | unix:/PATH, ...", parse_listen, same_list,
					     true, false };
