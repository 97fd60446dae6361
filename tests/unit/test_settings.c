// sensorlogd.conf and conf.d: what a good one says, and every mistake with its file and line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memtext.h"
#include "conf/pathflaw.h"
#include "conf/settings.h"
#include "conf_files.h"

// The first two lines of most files here.
#define SITE "[subscriber site]\nuri = mqtt://10.0.0.1\n"
#define HUNDRED                                                                                    \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED
#define FILE_NAME "sensorlogd.conf"
#define BROKER "[state]\ndirectory = .\n[broker]\n"
#define LISTEN_ALLOWED                                                                             \
    "allowed: mqtt, mqtts, ws or wss://ADDRESS[:PORT], ADDRESS numeric, [IPv6] or *\n"

static struct settings settings;
static struct conf_files files;
static char *said; // the problems of the last load

static void load(void)
{
    struct problems problems = {0};
    char *path = conf_files_path(&files, FILE_NAME);
    settings_load(&settings, path, &problems);
    said = conf_files_problems(&files, &problems);
    problems_fini(&problems);
    free(path);
}

static int start(void **state)
{
    (void)state;
    conf_files_init(&files);
    return unsetenv("STATE_DIRECTORY");
}

static int end(void **state)
{
    (void)state;
    settings_fini(&settings);
    conf_files_fini(&files);
    free(said);
    said = NULL;
    return 0;
}

static void load_text(const char *text)
{
    conf_files_write(&files, FILE_NAME, text);
    load();
}

static void every_key_arrives(void **state)
{
    (void)state;
    conf_files_write(&files, "secret", "hush\n");
    load_text("# a comment\n"
              "[postgres] ; another\n"
              "conninfo = host=/tmp dbname=x password='it; is' ; and one more\n"
              "schema = readings\n"
              "writer = edge 7\n"
              "connections = 4\n"
              "migrate = false\n"
              "\n"
              "  ; an indented comment\n"
              "[subscriber site]\r\n"
              "uri = mqtt://[::1]:1884/\r\n"
              "client_id=logger;7\n"
              "protocol = 3.1.1\n"
              "[subscriber south.2]\n"
              "uri = mqtt://broker.example\n"
              "username = me\n"
              "password_file = secret\n"
              "keepalive = 90\n"
              "qos = 2\n"
              "window = 20\n"
              "share = group ; all of them\n"
              "session_expiry = never\n"
              "max_payload = 2KiB\n"
              "[batch]\n"
              "max_rows = 500\n"
              "linger = 250ms\n"
              "memory = 8 MiB\n"
              "[mappings]\n"
              "directory = ../maps\n"
              "[state]\n"
              "directory =\n"
              "[spool]\n"
              "mode = outage\n"
              "outage_after = 10s\n"
              "file = kept.db\n"
              "max_bytes = 3MiB\n"
              "on_full = drop-oldest\n"
              "[http]\n"
              "listen = [::1]:9680\n"
              "[log]\n"
              "level = debug\n");
    assert_string_equal(said, "");
    assert_string_equal(settings.postgres.conninfo, "host=/tmp dbname=x password='it; is'");
    assert_string_equal(settings.postgres.schema, "readings");
    assert_string_equal(settings.postgres.writer, "edge 7");
    assert_int_equal(settings.postgres.connections, 4);
    assert_false(settings.postgres.migrate);
    assert_int_equal(settings.subscriber_count, 2);

    const struct subscriber_options *site = &settings.subscribers[0].options;
    assert_string_equal(site->name, "site");
    assert_string_equal(site->host, "::1");
    assert_int_equal(site->port, 1884);
    assert_string_equal(site->client_id, "logger;7");
    assert_int_equal(site->protocol, 4);
    assert_null(site->username);

    const struct subscriber_entry *south = &settings.subscribers[1];
    assert_string_equal(south->options.name, "south.2");
    assert_string_equal(south->options.host, "broker.example");
    assert_int_equal(south->options.port, 1883);
    assert_string_equal(south->options.username, "me");
    assert_true(strstr(south->options.password_file, "/secret") != NULL);
    assert_int_equal(south->options.keepalive, 90);
    assert_int_equal(south->qos, 2);
    assert_int_equal(south->options.window, 20);
    assert_string_equal(south->share, "group");
    assert_true(south->options.session_expiry == UINT32_MAX);
    assert_int_equal(south->options.max_payload, 2048);
    assert_true(strstr(south->where, "/" FILE_NAME ":14") != NULL);

    assert_int_equal(settings.batch.max_rows, 500);
    assert_int_equal(settings.batch.linger_ms, 250);
    assert_int_equal(settings.batch.memory, 8 << 20);
    assert_true(strstr(settings.mappings.directory, "/../maps") != NULL);
    assert_null(settings.state.directory);
    assert_true(settings.spool.outage);
    assert_int_equal(settings.spool.outage_after_ms, 10000);
    assert_true(strstr(settings.spool.file, "/kept.db") != NULL);
    assert_int_equal(settings.spool.max_bytes, 3 << 20);
    assert_true(settings.spool.drop_oldest);
    assert_null(settings.state.flaw);
    assert_string_equal(settings.http.listen_host, "::1");
    assert_int_equal(settings.http.listen_port, 9680);
    assert_int_equal(settings.log_level, LOG_LEVEL_DEBUG);
}

