#include "proxy/cluster/peer_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum { MAGIC = 16, NONCE = 32, GREETING_MS = 3000, SEND_MS = 3000 };

static const char magic[MAGIC] = "TANDEM-PEER 1\r\n";

/* The labels keep a proof of one side from being the other's. */
static const char connector_label[] = "tandem peer connector", acceptor_label[] = "tandem peer acceptor", key_label[] = "tandem peer key";

struct hello {
	unsigned char nonce_a[NONCE], nonce_b[NONCE];
	char name[PEER_NAME];
};

/* ---- Bytes ---- */

static bool wait_for(int fd, short events, uint64_t until_ms)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now = clock_ms();
		int n = poll(&p, 1, now < until_ms ? (int)(until_ms - now) : 0);

		if (n > 0)
			return true;
		if (n == 0 || errno != EINTR)
			return false;
	}
}

/* What a send or recv has moved; false when it has failed for good, or the time is over. */
static bool moved(ssize_t n, size_t *done, uint64_t until_ms)
{
	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN) && clock_ms() < until_ms;
	*done += (size_t)n;
	return true;
}

static bool write_all(int fd, const void *bytes, size_t len, uint64_t until_ms)
{
	const char *from = bytes;

	for (size_t done = 0; done < len;) {
		ssize_t n = wait_for(fd, POLLOUT, until_ms) ? send(fd, from + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT) : -1;

		if (!moved(n, &done, until_ms))
			return false;
	}
	return true;
}

static bool read_all(int fd, void *bytes, size_t len, uint64_t until_ms)
{
	char *to = bytes;

	for (size_t done = 0; done < len;) {
		ssize_t n = wait_for(fd, POLLIN, until_ms) ? recv(fd, to + done, len - done, MSG_DONTWAIT) : -1;

		if (!moved(n, &done, until_ms))
			return false;
	}
	return true;
}

/* ---- Proofs ---- */

static bool prove(const char *secret, const char *label, const struct hello *h, unsigned char out[PEER_PROOF])
{
	unsigned char text[64 + sizeof(*h)] = { 0 };
	unsigned len = PEER_PROOF;

	memcpy(text, label, strlen(label));
	memcpy(text + 64, h, sizeof(*h));
	return HMAC(EVP_sha256(), secret, (int)strlen(secret), text, sizeof(text), out, &len) != NULL;
}

static bool is_proven(const char *secret, const char *label, const struct hello *h, const unsigned char proof[PEER_PROOF])
{
	unsigned char wanted[PEER_PROOF];

	return prove(secret, label, h, wanted) && CRYPTO_memcmp(wanted, proof, PEER_PROOF) == 0;
}

static bool make_key(struct peer_link *link, const char *secret, const struct hello *h)
{
	struct hello anonymous = *h;

	memset(anonymous.name, 0, sizeof(anonymous.name));
	return prove(secret, key_label, &anonymous, link->key);
}

static void put_number(unsigned char *out, uint64_t number)
{
	for (int i = 7; i >= 0; i--, number >>= 8)
		out[i] = (unsigned char)number;
}

static bool prove_text(const struct peer_link *link, bool from_acceptor, uint64_t number, const char *text, size_t len,
		       unsigned char out[PEER_PROOF])
{
	unsigned char *whole = malloc(9 + len);
	unsigned size = PEER_PROOF;
	bool ok = false;

	if (!whole)
		return false;
	whole[0] = from_acceptor;
	put_number(whole + 1, number);
	memcpy(whole + 9, text, len);
	ok = HMAC(EVP_sha256(), link->key, sizeof(link->key), whole, 9 + len, out, &size) != NULL;
	free(whole);
	return ok;
}

/* ---- The handshake ---- */

static enum peer_greeting end(struct peer_link *link, enum peer_greeting why)
{
	if (why != PEER_GREETED)
		peer_close(link);
	return why;
}

static void open_link(struct peer_link *link, int fd, bool is_acceptor)
{
	memset(link, 0, sizeof(*link));
	link->fd = fd;
	link->is_acceptor = is_acceptor;
}

static void take_name(char theirs[PEER_NAME], const char name[PEER_NAME])
{
	memcpy(theirs, name, PEER_NAME);
	theirs[PEER_NAME - 1] = '\0';
}

static void put_name(struct hello *h, const char *name)
{
	memset(h->name, 0, sizeof(h->name));
	snprintf(h->name, sizeof(h->name), "%s", name);
}

enum peer_greeting peer_connected(struct peer_link *link, int fd, const char *secret, const char *name, char theirs[PEER_NAME])
{
	uint64_t until = clock_ms() + GREETING_MS;
	unsigned char first[MAGIC + NONCE], proof[PEER_PROOF], last[PEER_NAME + PEER_PROOF];
	struct hello h;

