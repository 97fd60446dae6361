// Parses, verifies and makes hashes of passwords.
#include "broker/accounts_hash.h"

#include <argon2.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

enum {
    SALT_MIN = 8,              // RFC 9106
    SHA512_SIZE = 64,          // of mosquitto's hashes
    ITERATIONS_MAX = 10000000, // some ten seconds
    MEMORY_MAX = 256 << 10,    // KiB
    PASSES_MAX = 64,
    LANES_MAX = 16,
    // What new passwords get, OWASP's choice for argon2id.
    NEW_MEMORY = 19 << 10,
    NEW_PASSES = 2,
    NEW_LANES = 1,
    NEW_SALT = 16,
    NEW_HASH = 32,
};

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// length characters, padded or not, into at most size bytes; 0: not valid.
static uint8_t base64_decode(const char *text, size_t length, uint8_t *out, size_t size)
{
    while (length > 0 && text[length - 1] == '=')
        length--;
    uint32_t bits = 0;
    size_t used = 0, held = 0;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return 0;
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held < 8)
            continue;
        if (used == size)
            return 0;
        held -= 8;
        out[used++] = (uint8_t)(bits >> held);
    }
    return (uint8_t)used;
}

// A number of at most max up to the character end, behind which *at then stands; 0: not valid.
static uint32_t take_number(const char **at, char end, uint32_t max)
{
    uint64_t number = 0;
    const char *c = *at;
    for (; *c >= '0' && *c <= '9' && number <= max; c++)
        number = number * 10 + (uint64_t)(*c - '0');
    if (c == *at || *c != end || number > max)
        return 0;
    *at = c + 1;
    return (uint32_t)number;
}

static bool take_word(const char **at, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(*at, word, length) != 0)
        return false;
    *at += length;
    return true;
}

// SALT$HASH at the end of the text.
static bool take_salt_and_hash(const char *at, struct accounts_hash *hash)
{
    size_t length = strcspn(at, "$");
    if (at[length] != '$')
        return false;
    hash->salt_length = base64_decode(at, length, hash->salt, sizeof hash->salt);
    at += length + 1;
    hash->length = base64_decode(at, strlen(at), hash->hash, sizeof hash->hash);
    return hash->salt_length >= SALT_MIN;
}

static const char *parse_argon2id(const char *at, struct accounts_hash *hash)
{
    hash->kind = ACCOUNTS_HASH_ARGON2ID;
    if (!take_word(&at, "v=19$"))
        return "has another version than $argon2id$v=19$";
    if (!take_word(&at, "m=") || (hash->memory = take_number(&at, ',', MEMORY_MAX)) == 0)
        return "has another m than is allowed: 8 to 262144 (KiB of memory)";
    if (!take_word(&at, "t=") || (hash->rounds = take_number(&at, ',', PASSES_MAX)) == 0)
        return "has another t than is allowed: 1 to 64 (passes)";
    if (!take_word(&at, "p=") || (hash->lanes = (uint8_t)take_number(&at, '$', LANES_MAX)) == 0)
        return "has another p than is allowed: 1 to 16 (lanes)";
    if (hash->memory < 8U * hash->lanes)
        return "has less memory than its lanes need: m is 8 * p or more";
    if (!take_salt_and_hash(at, hash) || hash->length < ARGON2_MIN_OUTLEN)
        return "is damaged";
    return NULL;
}

const char *accounts_hash_parse(const char *text, struct accounts_hash *hash)
{
    const char *at = text;
    *hash = (struct accounts_hash){.kind = ACCOUNTS_HASH_SHA512};
    if (take_word(&at, "$argon2id$"))
        return parse_argon2id(at, hash);
    if (take_word(&at, "$7$")) {
        hash->kind = ACCOUNTS_HASH_PBKDF2;
        hash->rounds = take_number(&at, '$', ITERATIONS_MAX);
        if (hash->rounds == 0)
            return "has another number of iterations than is allowed: 1 to 10000000";
    } else if (!take_word(&at, "$6$")) {
        return "is no hash: it is plain text, or of a kind that is not known";
    }
    return take_salt_and_hash(at, hash) && hash->length == SHA512_SIZE ? NULL : "is damaged";
}

static bool sha512(const struct accounts_hash *hash, struct bytes password, uint8_t *out)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context && EVP_DigestInit_ex(context, EVP_sha512(), NULL) == 1 &&
                EVP_DigestUpdate(context, password.data, password.length) == 1 &&
                EVP_DigestUpdate(context, hash->salt, hash->salt_length) == 1 &&
                EVP_DigestFinal_ex(context, out, NULL) == 1;
    EVP_MD_CTX_free(context);
    return good;
}

static bool pbkdf2(const struct accounts_hash *hash, struct bytes password, uint8_t *out)
{
    return PKCS5_PBKDF2_HMAC((const char *)password.data, (int)password.length, hash->salt,
                             hash->salt_length, (int)hash->rounds, EVP_sha512(), hash->length,
                             out) == 1;
}

// Straight from the system and back to it: malloc would keep the memory of a few checks for ever.
static int map_memory(uint8_t **memory, size_t size)
{
    void *mapped =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    *memory = mapped == MAP_FAILED ? NULL : mapped;
    return *memory ? 0 : -1;
}

static void unmap_memory(uint8_t *memory, size_t size)
{
    munmap(memory, size);
}

// One thread, however many lanes: the number of checks at a time is what the threads are for.
static bool argon2id(const struct accounts_hash *hash, struct bytes password, uint8_t *out)
{
    struct accounts_hash copy = *hash; // whose salt the library may write to
    argon2_context context = {
        .out = out,
        .outlen = hash->length,
        .pwd = (uint8_t *)password.data, // not written to without ARGON2_FLAG_CLEAR_PASSWORD
        .pwdlen = (uint32_t)password.length,
        .salt = copy.salt,
        .saltlen = copy.salt_length,
        .t_cost = hash->rounds,
        .m_cost = hash->memory,
        .lanes = hash->lanes,
        .threads = 1,
        .version = ARGON2_VERSION_13,
        .allocate_cbk = map_memory,
        .free_cbk = unmap_memory,
        .flags = ARGON2_DEFAULT_FLAGS,
    };
    return argon2id_ctx(&context) == ARGON2_OK;
}

bool accounts_hash_verify(const struct accounts_hash *hash, struct bytes password, bool *failed)
{
    uint8_t out[sizeof hash->hash];
    bool done = false;
    switch (hash->kind) {
    case ACCOUNTS_HASH_SHA512:
        done = sha512(hash, password, out);
        break;
    case ACCOUNTS_HASH_PBKDF2:
        done = pbkdf2(hash, password, out);
        break;
    case ACCOUNTS_HASH_ARGON2ID:
        done = argon2id(hash, password, out);
        break;
    }
    *failed = !done;
    bool same = done && CRYPTO_memcmp(out, hash->hash, hash->length) == 0;
    explicit_bzero(out, sizeof out);
    return same;
}

char *accounts_hash_make(struct bytes password)
{
    uint8_t salt[NEW_SALT];
    if (RAND_bytes(salt, sizeof salt) != 1)
        return NULL;
    size_t size =
        argon2_encodedlen(NEW_PASSES, NEW_MEMORY, NEW_LANES, NEW_SALT, NEW_HASH, Argon2_id);
    char *text = mem_alloc(size);
    if (argon2id_hash_encoded(NEW_PASSES, NEW_MEMORY, NEW_LANES, password.data, password.length,
                              salt, sizeof salt, NEW_HASH, text, size) == ARGON2_OK)
        return text;
    free(text);
    return NULL;
}
