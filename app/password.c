/*
 * crypt() with yescrypt, which needs memory as well as time, so that guessing is dear on any machine. What one hash costs is fixed when it
 * is made; how many are worked out at a time is bounded here, so that a flood of logins cannot take all cores.
 */
#include <crypt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/request.h"
#include "app/session.h"
#include "base/tls.h"

static struct {
	pthread_mutex_t lock;
	pthread_cond_t free;
	unsigned busy;
} room = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };

static void enter(void)
{
	pthread_mutex_lock(&room.lock);
	while (room.busy == APP_PASSWORD_AT_ONCE)
		pthread_cond_wait(&room.free, &room.lock);
	room.busy++;
	pthread_mutex_unlock(&room.lock);
}

static void leave(void)
{
	pthread_mutex_lock(&room.lock);
	room.busy--;
	pthread_cond_signal(&room.free);
	pthread_mutex_unlock(&room.lock);
}

/* In the request's memory; NULL when it failed. */
static const char *crypt_now(struct app_request *r, const char *password, const char *setting)
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *hash, *copy = NULL;

	if (!data)
		return NULL;
	enter();
	hash = crypt_rn(password, setting, data, sizeof(*data));
	leave();
	if (hash)
		copy = app_copy(r, hash, strlen(hash));
	secret_wipe(data, sizeof(*data));
	free(data);
	return copy;
}

const char *app_password_hash(struct app_request *r, const char *password)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];

	if (strlen(password) > APP_PASSWORD_MAX || !crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof(setting)))
		return NULL;
	return crypt_now(r, password, setting);
}

/* Schemes whose cost is bounded by what crypt() writes itself; old ones are not taken. */
static bool is_trusted(const char *hash)
{
	return !strncmp(hash, "$y$", 3) || !strncmp(hash, "$2b$1", 5) || !strncmp(hash, "$2y$1", 5);
}

bool app_password_check(struct app_request *r, const char *password, const char *hash)
{
	static const char nobody[] = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";
	bool known = hash && is_trusted(hash);
	const char *made;

	if (strlen(password) > APP_PASSWORD_MAX)
		return false;
	made = crypt_now(r, password, known ? hash : nobody);
	return known && made && strlen(made) == strlen(hash) && secret_equal(made, hash, strlen(made));
}