	open_link(link, fd, false);
	theirs[0] = '\0';
	if (!read_all(fd, first, sizeof(first), until))
		return end(link, PEER_GONE);
	if (memcmp(first, magic, MAGIC) != 0)
		return end(link, PEER_STRANGE);
	memcpy(h.nonce_a, first + MAGIC, NONCE);
	put_name(&h, name);
	if (RAND_bytes(h.nonce_b, NONCE) != 1 || !prove(secret, connector_label, &h, proof))
		return end(link, PEER_GONE);
	if (!write_all(fd, magic, MAGIC, until) || !write_all(fd, h.nonce_b, NONCE, until) ||
	    !write_all(fd, h.name, PEER_NAME, until) || !write_all(fd, proof, PEER_PROOF, until) ||
	    !read_all(fd, last, sizeof(last), until))
		return end(link, PEER_GONE);
	memcpy(h.name, last, PEER_NAME);
	if (!is_proven(secret, acceptor_label, &h, last + PEER_NAME))
		return end(link, PEER_WRONG_SECRET);
	take_name(theirs, h.name);
	return make_key(link, secret, &h) ? PEER_GREETED : end(link, PEER_GONE);
}

static enum peer_greeting hear_connector(int fd, const char *secret, struct hello *h, uint64_t until)
{
	unsigned char said[MAGIC + NONCE + PEER_NAME + PEER_PROOF];

	/* What is not magic is not waited for to its end. */
	if (!read_all(fd, said, MAGIC, until))
		return PEER_GONE;
	if (memcmp(said, magic, MAGIC) != 0)
		return PEER_STRANGE;
	if (!read_all(fd, said + MAGIC, sizeof(said) - MAGIC, until))
		return PEER_GONE;
	memcpy(h->nonce_b, said + MAGIC, NONCE);
	memcpy(h->name, said + MAGIC + NONCE, PEER_NAME);
	return is_proven(secret, connector_label, h, said + MAGIC + NONCE + PEER_NAME) ? PEER_GREETED : PEER_WRONG_SECRET;
}

enum peer_greeting peer_accepted(struct peer_link *link, int fd, const char *secret, const char *name, char theirs[PEER_NAME],
				 bool (*is_known)(void *owner, const char *name), void *owner)
{
	uint64_t until = clock_ms() + GREETING_MS;
	unsigned char proof[PEER_PROOF];
	enum peer_greeting heard;
	struct hello h;

	open_link(link, fd, true);
	theirs[0] = '\0';
	if (RAND_bytes(h.nonce_a, NONCE) != 1 || !write_all(fd, magic, MAGIC, until) || !write_all(fd, h.nonce_a, NONCE, until))
		return end(link, PEER_GONE);
	heard = hear_connector(fd, secret, &h, until);
	if (heard != PEER_GREETED)
		return end(link, heard);
	take_name(theirs, h.name);
	if (!is_known(owner, theirs))
		return end(link, PEER_STRANGE);
	put_name(&h, name);
	if (!prove(secret, acceptor_label, &h, proof) || !make_key(link, secret, &h) || !write_all(fd, h.name, PEER_NAME, until) ||
	    !write_all(fd, proof, PEER_PROOF, until))
		return end(link, PEER_GONE);
	return PEER_GREETED;
}

/* ---- Messages ---- */

static bool send_text(struct peer_link *link, const char *text, size_t len)
{
	uint64_t until = clock_ms() + SEND_MS;
	unsigned char head[4 + PEER_PROOF];
	uint32_t size = htonl((uint32_t)len);

	memcpy(head, &size, 4);
	return len <= PEER_TEXT_MAX && prove_text(link, link->is_acceptor, link->sent++, text, len, head + 4) &&
	       write_all(link->fd, head, sizeof(head), until) && write_all(link->fd, text, len, until);
}

bool peer_send(struct peer_link *link, const json_t *message)
{
	char *text = link->fd >= 0 ? json_dumps(message, JSON_COMPACT) : NULL;
	bool ok = text && send_text(link, text, strlen(text));

	free(text);
	if (!ok)
		peer_close(link);
	return ok;
}

/* The proof comes before the parser. */
static json_t *receive_text(struct peer_link *link, size_t len, const unsigned char proof[PEER_PROOF], uint64_t until)
{
	unsigned char wanted[PEER_PROOF];
	char *text = len && len <= PEER_TEXT_MAX ? malloc(len) : NULL;
	json_t *message = NULL;

	if (text && read_all(link->fd, text, len, until) && prove_text(link, !link->is_acceptor, link->received++, text, len, wanted) &&
	    CRYPTO_memcmp(wanted, proof, PEER_PROOF) == 0)
		message = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	if (message && !json_is_object(message)) {
		json_decref(message);
		message = NULL;
	}
	return message;
}

json_t *peer_receive(struct peer_link *link, int timeout_ms)
{
	uint64_t until = clock_ms() + (uint64_t)timeout_ms;
	unsigned char head[4 + PEER_PROOF];
	json_t *message = NULL;
	uint32_t size;

	if (link->fd >= 0 && read_all(link->fd, head, sizeof(head), until)) {
		memcpy(&size, head, 4);
		message = receive_text(link, ntohl(size), head + 4, until);
	}
	if (!message)
		peer_close(link);
	return message;
}

void peer_close(struct peer_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	OPENSSL_cleanse(link->key, sizeof(link->key));
}
