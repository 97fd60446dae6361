// The command line.
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "commands.h"
#include "configuration.h"

static const struct command {
    const char *name, *usage, *help;
    int (*run)(const struct arguments *arguments);
    int rest;            // further arguments
    bool connect, print; // takes --connect, --print
} commands[] = {
    {"run", "run -c FILE", "the daemon, in the foreground", command_run, 0, false, false},
    {"check", "check -c FILE [--connect]",
     "all mistakes of the configuration; --connect also tries brokers, database and tables",
     command_check, 0, true, false},
    {"explain", "explain -c FILE TOPIC PAYLOAD",
     "what would become of a message ('-': the payload from standard input)", command_explain, 2,
     false, false},
    {"migrate", "migrate -c FILE [--print]",
     "creates or upgrades the schema and the mapped tables; --print only shows the SQL",
     command_migrate, 0, false, true},
    {"config", "config -c FILE", "the effective settings, secrets masked", command_config, 0, false,
     false},
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
        {NULL, 0, NULL, 0},
    };
    // A payload may begin with "-": after the topic nothing is an option.
    for (int option; (option = getopt_long(count, words, "+c:", options, NULL)) != -1;) {
        if (option == 'c')
            arguments->config = optarg;
        else if (option == 'C' && command->connect)
            arguments->connect = true;
        else if (option == 'P' && command->print)
            arguments->print = true;
        else
            return false;
    }
    arguments->rest = words + optind;
    arguments->rest_count = count - optind;
    return arguments->config && arguments->rest_count == command->rest;
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
