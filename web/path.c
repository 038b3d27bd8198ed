#include "web/path.h"

#include <string.h>

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* The byte behind a '%', or -1. An encoded slash is refused: whether it separates differs from program to program. */
static int decode_escape(const char *digits, size_t len)
{
	int high = len >= 2 ? hex_value(digits[0]) : -1;
	int low = len >= 2 ? hex_value(digits[1]) : -1;
	int byte = high < 0 || low < 0 ? -1 : high * 16 + low;

	return byte == '/' ? -1 : byte;
}

static bool decode(const char *path, size_t len, char *out, size_t *out_len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int byte = (unsigned char)path[i];

		if (byte == '%') {
			byte = decode_escape(path + i + 1, len - i - 1);
			i += 2;
		}
		if (byte <= 0)
			return false;
		out[n++] = (char)byte;
	}
	*out_len = n;
	return true;
}

/* Drops the last segment of out[0..len), which ends in '/'; false at the root. */
static bool go_up(const char *out, size_t *len)
{
	size_t at = *len;

	if (at <= 1)
		return false;
	at--;
	while (out[at - 1] != '/')
		at--;
	*len = at;
	return true;
}

/* Resolves dots and doubled slashes in place: what is written is never longer than what was read. */
static bool resolve(char *bytes, size_t len, size_t *out_len)
{
	size_t n = 0, at = 0;

	bytes[n++] = '/';
	while (at < len) {
		size_t start = ++at; /* behind a slash */

		while (at < len && bytes[at] != '/')
			at++;
		if (at == start || (at - start == 1 && bytes[start] == '.'))
			continue;
		if (at - start == 2 && !memcmp(bytes + start, "..", 2)) {
			if (!go_up(bytes, &n))
				return false;
			continue;
		}
		memmove(bytes + n, bytes + start, at - start);
		n += at - start;
		if (at < len)
			bytes[n++] = '/';
	}
	*out_len = n;
	return true;
}

size_t path_normalise(const char *path, size_t len, char *out)
{
	size_t n;

	if (!len || path[0] != '/' || !decode(path, len, out, &n) || !resolve(out, n, &n))
		return 0;
	out[n] = '\0';
	return n;
}

bool path_is_below(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	while (len && prefix[len - 1] == '/')
		len--;
	return !strncmp(path, prefix, len) && (!path[len] || path[len] == '/');
}
