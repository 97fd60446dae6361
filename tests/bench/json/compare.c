// Three ways to read a 120-byte JSON object: jsmn, jansson and pipeline/json. Speed and strictness,
// in one run.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define JSMN_STATIC
#define JSMN_STRICT
#include <jansson.h>
#include <jsmn.h>

#include "../../unit/sample_mapping.h"
#include "pipeline/json.h"
#include "pipeline/number.h"
#include "pipeline/pipeline.h"

enum { NUMBERS = 5, TOKENS = 64, ROUNDS = 2000, REPEATS = 500 };

static const char document[] =
    "{\"station\":\"edge-07\",\"ts\":1714564800123,\"temp\":21.53,\"hum\":45.2,\"pressure\":1013.25,"
    "\"wind\":3.7,\"batt\":3.921,\"ok\":true}";

static const char *const names[NUMBERS] = {"temp", "hum", "pressure", "wind", "batt"};

struct reading {
    char station[16];
    int64_t ts;
    double numbers[NUMBERS];
};

typedef bool read_fn(const char *text, size_t length, struct reading *reading);

// ---- jsmn ----

static const jsmntok_t *jsmn_member(const char *text, const jsmntok_t *tokens, int count,
                                    const char *name)
{
    size_t length = strlen(name);
    for (int i = 1; i + 1 < count; i += 2) { // flat: name, value, name, value
        if ((size_t)(tokens[i].end - tokens[i].start) == length &&
            memcmp(text + tokens[i].start, name, length) == 0)
            return &tokens[i + 1];
    }
    return NULL;
}

static bool with_jsmn(const char *text, size_t length, struct reading *reading)
{
    jsmntok_t tokens[TOKENS];
    jsmn_parser parser;
    const jsmntok_t *token;
    int count;

    jsmn_init(&parser);
    count = jsmn_parse(&parser, text, length, tokens, TOKENS);
    if (count < 1 || tokens[0].type != JSMN_OBJECT)
        return false;
    token = jsmn_member(text, tokens, count, "station");
    if (!token || token->end - token->start >= (int)sizeof reading->station)
        return false;
    memcpy(reading->station, text + token->start, (size_t)(token->end - token->start));
    token = jsmn_member(text, tokens, count, "ts");
    if (!token)
        return false;
    reading->ts = strtoll(text + token->start, NULL, 10);
    for (int i = 0; i < NUMBERS; i++) {
        token = jsmn_member(text, tokens, count, names[i]);
        if (!token)
            return false;
        reading->numbers[i] = strtod(text + token->start, NULL);
    }
    return true;
}

// ---- jansson ----

static bool with_jansson(const char *text, size_t length, struct reading *reading)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    const char *station = json_string_value(json_object_get(root, "station"));

    if (!root || !station)
        return false;
    strncpy(reading->station, station, sizeof reading->station - 1);
    reading->ts = json_integer_value(json_object_get(root, "ts"));
    for (int i = 0; i < NUMBERS; i++)
        reading->numbers[i] = json_number_value(json_object_get(root, names[i]));
    json_decref(root);
    return true;
}

// ---- ours ----

static struct json_paths *paths;

static bool with_ours(const char *text, size_t length, struct reading *reading)
{
    struct datum slots[2 + NUMBERS];
    struct json_error error;

    if (!json_read(paths, text, length, slots, &error) || slots[0].kind != DATUM_STRING ||
        slots[0].length >= sizeof reading->station || slots[1].kind != DATUM_NUMBER)
        return false;
    memcpy(reading->station, slots[0].text, slots[0].length);
    if (number_to_integer(&slots[1].number, &reading->ts) != NUMBER_OK)
        return false;
    for (int i = 0; i < NUMBERS; i++) {
        const struct datum *slot = &slots[2 + i];
        if (slot->kind != DATUM_NUMBER || !number_to_double(&slot->number, &reading->numbers[i]))
            return false;
    }
    return true;
}

static void make_paths(void)
{
    paths = json_paths_new();
    json_paths_add(paths, "/station");
    json_paths_add(paths, "/ts");
    for (int i = 0; i < NUMBERS; i++) {
        char pointer[32];
        snprintf(pointer, sizeof pointer, "/%s", names[i]);
        json_paths_add(paths, pointer);
    }
}

// ---- the whole plan: message to typed row ----

static struct mapping mapping;
static struct plan *plan;
static struct arena arena;

static bool with_plan(const char *text, size_t length, struct reading *reading)
{
    struct message message = {.topic = "sensors/weather/7",
                              .topic_length = 17,
                              .received_us = INT64_C(1714564800123000),
                              .payload = (const uint8_t *)text,
                              .payload_length = length,
                              .full_length = length};
    struct decode_error error;
    struct value values[8];

    if (!plan_decode(plan, &message, message.received_us, &arena, values, &error))
        return false;
    arena_reset(&arena);
    reading->ts = values[0].integer;
    return true;
}

static void use_mapping(const char *filter, enum decoder_kind decoder,
                        const struct sample_column *columns)
{
    struct decode_error error;
    sample_mapping(&mapping, filter, decoder, columns);
    plan = plan_new(&mapping, &error);
}

