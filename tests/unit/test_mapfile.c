// Mapping files: what good ones become, every mistake with its file and line, and the subscriptions
// made of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conf/mapfile.h"
#include "conf_files.h"

#define DAY INT64_C(86400000000)

static struct conf_files files;
static struct mappings mappings;
static char *said; // the problems of the last load

// Two subscribers, of which the second shares its subscriptions.
static char site_name[] = "site", shared_name[] = "shared", share[] = "group";
static struct subscriber_entry entries[2];
static const struct settings two_subscribers = {.subscribers = entries, .subscriber_count = 2};

static void load_directory(const char *directory)
{
    struct problems problems = {0};
    entries[0] = (struct subscriber_entry){.options.name = site_name, .qos = 1};
    entries[1] = (struct subscriber_entry){.options.name = shared_name, .share = share};
    mapfile_load(&mappings, directory, "telemetry", &two_subscribers, &problems);
    said = conf_files_problems(&files, &problems);
    problems_fini(&problems);
}

static void load(void)
{
    load_directory(files.directory);
}

static void load_text(const char *text)
{
    conf_files_write(&files, "a.cfg", text);
    load();
}

static void unbind(void)
{
    for (size_t i = 0; i < 2; i++) {
        struct subscriber_options *options = &entries[i].options;
        for (size_t j = 0; j < options->subscription_count; j++)
            free(options->subscriptions[j].filter);
        free(options->subscriptions);
        options->subscriptions = NULL;
        options->subscription_count = 0;
    }
}

static int start(void **state)
{
    (void)state;
    conf_files_init(&files);
    return 0;
}

static int end(void **state)
{
    (void)state;
    mapfile_fini(&mappings);
    conf_files_fini(&files);
    free(said);
    said = NULL;
    return 0;
}

static const char weather[] =
    "mappings = (\n"
    "  { name = \"weather\"; filter = \"sensors/weather/#\"; decoder = \"json\"; source = [\"site\"];\n"
    "    time = { from = \"/ts\"; format = \"unix_ms\"; max_age = \"2h\"; max_ahead = \"0ms\"; };\n"
    "    table = \"weather\"; key = [\"station\", \"time\"]; qos = 2; retained = true; partition = \"day\";\n"
    "    columns = (\n"
    "      { name = \"station\"; type = \"text\"; from = \"/station\"; required = true; },\n"
    "      { name = \"temp\"; type = \"float8\"; from = \"/temp\"; min = -90; max = 60.5; unit = \"degC\"; },\n"
    "      { name = \"count\"; type = \"int8\"; from = \"/n\"; default = 5000000000L; },\n"
    "      { name = \"seen\"; type = \"timestamptz\"; from = \"property.seen\"; format = \"unix_s\"; },\n"
    "      { name = \"site\"; type = \"text\"; value = \"hangar 3\"; },\n"
    "      { name = \"share\"; type = \"float8\"; value = 0.1; }\n"
    "    ); }\n"
    ");\n";

static void every_key_arrives(void **state)
{
    (void)state;
    load_text(weather);
    assert_string_equal(said, "");
    assert_int_equal(mappings.count, 1);
    const struct mapping *m = &mappings.items[0];
    assert_string_equal(m->name, "weather");
    assert_string_equal(m->filter, "sensors/weather/#");
    assert_int_equal(m->decoder, DECODER_JSON);
    assert_int_equal(m->source_count, 1);
    assert_string_equal(m->sources[0], "site");
    assert_int_equal(m->qos, 2);
    assert_true(m->retained);
    assert_int_equal(m->subscription_id, 1);
    assert_true(m->max_age_us == DAY / 12);
    assert_true(m->max_ahead_us == 0);
    assert_true(strstr(m->where, "/a.cfg:2") != NULL);

    const struct target *t = &m->target;
    assert_string_equal(t->mapping, "weather");
    assert_string_equal(t->schema, "telemetry");
    assert_string_equal(t->table, "weather");
    assert_int_equal(t->partition, PARTITION_DAY);
    assert_int_equal(t->key_count, 2);
    assert_int_equal(t->column_count, 7);

    assert_string_equal(t->columns[0].name, "time");
    assert_int_equal(t->columns[0].type, COLUMN_TIMESTAMPTZ);
    assert_true(t->columns[0].required && t->columns[0].key);
    assert_int_equal(m->fields[0].from, FROM_POINTER);
    assert_string_equal(m->fields[0].name, "/ts");
    assert_int_equal(m->fields[0].format, TIME_UNIX_MS);
    assert_true(m->fields[0].required);

    assert_string_equal(t->columns[1].name, "station");
    assert_true(t->columns[1].required && t->columns[1].key && m->fields[1].required);

    assert_int_equal(t->columns[2].type, COLUMN_FLOAT8);
    assert_false(t->columns[2].required || t->columns[2].key || m->fields[2].required);
    assert_true(m->fields[2].has_min && m->fields[2].has_max);
    assert_true(m->fields[2].min == -90 && m->fields[2].max == 60.5);
    assert_string_equal(m->fields[2].unit, "degC");

    assert_string_equal(m->fields[3].fallback, "5000000000");
    assert_int_equal(m->fields[4].from, FROM_PROPERTY);
    assert_string_equal(m->fields[4].name, "seen");
    assert_int_equal(m->fields[4].format, TIME_UNIX_S);
    assert_int_equal(m->fields[5].from, FROM_CONSTANT);
    assert_string_equal(m->fields[5].constant, "hangar 3");
    assert_string_equal(m->fields[6].constant, "0.1");
}