static void every_key_of_the_broker_arrives(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "# nobody yet\n");
    conf_files_write(&files, "acl", "topic read #\n");
    load_text("[broker]\n"
              "listen = mqtt://127.0.0.1:1884   ws://[::1]:9001 mqtt://*:1885 ; three of them\n"
              "allow_anonymous = true\n"
              "password_file = users\n"
              "acl_file = acl\n"
              "state = kept.db\n"
              "connections = 1\n"
              "connect_timeout = 2s\n"
              "packet_size = 3KiB\n"
              "window = 4\n"
              "inflight = 5\n"
              "topic_aliases = 6\n"
              "keepalive = 7s\n"
              "session_expiry = never\n"
              "subscriptions = 8\n"
              "queued_messages = 9\n"
              "queued_bytes = 10KiB\n"
              "received_bytes = 11KiB\n"
              "unsent_bytes = 12KiB\n"
              "write_timeout = 13s\n"
              "memory = 14MiB\n"
              "sys_interval = 0s\n"
              "[forward north]\n"
              "uri = mqtt://upstream.example\n"
              "filters = sensors/# +/state\n"
              "prefix = site7/\n"
              "client_id = seven\n"
              "username = me\n"
              "password_file = users\n"
              "qos = 2\n"
              "window = 15\n"
              "keepalive = 16s\n");
    assert_string_equal(said, "");
    assert_true(settings.has_broker);
    assert_int_equal(settings.subscriber_count, 0);
    const struct broker_options *broker = &settings.broker;
    assert_string_equal(broker->name, "broker");
    assert_int_equal(broker->listen_count, 3);
    const struct broker_listen *listen = broker->listens;
    assert_string_equal(listen[0].text, "mqtt://127.0.0.1:1884");
    assert_string_equal(listen[0].host, "127.0.0.1");
    assert_int_equal(listen[0].port, 1884);
    assert_true(listen[0].loopback && !listen[0].websocket && !listen[0].tls);
    assert_string_equal(listen[1].host, "::1");
    assert_true(listen[1].loopback && listen[1].websocket && !listen[1].tls);
    assert_string_equal(listen[2].host, "*");
    assert_false(listen[2].loopback);
    assert_true(broker->allow_anonymous);
    assert_true(strstr(broker->password_file, "/users") && strstr(broker->acl_file, "/acl"));
    assert_true(strstr(broker->state, "/kept.db") != NULL);
    assert_int_equal(broker->connections, 1);
    assert_int_equal(broker->connect_timeout, 2);
    assert_int_equal(broker->packet_size, 3 << 10);
    assert_int_equal(broker->window, 4);
    assert_int_equal(broker->inflight, 5);
    assert_int_equal(broker->topic_aliases, 6);
    assert_int_equal(broker->keepalive, 7);
    assert_true(broker->session_expiry == UINT32_MAX);
    assert_int_equal(broker->subscriptions, 8);
    assert_int_equal(broker->queued_messages, 9);
    assert_int_equal(broker->queued_bytes, 10 << 10);
    assert_int_equal(broker->received_bytes, 11 << 10);
    assert_int_equal(broker->unsent_bytes, 12 << 10);
    assert_int_equal(broker->write_timeout, 13);
    assert_int_equal(broker->memory, 14 << 20);
    assert_int_equal(broker->sys_interval, 0);

    assert_int_equal(settings.forward_count, 1);
    const struct forward_options *north = &settings.forwards[0];
    assert_string_equal(north->name, "north");
    assert_string_equal(north->uri, "mqtt://upstream.example");
    assert_string_equal(north->host, "upstream.example");
    assert_int_equal(north->port, 1883);
    assert_false(north->tls);
    assert_int_equal(north->filter_count, 2);
    assert_string_equal(north->filters[0], "sensors/#");
    assert_string_equal(north->filters[1], "+/state");
    assert_string_equal(north->prefix, "site7/");
    assert_string_equal(north->client_id, "seven");
    assert_string_equal(north->username, "me");
    assert_true(strstr(north->password_file, "/users") != NULL);
    assert_int_equal(north->qos, 2);
    assert_int_equal(north->window, 15);
    assert_int_equal(north->keepalive, 16);
}

static void defaults_of_the_broker(void **state)
{
    (void)state;
    load_text(BROKER "[forward north]\nuri = mqtts://upstream.example\n");
    char host[256] = "", id[300];
    gethostname(host, sizeof host - 1);
    snprintf(id, sizeof id, "sensorlogd-%s-forward-north", host);
    assert_string_equal(said, "");
    const struct broker_options *broker = &settings.broker;
    assert_int_equal(broker->listen_count, 1);
    assert_string_equal(broker->listens[0].text, "mqtt://127.0.0.1:1883");
    assert_true(broker->allow_anonymous);
    assert_null(broker->password_file);
    assert_null(broker->acl_file);
    assert_true(strstr(broker->state, "/./broker.db") || strstr(broker->state, "/broker.db"));
    assert_null(broker->ca_file);
    assert_null(broker->certificate_file);
    assert_null(broker->key_file);
    assert_null(broker->crl_file);
    assert_int_equal(broker->client_certificates, TLS_CLIENTS_NONE);
    assert_false(broker->certificate_as_username);
    assert_int_equal(broker->connections, 10000);
    assert_int_equal(broker->connect_timeout, 10);
    assert_int_equal(broker->packet_size, 1 << 20);
    assert_int_equal(broker->window, 20);
    assert_int_equal(broker->inflight, 20);
    assert_int_equal(broker->topic_aliases, 10);
    assert_int_equal(broker->keepalive, 0);
    assert_int_equal(broker->session_expiry, 7 * 86400);
    assert_int_equal(broker->subscriptions, 1000);
    assert_int_equal(broker->queued_messages, 1000);
    assert_int_equal(broker->queued_bytes, 4 << 20);
    assert_int_equal(broker->received_bytes, 256 << 10);
    assert_int_equal(broker->unsent_bytes, 256 << 10);
    assert_int_equal(broker->write_timeout, 60);
    assert_int_equal(broker->memory, 64 << 20);
    assert_int_equal(broker->sys_interval, 10);
    const struct forward_options *north = &settings.forwards[0];
    assert_int_equal(north->filter_count, 1);
    assert_string_equal(north->filters[0], "#");
    assert_null(north->prefix);
    assert_string_equal(north->client_id, id);
    assert_int_equal(north->port, 8883);
    assert_true(north->tls && north->verify);
    assert_int_equal(north->qos, 1);
    assert_int_equal(north->window, 20);
    assert_int_equal(north->keepalive, 60);
}

static void who_may_come_without_a_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool anonymous;
    } cases[] = {
        {"", true},
        {"listen = mqtt://127.9.9.9:1 ws://[::1]:2\n", true},
        {"password_file = users\n", false},
        {"listen = mqtt://*:1\npassword_file = users\n", false},
        {"listen = mqtt://127.0.0.1:1 mqtt://10.0.0.1:1\npassword_file = users\n", false},
        {"listen = mqtt://10.0.0.1:1\nallow_anonymous = true\n", true},
        {"password_file = users\nallow_anonymous = true\n", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        conf_files_init(&files);
        conf_files_write(&files, "users", "# nobody yet\n");
        char *text = mem_printf("%s%s", BROKER, cases[i].text);
        load_text(text);
        assert_string_equal(said, "");
        assert_int_equal(settings.broker.allow_anonymous, cases[i].anonymous);
        free(text);
        end(NULL);
    }
    conf_files_init(&files);
}

static void where_the_broker_keeps_its_state(void **state)
{
    (void)state;
    load_text("[state]\ndirectory =\n[broker]\n");
    assert_string_equal(said, "");
    assert_null(settings.broker.state);
    settings_fini(&settings);
    free(said);
    load_text("[broker]\nstate =\n");
    assert_string_equal(said, "");
    assert_null(settings.broker.state);
    settings_fini(&settings);
    free(said);
    setenv("STATE_DIRECTORY", files.directory, 1);
    load_text("[broker]\n");
    unsetenv("STATE_DIRECTORY");
    assert_string_equal(said, "");
    assert_true(strstr(settings.broker.state, "/broker.db") != NULL);
}