static void drop_mapping(void)
{
    plan_free(plan);
    mapping_fini(&mapping);
}

// ---- measuring: the best of many short runs says what the code costs, the median what the machine
// was doing ----

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(const char *label, read_fn *read, const char *text)
{
    double times[REPEATS];
    size_t length = strlen(text);
    struct reading reading = {.ts = 0};

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        double start = now_ns();
        for (int i = 0; i < ROUNDS; i++) {
            if (!read(text, length, &reading))
                abort();
        }
        times[repeat] = (now_ns() - start) / ROUNDS;
    }
    qsort(times, REPEATS, sizeof *times, compare_doubles);
    printf("%-44s %7.0f %7.0f\n", label, times[0], times[REPEATS / 2]);
}

// ---- strictness ----

static bool jsmn_accepts(const char *text, size_t length)
{
    jsmntok_t tokens[TOKENS];
    jsmn_parser parser;
    jsmn_init(&parser);
    return jsmn_parse(&parser, text, length, tokens, TOKENS) > 0;
}

static bool jansson_accepts(const char *text, size_t length)
{
    json_error_t error;
    json_t *root = json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    json_decref(root);
    return root != NULL;
}

static bool ours_accepts(const char *text, size_t length)
{
    struct json_paths *none = json_paths_new();
    struct json_error error;
    bool good = json_read(none, text, length, NULL, &error);
    json_paths_free(none);
    return good;
}

static const struct {
    const char *text;
    bool json;
} documents[] = {
    {"{\"a\":1}", true},
    {"[1,2.5e-3,true,null,\"x\"]", true},
    {"\"\\ud83d\\ude00\"", true},
    {"\"\\u0000\"", true},
    {"123456789012345678901234567890", true},
    {"1e400", true},
    {"{\"a\":1,}", false},
    {"[1,]", false},
    {"[1 2]", false},
    {"{\"a\" 1}", false},
    {"{\"a\"}", false},
    {"{\"a\":1 \"b\":2}", false},
    {"{1:2}", false},
    {"{\"a\":1}}", false},
    {"1 2", false},
    {"01", false},
    {"-", false},
    {"1.", false},
    {".5", false},
    {"1e", false},
    {"1.2.3", false},
    {"nul", false},
    {"truely", false},
    {"nan", false},
    {"\"\t\"", false},
    {"\"\\x\"", false},
    {"\"\\ud83d\"", false},
    {"\"\xFF\"", false},
    {"\"\xC0\xAF\"", false},
    {"\"\xED\xA0\x80\"", false},
};

static void count_mistakes(const char *label, bool (*accepts)(const char *, size_t))
{
    int taken = 0, refused = 0, bad = 0, count = sizeof documents / sizeof *documents;
    for (int i = 0; i < count; i++) {
        bool good = accepts(documents[i].text, strlen(documents[i].text));
        bad += !documents[i].json;
        taken += good && !documents[i].json;
        refused += !good && documents[i].json;
    }
    printf("%-10s takes %2d of %d that are no JSON, refuses %d of %d that are\n", label, taken, bad,
           refused, count - bad);
}

int main(void)
{
    static const struct sample_column weather[] = {
        {.name = "time", .type = "timestamptz", .from = "/ts", .format = "unix_ms"},
        {.name = "station", .type = "text", .from = "/station"},
        {.name = "temperature", .type = "float8", .from = "/temp", .min = -90, .max = 60},
        {.name = "humidity", .type = "float8", .from = "/hum"},
        {.name = "pressure", .type = "float8", .from = "/pressure"},
        {.name = "wind", .type = "float8", .from = "/wind"},
        {.name = "battery", .type = "float8", .from = "/batt"},
        {0},
    };
    static const struct sample_column altimeter[] = {
        {.name = "time", .type = "timestamptz", .from = "received_at"},
        {.name = "sensor", .type = "text", .from = "topic[2]"},
        {.name = "altitude_m", .type = "float8", .from = "value", .unit = "m"},
        {0},
    };

    printf("%zu bytes: a string, a 64-bit integer, %d numbers and a word\n", strlen(document),
           NUMBERS);
    printf("%-44s %7s %7s\n", "ns per document", "best", "median");
    make_paths();
    arena_init(&arena);
    measure("jsmn (strict), strtod", with_jsmn, document);
    measure("jansson", with_jansson, document);
    measure("pipeline/json, number", with_ours, document);
    use_mapping("sensors/weather/+", DECODER_JSON, weather);
    measure("plan_decode: the same as a row of 7 columns", with_plan, document);
    drop_mapping();
    use_mapping("sensors/weather/+", DECODER_TEXT, altimeter);
    measure("plan_decode: text, 21.5", with_plan, "21.5");
    measure("plan_decode: text, 300 feet in metres", with_plan, "300 feet");
    drop_mapping();
    count_mistakes("jsmn", jsmn_accepts);
    count_mistakes("jansson", jansson_accepts);
    count_mistakes("ours", ours_accepts);
    json_paths_free(paths);
    arena_fini(&arena);
    return 0;
}