static void defaults(void **state)
{
    (void)state;
    load_text("mappings = ( { name = \"a\"; filter = \"+/x\"; decoder = \"text\"; table = \"t\";\n"
              "columns = ( { name = \"v\"; type = \"text\"; from = \"value\"; } ); } );\n");
    assert_string_equal(said, "");
    const struct mapping *m = &mappings.items[0];
    assert_int_equal(m->decoder, DECODER_TEXT);
    assert_null(m->sources);
    assert_int_equal(m->qos, -1);
    assert_false(m->retained);
    assert_true(m->max_age_us == 3650 * DAY);
    assert_true(m->max_ahead_us == DAY);
    assert_int_equal(m->target.partition, PARTITION_MONTH);
    assert_int_equal(m->target.key_count, 0);
    assert_int_equal(m->fields[0].from, FROM_RECEIVED_AT);
    assert_int_equal(m->target.column_count, 2);
    assert_false(m->fields[1].required || m->fields[1].has_min || m->fields[1].has_max);
    assert_null(m->fields[1].fallback);
    assert_null(m->fields[1].unit);
}

// What a redelivery shares with the first, beside the key; the key alone makes no difference.
static void what_is_compared(void **state)
{
    (void)state;
    static const struct {
        const char *on_conflict;
        enum on_conflict expected;
    } words[] = {{"", CONFLICT_REJECT},
                 {"on_conflict = \"reject\";", CONFLICT_REJECT},
                 {"on_conflict = \"update\";", CONFLICT_UPDATE},
                 {"on_conflict = \"ignore\";", CONFLICT_IGNORE}};
    static const char compared[] = "topic level value pointer payload";
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *text = mem_printf(
            "mappings = ( { name = \"a\"; filter = \"+/x\"; decoder = \"json\"; table = \"t\";\n"
            "time = { from = \"/t\"; }; key = (\"time\", \"k\"); %s columns = (\n"
            "{ name = \"k\"; type = \"text\"; from = \"/k\"; required = true; },\n"
            "{ name = \"topic\"; type = \"text\"; from = \"topic\"; },\n"
            "{ name = \"level\"; type = \"text\"; from = \"topic[0]\"; },\n"
            "{ name = \"value\"; type = \"jsonb\"; from = \"value\"; },\n"
            "{ name = \"pointer\"; type = \"float8\"; from = \"/v\"; },\n"
            "{ name = \"payload\"; type = \"bytea\"; from = \"payload\"; },\n"
            "{ name = \"at\"; type = \"timestamptz\"; from = \"received_at\"; },\n"
            "{ name = \"qos\"; type = \"int2\"; from = \"qos\"; },\n"
            "{ name = \"dup\"; type = \"bool\"; from = \"dup\"; },\n"
            "{ name = \"retain\"; type = \"bool\"; from = \"retain\"; },\n"
            "{ name = \"client\"; type = \"text\"; from = \"client_id\"; },\n"
            "{ name = \"property\"; type = \"text\"; from = \"property.x\"; },\n"
            "{ name = \"constant\"; type = \"text\"; value = \"x\"; } ); } );\n",
            words[i].on_conflict);
        load_text(text);
        free(text);
        assert_string_equal(said, "");
        const struct target *target = &mappings.items[0].target;
        assert_int_equal(target->on_conflict, words[i].expected);
        assert_int_equal(target->column_count, 14);
        for (size_t k = 0; k < target->column_count; k++)
            assert_int_equal(target->columns[k].compared,
                             k > 1 && strstr(compared, target->columns[k].name) != NULL);
        mapfile_fini(&mappings);
        free(said);
        said = NULL;
    }
}

// What is always the same for a redelivery makes a key; such a column need not be called required.
static void key_columns_become_required(void **state)
{
    (void)state;
    load_text("mappings = ( { name = \"a\"; filter = \"+/x\"; decoder = \"json\"; table = \"t\";\n"
              "time = { from = \"/t\"; }; key = (\"time\", \"room\", \"site\");\n"
              "columns = ( { name = \"room\"; type = \"text\"; from = \"topic[0]\"; },\n"
              "{ name = \"site\"; type = \"text\"; value = \"x\"; } ); } );\n");
    assert_string_equal(said, "");
    const struct mapping *m = &mappings.items[0];
    assert_int_equal(m->fields[0].format, TIME_RFC3339);
    for (size_t i = 0; i < 3; i++)
        assert_true(m->target.columns[i].key && m->target.columns[i].required &&
                    m->fields[i].required);
}

