// sensorlogd.conf and conf.d: what a good one says, and every mistake with its file and line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf/settings.h"
#include "conf_files.h"

// The first two lines of most files here.
#define SITE "[subscriber site]\nuri = mqtt://127.0.0.1\n"
#define HUNDRED                                                                                    \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED
#define FILE_NAME "sensorlogd.conf"

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
              "mode = off\n"
              "outage_after = 10s\n"
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
    assert_int_equal(settings.spool.outage_after_ms, 10000);
    assert_string_equal(settings.http.listen_host, "::1");
    assert_int_equal(settings.http.listen_port, 9680);
    assert_int_equal(settings.log_level, LOG_LEVEL_DEBUG);
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
    assert_int_equal(settings.batch.max_rows, 10000);
    assert_int_equal(settings.batch.linger_ms, 0);
    assert_int_equal(settings.batch.memory, 64 << 20);
    assert_true(strstr(settings.mappings.directory, "/topics.d") != NULL);
    assert_string_equal(settings.state.directory, "/var/lib/sensorlogd");
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
        "[batch]\nlinger = 90ms\nmemory = 3GiB\n[log]\nlevel = error\n");
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
    settings_fini(&settings);
    free(said);
    load_text(first);
    assert_string_equal(said, "");
    char *second = printed();
    assert_string_equal(first, second);
    free(first);
    free(second);
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
     ":3: unknown section 'mqtt'; allowed: postgres, subscriber NAME, broker, batch, mappings, "
     "state, spool, http, log\n"},
    {"[subscribr two]\n", ":3: unknown section 'subscribr two'; did you mean 'subscriber NAME'?\n"},
    {"[" HUNDRED "]\n",
     ":3: unknown section '" HUNDRED "'; allowed: postgres, subscriber NAME, broker, "
     "batch, mappings, state, spool, http, log\n"},
    {"[batch two]\n",
     ":3: unknown section 'batch two'; allowed: postgres, subscriber NAME, broker, batch, "
     "mappings, state, spool, http, log\n"},
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
    {"[broker]\nlisten = mqtt://127.0.0.1:1883\n",
     ":3: [broker]: the built-in broker is not part of this release\n"},
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
    {"[spool]\nmode = outage\n", ":4: mode: the spool is not part of this release; allowed: off\n"},
    {"[spool]\nmode = on\n", ":4: mode: 'on' is not allowed; allowed: off\n"},
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
     ":4: uri: '127.0.0.1' is no broker's address; allowed: mqtt://HOST[:PORT]\n"},
    {"[subscriber b]\nuri = mqtt://h:66000\n",
     ":4: uri: 'mqtt://h:66000' has no valid port; allowed: 1 to 65535\n"},
    {"[subscriber b]\nuri = mqtt://me:secret@h\n",
     ":4: uri: holds a user; allowed: the keys username and password_file\n"},
    {"[subscriber b]\nuri = mqtt://h/path\n",
     ":4: uri: 'mqtt://h/path' has a path; allowed: mqtt://HOST[:PORT]\n"},
    {"[subscriber b]\nuri = mqtt://[::1\n", ":4: uri: 'mqtt://[::1' has a [ without ]\n"},
    {"[subscriber b]\nuri = mqtt://\n",
     ":4: uri: 'mqtt://' has no valid host; allowed: a name, an IPv4 "
     "address, or an IPv6 address in [ ]\n"},
    {"[subscriber b]\nuri = mqtts://h\n",
     ":4: uri: 'mqtts://h': mqtts, ws and wss are not part of this "
     "release; allowed: mqtt://HOST[:PORT]\n"},
    {"[subscriber b]\nuri = wss://h/mqtt\n",
     ":4: uri: 'wss://h/mqtt': mqtts, ws and wss are not part of "
     "this release; allowed: mqtt://HOST[:PORT]\n"},
    // What keys say together
    {"[subscriber b]\nqos = 0\n", ":3: [subscriber b] has no uri\n"},
    {"password_file = /etc/passwd\n",
     ":1: [subscriber site] has a password_file and no username\n"},
    {"max_payload = 2MiB\n[batch]\nmemory = 1MiB\n",
     ":1: [subscriber site]: max_payload is greater than memory of [batch]\n"},
    {"client_id = x\n[subscriber b]\nuri = mqtt://127.0.0.1:1883\nclient_id = x\n",
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
        said, FILE_NAME ":1: key 'qos' stands before the first [SECTION]\n"                     //
        FILE_NAME ":3: uri: 'http://h' is no broker's address; allowed: mqtt://HOST[:PORT]\n"   //
        FILE_NAME ":4: qos: '7' is not allowed; allowed: 0 to 2\n"                              //
        FILE_NAME ":5: expected KEY = VALUE, [SECTION], or a comment that begins with # or ;\n" //
        FILE_NAME ":6: unknown section 'nonsense'; allowed: postgres, subscriber NAME, broker, "
                        "batch, mappings, state, spool, http, log\n" //
        FILE_NAME ":9: linger: '-1ms' is not allowed; allowed: 0ms to 1m\n");
}

static void an_empty_file_lacks_a_subscriber(void **state)
{
    (void)state;
    load_text("");
    assert_string_equal(said,
                        FILE_NAME ": has no section [subscriber NAME]; at least one is needed\n");
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
        STORY(defaults),
        STORY(systemd_names_the_state_directory),
        STORY(byte_order_mark_and_missing_last_newline),
        STORY(long_values_arrive_whole),
        STORY(files_of_conf_d_override_in_name_order),
        STORY(mistakes_in_conf_d_have_its_name),
        STORY(what_is_printed_reads_back_the_same),
        STORY(passwords_are_not_printed),
        cmocka_unit_test(each_mistake_is_said_with_its_line),
        STORY(all_mistakes_are_said_in_one_run),
        STORY(an_empty_file_lacks_a_subscriber),
        STORY(a_missing_file),
        STORY(a_directory_is_no_file),
        STORY(conf_d_must_be_a_directory),
        STORY(binary_files_are_refused),
        cmocka_unit_test(near_misses),
        STORY(problems_are_sorted_by_file_and_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
