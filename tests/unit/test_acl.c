// ACL files in mosquitto's syntax: what they say, and who may do what by them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/acl.h"
#include "conf_files.h"

static struct conf_files files;

static struct acl *load(const char *text, char **error)
{
    conf_files_init(&files);
    conf_files_write(&files, "acl", text);
    char *path = conf_files_path(&files, "acl");
    struct acl *acl = acl_load(path, error);
    for (char *at; *error && (at = strstr(*error, files.directory)) != NULL;)
        memmove(at, at + strlen(files.directory) + 1, strlen(at + strlen(files.directory) + 1) + 1);
    free(path);
    conf_files_fini(&files);
    return acl;
}

// ---- mistakes ----

static const struct {
    const char *text, *said;
} mistakes[] = {
    {"topic\n", "acl:1: has no topic; allowed: [read|write|readwrite|deny] TOPIC"},
    {"topic  \n", "acl:1: has no topic; allowed: [read|write|readwrite|deny] TOPIC"},
    {"# a\n\npattern\n", "acl:3: has no topic; allowed: [read|write|readwrite|deny] TOPIC"},
    {"topic raed a/b\n", "acl:1: 'raed' is no access; allowed: read, write, readwrite, deny"},
    {"topic a b\n", "acl:1: 'a' is no access; allowed: read, write, readwrite, deny"},
    {"topic read a/#/b\n",
     "acl:1: 'a/#/b' is no topic filter; allowed: levels between /, + for any one level, # at the "
     "end for all that follow"},
    {"topic read a # b\n",
     "acl:1: 'a # b' is no topic filter; allowed: levels between /, + for any one level, # at the "
     "end for all that follow"},
    {"pattern read %u+\n",
     "acl:1: '%u+' is no topic filter; allowed: levels between /, + for any one level, # at the "
     "end for all that follow"},
    {"topic read $share/group/a\n",
     "acl:1: '$share/group/a' names a shared subscription; write the filter behind it"},
    {"user\n", "acl:1: has no name; allowed: user NAME"},
    {"user alice\nuser \t\n", "acl:2: has no name; allowed: user NAME"},
    {"users alice\n", "acl:1: unknown word 'users'; allowed: user, topic, pattern, #"},
    {"topic\tread a\n", "acl:1: unknown word 'topic\tread'; allowed: user, topic, pattern, #"},
    {" # no comment\n", "acl:1: unknown word '#'; allowed: user, topic, pattern, #"},
    {"topic read \x01\n", "acl:1: is no UTF-8 text, or has control characters"},
};

static void mistakes_in_the_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char *error = NULL;
        assert_null(load(mistakes[i].text, &error));
        assert_string_equal(error, mistakes[i].said);
        free(error);
    }
}

static void a_file_that_is_not_there(void **state)
{
    (void)state;
    char *error = NULL;
    assert_null(acl_load("/nonexistent/acl", &error));
    assert_string_equal(error, "/nonexistent/acl: cannot be opened: No such file or directory");
    free(error);
}

// ---- who may publish and receive ----

#define R ACL_READ
#define W ACL_WRITE

struct decision {
    const char *user, *id; // NULL: anonymous
    int access;            // that is allowed: of R and W
    const char *topic;
};

static void check_decisions(const char *text, const struct decision *decisions, size_t count)
{
    char *error = NULL;
    struct acl *acl = load(text, &error);
    assert_null(error);
    for (size_t i = 0; i < count; i++) {
        const struct decision *one = &decisions[i];
        size_t length = strlen(one->topic);
        int allowed = acl_allows(acl, one->user, one->id, ACL_READ, one->topic, length) ? R : 0;
        allowed |= acl_allows(acl, one->user, one->id, ACL_WRITE, one->topic, length) ? W : 0;
        if (allowed != one->access)
            fail_msg("%s (%s) on %s: %d, not %d", one->user ? one->user : "anonymous", one->id,
                     one->topic, allowed, one->access);
    }
    acl_free(acl);
}

#define CHECK(text, ...)                                                                           \
    check_decisions(text, (const struct decision[]){__VA_ARGS__},                                  \
                    sizeof((const struct decision[]){__VA_ARGS__}) / sizeof(struct decision))

static void without_a_file_all_is_allowed(void **state)
{
    (void)state;
    assert_true(acl_allows(NULL, NULL, "id", ACL_WRITE, "a", 1));
    assert_true(acl_may_subscribe(NULL, "alice", "id", "#"));
}

static void an_empty_file_allows_nothing(void **state)
{
    (void)state;
    CHECK("# nothing\n\n", {NULL, "id", 0, "a"}, {"alice", "id", 0, "a"});
}