// $D stands for what a mapping needs at least, without columns and line ends; $C for a column.
static char *expand(const char *text)
{
    static const struct {
        const char *sign, *meaning;
    } signs[] = {
        {"$D", "name = \"a\"; filter = \"+/x\"; decoder = \"json\"; table = \"t\";"},
        {"$C", "columns = ( { name = \"v\"; type = \"text\"; from = \"/v\"; } );"},
        {"$T", "time = { from = \"/t\"; format = \"unix_s\"; };"},
    };
    char *expanded = mem_strdup("");
    while (*text) {
        const char *piece = NULL;
        for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
            if (strncmp(text, signs[i].sign, 2) == 0)
                piece = signs[i].meaning;
        }
        char *longer =
            piece ? mem_printf("%s%s", expanded, piece) : mem_printf("%s%c", expanded, *text);
        text += piece ? 2 : 1;
        free(expanded);
        expanded = longer;
    }
    return expanded;
}

#define SYNTAX_ERROR                                                                               \
    "syntax error; look at the line before as well: a setting ends with ; and a comma stands "     \
    "between groups, } , {\n"

struct mistake {
    const char *text, *said; // each line of said without the file's name
};

// Whole files.
static const struct mistake file_mistakes[] = {
    {"", "a.cfg: has no mappings = ( { ... } );\n"},
    {"# nothing\n", "a.cfg: has no mappings = ( { ... } );\n"},
    {"mappings = ( );", "a.cfg:1: mappings is empty\n"},
    {"mappings = { $D $C };",
     "a.cfg:1: mappings is a group { }; allowed: a list of groups, ( { ... }, { ... } )\n"},
    {"mappings = ( 5,\n{ $D $C } );",
     "a.cfg:1: mappings has an integer in it; allowed: groups { ... }\n"},
    {"mapings = ( { $D $C } );",
     "a.cfg: has no mappings = ( { ... } );\na.cfg:1: unknown key 'mapings'; did you mean 'mappings'?\n"},
    {"mappings = ( { $D $C } );\nversion = 1;",
     "a.cfg:2: unknown key 'version'; allowed: mappings\n"},
    {"\nmappings = ( { $D\n$C } ;\n", "a.cfg:3: " SYNTAX_ERROR},
    {"mappings = (\n{ $D $C }\n{ $D $C } );", "a.cfg:3: " SYNTAX_ERROR},
    {"mappings = ( { $D\n $D $C } );",
     "a.cfg:2: a key is set twice in one group; remove one of them\n"},
    {"mappings = ( { $D\n  filter = \"b\";\n $C } );",
     "a.cfg:2: 'filter' is set twice in one group; remove one of them\n"},
    {"mappings = ( { $D $C } );\nmappings : ();",
     "a.cfg:2: 'mappings' is set twice in one group; remove one of them\n"},
    {"mappings = ( { $D $C } );\n  @include \"/etc/passwd\"\n",
     "a.cfg:2: @include is not allowed; every *.cfg of the directory is read\n"},
    {"\n/* never\nends: mappings = ( { $D $C } );\n",
     "a.cfg:2: this comment never ends; */ is missing\n"},
    {"mappings = ( { $D $C } );\n\"\n\n", "a.cfg:2: this text never ends; \" is missing\n"},
    {"mappings = ( { $D $C } ); # \x01\n",
     "a.cfg:1: is no UTF-8 text: byte 0x01 is not allowed here\n"},
    {"mappings = ( { $D $C } );\n# \xc3\x28\n",
     "a.cfg:2: is no UTF-8 text: byte 0xc3 is not allowed here\n"},
};

