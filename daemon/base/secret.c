// Passwords that stand in files of their own.
#include "base/secret.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SECRET_MAX 4096

char *secret_read(const char *path, char **error)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        *error = mem_printf("cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    setvbuf(file, NULL, _IONBF, 0); // leaves no copy behind
    char *secret = mem_zalloc(SECRET_MAX);
    bool read = fgets(secret, SECRET_MAX, file) != NULL;
    fclose(file);
    size_t length = read ? strcspn(secret, "\r\n") : 0;
    if (length == 0 || length == SECRET_MAX - 1) {
        *error = mem_printf("cannot read %s: its first line is %s", path,
                            length == 0 ? "empty" : "too long");
        secret_free(secret);
        return NULL;
    }
    secret[length] = '\0';
    return secret;
}

void secret_free(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}
