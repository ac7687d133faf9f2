#include "sigv4.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SERVICE "s3"

_Static_assert(FF_SIGV4_KEY_BYTES == SHA256_DIGEST_LENGTH, "the signing key is an HMAC-SHA256");

static int hmac(const void *key, size_t key_length, const char *message, size_t length, unsigned char *digest) {
    unsigned int written = 0;
    if (HMAC(EVP_sha256(), key, (int)key_length, (const unsigned char *)message, length, digest, &written) == NULL)
        return -EIO;
    return 0;
}

static void add_hex(ff_text *text, const unsigned char digest[SHA256_DIGEST_LENGTH]) {
    static const char digits[] = "0123456789abcdef";
    char hex[2 * SHA256_DIGEST_LENGTH];
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ff_text_add_bytes(text, hex, sizeof hex);
}

/* A value with its outer white space gone and every inner run of it one space. */
static void add_trimmed(ff_text *text, const char *value) {
    bool first = true;
    for (;;) {
        value += strspn(value, " \t");
        size_t word = strcspn(value, " \t");
        if (word == 0)
            return;
        if (!first)
            ff_text_add(text, " ");
        ff_text_add_bytes(text, value, word);
        first = false;
        value += word;
    }
}

static void add_scope(ff_text *text, const char *date, const char *region) {
    ff_text_add_bytes(text, date, FF_SIGV4_DAY_CHARS);
    ff_text_add(text, "/");
    ff_text_add(text, region);
    ff_text_add(text, "/" SERVICE "/aws4_request");
}

static void add_signed_names(ff_text *text, const ff_header *headers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            ff_text_add(text, ";");
        ff_text_add(text, headers[i].name);
    }
}

static void add_canonical_request(ff_text *text, const char *target, const ff_header *headers, size_t count,
                                  const char *content_hash) {
    size_t path = strcspn(target, "?");
    ff_text_add(text, "GET\n");
    ff_text_add_bytes(text, target, path);
    ff_text_add(text, "\n");
    ff_text_add(text, target[path] == '?' ? target + path + 1 : "");
    ff_text_add(text, "\n");
    for (size_t i = 0; i < count; i++) {
        ff_text_add(text, headers[i].name);
        ff_text_add(text, ":");
        add_trimmed(text, headers[i].value);
        ff_text_add(text, "\n");
    }
    ff_text_add(text, "\n");
    add_signed_names(text, headers, count);
    ff_text_add(text, "\n");
    ff_text_add(text, content_hash);
}

int ff_sigv4_signing_key(const char *secret, size_t secret_length, const char *date, const char *region,
                         unsigned char key[FF_SIGV4_KEY_BYTES]) {
    static const char prefix[] = "AWS4";
    const size_t prefix_length = sizeof prefix - 1;
    char *start = malloc(prefix_length + secret_length);
    if (start == NULL)
        return -ENOMEM;
    memcpy(start, prefix, prefix_length);
    memcpy(start + prefix_length, secret, secret_length);
    unsigned char of_day[SHA256_DIGEST_LENGTH], of_region[SHA256_DIGEST_LENGTH], of_service[SHA256_DIGEST_LENGTH];
    int outcome = hmac(start, prefix_length + secret_length, date, FF_SIGV4_DAY_CHARS, of_day);
    if (outcome == 0)
        outcome = hmac(of_day, sizeof of_day, region, strlen(region), of_region);
    if (outcome == 0)
        outcome = hmac(of_region, sizeof of_region, SERVICE, strlen(SERVICE), of_service);
    if (outcome == 0)
        outcome = hmac(of_service, sizeof of_service, "aws4_request", strlen("aws4_request"), key);
    OPENSSL_cleanse(of_day, sizeof of_day);
    OPENSSL_cleanse(of_region, sizeof of_region);
    OPENSSL_cleanse(of_service, sizeof of_service);
    OPENSSL_cleanse(start, prefix_length + secret_length);
    free(start);
    return outcome;
}

int ff_sigv4_authorize(const unsigned char key[FF_SIGV4_KEY_BYTES], const char *access_key, const char *date,
                       const char *region, const char *target, const ff_header *headers, size_t header_count,
                       char *out, size_t out_size) {
    const char *content_hash = NULL;
    /* Room for the canonical request: each name stands in it twice, and every part has at most a few separators. */
    size_t room = strlen(target) + 256;
    for (size_t i = 0; i < header_count; i++) {
        room += 2 * strlen(headers[i].name) + strlen(headers[i].value) + 4;
        if (strcmp(headers[i].name, "x-amz-content-sha256") == 0)
            content_hash = headers[i].value;
    }
    if (content_hash == NULL)
        return -EINVAL;
    room += strlen(content_hash);

    unsigned char digest[SHA256_DIGEST_LENGTH];
    char *memory = malloc(room);
    if (memory == NULL)
        return -ENOMEM;
    ff_text request = ff_text_in(memory, room);
    add_canonical_request(&request, target, headers, header_count, content_hash);
    bool hashed = !request.overflowed && SHA256((const unsigned char *)memory, request.length, digest) != NULL;
    free(memory);
    if (!hashed)
        return -EIO;

    char to_sign_memory[512];
    ff_text to_sign = ff_text_in(to_sign_memory, sizeof to_sign_memory);
    ff_text_add(&to_sign, ALGORITHM "\n");
    ff_text_add_bytes(&to_sign, date, FF_SIGV4_DATE_CHARS);
    ff_text_add(&to_sign, "\n");
    add_scope(&to_sign, date, region);
    ff_text_add(&to_sign, "\n");
    add_hex(&to_sign, digest);
    if (to_sign.overflowed)
        return -ENAMETOOLONG;
    int outcome = hmac(key, FF_SIGV4_KEY_BYTES, to_sign_memory, to_sign.length, digest);
    if (outcome < 0)
        return outcome;

    ff_text authorization = ff_text_in(out, out_size);
    ff_text_add(&authorization, ALGORITHM " Credential=");
    ff_text_add(&authorization, access_key);
    ff_text_add(&authorization, "/");
    add_scope(&authorization, date, region);
    ff_text_add(&authorization, ", SignedHeaders=");
    add_signed_names(&authorization, headers, header_count);
    ff_text_add(&authorization, ", Signature=");
    add_hex(&authorization, digest);
    return authorization.overflowed ? -ENAMETOOLONG : 0;
}

static int by_name(const void *left, const void *right) {
    return strcmp(((const ff_header *)left)->name, ((const ff_header *)right)->name);
}

void ff_sort_headers(ff_header *headers, size_t count) { qsort(headers, count, sizeof *headers, by_name); }