// What stands between "mappings = ( {" in line 1 and "} );".
static const struct mistake mapping_mistakes[] = {
    {"", "1: name is missing\n1: filter is missing\n1: decoder is missing\n1: table is missing\n"
         "1: columns is missing\n"},
    {"filter = \"x\"; decoder = \"text\"; table = \"t\";\nname = 5;\ncolumns = ();",
     "2: name is an integer; allowed: a text in quotes\n3: columns is empty\n"},
    {"filter = \"x\"; decoder = \"json\"; table = \"t\";\nname = \"\";\n$C", "2: name is empty\n"},
    {"filter = \"x\"; decoder = \"json\"; table = \"t\";\nname = \"a b\";\n$C",
     "2: name 'a b' is no name; allowed: letters, digits, _, - and .\n"},
    {"filter = \"x\"; decoder = \"json\"; table = \"t\";\nname = \"a\\x00b\";\n$C",
     "2: a text cannot contain \\x00\n"},
    {"name = \"a\"; decoder = \"json\"; table = \"t\";\nfilter = \"a/#/b\";\n$C",
     "2: filter 'a/#/b' is no topic filter; allowed: levels between /, + for any one level, # at the end for all "
     "that follow, $share/NAME/ in front\n"},
    {"name = \"a\"; decoder = \"json\"; table = \"t\";\nfilter = \"a\\x07\";\n$C",
     "2: filter 'a?' contains a control character\n"},
    {"name = \"a\"; decoder = \"json\"; table = \"t\";\nfilter = \"a\\xc3\\x28\";\n$C",
     "2: this text is not UTF-8\n"},
    {"$D $C\nsource = [\"a\\xff\"];", "2: this text is not UTF-8\n"},
    {"name = \"a\"; decoder = \"json\"; table = \"t\";\nfilter = \"$share/a\";\n$C",
     "2: filter '$share/a' is no topic filter; allowed: levels between /, + for any one level, # at the end for "
     "all that follow, $share/NAME/ in front\n"},
    {"name = \"a\"; decoder = \"json\"; table = \"t\";\nfilter = \"$share/group/x\";\n$C",
     "2: filter '$share/group/x' has the share of [subscriber shared], which is added anyway; write 'x'\n"},
    {"name = \"a\"; filter = \"x\"; table = \"t\";\ndecoder = \"jason\";\n$C",
     "2: unknown decoder 'jason'; did you mean 'json'?\n"},
    {"name = \"a\"; filter = \"x\"; table = \"t\";\ndecoder = \"cbor\";\n$C",
     "2: unknown decoder 'cbor'; allowed: text, json\n"},
    {"name = \"a\"; filter = \"x\"; decoder = \"json\";\ntable = \"a-b\";\n$C",
     "2: table 'a-b' is no identifier; allowed: letters, digits, _ and $, not a digit first\n"},
    {"name = \"a\"; filter = \"x\"; decoder = \"json\";\n"
     "table = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\";\n$C",
     "2: table 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' is longer than 63 characters\n"},
    {"$D $C\nfiltr = \"x\";", "2: unknown key 'filtr'; did you mean 'filter'?\n"},
    {"$D $C\ntopic = \"x\";",
     "2: unknown key 'topic'; allowed: name, filter, decoder, source, qos, retained, time, "
     "table, key, on_conflict, partition, columns\n"},
    {"$D $C\nsource = [\"sitte\"];", "2: unknown source 'sitte'; did you mean 'site'?\n"},
    {"$D $C\nsource = [\"broker\"];", "2: unknown source 'broker'; allowed: site, shared\n"},
    {"$D $C\nsource = [\"site\", \"site\"];", "2: source 'site' is given twice\n"},
    {"$D $C\nsource = [];", "2: source is empty\n"},
    {"$D $C\nsource = (\"site\", 5);",
     "2: source has an integer in it; allowed: texts in quotes\n"},
    {"$D $C\nsource = 5;",
     "2: source is an integer; allowed: an array of texts, [\"...\", \"...\"]\n"},
    {"$D $C\nqos = 3;", "2: qos is 3; allowed: 0 to 2\n"},
    {"$D $C\nqos = 1.0;", "2: qos is a number with a fraction; allowed: 0 to 2\n"},
    {"$D $C\nqos = 4294967297;", "2: 4294967297 does not fit into 32 bits; write 4294967297L\n"},
    {"$D $C\nqos = 99999999999999999999L;",
     "2: 99999999999999999999 does not fit into 64 bits\n2: qos is 9223372036854775807; allowed: 0 to 2\n"},
    {"$D $C\nretained = 1;", "2: retained is an integer; allowed: true, false\n"},
    {"$D $C\nretained = true;", "2: retained copies are not sent to shared subscriptions\n"},
    {"$D $C\npartition = \"mnoth\";", "2: unknown partition 'mnoth'; did you mean 'month'?\n"},
    {"$D $C\ntime = \"/ts\";", "2: time is a text; allowed: a group, { ... }\n"},
    {"$D $C\ntime = { format = \"unix_s\"; };", "2: from is missing\n"},
    {"$D $C\ntime = { from = \"/t\"; fromat = \"unix_s\"; };",
     "2: unknown key 'fromat'; did you mean 'format'?\n"},
    {"$D $C\ntime = { from = \"/t\"; format = \"unixms\"; };",
     "2: unknown format 'unixms'; did you mean 'unix_ms'?\n"},
    {"$D $C\ntime = { from = \"payload\"; };",
     "2: from is 'payload', which gives no time; allowed: a JSON Pointer, "
     "value, topic[N], property.NAME, received_at\n"},
    {"$D $C\ntime = { from = \"received_at\"; format = \"unix_s\"; };",
     "2: format is for times that payload, topic or property give\n"},
    {"$D $C\ntime = { from = \"/t\"; max_age = 5; };",
     "2: max_age is an integer; allowed: a text in quotes\n"},
    {"$D $C\ntime = { from = \"/t\"; max_age = \"5 years\"; };",
     "2: max_age is '5 years'; allowed: \"1s\" to \"36500d\", in ms, s, m, h or d\n"},
    {"$D $C\ntime = { from = \"/t\"; max_ahead = \"-1d\"; };",
     "2: max_ahead is '-1d'; allowed: \"0ms\" to \"36500d\", in ms, s, m, h or d\n"},
    {"$D\ncolumns = { };",
     "2: columns is a group { }; allowed: a list of groups, ( { ... }, { ... } )\n"},
    {"$D\ncolumns = ( 5 );", "2: columns has an integer in it; allowed: groups { ... }\n"},
    // Keys
    {"$D $C\nkey = [\"v\"];",
     "2: key column 'v' may be missing; a column of a key has required = true\n"},
    {"$D $C $T\nkey = [\"time\", \"w\"];", "2: unknown key column 'w'; allowed: time, v\n"},
    {"$D $C $T\nkey = [\"tiem\"];", "2: unknown key column 'tiem'; did you mean 'time'?\n"},
    {"$D $C $T\nkey = [\"time\", \"time\"];", "2: key column 'time' is given twice\n"},
    {"$D $C $T\nkey = \"v\";", "2: key is a text; allowed: a list, [\"...\", \"time\"]\n"},
    {"$D $C $T\nkey = [];", "2: key is empty\n"},
    {"$D $C $T\non_conflict = \"update\";",
     "2: on_conflict says what becomes of a second row with the same key, and the mapping has no "
     "key\n"},
    {"$D $C $T\nkey = [\"time\"]; on_conflict = \"updte\";",
     "2: unknown on_conflict 'updte'; did you mean 'update'?\n"},
    {"$D $C $T\nkey = [\"time\"]; on_conflict = true;",
     "2: on_conflict is true or false; allowed: a text in quotes\n"},
    {"$D $C\nkey = [\"time\"];",
     "2: key column 'time' is the time of arrival, which a redelivery does not share; the "
     "mapping needs time = { from = ...; format = ...; }\n"},
    {"$D $T columns = ( { name = \"v\"; type = \"text\"; from = \"topic[0]\"; } );\nkey = [\"v\"];",
     "2: key does not contain \"time\", by which the table is partitioned\n"},
    {"$D $T columns = ( { name = \"v\"; type = \"bool\"; from = \"dup\"; required = true; } );\n"
     "key = [\"time\", \"v\"];",
     "2: key column 'v' says how the message came, which a redelivery does not share\n"},
    {"$D $T columns = ( { name = \"v\"; type = \"timestamptz\"; from = \"received_at\"; } );\nkey = [\"time\", \"v\"];",
     "2: key column 'v' is the time of arrival, which a redelivery does not share\n"},
    {"$D $T columns = ( { name = \"v\"; type = \"text\"; from = \"client_id\"; required = true; } );\n"
     "key = [\"time\", \"v\"];",
     "2: key column 'v' is not always known; allowed: what comes from topic or payload\n"},
    {"$D $T columns = ( { name = \"v\"; type = \"text\"; from = \"topic[0]\"; default = \"x\"; } );\n"
     "key = [\"time\", \"v\"];",
     "2: key column 'v' has a default; a column of a key comes from topic or payload\n"},
};

