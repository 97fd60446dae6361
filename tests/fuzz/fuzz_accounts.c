// Any bytes as a password file and as an ACL file: a message, or what can be asked.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/accounts.h"
#include "broker/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static const char *const names[] = {NULL, "alice", "bob smith", "+", "#", "$SYS", "a/b", ""};
static const char *const topics[] = {"a", "a/b", "/", "$SYS/x", "sensors/alice/1", "a b/c"};
enum { NAMES = sizeof names / sizeof *names, TOPICS = sizeof topics / sizeof *topics };

// Who may read a topic may subscribe to it.
static void ask(const struct acl *acl, const char *username, const char *id)
{
    for (size_t i = 0; i < TOPICS; i++) {
        size_t length = strlen(topics[i]);
        bool reads = acl_allows(acl, username, id, ACL_READ, topics[i], length);
        acl_allows(acl, username, id, ACL_WRITE, topics[i], length);
        REQUIRE(!reads || acl_may_subscribe(acl, username, id, topics[i]));
        REQUIRE(!reads || acl_may_subscribe(acl, username, id, *topics[i] == '$' ? "$SYS/#" : "#"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32], *error = NULL;
    int fd = memfd_create("accounts", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct accounts *accounts = accounts_load(path, &error);
    REQUIRE(!accounts == !!error);
    for (size_t i = 1; accounts && i < NAMES; i++)
        REQUIRE(accounts_same(accounts, accounts, names[i]) == accounts_has(accounts, names[i]));
    accounts_free(accounts);
    free(error);
    error = NULL;
    struct acl *acl = acl_load(path, &error);
    REQUIRE(!acl == !!error);
    for (size_t i = 0; acl && i < NAMES * NAMES; i++) {
        if (names[i / NAMES])
            ask(acl, names[i % NAMES], names[i / NAMES]);
    }
    acl_free(acl);
    free(error);
    close(fd);
    return 0;
}