static void where_the_spool_is(void **state)
{
    (void)state;
    setenv("STATE_DIRECTORY", files.directory, 1);
    load_text(SITE "[spool]\nmode = outage\n");
    unsetenv("STATE_DIRECTORY");
    assert_string_equal(said, "");
    assert_null(settings.state.flaw);
    assert_true(strstr(settings.spool.file, "/spool.db") != NULL);
    settings_fini(&settings);
    free(said);
    // Only where it is to run can be known what is there.
    setenv("STATE_DIRECTORY", "/nonexistent", 1);
    load_text(SITE "[spool]\nmode = outage\n");
    assert_string_equal(said, "");
    assert_string_equal(settings.state.flaw,
                        "[spool] file: the directory '/nonexistent': No such file or directory; "
                        "it must be there and writable, or name another file");
    settings_fini(&settings);
    free(said);
    load_text(SITE "[spool]\nmode = off\n");
    unsetenv("STATE_DIRECTORY");
    assert_null(settings.state.flaw);
    assert_string_equal(settings.spool.file, "/nonexistent/spool.db");
}

// It may be this process that has it open, and SQLite's locks would go.
static void a_database_with_its_log_is_not_opened(void **state)
{
    (void)state;
    char *path = mem_printf("%s/kept.db", files.directory), *log = mem_printf("%s-wal", path);
    fclose(fopen(path, "w"));
    assert_null(pathflaw_database(path));
    FILE *file = fopen(path, "w");
    fputs("text", file);
    fclose(file);
    char *flaw = pathflaw_database(path);
    assert_non_null(strstr(flaw, "/kept.db' is no SQLite database"));
    free(flaw);
    fclose(fopen(log, "w"));
    assert_null(pathflaw_database(path));
    unlink(log);
    unlink(path);
    free(log);
    free(path);
}

static void a_directory_that_is_somebody_else_s_cannot_be_written(void **state)
{
    (void)state;
    assert_null(pathflaw_writable(files.directory));
    assert_int_equal(chmod(files.directory, 0500), 0);
    bool root = geteuid() == 0; // who may write everywhere
    assert_int_equal(root ? seteuid(65534) : 0, 0);
    char *flaw = pathflaw_writable(files.directory);
    assert_int_equal(root ? seteuid(0) : 0, 0);
    assert_int_equal(chmod(files.directory, 0700), 0);
    assert_non_null(flaw);
    assert_non_null(strstr(flaw, "cannot be written: Permission denied"));
    free(flaw);
    load_text(SITE);
}

static void certificates_of_a_subscriber_arrive(void **state)
{
    (void)state;
    load_text("[subscriber site]\nuri = wss://broker.example/mqtt\nverify = false\n");
    assert_string_equal(said, "");
    const struct subscriber_options *site = &settings.subscribers[0].options;
    assert_true(site->tls && site->websocket && !site->verify);
    assert_int_equal(site->port, 443);
    assert_string_equal(site->path, "/mqtt");
    assert_null(site->ca_file);
}

static void defaults(void **state)
{
    (void)state;
    load_text(SITE);
    char host[256] = "", id[300];
    gethostname(host, sizeof host - 1);
    snprintf(id, sizeof id, "sensorlogd-%s-site", host);

    assert_string_equal(said, "");
    assert_string_equal(settings.postgres.conninfo, "host=/run/postgresql dbname=telemetry");
    assert_string_equal(settings.postgres.schema, "telemetry");
    assert_string_equal(settings.postgres.writer, host);
    assert_int_equal(settings.postgres.connections, 1);
    assert_true(settings.postgres.migrate);
    const struct subscriber_entry *site = &settings.subscribers[0];
    assert_string_equal(site->options.client_id, id);
    assert_int_equal(site->options.protocol, 5);
    assert_null(site->options.username);
    assert_null(site->options.password_file);
    assert_int_equal(site->options.keepalive, 60);
    assert_int_equal(site->qos, 1);
    assert_int_equal(site->options.window, 1000);
    assert_null(site->share);
    assert_int_equal(site->options.session_expiry, 7 * 86400);
    assert_int_equal(site->options.max_payload, 1 << 20);
    assert_true(site->options.verify);
    assert_null(site->options.ca_file);
    assert_false(settings.has_broker);
    assert_int_equal(settings.batch.max_rows, 10000);
    assert_int_equal(settings.batch.linger_ms, 0);
    assert_int_equal(settings.batch.memory, 64 << 20);
    assert_true(strstr(settings.mappings.directory, "/topics.d") != NULL);
    assert_string_equal(settings.state.directory, "/var/lib/sensorlogd");
    assert_false(settings.spool.outage);
    assert_int_equal(settings.spool.outage_after_ms, 5000);
    assert_string_equal(settings.spool.file, "/var/lib/sensorlogd/spool.db");
    assert_int_equal(settings.spool.max_bytes, 1 << 30);
    assert_false(settings.spool.drop_oldest);
    assert_null(settings.http.listen_host);
    assert_int_equal(settings.log_level, LOG_LEVEL_INFO);
}

static void systemd_names_the_state_directory(void **state)
{
    (void)state;
    setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two", 1);
    load_text(SITE);
    unsetenv("STATE_DIRECTORY");
    assert_string_equal(settings.state.directory, "/var/lib/one");
    assert_string_equal(settings.subscribers[0].options.state_directory, "/var/lib/one");
}

static void byte_order_mark_and_missing_last_newline(void **state)
{
    (void)state;
    load_text("\xef\xbb\xbf" SITE "window = 7");
    assert_string_equal(said, "");
    assert_int_equal(settings.subscribers[0].options.window, 7);
}

static void long_values_arrive_whole(void **state)
{
    (void)state;
    load_text(SITE "client_id = " THOUSAND THOUSAND THOUSAND "\n");
    assert_string_equal(said, "");
    assert_string_equal(settings.subscribers[0].options.client_id, THOUSAND THOUSAND THOUSAND);
}

static void files_of_conf_d_override_in_name_order(void **state)
{
    (void)state;
    conf_files_make_directory(&files, "conf.d");
    conf_files_write(&files, "conf.d/20-b.conf", "[subscriber site]\nwindow = 20\n");
    conf_files_write(&files, "conf.d/10-a.conf",
                     "[subscriber site]\nwindow = 10\nqos = 2\n"
                     "[mappings]\ndirectory = own\n"
                     "[subscriber other]\nuri = mqtt://h\n");
    conf_files_write(&files, "conf.d/30-c.conf.bak", "[subscriber site]\nwindow = nonsense\n");
    conf_files_write(&files, "conf.d/.hidden.conf", "[subscriber site]\nwindow = nonsense\n");
    load_text(SITE "window = 5\n[batch]\nmax_rows = 9\n");
    assert_string_equal(said, "");
    assert_int_equal(settings.subscribers[0].options.window, 20);
    assert_int_equal(settings.subscribers[0].qos, 2);
    assert_int_equal(settings.batch.max_rows, 9);
    assert_true(strstr(settings.mappings.directory, "/conf.d/own") != NULL);
    assert_int_equal(settings.subscriber_count, 2);
    assert_string_equal(settings.subscribers[1].options.name, "other");
}