// What stands between "columns = ( {" in line 2 and "} );", in a mapping of filter +/x that decodes
// json.
static const struct mistake column_mistakes[] = {
    {"", "2: name is missing\n2: type is missing\n2: from is missing\n"},
    {"name = \"v\"; type = \"text\"; value = \"x\"; from = \"/v\";",
     "2: a column has either from or value, not both\n"},
    {"type = \"text\"; from = \"/v\";\nname = \"time\";",
     "3: column 'time' is there already; its source is set by the mapping's time = { ... }\n"},
    {"type = \"text\"; from = \"/v\";\nname = \"xmin\";",
     "3: column 'xmin' is the name of a column of PostgreSQL's own\n"},
    {"type = \"text\"; from = \"/v\";\nname = \"a b\";",
     "3: column 'a b' is no identifier; allowed: letters, digits, _ and $, not a digit first\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\"; }, { type = \"text\"; from = \"/v\";\nname = \"v\";",
     "3: column 'v' is given twice\n"},
    {"name = \"v\"; from = \"/v\";\ntype = \"flaot8\";",
     "3: unknown type 'flaot8'; did you mean 'float8'?\n"},
    {"name = \"v\"; from = \"/v\";\ntype = \"varchar\";",
     "3: unknown type 'varchar'; allowed: bool, int2, int4, int8, float4, float8, numeric, text, jsonb, timestamptz, "
     "uuid, bytea\n"},
    {"name = \"v\"; type = \"float8\";\nfrom = \"temp\";",
     "3: from is 'temp': allowed are value, unit, payload, topic, topic[N], /json/pointer, property.NAME, "
     "received_at, qos, dup, retain, client_id\n"},
    {"name = \"v\"; type = \"timestamptz\";\nfrom = \"recieved_at\";",
     "3: from is 'recieved_at'; did you mean "
     "'received_at'?\n"},
    {"name = \"v\"; type = \"text\";\nfrom = \"unit\";",
     "3: from is 'unit': unit needs decoder = \"text\"\n"},
    {"name = \"v\"; type = \"text\";\nfrom = \"/a~2\";",
     "3: from is '/a~2': not a JSON Pointer: ~ is written ~0 and / within a name ~1\n"},
    {"name = \"v\"; type = \"text\";\nfrom = \"topic[2]\";",
     "3: from is 'topic[2]'; allowed: topic[0] to topic[1] of "
     "'+/x'\n"},
    {"name = \"v\"; type = \"int4\";\nfrom = \"topic\";",
     "3: from is 'topic', which does not fit type int4; allowed: text\n"},
    {"name = \"v\"; type = \"float8\";\nfrom = \"received_at\";",
     "3: from is 'received_at', which does not fit type float8; allowed: timestamptz\n"},
    {"name = \"v\"; type = \"int2\";\nfrom = \"retain\";",
     "3: from is 'retain', which does not fit type int2; allowed: bool\n"},
    {"name = \"v\"; type = \"bool\";\nfrom = \"qos\";",
     "3: from is 'qos', which does not fit type bool; allowed: int2, int4, int8\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\";\nrequired = 1;",
     "3: required is an integer; allowed: true, false\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\";\nrequred = true;",
     "3: unknown key 'requred'; did you mean 'required'?\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\";\nmin = 5;",
     "3: min is for columns of numbers\n"},
    {"name = \"v\"; type = \"int4\"; from = \"/v\";\nmin = 5;\nmax = 4;",
     "3: min is greater than max; nothing would be stored\n"},
    {"name = \"v\"; type = \"int4\"; from = \"/v\";\nmin = \"5\";",
     "3: min is a text; allowed: a number\n"},
    {"name = \"v\"; type = \"float8\"; from = \"/v\";\nmin = -;", "3: " SYNTAX_ERROR},
    {"name = \"v\"; type = \"float8\"; from = \"/v\";\nmin = .;", "3: '.' is no number\n"},
    {"name = \"v\"; type = \"float8\"; from = \"/v\";\nmax = 1.0e999;",
     "3: max is out of the range of numbers\n"},
    {"name = \"v\"; type = \"int8\"; from = \"/v\";\nmax = 300000000000;",
     "3: 300000000000 does not fit into 32 bits; write 300000000000L\n"},
    {"name = \"v\"; type = \"int8\"; from = \"/v\";\nmax = 0xFFFFFFFF;",
     "3: 0xFFFFFFFF does not fit into 32 bits; write 0xFFFFFFFFL\n"},
    {"name = \"v\"; type = \"int8\"; from = \"/v\";\nmax = 9007199254740993L;",
     "3: max is 9007199254740993; allowed: -9007199254740992 to 9007199254740992\n"},
    {"name = \"v\"; type = \"int8\"; from = \"/v\"; required = true;\ndefault = 5;",
     "3: default is never used, since the column is required\n"},
    {"name = \"v\"; type = \"int2\"; from = \"/v\";\ndefault = 40000;",
     "3: default '40000' of a column of type int2: out of range\n"},
    {"name = \"v\"; type = \"int2\"; from = \"/v\"; min = 1; max = 9;\ndefault = 0;",
     "3: default is not between min and max\n"},
    {"name = \"v\"; type = \"numeric\"; from = \"/v\";\ndefault = 0.10;",
     "3: default of a column of type numeric with a fraction stands in quotes\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\";\ndefault = [1];",
     "3: default is an array [ ]; allowed: a text, a number, true, false\n"},
    {"name = \"v\"; type = \"uuid\";\nvalue = \"hangar\";",
     "3: value 'hangar' of a column of type uuid: not a UUID\n"},
    {"name = \"v\"; type = \"text\"; value = \"x\";\ndefault = \"y\";",
     "3: default is of no use beside value\n"},
    {"name = \"v\"; type = \"int4\"; value = 5;\nmin = 1;\nunit = \"m\";",
     "3: min is of no use beside value\n4: unit is of no use beside value\n"},
    {"name = \"v\"; type = \"text\"; from = \"/v\";\nunit = \"m\";",
     "3: unit is for columns of numbers that are measured\n"},
    {"name = \"v\"; type = \"float8\"; from = \"/v\";\nunit = \"metrs\";",
     "3: unit 'metrs': udunits2 does not know this unit\n"},
    {"name = \"v\"; type = \"float8\"; from = \"/v\";\nformat = \"unix_s\";",
     "3: format is for columns of type timestamptz\n"},
    {"name = \"v\"; type = \"timestamptz\"; from = \"received_at\";\nformat = \"unix_s\";",
     "3: format is for times that payload, topic or property give\n"},
};