static void users_and_anonymous_clients(void **state)
{
    (void)state;
    CHECK("topic read public/#\r\n"
          "user alice\n"
          "topic write a/b\n"
          "user bob smith  \n"
          "topic readwrite b\n"
          "topic c\n"
          "user alice\n"
          "topic read d\n",
          {NULL, "id", R, "public/x"}, {NULL, "id", R, "public"}, {NULL, "id", 0, "a/b"},
          {"alice", "id", 0, "public/x"}, {"alice", "id", W, "a/b"}, {"alice", "id", R, "d"},
          {"alice", "id", 0, "b"}, {"bob smith", "id", R | W, "b"}, {"bob smith", "id", R | W, "c"},
          {"bob smith", "id", 0, "d"}, {"bob", "id", 0, "b"}, {"nobody", "id", 0, "public/x"},
          {"", "id", 0, "public/x"});
}

static void topics_may_have_blanks(void **state)
{
    (void)state;
    CHECK("topic  read   the  big lamp/#  \ntopic read\ntopic write write\n",
          {NULL, "id", R, "the  big lamp/1"}, {NULL, "id", 0, "the big lamp/1"},
          {NULL, "id", R | W, "read"}, {NULL, "id", W, "write"});
}

static void wildcards_of_rules(void **state)
{
    (void)state;
    CHECK("topic read a/+/c\ntopic write d/#\ntopic readwrite +\ntopic read $SYS/broker/#\n",
          {NULL, "id", R, "a/b/c"}, {NULL, "id", R, "a//c"}, {NULL, "id", 0, "a/b/d"},
          {NULL, "id", 0, "a/b/c/d"}, {NULL, "id", W, "d/e/f"}, {NULL, "id", R | W, "d"},
          {NULL, "id", R | W, "x"}, {NULL, "id", 0, "da/b"}, {NULL, "id", 0, "$SYS"},
          {NULL, "id", R, "$SYS/broker"}, {NULL, "id", R, "$SYS/broker/uptime"});
    CHECK("topic #\n", {NULL, "id", R | W, "a/b"}, {NULL, "id", R | W, "/"},
          {NULL, "id", 0, "$SYS/broker/uptime"});
    CHECK("topic /#\n", {NULL, "id", R | W, "/"}, {NULL, "id", R | W, "/a"}, {NULL, "id", 0, "a"});
}

static void a_denial_wins(void **state)
{
    (void)state;
    CHECK("user alice\n"
          "topic readwrite a/#\n"
          "topic deny a/secret/#\n"
          "topic read a/secret/not\n"
          "pattern deny +/%u/private\n"
          "pattern readwrite own/%u/#\n"
          "user bob\n"
          "topic deny b\n",
          {"alice", "id", R | W, "a/b"}, {"alice", "id", 0, "a/secret"},
          {"alice", "id", 0, "a/secret/not"}, {"alice", "id", 0, "a/alice/private"},
          {"alice", "id", R | W, "own/alice/x"}, {"alice", "id", 0, "own/alice/private"},
          {"alice", "id", R | W, "a/bob/private"}, {"bob", "id", 0, "b"},
          {"bob", "id", R | W, "own/bob/x"});
}

static void patterns_are_for_all(void **state)
{
    (void)state;
    CHECK("user alice\n"
          "pattern write sensors/%u/%c/#\n"
          "pattern read clients/%c\n"
          "pattern read all/#\n"
          "pattern write 100%/%%u/%\n",
          {"alice", "lamp", W, "sensors/alice/lamp/1"}, {"alice", "lamp", 0, "sensors/bob/lamp/1"},
          {"alice", "lamp", 0, "sensors/alice/lamp2/1"}, {"bob", "x", W, "sensors/bob/x"},
          {NULL, "lamp", R, "clients/lamp"}, {NULL, "lamp", R, "all/1"},
          {NULL, "lamp", 0, "sensors//lamp/1"}, {"", "lamp", W, "sensors//lamp/1"},
          {"alice", "lamp", W, "100%/%alice/%"}, {"al/ice", "lamp", W, "sensors/al/ice/lamp/1"});
}

// CVE-2017-7650: a name that would be a wildcard gets nothing by patterns.
static void names_do_not_become_wildcards(void **state)
{
    (void)state;
    CHECK("user a+\n"
          "topic read own\n"
          "user +\n"
          "topic read plus\n"
          "pattern readwrite sensors/%u/#\n"
          "pattern readwrite clients/%c/#\n"
          "pattern read all\n"
          "pattern readwrite %c\n"
          "pattern readwrite %u/x\n"
          "pattern deny deny/%c\n",
          {"+", "id", 0, "sensors/alice/1"}, {"+", "id", R, "plus"}, {"#", "id", 0, "all"},
          {"a+", "id", R, "own"}, {"a+", "id", 0, "sensors/a+/1"}, {"alice", "+", 0, "clients/x"},
          {"alice", "#", 0, "clients/x/y"}, {"alice", "x#", 0, "all"}, {NULL, "#", 0, "x"},
          {"alice", "id", R, "all"},
          // Nor do they lead to where wildcards do not.
          {NULL, "$SYS", 0, "$SYS"}, {"$SYS", "id", 0, "$SYS/x"}, {"S", "id", R | W, "S/x"});
}