static void mistakes_in_conf_d_have_its_name(void **state)
{
    (void)state;
    conf_files_make_directory(&files, "conf.d");
    conf_files_write(&files, "conf.d/a.conf", "[batch]\nlinger = 1\n");
    load_text(SITE "[batch]\nlinger = 2\n");
    assert_string_equal(said, "conf.d/a.conf:2: linger: '1' is not allowed; allowed: 0ms to 1m\n" //
                        FILE_NAME ":4: linger: '2' is not allowed; allowed: 0ms to 1m\n");
}

static char *printed(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    settings_print(&settings, out);
    fclose(out);
    return text;
}

static void what_is_printed_reads_back_the_same(void **state)
{
    (void)state;
    load_text(
        "[subscriber a]\nuri = mqtt://h:7\nsession_expiry = 0s\nkeepalive = 61\n"
        "[subscriber b]\nuri = mqtt://[::1]\nsession_expiry = never\nshare = x\nusername = u\n"
        "max_payload = 5000\n[state]\ndirectory = .\n[http]\nlisten = [::1]:80\n"
        "[batch]\nlinger = 90ms\nmemory = 3GiB\n[log]\nlevel = error\n"
        "[broker]\nlisten = ws://127.0.0.1:3 mqtt://[::1]:3\n"
        "[forward f]\nuri = mqtts://up\nfilters = a/# # ; all\n[forward g]\nuri = mqtt://up\n");
    assert_string_equal(said, "");
    char *first = printed();
    assert_non_null(strstr(first, "[subscriber a]\nuri = mqtt://h:7\n"));
    assert_non_null(strstr(first, "session_expiry = 0s\n"));
    assert_non_null(strstr(first, "session_expiry = never\n"));
    assert_non_null(strstr(first, "keepalive = 61s\n"));
    assert_non_null(strstr(first, "max_payload = 5000\n"));
    assert_non_null(strstr(first, "listen = [::1]:80\n"));
    assert_non_null(strstr(first, "memory = 3GiB\n"));
    assert_non_null(strstr(first, "linger = 90ms\n"));
    assert_non_null(strstr(first, "level = error\n"));
    assert_non_null(strstr(first, "listen = ws://127.0.0.1:3 mqtt://[::1]:3\n"));
    assert_non_null(strstr(first, "allow_anonymous = true\n"));
    assert_non_null(strstr(first, "/broker.db\n"));
    assert_non_null(strstr(first, "[forward f]\nuri = mqtts://up\nfilters = a/# #\n"));
    settings_fini(&settings);
    free(said);
    load_text(first);
    assert_string_equal(said, "");
    char *second = printed();
    assert_string_equal(first, second);
    free(first);
    free(second);
}

enum { LINES_NEEDED, LINES_WITH_VALUES, LINES_OF_KEYS };

static bool is_wanted(const char *line, int which)
{
    size_t name = strspn(line, "abcdefghijklmnopqrstuvwxyz_0123456789");
    if (which == LINES_NEEDED && strncmp(line, "uri ", 4) != 0)
        name = 0;
    const char *value = line + name + 2;
    bool key = name > 0 && strncmp(line + name, " =", 2) == 0;
    return *line == '[' || (key && (which == LINES_OF_KEYS ? strspn(value, " \n") > 0
                                                           : *value == ' ' && value[1] != ' '));
}

// The shipped file's sections, without the # before some of them, and those lines of theirs.
static char *shipped_lines(int which)
{
    const char *slash = strrchr(__FILE__, '/');
    char *path = mem_printf("%.*s/../../config/sensorlogd.conf",
                            slash ? (int)(slash - __FILE__) : 1, slash ? __FILE__ : ".");
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    char line[500];
    struct memtext text;
    memtext_open(&text);
    while (fgets(line, sizeof line, in)) {
        const char *bare = line + (*line == '#');
        // As it stands, the subscriber would be the built-in broker's.
        if (is_wanted(bare, which))
            fputs(strcmp(bare, "uri = mqtt://127.0.0.1:1883\n") == 0 ? "uri = mqtt://10.0.0.1\n"
                                                                     : bare,
                  text.out);
    }
    fclose(in);
    free(path);
    return memtext_close(&text);
}

// What settings_print prints of these lines.
static char *printed_of(char *lines)
{
    setenv("STATE_DIRECTORY", files.directory, 1);
    load_text(lines);
    unsetenv("STATE_DIRECTORY");
    assert_string_equal(said, "");
    char *text = printed();
    settings_fini(&settings);
    free(said);
    said = NULL;
    free(lines);
    return text;
}

static void the_shipped_file_shows_the_defaults(void **state)
{
    (void)state;
    char *shown = printed_of(shipped_lines(LINES_WITH_VALUES));
    char *defaults = printed_of(shipped_lines(LINES_NEEDED));
    assert_string_equal(shown, defaults);
    free(shown);
    free(defaults);
}

