// The JSON reader: what RFC 8259 has as JSON and what not, and what the pointers of RFC 6901 find.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "packet_guard.h"
#include "pipeline/json.h"

enum { SLOTS = 8 };

// Reads from memory that ends where the document does; what is found points into it.
static bool read_exact(struct json_paths *paths, const char *text, size_t length,
                       struct datum *slots, struct json_error *error)
{
    struct bytes copy = guard_copy((struct bytes){(const uint8_t *)text, length});
    return json_read(paths, (const char *)copy.data, length, slots, error);
}

static bool accepts(const char *text, size_t length, struct json_error *error)
{
    struct json_paths *paths = json_paths_new();
    bool good = read_exact(paths, text, length, NULL, error);
    json_paths_free(paths);
    return good;
}

#define DOCUMENT(text) (text), sizeof(text) - 1

static const struct {
    const char *text;
    size_t length;
} good_documents[] = {
    // structure
    {DOCUMENT("{}")},
    {DOCUMENT("[]")},
    {DOCUMENT(" \t\r\n[ \t\r\n] \t\r\n")},
    {DOCUMENT("{ \"a\" : 1 , \"b\" : [ 1 , 2 ] }")},
    {DOCUMENT("[[],[[]],{},{\"a\":{}}]")},
    {DOCUMENT("{\"\":0}")},
    {DOCUMENT("{\"a\":1,\"a\":2}")}, // names twice: allowed where nobody wants them
    {DOCUMENT("[null,true,false]")},
    // lone values
    {DOCUMENT("null")},
    {DOCUMENT("true")},
    {DOCUMENT("false")},
    {DOCUMENT("0")},
    {DOCUMENT("\"\"")},
    {DOCUMENT(" 42 ")},
    // numbers
    {DOCUMENT("-0")},
    {DOCUMENT("-1")},
    {DOCUMENT("[0.0,-0.0,10.01,123456789012345678901234567890]")},
    {DOCUMENT("[1e1,1E1,1e+1,1e-1,1.5e007,0e0,0E+0]")},
    {DOCUMENT("[1e999999999999999999,-1e-999999999999999999]")},
    // strings
    {DOCUMENT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
    {DOCUMENT("\"\\u0041\\uabcd\\uABCD\\u0000\"")},
    {DOCUMENT("\"\\ud83d\\ude00\\uD83D\\uDE00\"")},
    {DOCUMENT("\"\x7F\"")},
    {DOCUMENT("\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\"")},
    {DOCUMENT("\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\"")},
    {DOCUMENT("\"a\xC3\xA9\\n\xE2\x82\xAC z\"")},
    {DOCUMENT("{\"\xC3\xA9\":\"\xE2\x80\xA8\"}")},
};

static void takes_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_documents / sizeof *good_documents; i++) {
        struct json_error error = {0};
        if (!accepts(good_documents[i].text, good_documents[i].length, &error))
            fail_msg("'%s' refused at %zu: %s", good_documents[i].text, error.offset, error.what);
    }
}

