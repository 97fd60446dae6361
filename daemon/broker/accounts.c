// Loads the password file, and checks passwords on threads.
#include "broker/accounts.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/accounts_hash.h"
#include "broker/linefile.h"

// Of the checks that wait for a thread, or are at work.
enum { CHECKS_MAX = 1000, CHECKS_BYTES_MAX = 1 << 20 };

struct account {
    char *name, *text; // of the hash
    struct accounts_hash hash;
    int line;
};

struct accounts {
    struct account *items; // by name
    size_t count, capacity;
    uint8_t seed[16];
    unsigned holders; // the owner and the checks; the loop's alone
    unsigned checks;
    size_t check_bytes;
};

struct accounts_check {
    struct accounts *accounts;
    struct worker_job *job;
    struct accounts_hash hash;
    bool known; // the user: else it is only for the time it takes
    bool ok, failed;
    accounts_fn *fn;
    void *arg;
    size_t length;
    uint8_t password[];
};

// ---- the table ----

static int compare_names(const void *a, const void *b)
{
    const struct account *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static const struct account *find(const struct accounts *accounts, const char *name)
{
    const struct account key = {.name = (char *)name};
    if (accounts->count == 0)
        return NULL;
    return bsearch(&key, accounts->items, accounts->count, sizeof key, compare_names);
}

// False with *error where a name is given twice.
static bool sort(struct accounts *accounts, const char *path, char **error)
{
    struct account *items = accounts->items;
    if (accounts->count > 0)
        qsort(items, accounts->count, sizeof *items, compare_names);
    for (size_t i = 1; i < accounts->count; i++) {
        if (strcmp(items[i - 1].name, items[i].name) != 0)
            continue;
        bool in_order = items[i - 1].line < items[i].line;
        *error = mem_printf("%s:%d: user '%s' is given twice, first in line %d", path,
                            items[in_order ? i : i - 1].line, items[i].name,
                            items[in_order ? i - 1 : i].line);
        return false;
    }
    return true;
}

// ---- the file ----

static char *skip_blanks(char *text)
{
    return text + strspn(text, " \t");
}

// As mosquitto reads it: blanks around name and hash do not count.
static bool take_line(struct accounts *accounts, const struct linefile *file, char *line,
                      char **error)
{
    char *colon = strchr(line, ':'), *name = skip_blanks(line);
    if (!colon || name == colon) {
        *error = linefile_flaw(file, "is no USER:HASH; make it with: sensorlogd passwd %s USER",
                               file->path);
        return false;
    }
    char *end = colon;
    while (end[-1] == ' ' || end[-1] == '\t')
        end--;
    *end = '\0';
    accounts->items =
        mem_grow(accounts->items, accounts->count, &accounts->capacity, sizeof *accounts->items);
    struct account *account = &accounts->items[accounts->count++];
    *account = (struct account){.name = mem_strdup(name), .line = file->number};
    account->text = mem_strdup(skip_blanks(colon + 1));
    const char *flaw = accounts_hash_parse(account->text, &account->hash);
    if (flaw)
        *error =
            linefile_flaw(file, "the hash of user '%s' %s; make it with: sensorlogd passwd %s '%s'",
                          name, flaw, file->path, name);
    return !flaw;
}

struct accounts *accounts_load(const char *path, char **error)
{
    struct linefile file;
    if (!linefile_open(&file, path, error))
        return NULL;
    struct accounts *accounts = mem_zalloc(sizeof *accounts);
    accounts->holders = 1;
    bool good = RAND_bytes(accounts->seed, sizeof accounts->seed) == 1;
    if (!good)
        *error = mem_strdup("no random numbers are to be had");
    for (char *line; good && (line = linefile_next(&file, error));)
        good = *line == '\0' || *line == '#' || take_line(accounts, &file, line, error);
    linefile_close(&file);
    if (*error || !sort(accounts, path, error)) {
        accounts_free(accounts);
        return NULL;
    }
    return accounts;
}

void accounts_free(struct accounts *accounts)
{
    if (!accounts || --accounts->holders > 0)
        return;
    for (size_t i = 0; i < accounts->count; i++) {
        free(accounts->items[i].name);
        free(accounts->items[i].text);
    }
    free(accounts->items);
    free(accounts);
}

bool accounts_has(const struct accounts *accounts, const char *username)
{
    return find(accounts, username) != NULL;
}

bool accounts_same(const struct accounts *a, const struct accounts *b, const char *username)
{
    const struct account *before = find(a, username), *after = find(b, username);
    return before && after && strcmp(before->text, after->text) == 0;
}

// ---- checks ----

static void free_check(struct accounts_check *check)
{
    check->accounts->checks--;
    check->accounts->check_bytes -= check->length;
    accounts_free(check->accounts);
    explicit_bzero(check->password, check->length);
    free(check);
}

// On a thread: knows nothing but the check.
static void verify(void *arg)
{
    struct accounts_check *check = arg;
    const struct bytes password = {check->password, check->length};
    bool same = accounts_hash_verify(&check->hash, password, &check->failed);
    check->ok = same && check->known;
}

static void verified(void *arg)
{
    struct accounts_check *check = arg;
    accounts_fn *fn = check->fn;
    void *fn_arg = check->arg;
    bool ok = check->ok;
    if (check->failed)
        log_error("broker: a password could not be checked: out of memory; argon2id takes what m= "
                  "of the hash says, 19 MiB as sensorlogd passwd makes it");
    free_check(check);
    fn(fn_arg, ok);
}

static void dispose(void *arg)
{
    free_check(arg);
}

// What is checked where the user is not there: the hash of somebody else, always the same for the
// same name, so that the time it takes tells nothing. NULL: there is nobody.
static const struct account *stand_in(const struct accounts *accounts, const char *username)
{
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    uint64_t number;
    HMAC(EVP_sha256(), accounts->seed, sizeof accounts->seed, (const uint8_t *)username,
         strlen(username), digest, NULL);
    memcpy(&number, digest, sizeof number);
    return accounts->count > 0 ? &accounts->items[number % accounts->count] : NULL;
}

struct accounts_check *accounts_check(struct accounts *accounts, struct worker *worker,
                                      const char *username, struct bytes password, accounts_fn *fn,
                                      void *arg)
{
    if (accounts->checks >= CHECKS_MAX ||
        password.length > CHECKS_BYTES_MAX - accounts->check_bytes)
        return NULL;
    struct accounts_check *check = mem_alloc(sizeof *check + password.length);
    *check = (struct accounts_check){.accounts = accounts,
                                     .fn = fn,
                                     .arg = arg,
                                     .length = password.length};
    if (password.length > 0)
        memcpy(check->password, password.data, password.length);
    const struct account *account = find(accounts, username);
    check->known = account != NULL;
    if (!account)
        account = stand_in(accounts, username);
    accounts->holders++;
    accounts->checks++;
    accounts->check_bytes += password.length;
    if (account) {
        check->hash = account->hash;
        check->job = worker_submit(worker, verify, verified, dispose, check);
    } else { // nobody is there
        check->job = worker_skip(worker, verified, dispose, check);
    }
    return check;
}

void accounts_check_cancel(struct accounts_check *check)
{
    worker_cancel(check->job);
}