static void the_shipped_file_shows_every_key(void **state)
{
    (void)state;
    char *shown = printed_of(shipped_lines(LINES_WITH_VALUES)),
         *keys = shipped_lines(LINES_OF_KEYS);
    char *rest = NULL, *section = NULL, *end_of_section = keys;
    for (char *line = strtok_r(shown, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *key = mem_printf("\n%.*s =", (int)strcspn(line, " "), line);
        if (*line == '[') {
            section = strstr(keys, line);
            assert_non_null(section);
            end_of_section = strstr(section, "\n[");
        } else {
            const char *found = strstr(section, key);
            if (!found || (end_of_section && found > end_of_section))
                fail_msg("the shipped file does not show '%s'", key + 1);
        }
        free(key);
    }
    free(shown);
    free(keys);
}

static void passwords_are_not_printed(void **state)
{
    (void)state;
    conf_files_write(&files, "file", "treasure\n");
    load_text(SITE "username = u\npassword_file = file\n"
                   "[postgres]\nconninfo = dbname=x password=swordfish\n");
    assert_string_equal(said, "");
    char *text = printed();
    assert_non_null(strstr(text, "dbname=x"));
    assert_non_null(strstr(text, "/file\n"));
    assert_null(strstr(text, "swordfish"));
    assert_null(strstr(text, "treasure"));
    free(text);
}

// What stands behind SITE, so from line 3 on, and all that is said of it, each line without the
// file's name.
static const struct mistake {
    const char *text, *said;
} mistakes[] = {
    // The shape of the file
    {"window\n", ":3: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n"},
    {"window: 5\n", ":3: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n"},
    {"= 5\n", ":3: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n"},
    {"wind ow = 5\n",
     ":3: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n"},
    {" window = 5\n", ":3: the line is indented; keys and sections begin at the start of a line\n"},
    {"username = a\n\tb\n",
     ":4: the line is indented; keys and sections begin at the start of a line\n"},
    {"[log\n", ":3: expected [SECTION] alone on its line\n"},
    {"[log] level = info\n", ":3: expected [SECTION] alone on its line\n"},
    {"[log];x\n", ":3: expected [SECTION] alone on its line\n"},
    {"client_id = " THOUSAND THOUSAND THOUSAND THOUSAND "\n",
     ":3: the line is too long; allowed: 4000 characters\n"},
    {"username = # b\n",
     ":3: a value cannot contain ' #'; a comment after a value begins with ' ; '\n"},
    {"username = a # b\n",
     ":3: a value cannot contain ' #'; a comment after a value begins with ' ; '\n"},
    {"username = a ;b\n", ":3: a value cannot contain ' ;', which begins a comment where a blank "
                          "follows and no quote is open\n"},
    {"[postgres]\nconninfo = password='a ; b'\n",
     ":4: a value cannot contain ' ;', which begins a comment where a blank follows and no quote is open\n"},
    {"username = a\x01\n", ":3: is no UTF-8 text: byte 0x01 is not allowed here\n"},
    {"\nusername = \xff\n", ":4: is no UTF-8 text: byte 0xff is not allowed here\n"},
    // Sections and keys
    {"[postgre]\nnonsense = 1\n", ":3: unknown section 'postgre'; did you mean 'postgres'?\n"},
    {"[mqtt]\n",
     ":3: unknown section 'mqtt'; allowed: postgres, subscriber NAME, broker, forward NAME, batch, "
     "mappings, state, spool, http, log\n"},
    {"[subscribr two]\n", ":3: unknown section 'subscribr two'; did you mean 'subscriber NAME'?\n"},
    {"[" HUNDRED "]\n",
     ":3: unknown section '" HUNDRED "'; allowed: postgres, subscriber NAME, broker, "
     "forward NAME, batch, mappings, state, spool, http, log\n"},
    {"[batch two]\n",
     ":3: unknown section 'batch two'; allowed: postgres, subscriber NAME, broker, forward NAME, "
     "batch, mappings, state, spool, http, log\n"},
    {"[subscriber]\n", ":3: a subscriber needs a name; allowed: [subscriber NAME]\n"},
    {"[subscriber a/b]\n",
     ":3: the name of a subscriber, 'a/b', is no name; allowed: letters, digits, _, - and .\n"},
    {"[subscriber aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]\n",
     ":3: the name of a subscriber, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', is longer than 38 characters\n"},
    {"[subscriber spool]\n", ":3: 'spool' is the name of another source; choose another name\n"},
    {"[subscriber site]\nqos = 0\n",
     ":3: section [subscriber site] is given twice, first in line 1\n"},
    {"[log]\n[log]\n", ":4: section [log] is given twice, first in line 3\n"},
    {"qos = 1\nqos = 2\n", ":4: key 'qos' is given twice in [subscriber site], first in line 3\n"},
    {"widnow = 5\n", ":3: unknown key 'widnow'; did you mean 'window'?\n"},
    {"Window = 5\n", ":3: unknown key 'Window'; did you mean 'window'?\n"},
    {"[batch]\nsize = 5\n", ":4: unknown key 'size'; allowed: max_rows, linger, memory\n"},
    // Values
    {"window = 0\n", ":3: window: '0' is not allowed; allowed: 1 to 65535\n"},
    {"window = 65536\n", ":3: window: '65536' is not allowed; allowed: 1 to 65535\n"},
    {"window = 99999999999999999999\n",
     ":3: window: '99999999999999999999' is not allowed; allowed: 1 to 65535\n"},
    {"window = -1\n", ":3: window: '-1' is not allowed; allowed: 1 to 65535\n"},
    {"window = 0x10\n", ":3: window: '0x10' is not allowed; allowed: 1 to 65535\n"},
    {"window =\n", ":3: window: '' is not allowed; allowed: 1 to 65535\n"},
    {"qos = 3\n", ":3: qos: '3' is not allowed; allowed: 0 to 2\n"},
    {"protocol = 4\n", ":3: protocol: '4' is not allowed; allowed: 5, 3.1.1\n"},
    {"keepalive = 0\n", ":3: keepalive: '0' is not allowed; allowed: 1s to 65535s\n"},
    {"keepalive = 1500ms\n", ":3: keepalive: '1500ms' is not allowed; allowed: 1s to 65535s\n"},
    {"keepalive = 1 minute\n", ":3: keepalive: '1 minute' is not allowed; allowed: 1s to 65535s\n"},
    {"session_expiry = 100000d\n",
     ":3: session_expiry: '100000d' is not allowed; allowed: 0s to 4294967294s, never\n"},
    {"max_payload = 64MB\n", ":3: max_payload: '64MB' is not allowed; allowed: 1KiB to 256MiB\n"},
    {"max_payload = 99999999999GiB\n",
     ":3: max_payload: '99999999999GiB' is not allowed; allowed: 1KiB to 256MiB\n"},
    {"share = a/b\n", ":3: share: 'a/b' contains one of / + #\n"},
    {"username = u\npassword_file = /nonexistent\n",
     ":4: password_file: '/nonexistent' cannot be opened: No such file or directory\n"},
    {"username = u\npassword_file = /\n",
     ":4: password_file: '/' cannot be read: Is a directory\n"},
    {"username = u\npassword_file = /dev/null\n", ":4: password_file: '/dev/null' is empty\n"},
    {"[postgres]\nconninfo = nonsense\n",
     ":4: conninfo: missing \"=\" after \"nonsense\" in connection info string\n"},
    {"[postgres]\nconnections = 33\n", ":4: connections: '33' is not allowed; allowed: 1 to 32\n"},
    {"[postgres]\nmigrate = maybe\n",
     ":4: migrate: 'maybe' is not allowed; allowed: true, false\n"},
    {"[postgres]\nschema = sensorlog\n",
     ":4: schema: 'sensorlog' is the schema of sensorlogd's own tables; "
     "mapped tables live in another\n"},
    {"[postgres]\nschema = pg_mine\n", ":4: schema: 'pg_mine' is reserved by PostgreSQL\n"},
    {"[postgres]\nschema = 2nd\n",
     ":4: schema: '2nd' is no identifier; allowed: letters, digits, _ and $, not a digit first\n"},
    {"[postgres]\nwriter =\n", ":4: writer: is empty\n"},
    {"[batch]\nmax_rows = 0\n", ":4: max_rows: '0' is not allowed; allowed: 1 to 1000000\n"},
    {"[batch]\nmemory = 1023KiB\n",
     ":4: memory: '1023KiB' is not allowed; allowed: 1MiB to 1024GiB\n"},
    {"[mappings]\ndirectory =\n", ":4: directory: is empty\n"},
    {"[state]\ndirectory = /nonexistent\n",
     ":4: directory: '/nonexistent': No such file or directory\n"},
    {"[state]\ndirectory = /dev/null\n", ":4: directory: '/dev/null' is no directory\n"},
    {"[spool]\nmode = on\n", ":4: mode: 'on' is not allowed; allowed: off, outage\n"},
    {"[spool]\nmax_bytes = 1023KiB\n",
     ":4: max_bytes: '1023KiB' is not allowed; allowed: 1MiB to 16384GiB\n"},
    {"[spool]\non_full = drop\n",
     ":4: on_full: 'drop' is not allowed; allowed: withhold, drop-oldest\n"},
    {"[spool]\noutage_after = 2d\n", ":4: outage_after: '2d' is not allowed; allowed: 0ms to 1d\n"},
    {"[spool]\nfile =\n", ":4: file: is empty\n"},
    {"[spool]\nmode = outage\nfile = /nonexistent/x.db\n",
     ":5: file: the directory '/nonexistent': No such file or directory; it must be there and "
     "writable, or name another file\n"},
    {"[spool]\nmode = outage\nfile = /dev/null/x.db\n",
     ":5: file: the directory '/dev/null' is no directory; it must be there and writable, or name "
     "another file\n"},
    {"[spool]\nmode = outage\nfile = /usr\n",
     ":5: file: '/usr' is a directory; name one of the spool's own, which is made if it is not "
     "there\n"},
    {"[spool]\nmode = outage\nfile = /dev/null\n",
     ":5: file: '/dev/null' is no regular file; name one of the spool's own, which is made if it is "
     "not there\n"},
    {"[spool]\nmode = outage\nfile = /etc/passwd\n",
     ":5: file: '/etc/passwd' is no SQLite database; name one of the spool's own, which is made if "
     "it is not there\n"},
    {"[state]\ndirectory =\n[spool]\nmode = outage\n",
     ":6: mode = outage needs a file, since [state] has no directory\n"},
    {BROKER "state = /tmp/one.db\n[spool]\nfile = /tmp/../tmp/one.db\nmode = outage\n",
     ":8: file: '/tmp/../tmp/one.db' is the state of [broker] already; name another file\n"},
    {"[http]\nlisten = 9680\n", ":4: listen: '9680' has no port; allowed: HOST:PORT\n"},
    {"[http]\nlisten = 127.0.0.1:0\n",
     ":4: listen: '127.0.0.1:0' has no valid port; allowed: 1 to 65535\n"},
    {"[http]\nlisten = ::1:9680\n",
     ":4: listen: '::1:9680' has no valid host; allowed: a name, an IPv4 "
     "address, or an IPv6 address in [ ]\n"},
    {"[http]\nlisten = fe80::1:9680\n",
     ":4: listen: 'fe80::1:9680' has more than one port; an IPv6 address "
     "stands in [ ]\n"},
    {"[http]\nlisten = localhost:80\n",
     ":4: listen: 'localhost:80' has no numeric address; allowed: "
     "127.0.0.1:PORT, [::1]:PORT, ...\n"},
    {"[batch\nmax_rows = 5\nnonsense\n[log]\nlevel = info\n",
     ":3: expected [SECTION] alone on its line\n" FILE_NAME
     ":5: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n"},
    {"[log]\nlevel = loud\n",
     ":4: level: 'loud' is not allowed; allowed: error, warning, info, debug\n"},
    {"[subscriber b]\nuri = 127.0.0.1\n",
     ":4: uri: '127.0.0.1' is no broker's address; allowed: mqtt, mqtts, ws or wss://HOST[:PORT]\n"},
    {"[subscriber b]\nuri = mqtt://h:66000\n",
     ":4: uri: 'mqtt://h:66000' has no valid port; allowed: 1 to 65535\n"},
    {"[subscriber b]\nuri = mqtt://me:secret@h\n",
     ":4: uri: holds a user; allowed: the keys username and password_file\n"},
    {"[subscriber b]\nuri = mqtt://h/path\n",
     ":4: uri: 'mqtt://h/path' has a path; allowed: HOST[:PORT] alone, a path with ws and wss\n"},
    {"[subscriber b]\nuri = mqtt://[::1\n", ":4: uri: 'mqtt://[::1' has a [ without ]\n"},
    {"[subscriber b]\nuri = mqtt://\n",
     ":4: uri: 'mqtt://' has no valid host; allowed: a name, an IPv4 "
     "address, or an IPv6 address in [ ]\n"},
    // The built-in broker
    {BROKER "listen = http://127.0.0.1:1\n",
     ":6: listen: 'http://127.0.0.1:1' has no known scheme; " LISTEN_ALLOWED},
    {BROKER "listen = 1883\n", ":6: listen: '1883' has no known scheme; " LISTEN_ALLOWED},
    {BROKER "listen =\n", ":6: listen: is empty; " LISTEN_ALLOWED},
    {BROKER "listen = mqtt://localhost\n",
     ":6: listen: 'mqtt://localhost' has no numeric address; " LISTEN_ALLOWED},
    {BROKER "listen = ws://*:1/mqtt\n", ":6: listen: 'ws://*:1/mqtt' has a path; " LISTEN_ALLOWED},
    {BROKER "listen = mqtt://*:99999\n",
     ":6: listen: 'mqtt://*:99999' has no valid port; allowed: 1 to 65535\n"},
    {BROKER "listen = mqtt://**:1\n",
     ":6: listen: 'mqtt://**:1' has no valid host; allowed: a name, an IPv4 address, or an IPv6 "
     "address in [ ]\n"},
    {BROKER "allow_anonymous = true\nlisten = mqtt://*:1 ws://*:2 mqtt://10.0.0.1:1\n",
     ":7: listen: 'mqtt://*:1' and 'mqtt://10.0.0.1:1' are the same address and port; choose "
     "another port for one of them\n"},
    {BROKER "listen = mqtt://[::1]:1 ws://[0:0::1]:1\n",
     ":6: listen: 'mqtt://[::1]:1' and 'ws://[0:0::1]:1' are the same address and port; choose "
     "another port for one of them\n"},
    {BROKER "listen = mqtt://0.0.0.0 mqtt://127.0.0.1:1883\n",
     ":6: listen: 'mqtt://0.0.0.0' and 'mqtt://127.0.0.1:1883' are the same address and port; "
     "choose another port for one of them\n"},
    {BROKER "listen = mqtts://127.0.0.1\n",
     ":6: 'mqtts://127.0.0.1' needs a certificate_file\n" FILE_NAME
     ":6: 'mqtts://127.0.0.1' needs a key_file\n"},
    {BROKER "listen = mqtts://127.0.0.1\ncertificate_file = /nonexistent\nkey_file = /dev/null\n",
     ":7: certificate_file: '/nonexistent' cannot be opened: No such file or directory\n" FILE_NAME
     ":8: key_file: '/dev/null' is empty\n"},
    {BROKER "listen = mqtts://127.0.0.1\ncertificate_file = " FILE_NAME "\nkey_file = " FILE_NAME
            "\n",
     ":7: certificate_file: " FILE_NAME ": holds no certificate in PEM format\n"},
    {BROKER "allow_anonymous = false\n",
     ":6: allow_anonymous is false and there is no password_file: nobody could log in; make one "
     "with: sensorlogd passwd FILE USER\n"},
    {BROKER "listen = mqtt://127.0.0.1 mqtt://*:7\n",
     ":6: 'mqtt://*:7' is open to other machines and there is no password_file: nobody could log "
     "in; make one with: sensorlogd passwd FILE USER, or set allow_anonymous = true\n"},
    {BROKER "password_file = " FILE_NAME "\n",
     ":6: password_file: " FILE_NAME
     ":1: is no USER:HASH; make it with: sensorlogd passwd " FILE_NAME " USER\n"},
    {BROKER "acl_file = " FILE_NAME "\n",
     ":6: acl_file: " FILE_NAME
     ":1: unknown word '[subscriber'; allowed: user, topic, pattern, #\n"},
    {BROKER "acl_file = /nonexistent\n",
     ":6: acl_file: /nonexistent: cannot be opened: No such file or directory\n"},
    {BROKER "state = /nonexistent/broker.db\n",
     ":6: state: the directory '/nonexistent': No such file or directory; it must be there, or "
     "'state =' keeps nothing\n"},
    {BROKER "connections = 0\n", ":6: connections: '0' is not allowed; allowed: 1 to 1000000\n"},
    {BROKER "packet_size = 1GiB\n",
     ":6: packet_size: '1GiB' is not allowed; allowed: 1KiB to 256MiB\n"},
    {BROKER "packet_size = 2MiB\nmemory = 1MiB\n",
     ":6: packet_size is greater than memory of [broker]\n"},
    {BROKER "packet_size = 3MiB\n[batch]\nmemory = 2MiB\n",
     ":6: packet_size is greater than memory of [batch]\n"},
    {BROKER "keepalive = 65536\n",
     ":6: keepalive: '65536' is not allowed; allowed: 0s to 65535s\n"},
    {BROKER "client_certificates = yes\n",
     ":6: client_certificates: 'yes' is not allowed; allowed: none, optional, required\n"},
    {BROKER "client_certificates = required\n",
     ":6: client_certificates needs a ca_file, which has the authority that signs them\n" FILE_NAME
     ":6: client_certificates needs a listener with TLS; allowed: mqtts or wss\n"},
    {BROKER "certificate_as_username = true\n",
     ":6: certificate_as_username needs client_certificates; allowed: optional, required\n"},
    {BROKER "crl_file = " FILE_NAME "\n",
     ":6: crl_file needs client_certificates; allowed: optional, required\n"},
    {BROKER "listener = 1883\n",
     ":6: unknown key 'listener'; mosquitto's listener is: listen = mqtt://ADDRESS:PORT\n"},
    {BROKER "persistence = true\n", ":6: unknown key 'persistence'; mosquitto's persistence is the "
                                    "key state, which names the file\n"},
    {BROKER "password_fiel = x\n",
     ":6: unknown key 'password_fiel'; did you mean 'password_file'?\n"},
    {"[broker x]\n", ":3: unknown section 'broker x'; did you mean 'broker'?\n"},
    {"[subscriber broker]\n", ":3: 'broker' is the name of another source; choose another name\n"},
    {BROKER "[subscriber b]\nuri = mqtt://127.0.0.1\n",
     ":7: [subscriber b]: 'mqtt://127.0.0.1' is the built-in broker itself, which needs no "
     "subscriber\n"},
    {BROKER "allow_anonymous = true\nlisten = mqtt://*:7 mqtts://[::1]:8\ncertificate_file = x\n"
            "key_file = x\n[subscriber b]\nuri = mqtt://127.3.3.3:7\n[subscriber c]\n"
            "uri = ws://localhost:8\n[subscriber d]\nuri = mqtt://127.0.0.1:8\n",
     ":8: certificate_file: 'x' cannot be opened: No such file or directory\n" FILE_NAME
     ":9: key_file: 'x' cannot be opened: No such file or directory\n" FILE_NAME
     ":11: [subscriber b]: 'mqtt://127.3.3.3:7' is the built-in broker itself, which needs no "
     "subscriber\n" FILE_NAME
     ":13: [subscriber c]: 'ws://localhost:8' is the built-in broker itself, which needs no "
     "subscriber\n"},
    // Forwards
    {"[forward f]\nuri = mqtt://up\n",
     ":3: [forward f] needs a [broker], whose messages it forwards\n"},
    {"[forward]\n", ":3: a forward needs a name; allowed: [forward NAME]\n"},
    {"[forwrad x]\n", ":3: unknown section 'forwrad x'; did you mean 'forward NAME'?\n"},
    {BROKER "[forward f]\n", ":6: [forward f] has no uri\n"},
    {BROKER "[forward f]\nuri = ws://up\n",
     ":7: uri: 'ws://up' is no address to forward to; allowed: mqtt or mqtts://HOST[:PORT]\n"},
    {BROKER "[forward f]\nuri = mqtt://localhost:1883\n",
     ":7: [forward f]: 'mqtt://localhost:1883' is this broker itself\n"},
    {BROKER "[forward f]\nuri = mqtt://up\nfilters = a/# b#\n",
     ":8: filters: 'b#' is no topic filter; allowed: levels between /, + for any one level, # at "
     "the end for all that follow\n"},
    {BROKER "[forward f]\nuri = mqtt://up\nfilters = $share/g/a\n",
     ":8: filters: '$share/g/a' is a shared subscription, which cannot be forwarded\n"},
    {BROKER "[forward f]\nuri = mqtt://up\nprefix = a/+/\n",
     ":8: prefix: 'a/+/' cannot begin a topic; allowed: no + and no # in it, no $ first\n"},
    {BROKER "[forward f]\nuri = mqtt://up\n[forward g]\nuri = mqtt://UP:1883\nclient_id = x\n"
            "[forward h]\nuri = mqtt://up\nclient_id = x\n",
     ":11: [forward h] has the same broker and client_id as [forward g]\n"},
    {BROKER "[forward f]\nuri = mqtt://up\npassword_file = " FILE_NAME "\n",
     ":6: [forward f] has a password_file and no username\n"},
    {BROKER "[forward f]\nuri = mqtt://up\nca_file = " FILE_NAME "\n",
     ":8: ca_file has no meaning without encryption; allowed: a uri of mqtts\n"},
    // Certificates of subscribers
    {"ca_file = " FILE_NAME "\n",
     ":3: ca_file has no meaning without encryption; allowed: a uri of mqtts or wss\n"},
    {"[subscriber b]\nuri = mqtts://h\ncertificate_file = " FILE_NAME "\n",
     ":5: certificate_file and key_file are needed together\n"},
    {"[subscriber b]\nuri = mqtts://h\nca_file = " FILE_NAME "\n",
     ":5: ca_file: " FILE_NAME ": holds no certificate in PEM format\n"},
    {"[subscriber b]\nuri = mqtts://h\ncrl_file = /nonexistent\n",
     ":5: crl_file: '/nonexistent' cannot be opened: No such file or directory\n"},
    // What keys say together
    {"[subscriber b]\nqos = 0\n", ":3: [subscriber b] has no uri\n"},
    {"password_file = /etc/passwd\n",
     ":1: [subscriber site] has a password_file and no username\n"},
    {"max_payload = 2MiB\n[batch]\nmemory = 1MiB\n",
     ":1: [subscriber site]: max_payload is greater than memory of [batch]\n"},
    {"client_id = x\n[subscriber b]\nuri = mqtt://10.0.0.1:1883\nclient_id = x\n",
     ":4: [subscriber b] has the same broker and client_id as [subscriber site] (" FILE_NAME
     ":1)\n"},
};

static void check_mistake(const struct mistake *mistake)
{
    conf_files_init(&files);
    char *text = mem_printf("%s%s", SITE, mistake->text);
    char *wanted = mem_printf("%s%s", FILE_NAME, mistake->said);
    load_text(text);
    assert_string_equal(said, wanted);
    free(text);
    free(wanted);
    end(NULL);
}

static void each_mistake_is_said_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
        check_mistake(&mistakes[i]);
}

