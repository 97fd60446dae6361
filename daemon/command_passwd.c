// sensorlogd passwd: sets or deletes a user's password in a password file.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "broker/accounts.h"
#include "commands.h"
#include "configuration.h"

enum { PASSWORD_MAX = 65535 }; // [MQTT-3.1.3.6]

struct password {
    size_t length;
    char text[PASSWORD_MAX + 1];
};

static volatile sig_atomic_t caught;

static void catch (int number)
{
    caught = number;
}

// Byte by byte: nothing of what follows the line is taken, and no copy stays in a buffer.
static bool read_line(struct password *password)
{
    char byte = 0;
    password->length = 0;
    while (!caught) {
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 || byte == '\n')
            break;
        if (password->length == PASSWORD_MAX) {
            fputs("sensorlogd: the password is longer than 65535 bytes\n", stderr);
            return false;
        }
        password->text[password->length++] = byte;
    }
    if (password->length > 0 && password->text[password->length - 1] == '\r')
        password->length--;
    if (password->length == 0 && !caught)
        fputs("sensorlogd: the password is empty\n", stderr);
    return password->length > 0 && !caught;
}

static bool prompt(const char *text, struct password *password)
{
    fputs(text, stderr);
    bool good = read_line(password);
    putc('\n', stderr); // the one that was typed was not shown
    return good;
}

static bool prompt_twice(const char *user, struct password *password)
{
    static struct password again;
    char text[200];
    snprintf(text, sizeof text, "Password of %.100s: ", user);
    bool good = prompt(text, password) && prompt("The same again: ", &again);
    if (good && (again.length != password->length ||
                 memcmp(again.text, password->text, again.length) != 0)) {
        fputs("sensorlogd: the two are not the same; nothing was changed\n", stderr);
        good = false;
    }
    explicit_bzero(&again, sizeof again);
    return good;
}

// The terminal shows again what is typed, also where a signal ends the question.
static bool ask(const char *user, struct password *password)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    enum { SIGNALS = sizeof signals / sizeof *signals };
    struct sigaction before[SIGNALS];
    const struct sigaction action = {.sa_handler = catch}; // without SA_RESTART: a read ends
    struct termios shown, hidden;
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return read_line(password); // no terminal
    for (size_t i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, &before[i]);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    bool good = prompt_twice(user, password);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    for (size_t i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &before[i], NULL);
    if (caught)
        raise(caught);
    return good && !caught;
}

static void say_what_is_next(const char *path, bool new)
{
    struct stat status;
    if (new &&stat(path, &status) == 0 && !(status.st_mode & S_IRGRP))
        printf("%s is new: only its owner may read it, which has to be the daemon's user: "
               "chown sensorlogd %s\n",
               path, path);
    puts("for a daemon that runs: systemctl reload sensorlogd");
}

int command_passwd(const struct arguments *arguments)
{
    static struct password password;
    const char *path = arguments->rest[0], *user = arguments->rest[1];
    char *error = NULL;
    bool good, new = access(path, F_OK) != 0;
    const char *flaw = arguments->delete ? NULL : accounts_name_flaw(user);
    if (flaw) {
        fprintf(stderr, "sensorlogd: the name '%s' %s\n", user, flaw);
        return EXIT_USAGE;
    }
    if (arguments->delete) {
        good = accounts_delete(path, user, &error);
    } else if ((good = ask(user, &password))) {
        const struct bytes bytes = {(const uint8_t *)password.text, password.length};
        good = accounts_set(path, user, bytes, &error);
    }
    explicit_bzero(&password, sizeof password);
    if (good) {
        printf("%s: user '%s' is %s\n", path, user, arguments->delete ? "deleted" : "set");
        say_what_is_next(path, new);
    } else if (error) {
        fprintf(stderr, "sensorlogd: %s\n", error);
    }
    free(error);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