static const struct {
    const char *text;
    size_t length;
    size_t offset; // where the mistake is
} bad_documents[] = {
    // nothing, or not all of it
    {DOCUMENT(""), 0},
    {DOCUMENT(" \n"), 2},
    {DOCUMENT("{"), 1},
    {DOCUMENT("["), 1},
    {DOCUMENT("[1"), 2},
    {DOCUMENT("[1,"), 3},
    {DOCUMENT("{\"a\""), 4},
    {DOCUMENT("{\"a\":"), 5},
    {DOCUMENT("{\"a\":1"), 6},
    {DOCUMENT("{\"a\":1,"), 7},
    {DOCUMENT("\""), 1},
    {DOCUMENT("\"abc"), 4},
    {DOCUMENT("\"abc\\"), 5},
    {DOCUMENT("\"\\u00"), 1},
    {DOCUMENT("-"), 0},
    {DOCUMENT("1."), 1},
    {DOCUMENT("1e"), 1},
    {DOCUMENT("1e+"), 1},
    {DOCUMENT("tru"), 0},
    // too much of it
    {DOCUMENT("1 2"), 2},
    {DOCUMENT("{}}"), 2},
    {DOCUMENT("[]]"), 2},
    {DOCUMENT("null,"), 4},
    {DOCUMENT("{}\0"), 2},
    {DOCUMENT("truex"), 4},
    // structure
    {DOCUMENT("[1,]"), 3},
    {DOCUMENT("[,1]"), 1},
    {DOCUMENT("[1,,2]"), 3},
    {DOCUMENT("[1 2]"), 3},
    {DOCUMENT("[1}"), 2},
    {DOCUMENT("[1:2]"), 2},
    {DOCUMENT("{,}"), 1},
    {DOCUMENT("{\"a\":1,}"), 7},
    {DOCUMENT("{\"a\":1]"), 6},
    {DOCUMENT("{\"a\" 1}"), 5},
    {DOCUMENT("{\"a\":}"), 5},
    {DOCUMENT("{a:1}"), 1},
    {DOCUMENT("{'a':1}"), 1},
    {DOCUMENT("{1:1}"), 1},
    {DOCUMENT("{\"a\":1 \"b\":2}"), 7},
    {DOCUMENT("{\"a\"::1}"), 5},
    {DOCUMENT("}"), 0},
    {DOCUMENT("]"), 0},
    {DOCUMENT(":"), 0},
    // words
    {DOCUMENT("True"), 0},
    {DOCUMENT("NULL"), 0},
    {DOCUMENT("nul1"), 0},
    {DOCUMENT("undefined"), 0},
    {DOCUMENT("NaN"), 0},
    {DOCUMENT("Infinity"), 0},
    {DOCUMENT("-Infinity"), 0},
    // numbers
    {DOCUMENT("01"), 1},
    {DOCUMENT("-01"), 2},
    {DOCUMENT("00"), 1},
    {DOCUMENT("+1"), 0},
    {DOCUMENT(".5"), 0},
    {DOCUMENT("-.5"), 0},
    {DOCUMENT("5.]"), 1},
    {DOCUMENT("1.e5"), 1},
    {DOCUMENT("1e5.5"), 3},
    {DOCUMENT("1ee5"), 1},
    {DOCUMENT("0x10"), 1},
    {DOCUMENT("--1"), 0},
    {DOCUMENT("1_000"), 1},
    {DOCUMENT("1,5"), 1},
    {DOCUMENT("\xEF\xBC\x91"), 0}, // a full-width 1
    // strings
    {DOCUMENT("'a'"), 0},
    {DOCUMENT("\"a\nb\""), 2},
    {DOCUMENT("\"a\tb\""), 2},
    {DOCUMENT("\"a\0b\""), 2},
    {DOCUMENT("\"\x1F\""), 1},
    {DOCUMENT("\"\\x41\""), 2},
    {DOCUMENT("\"\\'\""), 2},
    {DOCUMENT("\"\\0\""), 2},
    {DOCUMENT("\"\\\0\""), 2},
    {DOCUMENT("\"\\U0041\""), 2},
    {DOCUMENT("\"\\u004\""), 1},
    {DOCUMENT("\"\\u004g\""), 1},
    {DOCUMENT("\"\\u 041\""), 1},
    {DOCUMENT("\"\\u+041\""), 1},
    // surrogates
    {DOCUMENT("\"\\ud83d\""), 7},
    {DOCUMENT("\"\\ud83dx\""), 7},
    {DOCUMENT("\"\\ud83d\\n\""), 7},
    {DOCUMENT("\"\\ud83d\\u0041\""), 7},
    {DOCUMENT("\"\\ud83d\\ud83d\""), 7},
    {DOCUMENT("\"\\ude00\""), 1},
    {DOCUMENT("\"\\ude00\\ud83d\""), 1},
    // UTF-8
    {DOCUMENT("\"\x80\""), 1},
    {DOCUMENT("\"\xC0\xAF\""), 1},     // overlong
    {DOCUMENT("\"\xE0\x80\xAF\""), 1}, // overlong
    {DOCUMENT("\"\xC3\""), 1},
    {DOCUMENT("\"\xE2\x82\""), 1},
    {DOCUMENT("\"ok \xC3\xA9\xED\xA0\x80\""), 6}, // a surrogate
    {DOCUMENT("\"\xF4\x90\x80\x80\""), 1},        // above U+10FFFF
    {DOCUMENT("\"\xFF\""), 1},
    {DOCUMENT("\xEF\xBB\xBF{}"), 0}, // a byte order mark
    {DOCUMENT("[\xC2\xA0]"), 1},     // a no-break space is no white space here
    {DOCUMENT("[\f]"), 1},
    // comments
    {DOCUMENT("/**/1"), 0},
    {DOCUMENT("[1//\n]"), 2},
    {DOCUMENT("#\n1"), 0},
};