// Puts prefix before each line of text.
static char *each_line(const char *prefix, const char *text)
{
    char *result = mem_strdup("");
    while (*text) {
        int length = (int)strcspn(text, "\n") + 1;
        char *longer = mem_printf("%s%s%.*s", result, prefix, length, text);
        free(result);
        result = longer;
        text += length;
    }
    return result;
}

static void check_mistakes(const struct mistake *mistakes, size_t count, const char *before,
                           const char *after, const char *prefix)
{
    for (size_t i = 0; i < count; i++) {
        char *text = mem_printf("%s%s%s", before, mistakes[i].text, after);
        char *whole = expand(text);
        char *wanted = each_line(prefix, mistakes[i].said);
        conf_files_init(&files);
        load_text(whole);
        assert_string_equal(said, wanted);
        end(NULL);
        free(text);
        free(whole);
        free(wanted);
    }
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void mistakes_of_files(void **state)
{
    (void)state;
    check_mistakes(file_mistakes, COUNT(file_mistakes), "", "", "");
}

static void mistakes_of_mappings(void **state)
{
    (void)state;
    check_mistakes(mapping_mistakes, COUNT(mapping_mistakes), "mappings = ( {", "} );\n", "a.cfg:");
}

static void mistakes_of_columns(void **state)
{
    (void)state;
    check_mistakes(column_mistakes, COUNT(column_mistakes), "mappings = ( { $D\ncolumns = ( {",
                   "} ); } );\n", "a.cfg:");
}

// The second mapping of each, in line 2, beside one in line 1 of the same table.
static const struct mistake pair_mistakes[] = {
    {"name = \"first\"; filter = \"b\"; decoder = \"json\"; table = \"other\"; $C",
     "2: mapping 'first' has the name of another one (a.cfg:1)\n"},
    {"name = \"b\"; filter = \"b\"; decoder = \"json\"; table = \"t\"; $T key = [\"time\", \"r\"];\n"
     "columns = ( { name = \"r\"; type = \"text\"; from = \"topic[0]\"; },\n"
     "{ name = \"v\"; type = \"float4\"; from = \"/v\"; } );",
     "2: mapping 'b' has column 'v' of table 't' as float4, while 'first' (a.cfg:1) has it as float8\n"},
    {"name = \"b\"; filter = \"b\"; decoder = \"json\"; table = \"t\"; $T key = [\"time\", \"r\"];\n"
     "columns = ( { name = \"r\"; type = \"text\"; from = \"topic[0]\"; },\n"
     "{ name = \"v\"; type = \"float8\"; from = \"/v\"; required = true; } );",
     "2: mapping 'b' requires column 'v' of table 't', while 'first' (a.cfg:1) does not\n"},
    {"name = \"b\"; filter = \"b\"; decoder = \"json\"; table = \"t\"; $T key = [\"time\", \"r\"];\n"
     "columns = ( { name = \"r\"; type = \"text\"; from = \"topic[0]\"; },\n"
     "{ name = \"w\"; type = \"float8\"; from = \"/v\"; required = true; } );",
     "2: mapping 'b' requires column 'w' of table 't', which 'first' (a.cfg:1) does not fill\n"},
    {"name = \"b\"; filter = \"b\"; decoder = \"json\"; table = \"t\"; partition = \"year\"; $C",
     "2: mapping 'b' has column 'v' of table 't' as text, while 'first' (a.cfg:1) has it as float8\n"
     "2: mapping 'b' does not fill column 'r' of table 't', which 'first' (a.cfg:1) requires\n"
     "2: mapping 'b' partitions table 't' otherwise than 'first' (a.cfg:1)\n"
     "2: mapping 'b' has another key for table 't' than 'first' (a.cfg:1)\n"},
};

static void mappings_of_one_table_must_agree(void **state)
{
    (void)state;
    check_mistakes(
        pair_mistakes, COUNT(pair_mistakes),
        "mappings = ( { name = \"first\"; filter = \"a\"; decoder = \"json\"; table = \"t\"; $T "
        "key = [\"time\", \"r\"]; columns = ( { name = \"r\"; type = \"text\"; from = \"topic[0]\"; }, "
        "{ name = \"v\"; type = \"float8\"; from = \"/v\"; } ); },\n{",
        "} );\n", "a.cfg:");
}

static void all_mistakes_of_all_files_in_one_run(void **state)
{
    (void)state;
    conf_files_write(&files, "b.cfg",
                     "mappings = (\n{ name = \"b\"; filter = \"\";\ndecoder = \"x\"; } );");
    conf_files_write(&files, "c.cfg", "mappings = \n");
    conf_files_write(&files, "ignored.txt", "nonsense");
    load_text("nonsense = 5;\nmappings = ( { nonsense = 6;\n} );");
    assert_string_equal(
        said,
        "a.cfg:1: unknown key 'nonsense'; allowed: mappings\n"
        "a.cfg:2: unknown key 'nonsense'; allowed: name, filter, decoder, source, qos, retained, "
        "time, table, key, on_conflict, partition, columns\n"
        "a.cfg:2: name is missing\n"
        "a.cfg:2: filter is missing\n"
        "a.cfg:2: decoder is missing\n"
        "a.cfg:2: table is missing\n"
        "a.cfg:2: columns is missing\n"
        "b.cfg:2: filter is empty\n"
        "b.cfg:2: table is missing\n"
        "b.cfg:2: columns is missing\n"
        "b.cfg:3: unknown decoder 'x'; allowed: text, json\n"
        "c.cfg:2: " SYNTAX_ERROR);
}

static void too_many_columns(void **state)
{
    (void)state;
    char *columns = mem_strdup("");
    for (int i = 0; i < TARGET_COLUMNS_MAX; i++) {
        char *longer = mem_printf("%s%s{ name = \"c%d\"; type = \"int2\"; from = \"qos\"; }",
                                  columns, i ? "," : "", i);
        free(columns);
        columns = longer;
    }
    char *text = mem_printf("mappings = ( { $D columns = ( %s ); } );", columns);
    char *whole = expand(text);
    load_text(whole);
    assert_string_equal(said, "a.cfg:1: columns has 256 columns; allowed: 1 to 255\n");
    free(columns);
    free(text);
    free(whole);
}

static void a_missing_directory(void **state)
{
    (void)state;
    load_directory("/nonexistent");
    assert_string_equal(
        said,
        "/nonexistent: the directory of the mappings, /nonexistent, cannot be read: No such file or directory\n");
}

static void an_empty_directory(void **state)
{
    (void)state;
    load();
    assert_string_equal(said, ": has no mapping file, *.cfg; at least one is needed\n");
}

static void deep_nesting_is_a_syntax_error(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *text = mem_alloc(DEPTH + 20);
    strcpy(text, "mappings = ");
    memset(text + 11, '(', DEPTH);
    text[11 + DEPTH] = '\0';
    load_text(text);
    assert_string_equal(said, "a.cfg:1: memory exhausted\n");
    free(text);
}

static void subscriptions_follow_the_mappings(void **state)
{
    (void)state;
    char *text = expand(
        "mappings = (\n"
        "{ name = \"a\"; filter = \"x/+\"; decoder = \"json\"; table = \"a\"; source = \"site\"; $C },\n"
        "{ name = \"b\"; filter = \"y\"; decoder = \"json\"; table = \"b\"; qos = 0; $C },\n"
        "{ name = \"c\"; filter = \"x/+\"; decoder = \"json\"; table = \"c\"; qos = 2; $C },\n"
        "{ name = \"d\"; filter = \"y\"; decoder = \"json\"; table = \"d\"; source = (\"site\");\n"
        "  qos = 0; retained = true; $C },\n"
        "{ name = \"e\"; filter = \"$share/own/z\"; decoder = \"json\"; table = \"e\"; $C } );");
    load_text(text);
    free(text);
    assert_string_equal(said, "");
    assert_int_equal(mappings.items[2].subscription_id, 1);
    assert_int_equal(mappings.items[3].subscription_id, 2);

    struct settings settings = two_subscribers;
    mapfile_bind(&mappings, &settings);
    const struct subscription wanted[2][3] = {
        {{(char[]){"x/+"}, 2, false, 1},
         {(char[]){"y"}, 0, true, 2},
         {(char[]){"$share/own/z"}, 1, false, 5}},
        {{(char[]){"$share/group/y"}, 0, false, 2},
         {(char[]){"$share/group/x/+"}, 2, false, 1},
         {(char[]){"$share/own/z"}, 0, false, 5}},
    };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(entries[i].options.subscription_count, 3);
        for (size_t j = 0; j < 3; j++) {
            const struct subscription *made = &entries[i].options.subscriptions[j];
            assert_string_equal(made->filter, wanted[i][j].filter);
            assert_int_equal(made->qos, wanted[i][j].qos);
            assert_int_equal(made->retained, wanted[i][j].retained);
            assert_int_equal(made->id, wanted[i][j].id);
        }
    }
    unbind();
}