static void all_mistakes_are_said_in_one_run(void **state)
{
    (void)state;
    load_text("qos = 1\n"
              "[subscriber site]\n"
              "uri = http://h\n"
              "qos = 7\n"
              "nonsense\n"
              "[nonsense]\n"
              "qos = 8\n"
              "[batch]\n"
              "linger = -1ms\n");
    assert_string_equal(
        said, FILE_NAME
        ":1: key 'qos' stands before the first [SECTION]\n" //
        FILE_NAME
        ":3: uri: 'http://h' is no broker's address; allowed: mqtt, mqtts, ws or wss://HOST[:PORT]\n" //
        FILE_NAME ":4: qos: '7' is not allowed; allowed: 0 to 2\n"                              //
        FILE_NAME ":5: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n" //
        FILE_NAME ":6: unknown section 'nonsense'; allowed: postgres, subscriber NAME, broker, "
        "forward NAME, batch, mappings, state, spool, http, log\n" //
        FILE_NAME ":9: linger: '-1ms' is not allowed; allowed: 0ms to 1m\n");
}

static void an_empty_file_lacks_a_source(void **state)
{
    (void)state;
    load_text("");
    assert_string_equal(
        said,
        FILE_NAME ": has no section [subscriber NAME] and no [broker]; at least one is needed\n");
}

