#include "app/key.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tls.h"

enum { KEYS = 2, PATH_BYTES = 4096 };

struct key {
	long long made; /* wall clock, seconds; 0: there is none */
	uint8_t bytes[APP_KEY_BYTES];
};

/* One process has one state_dir: one set of keys. */
static struct {
	pthread_mutex_t lock;
	bool loaded;
	struct key keys[KEYS]; /* newest first */
} store = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool parse_hex(const char *text, uint8_t out[APP_KEY_BYTES])
{
	for (int i = 0; i < APP_KEY_BYTES; i++) {
		unsigned byte;

		if (sscanf(text + (size_t)i * 2, "%2x", &byte) != 1)
			return false;
		out[i] = (uint8_t)byte;
	}
	return true;
}

/* Lines of "SECONDS HEX", newest first. What is no such line is no key. */
static void load(const char *path)
{
	FILE *file = fopen(path, "re");
	char hex[2 * APP_KEY_BYTES + 1];
	int n = 0;

	store.loaded = true;
	while (file && n < KEYS && fscanf(file, "%lld %64s", &store.keys[n].made, hex) == 2)
		if (strlen(hex) == sizeof(hex) - 1 && parse_hex(hex, store.keys[n].bytes))
			n++;
	for (; n < KEYS; n++)
		store.keys[n].made = 0;
	secret_wipe(hex, sizeof(hex));
	if (file)
		fclose(file);
}

static bool write_keys(int fd)
{
	for (int i = 0; i < KEYS && store.keys[i].made; i++) {
		char line[32 + 2 * APP_KEY_BYTES];
		int len = snprintf(line, sizeof(line), "%lld ", store.keys[i].made);

		for (int k = 0; k < APP_KEY_BYTES; k++)
			len += snprintf(line + len, sizeof(line) - (size_t)len, "%02x", store.keys[i].bytes[k]);
		line[len++] = '\n';
		if (write(fd, line, (size_t)len) != len)
			return false;
		secret_wipe(line, sizeof(line));
	}
	return fsync(fd) == 0;
}

/* Another file takes the place of the old one: it is whole at any moment. */
static void save(const char *path)
{
	char fresh[PATH_BYTES + 8];
	int fd;
	bool fine;

	snprintf(fresh, sizeof(fresh), "%s.new", path);
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	fine = fd >= 0 && write_keys(fd);
	if (fd >= 0)
		close(fd);
	if (!fine || rename(fresh, path) != 0)
		log_warning(NULL, "%s cannot be written: %s; sessions end when Tandem is restarted", path, strerror(errno));
}

static bool renew(const char *path, long long now, uint32_t lifetime_ms)
{
	struct key fresh = { .made = now };

	if (store.keys[0].made && store.keys[0].made <= now && now - store.keys[0].made < (long long)lifetime_ms / 1000)
		return true;
	if (RAND_bytes(fresh.bytes, sizeof(fresh.bytes)) != 1)
		return store.keys[0].made != 0;
	store.keys[1] = store.keys[0];
	store.keys[0] = fresh;
	save(path);
	secret_wipe(&fresh, sizeof(fresh));
	return true;
}

bool app_key_sign(const char *state_dir, uint32_t lifetime_ms, unsigned age, const void *bytes, size_t len, uint8_t out[APP_MAC_BYTES])
{
	char path[PATH_BYTES];
	unsigned out_len = 0;
	bool fine;

	snprintf(path, sizeof(path), "%s/app-session.key", state_dir);
	pthread_mutex_lock(&store.lock);
	if (!store.loaded)
		load(path);
	fine = renew(path, (long long)time(NULL), lifetime_ms) && age < KEYS && store.keys[age].made &&
	       HMAC(EVP_sha256(), store.keys[age].bytes, APP_KEY_BYTES, bytes, len, out, &out_len) && out_len == APP_MAC_BYTES;
	pthread_mutex_unlock(&store.lock);
	return fine;
}
