/* The arithmetic of the authentication plugins against values of real servers and of OpenSSL. */
#include <CUnit/CUnit.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#include "proxy/wire/auth.h"

void suite_wire_auth(void);

static const uint8_t scramble[WIRE_SCRAMBLE_BYTES] = { 1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
						       11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };

static bool is_hex(const uint8_t *bytes, size_t len, const char *hex)
{
	char text[256];

	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return strcmp(text, hex) == 0;
}

static void test_native(void)
{
	static const char stored_text[] = "*D821809F681A40A6E379B50D0463EFAE20BDD122"; /* of "pw", by a server */
	uint8_t stage1[20], stored[20], parsed[20], token[20], found[20];

	auth_native_stage1("pw", 2, stage1);
	auth_native_stored(stage1, stored);
	CU_ASSERT_TRUE(auth_native_parse(stored_text, strlen(stored_text), parsed));
	CU_ASSERT_EQUAL(memcmp(stored, parsed, 20), 0);
	auth_native_token(stage1, scramble, token);
	CU_ASSERT_TRUE(is_hex(token, 20, "b0df30c74af91ea34514aaab203bd4b707f86375"));
	CU_ASSERT_TRUE(auth_native_check(stored, scramble, token, 20, found));
	CU_ASSERT_EQUAL(memcmp(found, stage1, 20), 0);
	CU_ASSERT_FALSE(auth_native_check(stored, scramble, token, 19, found));
	CU_ASSERT_FALSE(auth_native_check(stored, scramble, token, 0, found));
	for (size_t i = 0; i < 20; i++) {
		token[i] ^= 0x10;
		CU_ASSERT_FALSE(auth_native_check(stored, scramble, token, 20, found));
		token[i] ^= 0x10;
	}
}

static void test_native_parse(void)
{
	static const char *const bad[] = {
		"", "*", "D821809F681A40A6E379B50D0463EFAE20BDD122", "*D821809F681A40A6E379B50D0463EFAE20BDD12",
		"*D821809F681A40A6E379B50D0463EFAE20BDD122A", "*D821809F681A40A6E379B50D0463EFAE20BDD1G2",
		"invalid", "*THISISNOTAVALIDPASSWORDTHATCANBEUSEDHERE",
	};
	uint8_t stored[20];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CU_ASSERT_FALSE(auth_native_parse(bad[i], strlen(bad[i]), stored));
}

static void test_sha2(void)
{
	uint8_t token[32];

	auth_sha2_token("pw", 2, scramble, token);
	CU_ASSERT_TRUE(is_hex(token, 32, "71192ff0ec98fcb2cbaf7de6f3958c02e20756c534e7f907f65ae0c1125dac26"));
	CU_ASSERT_TRUE(auth_sha2_check("pw", 2, scramble, token, 32));
	CU_ASSERT_FALSE(auth_sha2_check("pW", 2, scramble, token, 32));
	CU_ASSERT_FALSE(auth_sha2_check("pw", 2, scramble, token, 31));
	CU_ASSERT_FALSE(auth_sha2_check("pw", 2, scramble, NULL, 0));
}

static size_t write_pem(EVP_PKEY *key, char *pem, size_t size)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int len;

	PEM_write_bio_PUBKEY(bio, key);
	len = BIO_read(bio, pem, (int)size);
	BIO_free(bio);
	return len > 0 ? (size_t)len : 0;
}

static size_t decrypt(EVP_PKEY *key, const uint8_t *in, size_t in_len, uint8_t *out, size_t size)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);

	if (EVP_PKEY_decrypt_init(ctx) <= 0 || EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) <= 0 ||
	    EVP_PKEY_decrypt(ctx, out, &size, in, in_len) <= 0)
		size = 0;
	EVP_PKEY_CTX_free(ctx);
	return size;
}

static void test_sha2_full(void)
{
	static const char password[] = "a password longer than the scramble";
	EVP_PKEY *key = EVP_RSA_gen(2048);
	uint8_t sealed[512], opened[512];
	char pem[1024];
	size_t pem_len, sealed_len, len = strlen(password);

	CU_ASSERT_PTR_NOT_NULL_FATAL(key);
	pem_len = write_pem(key, pem, sizeof(pem));
	sealed_len = auth_sha2_encrypt(password, len, scramble, pem, pem_len, sealed, sizeof(sealed));
	CU_ASSERT_EQUAL(sealed_len, 256);
	CU_ASSERT_EQUAL_FATAL(decrypt(key, sealed, sealed_len, opened, sizeof(opened)), len + 1);
	for (size_t i = 0; i <= len; i++)
		CU_ASSERT_EQUAL(opened[i] ^ scramble[i % 20], (uint8_t)password[i]);
	CU_ASSERT_EQUAL(auth_sha2_encrypt(password, len, scramble, pem, pem_len, sealed, 255), 0);
	CU_ASSERT_EQUAL(auth_sha2_encrypt(password, len, scramble, pem, pem_len / 2, sealed, sizeof(sealed)), 0);
	CU_ASSERT_EQUAL(auth_sha2_encrypt(password, len, scramble, "", 0, sealed, sizeof(sealed)), 0);
	EVP_PKEY_free(key);
}