static void the_built_in_broker_is_a_source(void **state)
{
    (void)state;
    char *text = expand("mappings = (\n"
                        "{ name = \"a\"; filter = \"x\"; decoder = \"json\"; table = \"a\";\n"
                        "  source = (\"broker\"); $C },\n"
                        "{ name = \"b\"; filter = \"y\"; decoder = \"json\"; table = \"b\"; $C },\n"
                        "{ name = \"c\"; filter = \"z\"; decoder = \"json\"; table = \"c\";\n"
                        "  source = [\"borker\"]; $C } );");
    struct problems problems = {0};
    struct settings settings = two_subscribers;
    entries[0] = (struct subscriber_entry){.options.name = site_name, .qos = 1};
    entries[1] = (struct subscriber_entry){.options.name = shared_name, .qos = 1};
    settings.has_broker = true;
    settings.broker.name = (char[]){"broker"};
    conf_files_write(&files, "a.cfg", text);
    mapfile_load(&mappings, files.directory, "telemetry", &settings, &problems);
    said = conf_files_problems(&files, &problems);
    assert_string_equal(said, "a.cfg:6: unknown source 'borker'; did you mean 'broker'?\n");
    assert_string_equal(mappings.items[0].sources[0], "broker");
    mapfile_bind(&mappings, &settings);
    assert_int_equal(entries[0].options.subscription_count, 1); // y alone
    assert_string_equal(entries[0].options.subscriptions[0].filter, "y");
    problems_fini(&problems);
    unbind();
    free(text);
}

