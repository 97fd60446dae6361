// Hashes of passwords as password files have them: PBKDF2 and salted SHA-512 of mosquitto_passwd,
// argon2id.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum accounts_hash_kind {
    ACCOUNTS_HASH_SHA512,   // $6$SALT$HASH
    ACCOUNTS_HASH_PBKDF2,   // $7$ITERATIONS$SALT$HASH, with HMAC-SHA-512
    ACCOUNTS_HASH_ARGON2ID, // $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH
};

struct accounts_hash {
    uint8_t kind;
    uint8_t salt_length, length; // of hash
    uint8_t lanes;               // argon2id
    uint32_t rounds;             // iterations, passes
    uint32_t memory;             // argon2id: KiB
    uint8_t salt[64], hash[64];
};

// NULL, or what is wrong (static text, to stand behind "the hash of USER"). Bounds what a check
// may cost in time and memory.
const char *accounts_hash_parse(const char *text, struct accounts_hash *hash);
// Takes its time, and for argon2id its memory. *failed: it could not be found out.
bool accounts_hash_verify(const struct accounts_hash *hash, struct bytes password, bool *failed);
// An argon2id hash of the password with a new salt, as text, which the caller frees; NULL: no
// memory.
char *accounts_hash_make(struct bytes password);