static void long_names_in_patterns(void **state)
{
    (void)state;
    char name[3001], topic[7000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(topic, sizeof topic, "%s/%s/x", name, name);
    CHECK("pattern read %c/%c/#\n", {NULL, name, R, topic}, {NULL, name, 0, topic + 1});
    char *error = NULL;
    struct acl *acl = load("pattern read %c/%c/#\n", &error);
    assert_true(acl_may_subscribe(acl, NULL, name, topic));
    assert_false(acl_may_subscribe(acl, NULL, name, topic + 1));
    acl_free(acl);
}

static void many_users(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < 1000; i++)
        fprintf(out, "user u%d\ntopic read t%d/#\ntopic deny t%d/no\n", i * 7 % 1000, i * 7 % 1000,
                i * 7 % 1000);
    fclose(out);
    char *error = NULL;
    struct acl *acl = load(text, &error);
    assert_null(error);
    for (int i = 0; i < 1000; i++) {
        char user[32], own[32], no[32];
        snprintf(user, sizeof user, "u%d", i);
        snprintf(own, sizeof own, "t%d/yes", i);
        snprintf(no, sizeof no, "t%d/no", i);
        assert_true(acl_allows(acl, user, "id", ACL_READ, own, strlen(own)));
        assert_false(acl_allows(acl, user, "id", ACL_READ, no, strlen(no)));
        assert_false(acl_allows(acl, user, "id", ACL_READ, "t/yes", 5));
    }
    acl_free(acl);
    free(text);
}

// ---- who may subscribe ----

static const struct {
    const char *user, *filter;
    bool may;
} subscriptions[] = {
    {"alice", "a/b", true},        {"alice", "a/#", true},       {"alice", "#", true},
    {"alice", "+/b", true},        {"alice", "a/secret", false}, {"alice", "a/secret/#", false},
    {"alice", "a/+", true},        {"alice", "w/x", false},      {"alice", "w/#", false},
    {"alice", "$SYS/#", false},    {"alice", "own/alice", true}, {"alice", "own/bob", false},
    {"alice", "own/+", true},      {"bob", "own/+", true},       {"bob", "a/b", false},
    {"bob", "gone/#", false},      {"bob", "gone", false},       {"bob", "#", true},
    {"carol", "own/carol", false}, {"carol", "#", false},        {NULL, "free/x", true},
    {NULL, "own/x", false},        {NULL, "+/x", true},          {"own+", "own/+", false},
    {"alice", "+/+/+", true},      {"alice", "w/+/+", false},
};

static void who_may_subscribe_to_what(void **state)
{
    (void)state;
    char *error = NULL;
    struct acl *acl = load("topic read free/#\n"
                           "user alice\n"
                           "topic read a/#\n"
                           "topic deny a/secret/#\n"
                           "topic write w/#\n"
                           "user bob\n"
                           "topic read gone/x\n"
                           "topic deny gone/#\n"
                           "user carol\n"
                           "topic deny own/carol\n"
                           "user own+\n"
                           "pattern read own/%u\n",
                           &error);
    assert_null(error);
    for (size_t i = 0; i < sizeof subscriptions / sizeof *subscriptions; i++) {
        bool may = acl_may_subscribe(acl, subscriptions[i].user, "id", subscriptions[i].filter);
        if (may != subscriptions[i].may)
            fail_msg("%s to %s: %d", subscriptions[i].user, subscriptions[i].filter, may);
    }
    acl_free(acl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_in_the_file),
        cmocka_unit_test(a_file_that_is_not_there),
        cmocka_unit_test(without_a_file_all_is_allowed),
        cmocka_unit_test(an_empty_file_allows_nothing),
        cmocka_unit_test(users_and_anonymous_clients),
        cmocka_unit_test(topics_may_have_blanks),
        cmocka_unit_test(wildcards_of_rules),
        cmocka_unit_test(a_denial_wins),
        cmocka_unit_test(patterns_are_for_all),
        cmocka_unit_test(names_do_not_become_wildcards),
        cmocka_unit_test(long_names_in_patterns),
        cmocka_unit_test(many_users),
        cmocka_unit_test(who_may_subscribe_to_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