// "config/..." as seen from this file; the caller frees.
static char *shipped(const char *name)
{
    const char *slash = strrchr(__FILE__, '/');
    return mem_printf("%.*s/../../config/%s", slash ? (int)(slash - __FILE__) : 1,
                      slash ? __FILE__ : ".", name);
}

static void shipped_configuration_is_valid(void **state)
{
    (void)state;
    struct problems problems = {0};
    struct settings settings;
    char *file = shipped("sensorlogd.conf");
    settings_load(&settings, file, &problems);
    mapfile_load(&mappings, settings.mappings.directory, settings.postgres.schema, &settings,
                 &problems);
    said = conf_files_problems(&files, &problems);
    assert_string_equal(said, "");
    assert_int_equal(mappings.count, 2);
    mapfile_fini(&mappings);
    free(said);

    char *examples = shipped("examples");
    mapfile_load(&mappings, examples, settings.postgres.schema, &settings, &problems);
    said = conf_files_problems(&files, &problems);
    assert_string_equal(said, "");
    assert_true(mappings.count >= 6);
    problems_fini(&problems);
    settings_fini(&settings);
    free(examples);
    free(file);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, start, end)
    const struct CMUnitTest tests[] = {
        STORY(every_key_arrives),
        STORY(defaults),
        STORY(what_is_compared),
        STORY(key_columns_become_required),
        cmocka_unit_test(mistakes_of_files),
        cmocka_unit_test(mistakes_of_mappings),
        cmocka_unit_test(mistakes_of_columns),
        cmocka_unit_test(mappings_of_one_table_must_agree),
        STORY(all_mistakes_of_all_files_in_one_run),
        STORY(too_many_columns),
        STORY(a_missing_directory),
        STORY(an_empty_directory),
        STORY(deep_nesting_is_a_syntax_error),
        STORY(subscriptions_follow_the_mappings),
        STORY(the_built_in_broker_is_a_source),
        STORY(shipped_configuration_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
