#include "proxy/wire/auth.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <string.h>

enum {
	SHA1_BYTES = 20,
	SHA2_BYTES = 32,
	RSA_PASSWORD_MAX = 512, /* more than OAEP can take with any key in use */
};

/* ---- mysql_native_password ---------------------------------------------------------------------------------------- */

void auth_native_stage1(const char *password, size_t len, uint8_t stage1[20])
{
	SHA1((const unsigned char *)password, len, stage1);
}

void auth_native_stored(const uint8_t stage1[20], uint8_t stored[20])
{
	SHA1(stage1, SHA1_BYTES, stored);
}

/* out = in XOR SHA1(scramble, stored): the same step makes a token of stage1 and stage1 of a token. */
static void native_mask(const uint8_t in[20], const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const uint8_t stored[20],
			uint8_t out[20])
{
	uint8_t text[WIRE_SCRAMBLE_BYTES + SHA1_BYTES];
	uint8_t mask[SHA1_BYTES];

	memcpy(text, scramble, WIRE_SCRAMBLE_BYTES);
	memcpy(text + WIRE_SCRAMBLE_BYTES, stored, SHA1_BYTES);
	SHA1(text, sizeof(text), mask);
	for (size_t i = 0; i < SHA1_BYTES; i++)
		out[i] = in[i] ^ mask[i];
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(mask, sizeof(mask));
}

void auth_native_token(const uint8_t stage1[20], const uint8_t scramble[WIRE_SCRAMBLE_BYTES], uint8_t token[20])
{
	uint8_t stored[SHA1_BYTES];

	auth_native_stored(stage1, stored);
	native_mask(stage1, scramble, stored, token);
	OPENSSL_cleanse(stored, sizeof(stored));
}

bool auth_native_check(const uint8_t stored[20], const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const uint8_t *token,
		       size_t token_len, uint8_t stage1[20])
{
	uint8_t again[SHA1_BYTES];
	bool right;

	if (token_len != SHA1_BYTES)
		return false;
	native_mask(token, scramble, stored, stage1);
	auth_native_stored(stage1, again);
	right = CRYPTO_memcmp(again, stored, SHA1_BYTES) == 0;
	if (!right)
		OPENSSL_cleanse(stage1, SHA1_BYTES);
	OPENSSL_cleanse(again, sizeof(again));
	return right;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool auth_native_parse(const char *text, size_t len, uint8_t stored[20])
{
	if (len != 1 + 2 * SHA1_BYTES || text[0] != '*')
		return false;
	for (size_t i = 0; i < SHA1_BYTES; i++) {
		int high = hex_digit(text[1 + 2 * i]);
		int low = hex_digit(text[2 + 2 * i]);

		if (high < 0 || low < 0)
			return false;
		stored[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* ---- caching_sha2_password ---------------------------------------------------------------------------------------- */

void auth_sha2_token(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], uint8_t token[32])
{
	uint8_t once[SHA2_BYTES], mask[SHA2_BYTES];
	uint8_t text[SHA2_BYTES + WIRE_SCRAMBLE_BYTES];

	SHA256((const unsigned char *)password, len, once);
	SHA256(once, SHA2_BYTES, text);
	memcpy(text + SHA2_BYTES, scramble, WIRE_SCRAMBLE_BYTES);
	SHA256(text, sizeof(text), mask);
	for (size_t i = 0; i < SHA2_BYTES; i++)
		token[i] = once[i] ^ mask[i];
	OPENSSL_cleanse(once, sizeof(once));
	OPENSSL_cleanse(mask, sizeof(mask));
	OPENSSL_cleanse(text, sizeof(text));
}

bool auth_sha2_check(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const uint8_t *token,
		     size_t token_len)
{
	uint8_t right[SHA2_BYTES];
	bool same;

	if (token_len != SHA2_BYTES)
		return false;
	auth_sha2_token(password, len, scramble, right);
	same = CRYPTO_memcmp(right, token, SHA2_BYTES) == 0;
	OPENSSL_cleanse(right, sizeof(right));
	return same;
}

static EVP_PKEY *read_public_key(const char *pem, size_t pem_len)
{
	BIO *bio;
	EVP_PKEY *key;

	if (pem_len > INT32_MAX)
		return NULL;
	bio = BIO_new_mem_buf(pem, (int)pem_len);
	key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	return key;
}

static size_t rsa_oaep(EVP_PKEY *key, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_size)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	size_t written = out_size;

	if (!ctx || EVP_PKEY_encrypt_init(ctx) <= 0 || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0 ||
	    EVP_PKEY_encrypt(ctx, out, &written, in, in_len) <= 0)
		written = 0;
	EVP_PKEY_CTX_free(ctx);
	return written;
}

size_t auth_sha2_encrypt(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const char *pem,
			 size_t pem_len, uint8_t *out, size_t out_size)
{
	uint8_t text[RSA_PASSWORD_MAX];
	EVP_PKEY *key;
	size_t written = 0;

	if (len >= sizeof(text))
		return 0;
	key = read_public_key(pem, pem_len);
	if (!key)
		return 0;
	for (size_t i = 0; i <= len; i++) /* with a NUL at the end */
		text[i] = (i < len ? (uint8_t)password[i] : 0) ^ scramble[i % WIRE_SCRAMBLE_BYTES];
	if (EVP_PKEY_get_size(key) > 0 && (size_t)EVP_PKEY_get_size(key) <= out_size)
		written = rsa_oaep(key, text, len + 1, out, out_size);
	OPENSSL_cleanse(text, sizeof(text));
	EVP_PKEY_free(key);
	return written;
}

/* ---- Proof of the certificate, scramble --------------------------------------------------------------------------- */

void auth_tls_proof(const uint8_t *stored, size_t stored_len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES],
		    const uint8_t fingerprint[32], uint8_t out[65])
{
	static const char digits[] = "0123456789ABCDEF";
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t hash[SHA2_BYTES] = { 0 };

	/* Out of memory gives a proof that no client accepts, which is the safe side. */
	if (ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) && EVP_DigestUpdate(ctx, stored, stored_len) &&
	    EVP_DigestUpdate(ctx, scramble, WIRE_SCRAMBLE_BYTES) && EVP_DigestUpdate(ctx, fingerprint, SHA2_BYTES))
		EVP_DigestFinal_ex(ctx, hash, NULL);
	EVP_MD_CTX_free(ctx);
	out[0] = 1;
	for (size_t i = 0; i < SHA2_BYTES; i++) {
		out[1 + 2 * i] = (uint8_t)digits[hash[i] >> 4];
		out[2 + 2 * i] = (uint8_t)digits[hash[i] & 15];
	}
}

bool auth_scramble(uint8_t scramble[WIRE_SCRAMBLE_BYTES])
{
	if (RAND_bytes(scramble, WIRE_SCRAMBLE_BYTES) != 1)
		return false;
	/* Seven bits: clients that treat it as a string of some character set must not change it. */
	for (size_t i = 0; i < WIRE_SCRAMBLE_BYTES; i++) {
		scramble[i] &= 0x7f;
		if (scramble[i] == 0 || scramble[i] == '$')
			scramble[i]++;
	}
	return true;
}