static void test_ed25519_of_a_server(void)
{
	/* IDENTIFIED VIA ed25519 USING PASSWORD('secret') */
	static const char text[] = "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY";
	uint8_t stored[32], made[32];

	CU_ASSERT_TRUE(auth_ed25519_parse(text, strlen(text), stored));
	CU_ASSERT_TRUE(auth_ed25519_public("secret", 6, made));
	CU_ASSERT_EQUAL(memcmp(stored, made, 32), 0);
	CU_ASSERT_FALSE(auth_ed25519_parse(text, 42, stored));
	CU_ASSERT_FALSE(auth_ed25519_parse("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJ?", 43, stored));
	CU_ASSERT_FALSE(auth_ed25519_parse("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJ=", 43, stored));
}

/* With a password of 32 bytes the plugin is Ed25519 as OpenSSL has it, and signatures are deterministic. */
static void test_ed25519_against_openssl(void)
{
	for (int round = 0; round < 100; round++) {
		uint8_t seed[32], nonce[32], ours[64], theirs[64], public_ours[32], public_theirs[32];
		size_t len = 64, public_len = 32;
		EVP_MD_CTX *ctx = EVP_MD_CTX_new();
		EVP_PKEY *key;

		CU_ASSERT_EQUAL_FATAL(RAND_bytes(seed, 32) + RAND_bytes(nonce, 32), 2);
		if (round < 2)
			memset(nonce, round ? 0xff : 0, 32);
		key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
		CU_ASSERT_EQUAL(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key), 1);
		CU_ASSERT_EQUAL(EVP_DigestSign(ctx, theirs, &len, nonce, 32), 1);
		CU_ASSERT_EQUAL(EVP_PKEY_get_raw_public_key(key, public_theirs, &public_len), 1);
		CU_ASSERT_TRUE(auth_ed25519_sign((const char *)seed, 32, nonce, ours));
		CU_ASSERT_TRUE(auth_ed25519_public((const char *)seed, 32, public_ours));
		CU_ASSERT_EQUAL(memcmp(ours, theirs, 64), 0);
		CU_ASSERT_EQUAL(memcmp(public_ours, public_theirs, 32), 0);
		EVP_PKEY_free(key);
		EVP_MD_CTX_free(ctx);
	}
}

static void test_ed25519_any_length(void)
{
	static const char password[] = "a password of any length, which may be rather longer than the 64 bytes of a SHA-512";
	uint8_t nonce[32] = { 7 }, signature[64], public_key[32];

	for (size_t len = 0; len < sizeof(password); len += 5) {
		CU_ASSERT_TRUE(auth_ed25519_sign(password, len, nonce, signature));
		CU_ASSERT_TRUE(auth_ed25519_public(password, len, public_key));
		CU_ASSERT_TRUE(auth_ed25519_check(public_key, nonce, signature, 64));
		CU_ASSERT_FALSE(auth_ed25519_check(public_key, nonce, signature, 63));
		signature[len % 64] ^= 1;
		CU_ASSERT_FALSE(auth_ed25519_check(public_key, nonce, signature, 64));
	}
}

static void test_tls_proof(void)
{
	uint8_t stored[20], fingerprint[32], proof[65];

	memset(stored, 0x11, sizeof(stored));
	memset(fingerprint, 0x22, sizeof(fingerprint));
	auth_tls_proof(stored, sizeof(stored), scramble, fingerprint, proof);
	CU_ASSERT_EQUAL(proof[0], 1);
	CU_ASSERT_EQUAL(memcmp(proof + 1, "3B741DF8CC451C4776774D58E574146F673AB9D8BD59B0EBE00F9AFA771E6706", 64), 0);
}

static void test_scramble(void)
{
	uint8_t one[WIRE_SCRAMBLE_BYTES], other[WIRE_SCRAMBLE_BYTES];

	for (int round = 0; round < 500; round++) {
		CU_ASSERT_TRUE_FATAL(auth_scramble(one) && auth_scramble(other));
		CU_ASSERT_NOT_EQUAL(memcmp(one, other, sizeof(one)), 0);
		for (size_t i = 0; i < sizeof(one); i++)
			CU_ASSERT_TRUE(one[i] > 0 && one[i] < 0x80 && one[i] != '$');
	}
}

void suite_wire_auth(void)
{
	CU_pSuite suite = CU_add_suite("wire_auth", NULL, NULL);

	CU_add_test(suite, "mysql_native_password", test_native);
	CU_add_test(suite, "stored hashes that are none", test_native_parse);
	CU_add_test(suite, "caching_sha2_password, fast", test_sha2);
	CU_add_test(suite, "caching_sha2_password, full", test_sha2_full);
	CU_add_test(suite, "client_ed25519: a server's key", test_ed25519_of_a_server);
	CU_add_test(suite, "client_ed25519 against OpenSSL", test_ed25519_against_openssl);
	CU_add_test(suite, "client_ed25519: passwords of any length", test_ed25519_any_length);
	CU_add_test(suite, "proof of the certificate", test_tls_proof);
	CU_add_test(suite, "scramble", test_scramble);
}