static void refuses_what_is_not_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_documents / sizeof *bad_documents; i++) {
        struct json_error error = {0};
        if (accepts(bad_documents[i].text, bad_documents[i].length, &error))
            fail_msg("'%s' accepted", bad_documents[i].text);
        assert_true(error.what && error.what[0]);
        if (error.offset != bad_documents[i].offset)
            fail_msg("'%s': mistake seen at %zu: %s", bad_documents[i].text, error.offset,
                     error.what);
    }
}

static void every_beginning_of_a_document_is_refused(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1.5e-3,\"\\u00e9\\ud83d\\ude00\xE2\x82\xAC\",true,null]}";
    struct json_error error;
    for (size_t length = 0; length < sizeof text - 1; length++)
        assert_false(accepts(text, length, &error));
    assert_true(accepts(text, sizeof text - 1, &error));
}

static void depth_is_bounded(void **state)
{
    (void)state;
    struct json_error error;
    char text[3 * JSON_DEPTH_MAX];

    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_true(accepts(text, 2 * JSON_DEPTH_MAX, &error));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_false(accepts(text, 2 * JSON_DEPTH_MAX + 2, &error));
    assert_string_equal(error.what, "nested too deeply");
    assert_int_equal(error.offset, JSON_DEPTH_MAX);
    // The depth counts what is open, not what was.
    assert_true(
        accepts(DOCUMENT("[[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],"
                         "[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],"
                         "[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],"
                         "[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]],[[]]]"),
                &error));
}

// ---- pointers ----

static const struct {
    const char *document, *pointer;
    enum datum_kind kind;
    const char *text; // of numbers, strings (as written) and documents; of DATUM_BOOL "1" or "0"
} finds[] = {
    {"{\"a\":1}", "/a", DATUM_NUMBER, "1"},
    {"{\"a\":-1.50e+3}", "/a", DATUM_NUMBER, "-1.50e+3"},
    {"{\"b\":0,\"a\":1}", "/a", DATUM_NUMBER, "1"},
    {"{\"a\":\"x\"}", "/a", DATUM_STRING, "x"},
    {"{\"a\":\"\"}", "/a", DATUM_STRING, ""},
    {"{\"a\":\"\\n\"}", "/a", DATUM_STRING, "\\n"},
    {"{\"a\":true}", "/a", DATUM_BOOL, "1"},
    {"{\"a\":false}", "/a", DATUM_BOOL, "0"},
    {"{\"a\":null}", "/a", DATUM_NULL, NULL},
    {"{\"a\": { \"b\" : [ 1 ] } }", "/a", DATUM_DOCUMENT, "{ \"b\" : [ 1 ] }"},
    {"{\"a\":[]}", "/a", DATUM_DOCUMENT, "[]"},
    {"{\"a\":{\"b\":{\"c\":7}}}", "/a/b/c", DATUM_NUMBER, "7"},
    {"{\"a\":1}", "/b", DATUM_MISSING, NULL},
    {"{\"a\":1}", "/a/b", DATUM_MISSING, NULL},
    {"{\"a\":1}", "/A", DATUM_MISSING, NULL},
    {"{\"a\":1}", "/aa", DATUM_MISSING, NULL},
    {"{\"x\":{\"a\":1}}", "/a", DATUM_MISSING, NULL},
    {"[{\"a\":1}]", "/a", DATUM_MISSING, NULL},
    {"7", "/a", DATUM_MISSING, NULL},
    // the whole document
    {" 7 ", "", DATUM_NUMBER, "7"},
    {" \"x\" ", "", DATUM_STRING, "x"},
    {" [1, 2] ", "", DATUM_DOCUMENT, "[1, 2]"},
    // arrays
    {"[10,11,12]", "/0", DATUM_NUMBER, "10"},
    {"[10,11,12]", "/2", DATUM_NUMBER, "12"},
    {"[10,11,12]", "/3", DATUM_MISSING, NULL},
    {"[10,11,12]", "/01", DATUM_MISSING, NULL},
    {"[10,11,12]", "/-", DATUM_MISSING, NULL},
    {"[10,11,12]", "/+1", DATUM_MISSING, NULL},
    {"[[1,2],[3,[4]]]", "/1/1/0", DATUM_NUMBER, "4"},
    {"{\"a\":[{\"b\":5}]}", "/a/0/b", DATUM_NUMBER, "5"},
    // digits as names of members
    {"{\"0\":8,\"01\":9}", "/0", DATUM_NUMBER, "8"},
    {"{\"0\":8,\"01\":9}", "/01", DATUM_NUMBER, "9"},
    // the examples of RFC 6901, section 5
    {"{\"\":0}", "/", DATUM_NUMBER, "0"},
    {"{\"a/b\":1}", "/a~1b", DATUM_NUMBER, "1"},
    {"{\"c%d\":2}", "/c%d", DATUM_NUMBER, "2"},
    {"{\"i\\\\j\":5}", "/i\\j", DATUM_NUMBER, "5"},
    {"{\"k\\\"l\":6}", "/k\"l", DATUM_NUMBER, "6"},
    {"{\" \":7}", "/ ", DATUM_NUMBER, "7"},
    {"{\"m~n\":8}", "/m~0n", DATUM_NUMBER, "8"},
    {"{\"~1\":8}", "/~01", DATUM_NUMBER, "8"},
    // names with escapes are the names that they stand for
    {"{\"\\u0061\":1}", "/a", DATUM_NUMBER, "1"},
    {"{\"t\\u0065mp\":1}", "/temp", DATUM_NUMBER, "1"},
    {"{\"\\u00e9\":1}", "/\xC3\xA9", DATUM_NUMBER, "1"},
    {"{\"\\ud83d\\ude00\":1}", "/\xF0\x9F\x98\x80", DATUM_NUMBER, "1"},
    {"{\"a\\u0000\":1}", "/a", DATUM_MISSING, NULL},
};