static void a_missing_file(void **state)
{
    (void)state;
    load();
    assert_string_equal(said, FILE_NAME ": cannot be opened: No such file or directory\n");
    assert_null(settings.mappings.directory); // so that nobody complains about the default one
}

static void a_directory_is_no_file(void **state)
{
    (void)state;
    conf_files_make_directory(&files, FILE_NAME);
    load();
    assert_string_equal(said, FILE_NAME ": cannot be read: Is a directory\n");
}

static void conf_d_must_be_a_directory(void **state)
{
    (void)state;
    conf_files_write(&files, "conf.d", "");
    load_text(SITE);
    assert_string_equal(said, "conf.d: cannot be read: Not a directory\n");
}

static void binary_files_are_refused(void **state)
{
    (void)state;
    conf_files_write_bytes(&files, FILE_NAME, "[log]\n\0\n", 8);
    load();
    assert_string_equal(said, FILE_NAME ":2: is no UTF-8 text: byte 0x00 is not allowed here\n");
}

static void near_misses(void **state)
{
    (void)state;
    static const char *const words[] = {"window", "qos",     "keepalive", "key",
                                        "unix_s", "unix_ms", NULL};
    static const struct {
        const char *word, *near;
    } cases[] = {
        {"window", "window"},
        {"widnow", "window"},
        {"wndow", "window"},
        {"windowss", "window"},
        {"winXXw", "window"},
        {"winXXX", NULL},
        {"WINDOW", "window"},
        {"qoss", "qos"},
        {"qs", "qos"},
        {"kxx", NULL},
        {"x", NULL},
        {"", NULL},
        {"keep_alive", "keepalive"},
        {"keu", "key"},
        {"unixms", "unix_ms"},
        {"unixs", "unix_s"},
        {"wnow", "window"},
        {"wnw", NULL},
        {HUNDRED, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *near = problems_near(cases[i].word, words);
        assert_string_equal(near ? near : "none", cases[i].near ? cases[i].near : "none");
    }
}

static void problems_are_sorted_by_file_and_line(void **state)
{
    (void)state;
    struct problems problems = {0};
    problems_add(&problems, "b", 2, "second");
    problems_add(&problems, "b", 10, "last");
    problems_add(&problems, "b", 2, "third\x1b[1m");
    problems_add(&problems, "a", 5, "first %d", 1);
    problems_add(&problems, "b", 0, "whole");
    said = conf_files_problems(&files, &problems);
    assert_string_equal(said, "a:5: first 1\nb: whole\nb:2: second\nb:2: third?[1m\nb:10: last\n");
    problems_fini(&problems);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, start, end)
    const struct CMUnitTest tests[] = {
        STORY(every_key_arrives),
        STORY(every_key_of_the_broker_arrives),
        STORY(defaults_of_the_broker),
        STORY(who_may_come_without_a_name),
        STORY(where_the_broker_keeps_its_state),
        STORY(where_the_spool_is),
        STORY(a_database_with_its_log_is_not_opened),
        STORY(a_directory_that_is_somebody_else_s_cannot_be_written),
        STORY(certificates_of_a_subscriber_arrive),
        STORY(defaults),
        STORY(systemd_names_the_state_directory),
        STORY(byte_order_mark_and_missing_last_newline),
        STORY(long_values_arrive_whole),
        STORY(files_of_conf_d_override_in_name_order),
        STORY(mistakes_in_conf_d_have_its_name),
        STORY(what_is_printed_reads_back_the_same),
        STORY(the_shipped_file_shows_the_defaults),
        STORY(the_shipped_file_shows_every_key),
        STORY(passwords_are_not_printed),
        cmocka_unit_test(each_mistake_is_said_with_its_line),
        STORY(all_mistakes_are_said_in_one_run),
        STORY(an_empty_file_lacks_a_source),
        STORY(a_missing_file),
        STORY(a_directory_is_no_file),
        STORY(conf_d_must_be_a_directory),
        STORY(binary_files_are_refused),
        cmocka_unit_test(near_misses),
        STORY(problems_are_sorted_by_file_and_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
