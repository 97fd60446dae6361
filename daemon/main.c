// The command line.
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "commands.h"
#include "configuration.h"

enum {
    TAKES_CONFIG = 1,
    TAKES_CONNECT = 2,
    TAKES_PRINT = 4,
    TAKES_DELETE = 8,
    TAKES_REPLAY = 16,
    TAKES_LIST = 32
};

static const struct command {
    const char *name, *usage, *help;
    int (*run)(const struct arguments *arguments);
    int rest;       // further arguments
    unsigned takes; // options; -c is required where it is taken
} commands[] = {
    {"run", "run -c FILE", "the daemon, in the foreground", command_run, 0, TAKES_CONFIG},
    {"check", "check -c FILE [--connect]",
     "all mistakes of the configuration; --connect also tries brokers, database and tables",
     command_check, 0, TAKES_CONFIG | TAKES_CONNECT},
    {"explain", "explain -c FILE TOPIC PAYLOAD",
     "what would become of a message ('-': the payload from standard input)", command_explain, 2,
     TAKES_CONFIG},
    {"migrate", "migrate -c FILE [--print]",
     "creates or upgrades the schema and the mapped tables; --print only shows the SQL",
     command_migrate, 0, TAKES_CONFIG | TAKES_PRINT},
    {"replay", "replay -c FILE [--mapping NAME] [--writer NAME] [--dry-run]",
     "sends rejected messages through the mappings again; --writer: those that another sensorlogd "
     "rejected; --dry-run only tries to decode them",
     command_replay, 0, TAKES_CONFIG | TAKES_REPLAY},
    {"spool", "spool -c FILE [--list N]",
     "what is in the spool; --list also shows its first N messages", command_spool, 0,
     TAKES_CONFIG | TAKES_LIST},
    {"config", "config -c FILE", "the effective settings, secrets masked", command_config, 0,
     TAKES_CONFIG},
    {"passwd", "passwd [--delete] FILE USER",
     "sets or deletes a user's password in a password_file of the built-in broker", command_passwd,
     2, TAKES_DELETE},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fputs("sensorlogd: readings from MQTT into PostgreSQL, acknowledged after the commit\n\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  sensorlogd %-32s %s\n", commands[i].usage, commands[i].help);
    fputs("  sensorlogd --version | --help\n\n"
          "Exit status: 0 ok, 1 failed, 2 usage, 78 configuration. See sensorlogd(8).\n",
          out);
}

static int usage(const struct command *command)
{
    fprintf(stderr, "usage: sensorlogd %s\n", command->usage);
    return EXIT_USAGE;
}

static bool parse(const struct command *command, int count, char **words,
                  struct arguments *arguments)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"connect", no_argument, NULL, 'C'},
        {"print", no_argument, NULL, 'P'},
        {"delete", no_argument, NULL, 'D'},
        {"mapping", required_argument, NULL, 'M'},
        {"writer", required_argument, NULL, 'W'},
        {"dry-run", no_argument, NULL, 'N'},
        {"list", required_argument, NULL, 'L'},
        {NULL, 0, NULL, 0},
    };
    // A payload may begin with "-": after the topic nothing is an option.
    for (int option; (option = getopt_long(count, words, "+c:D", options, NULL)) != -1;) {
        if (option == 'c' && (command->takes & TAKES_CONFIG))
            arguments->config = optarg;
        else if (option == 'C' && (command->takes & TAKES_CONNECT))
            arguments->connect = true;
        else if (option == 'P' && (command->takes & TAKES_PRINT))
            arguments->print = true;
        else if (option == 'D' && (command->takes & TAKES_DELETE))
            arguments->delete = true;
        else if (option == 'M' && (command->takes & TAKES_REPLAY))
            arguments->mapping = optarg;
        else if (option == 'W' && (command->takes & TAKES_REPLAY))
            arguments->writer = optarg;
        else if (option == 'N' && (command->takes & TAKES_REPLAY))
            arguments->dry_run = true;
        else if (option == 'L' && (command->takes & TAKES_LIST))
            arguments->list = optarg;
        else
            return false;
    }
    arguments->rest = words + optind;
    arguments->rest_count = count - optind;
    return (arguments->config || !(command->takes & TAKES_CONFIG)) &&
           arguments->rest_count == command->rest;
}

int main(int count, char **words)
{
    // One arena: the few threads hardly allocate, and a second arena would cost more than their
    // waiting.
    mallopt(M_ARENA_MAX, 1);
    log_init(LOG_LEVEL_INFO);
    if (count < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(words[1], "--version") == 0) {
        puts("sensorlogd " SENSORLOGD_VERSION);
        return 0;
    }
    if (strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(words[1], commands[i].name) != 0)
            continue;
        struct arguments arguments = {.config = NULL};
        if (!parse(&commands[i], count - 1, words + 1, &arguments))
            return usage(&commands[i]);
        return commands[i].run(&arguments);
    }
    fprintf(stderr, "sensorlogd: there is no command '%s'; see sensorlogd --help\n", words[1]);
    return EXIT_USAGE;
}