static void finds_what_pointers_point_at(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        struct json_paths *paths = json_paths_new();
        struct json_error error;
        struct datum slot;

        assert_int_equal(json_paths_add(paths, finds[i].pointer), 0);
        assert_true(read_exact(paths, finds[i].document, strlen(finds[i].document), &slot, &error));
        if (slot.kind != finds[i].kind)
            fail_msg("%s in %s: kind %d", finds[i].pointer, finds[i].document, slot.kind);
        if (slot.kind == DATUM_BOOL) {
            assert_int_equal(slot.integer, finds[i].text[0] - '0');
        } else if (finds[i].text) {
            assert_int_equal(slot.length, strlen(finds[i].text));
            assert_memory_equal(slot.text, finds[i].text, slot.length);
        }
        json_paths_free(paths);
    }
}

static void one_pass_finds_all(void **state)
{
    (void)state;
    static const char document[] = "{\"id\":\"s1\",\"x\":{\"t\":20.5,\"h\":[1,2,3]},\"y\":null}";
    static const char *const pointers[] = {"/x/h/2", "/id", "/x", "/x/t", "/z", "/y", "/x/h/0"};
    static const char *const texts[] = {"3",  "s1", "{\"t\":20.5,\"h\":[1,2,3]}", "20.5", NULL,
                                        NULL, "1"};
    struct json_paths *paths = json_paths_new();
    struct datum slots[SLOTS];
    struct json_error error;

    for (int i = 0; i < 7; i++)
        assert_int_equal(json_paths_add(paths, pointers[i]), i);
    assert_int_equal(json_paths_add(paths, "/x/t"), 3);
    assert_int_equal(json_paths_count(paths), 7);
    // Twice: what the document before it had does not stay.
    assert_true(json_read(paths, DOCUMENT("{\"z\":1,\"y\":2}"), slots, &error));
    assert_int_equal(slots[4].kind, DATUM_NUMBER);
    assert_int_equal(slots[1].kind, DATUM_MISSING);
    assert_true(json_read(paths, document, sizeof document - 1, slots, &error));
    assert_int_equal(slots[4].kind, DATUM_MISSING);
    assert_int_equal(slots[5].kind, DATUM_NULL);
    for (int i = 0; i < 7; i++) {
        if (!texts[i])
            continue;
        assert_int_equal(slots[i].length, strlen(texts[i]));
        assert_memory_equal(slots[i].text, texts[i], slots[i].length);
    }
    json_paths_free(paths);
}

static void many_names_are_told_apart(void **state)
{
    (void)state;
    enum { NAMES = 300 };
    struct json_paths *paths = json_paths_new();
    struct datum slots[NAMES];
    struct json_error error;
    char document[16 * NAMES] = "{", name[32];

    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "/n%d", i);
        assert_int_equal(json_paths_add(paths, name), i);
        snprintf(name, sizeof name, "%s\"n%d\":%d", i ? "," : "", NAMES - 1 - i, NAMES - 1 - i);
        strcat(document, name);
    }
    strcat(document, "}");
    assert_true(json_read(paths, document, strlen(document), slots, &error));
    for (int i = 0; i < NAMES; i++)
        assert_int_equal(strtol(slots[i].text, NULL, 10), i);
    json_paths_free(paths);
}

