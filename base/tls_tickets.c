#include "base/tls_tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/tls.h"

enum { NAME_BYTES = 16, KEY_BYTES = 32, KEY_LIFE_MS = 12 * 3600 * 1000 };

struct ticket_key {
	uint8_t name[NAME_BYTES];
	uint8_t cipher[KEY_BYTES];
	uint8_t mac[KEY_BYTES];
};

/* The lock is taken in handshakes only, for the time of a copy. */
struct tls_tickets {
	pthread_mutex_t lock;
	uint64_t made_ms; /* the first of `keys` */
	struct ticket_key keys[2]; /* the one that seals, and the one before */
};

static int slot = -1; /* of a context */

static void make_slot(void)
{
	slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static bool make_key(struct ticket_key *key)
{
	return RAND_bytes((unsigned char *)key, sizeof(*key)) == 1;
}

/* Under the lock. */
static bool renew(struct tls_tickets *t)
{
	struct ticket_key fresh;

	if (!make_key(&fresh))
		return false;
	t->keys[1] = t->keys[0];
	t->keys[0] = fresh;
	t->made_ms = clock_ms();
	secret_wipe(&fresh, sizeof(fresh));
	return true;
}

bool tls_tickets_renew(struct tls_tickets *tickets)
{
	bool ok;

	pthread_mutex_lock(&tickets->lock);
	ok = renew(tickets);
	pthread_mutex_unlock(&tickets->lock);
	return ok;
}

struct tls_tickets *tls_tickets_new(void)
{
	struct tls_tickets *t = calloc(1, sizeof(*t));
	bool ok = t != NULL;

	if (t)
		pthread_mutex_init(&t->lock, NULL);
	/* Both: a key of zeros would be known to everybody. */
	for (int i = 0; ok && i < 2; i++)
		ok = renew(t);
	if (ok)
		return t;
	tls_tickets_free(t);
	return NULL;
}

void tls_tickets_free(struct tls_tickets *tickets)
{
	if (!tickets)
		return;
	pthread_mutex_destroy(&tickets->lock);
	secret_wipe(tickets, sizeof(*tickets));
	free(tickets);
}

/* A key that has had its time is renewed by the first that comes for it; both are when nobody came for long. */
static void take_sealing_key(struct tls_tickets *t, struct ticket_key *out)
{
	pthread_mutex_lock(&t->lock);
	for (int i = 0; i < 2 && clock_ms() - t->made_ms > KEY_LIFE_MS; i++)
		if (!renew(t))
			break;
	*out = t->keys[0];
	pthread_mutex_unlock(&t->lock);
}

/* 1: the key that seals now; 2: the one before, so that a new ticket should follow; 0: none of ours. */
static int find_key(struct tls_tickets *t, const unsigned char *name, struct ticket_key *out)
{
	int found = 0;

	pthread_mutex_lock(&t->lock);
	for (int i = 0; i < 2 && !found; i++)
		if (!memcmp(t->keys[i].name, name, NAME_BYTES) && clock_ms() - t->made_ms <= (uint64_t)KEY_LIFE_MS * (i ? 1 : 2)) {
			*out = t->keys[i];
			found = i + 1;
		}
	pthread_mutex_unlock(&t->lock);
	return found;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params);
}

static int seal(struct tls_tickets *t, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	struct ticket_key key;
	bool ok;

	take_sealing_key(t, &key);
	memcpy(name, key.name, NAME_BYTES);
	ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) == 1 &&
	     EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 && set_mac(mac, &key);
	secret_wipe(&key, sizeof(key));
	return ok ? 1 : -1;
}

static int open_ticket(struct tls_tickets *t, const unsigned char *name, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
	struct ticket_key key;
	int found = find_key(t, name, &key);
	bool ok;

	if (!found)
		return 0;
	ok = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1 && set_mac(mac, &key);
	secret_wipe(&key, sizeof(key));
	return ok ? found : -1;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seals)
{
	struct tls_tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), slot);

	if (!t)
		return 0;
	return seals ? seal(t, name, iv, cipher, mac) : open_ticket(t, name, iv, cipher, mac);
}

bool tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ctx)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_slot);
	return slot >= 0 && SSL_CTX_set_ex_data(ctx, slot, tickets) && SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
}