static const struct {
    const char *document;
    bool ambiguous; // with the pointers /a and /b/c wanted
} doubles[] = {
    {"{\"a\":1,\"a\":1}", true},
    {"{\"a\":1,\"\\u0061\":2}", true},
    {"{\"b\":{\"c\":1},\"b\":{\"c\":2}}", true},
    {"{\"b\":{\"c\":1},\"b\":3}", true},
    {"{\"b\":{\"c\":1,\"c\":2}}", true},
    {"{\"x\":1,\"x\":2,\"a\":3}", false},
    {"{\"a\":{\"a\":1},\"x\":{\"a\":2}}", false},
    {"{\"b\":{\"a\":1,\"d\":1,\"d\":2}}", false},
    {"[{\"a\":1},{\"a\":2}]", false},
};

static void a_wanted_name_twice_is_ambiguous(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        struct json_paths *paths = json_paths_new();
        struct datum slots[2];
        struct json_error error;

        json_paths_add(paths, "/a");
        json_paths_add(paths, "/b/c");
        const char *document = doubles[i].document;
        if (json_read(paths, document, strlen(document), slots, &error) == doubles[i].ambiguous)
            fail_msg("%s", document);
        json_paths_free(paths);
    }
}

static void malformed_pointers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"a", "a/b", "/~", "/a~2", "/a~/b", " /a"};
    struct json_paths *paths = json_paths_new();
    char token[JSON_TOKEN_MAX + 3] = "/";

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(json_paths_add(paths, bad[i]), -1);
    memset(token + 1, 'x', JSON_TOKEN_MAX + 1);
    assert_int_equal(json_paths_add(paths, token), -1);
    assert_int_equal(json_paths_count(paths), 0);
    token[JSON_TOKEN_MAX + 1] = '\0';
    assert_int_equal(json_paths_add(paths, token), 0);
    json_paths_free(paths);
}

static const struct {
    const char *document;
    unsigned flags;
} flagged[] = {
    {"{\"a\":\"x\"}", 0},
    {"{\"a\":\"\\n\"}", DATUM_ESCAPED},
    {"{\"a\":\"\\u0000\"}", DATUM_ESCAPED | DATUM_NUL},
    {"{\"a\":[\"\\u0000\"]}", DATUM_NUL},
    {"{\"a\":{\"\\u0000\":1}}", DATUM_NUL},
    {"{\"a\":[\"\\\\u0000\"]}", 0},
    {"{\"a\":1,\"b\":\"\\u0000\"}", 0},
    {"{\"b\":[\"\\u0000\",1e200000],\"a\":[1]}", 0},
    {"{\"a\":1e131071}", 0},
    {"{\"a\":0e99999999999}", DATUM_WIDE},
    {"{\"a\":1e131072}", DATUM_WIDE},
    {"{\"a\":1e-16383}", 0},
    {"{\"a\":1e-16384}", DATUM_WIDE},
    {"{\"a\":[{\"x\":1e999999999999}]}", DATUM_WIDE},
};

static void what_jsonb_cannot_hold_is_flagged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof flagged / sizeof *flagged; i++) {
        struct json_paths *paths = json_paths_new();
        struct json_error error;
        struct datum slot;

        json_paths_add(paths, "/a");
        assert_true(
            json_read(paths, flagged[i].document, strlen(flagged[i].document), &slot, &error));
        if (slot.flags != flagged[i].flags)
            fail_msg("%s: flags %u", flagged[i].document, slot.flags);
        json_paths_free(paths);
    }
}

static void escapes_are_undone(void **state)
{
    (void)state;
    static const char escaped[] = "a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\ude00z";
    static const char plain[] = "a\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z";
    char out[sizeof escaped];

    assert_int_equal(json_unescape(escaped, sizeof escaped - 1, out), sizeof plain - 1);
    assert_memory_equal(out, plain, sizeof plain - 1);
    assert_int_equal(json_unescape("\\u0000", 6, out), 1);
    assert_int_equal(out[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_json),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(every_beginning_of_a_document_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(finds_what_pointers_point_at),
        cmocka_unit_test(one_pass_finds_all),
        cmocka_unit_test(many_names_are_told_apart),
        cmocka_unit_test(a_wanted_name_twice_is_ambiguous),
        cmocka_unit_test(malformed_pointers_are_refused),
        cmocka_unit_test(what_jsonb_cannot_hold_is_flagged),
        cmocka_unit_test(escapes_are_undone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
