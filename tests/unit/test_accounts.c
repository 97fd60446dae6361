// The password file: what is read from it, who gets in by it, and how one line of it is changed.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <semaphore.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "broker/accounts.h"
#include "broker/accounts_hash.h"
#include "conf_files.h"

#define SECRET_ARGON2                                                                              \
    "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$TnDEl2tJgYtaYZt0/5f59Jf56vkIG4EtQACv6SLO2cI"

static struct conf_files files;
static char *path; // of the password file
static char *error;
static struct loop *loop;
static struct worker *worker;

static int start(void **state)
{
    (void)state;
    conf_files_init(&files);
    path = conf_files_path(&files, "users");
    loop = loop_new();
    worker = worker_new(loop, 2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    worker_free(worker);
    loop_free(loop);
    conf_files_fini(&files);
    free(path);
    free(error);
    error = NULL;
    return 0;
}

static void __attribute__((format(printf, 1, 2))) run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *command = mem_vprintf(format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
    free(command);
}

// A file that was made by a program.
static void add_written(const char *name)
{
    files.written[files.count++] = conf_files_path(&files, name);
}

static struct accounts *load(void)
{
    free(error);
    error = NULL;
    struct accounts *accounts = accounts_load(path, &error);
    if (!accounts)
        assert_non_null(error);
    return accounts;
}

struct answer {
    unsigned calls, wanted;
    bool ok;
};

static void take_answer(void *arg, bool ok)
{
    struct answer *answer = arg;
    answer->calls++;
    answer->ok = ok;
    if (answer->calls == answer->wanted)
        loop_stop(loop);
}

static bool check(struct accounts *accounts, const char *name, const char *password)
{
    struct answer answer = {.wanted = 1};
    assert_non_null(
        accounts_check(accounts, worker, name, bytes_of(password), take_answer, &answer));
    assert_int_equal(answer.calls, 0); // never from within the call
    loop_run(loop);
    assert_int_equal(answer.calls, 1);
    return answer.ok;
}

// ---- the hashes ----

// Made by mosquitto_passwd 2.0.11 and by argon2 0~20171227.
static const struct {
    const char *hash, *password;
} known[] = {
    {"$7$101$LNUkTQv3cuocD61k$oajvGNf4L7+CpPOcmhoP1LCNWh2f6gc+3yS+9ao3yvCgsm82KSkwRFSZMTQdEpm+"
     "0F0q9bBrV4bAt0eiG0umRA==",
     "secret"},
    {"$6$l/5ZMsdQRh3F/Hz1$vy2ky7cSAn6a5DEZAwDfoOOCOGTDYT2miLCsPC82CT5wXbCcAi95TEU9h7cJsq6GMLOj+"
     "QiOr0VvJD2yVLUFYQ==",
     "hush"},
    {"$7$5$4GA7Q5YRSp5+vi85$BpxoQ6WZq67KHBDyOMT7fSG1lTs2oBbScySAD5AH1k4dU3NX9fah27qBvwW495nXkqyb"
     "vMhAfyPBqgewV/ihAA==",
     "x"},
    {SECRET_ARGON2, "secret"},
    {"$argon2id$v=19$m=256,t=3,p=4$c29tZXNhbHQ$rudpHyIn9FgJJn978N6tuxK7w1DoZfaT", "correct horse"},
    // From the reference implementation's tests.
    {"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
     "password"},
    {"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
     "password"},
};

static void known_hashes_are_verified(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct accounts_hash hash;
        bool failed;
        assert_null(accounts_hash_parse(known[i].hash, &hash));
        assert_true(accounts_hash_verify(&hash, bytes_of(known[i].password), &failed));
        assert_false(failed);
        char *longer = mem_printf("%s ", known[i].password);
        assert_false(accounts_hash_verify(&hash, bytes_of(longer), &failed));
        assert_false(accounts_hash_verify(&hash, bytes_of(""), &failed));
        assert_false(accounts_hash_verify(&hash, (struct bytes){NULL, 0}, &failed));
        assert_false(failed);
        hash.hash[hash.length - 1] ^= 1;
        assert_false(accounts_hash_verify(&hash, bytes_of(known[i].password), &failed));
        free(longer);
    }
}

#define SALT "LNUkTQv3cuocD61k"
#define HASH                                                                                       \
    "oajvGNf4L7+CpPOcmhoP1LCNWh2f6gc+3yS+9ao3yvCgsm82KSkwRFSZMTQdEpm+0F0q9bBrV4bAt0eiG0umRA=="
#define ARGON "$c29tZXNhbHQ$RdescudvJCsgt3ub+b0dWRJJTmaaJObG"

static const struct {
    const char *text, *flaw; // NULL: good
} shapes[] = {
    {"$7$1$" SALT "$" HASH, NULL},
    {"$7$10000000$" SALT "$" HASH, NULL},
    {"$argon2id$v=19$m=8,t=1,p=1" ARGON, NULL},
    {"$argon2id$v=19$m=262144,t=64,p=16" ARGON, NULL},
    {"", "is no hash: it is plain text, or of a kind that is not known"},
    {"secret", "is no hash: it is plain text, or of a kind that is not known"},
    {"$", "is no hash: it is plain text, or of a kind that is not known"},
    {"$1$abc$def", "is no hash: it is plain text, or of a kind that is not known"},
    {"$argon2i$v=19$m=8,t=1,p=1" ARGON,
     "is no hash: it is plain text, or of a kind that is not known"},
    {"$6$", "is damaged"},
    {"$6$" SALT, "is damaged"},
    {"$6$" SALT "$", "is damaged"},
    {"$6$" SALT "$" HASH "$", "is damaged"},
    {"$6$" SALT "$" HASH HASH, "is damaged"},
    {"$6$" SALT "$oajv", "is damaged"},
    {"$6$$" HASH, "is damaged"},
    {"$6$LNUkTQv3$" HASH, "is damaged"}, // six bytes
    {"$6$LNUk!Qv3cuocD61k$" HASH, "is damaged"},
    {"$7$0$" SALT "$" HASH, "has another number of iterations than is allowed: 1 to 10000000"},
    {"$7$-1$" SALT "$" HASH, "has another number of iterations than is allowed: 1 to 10000000"},
    {"$7$10000001$" SALT "$" HASH,
     "has another number of iterations than is allowed: 1 to 10000000"},
    {"$7$99999999999999999999999$" SALT "$" HASH,
     "has another number of iterations than is allowed: 1 to 10000000"},
    {"$7$101", "has another number of iterations than is allowed: 1 to 10000000"},
    {"$7$" SALT "$" HASH, "has another number of iterations than is allowed: 1 to 10000000"},
    {"$argon2id$m=8,t=1,p=1" ARGON, "has another version than $argon2id$v=19$"},
    {"$argon2id$v=16$m=8,t=1,p=1" ARGON, "has another version than $argon2id$v=19$"},
    {"$argon2id$v=19$m=0,t=1,p=1" ARGON,
     "has another m than is allowed: 8 to 262144 (KiB of memory)"},
    {"$argon2id$v=19$m=262145,t=1,p=1" ARGON,
     "has another m than is allowed: 8 to 262144 (KiB of memory)"},
    {"$argon2id$v=19$m=4294967297,t=1,p=1" ARGON,
     "has another m than is allowed: 8 to 262144 (KiB of memory)"},
    {"$argon2id$v=19$t=1,m=8,p=1" ARGON,
     "has another m than is allowed: 8 to 262144 (KiB of memory)"},
    {"$argon2id$v=19$m=8,t=65,p=1" ARGON, "has another t than is allowed: 1 to 64 (passes)"},
    {"$argon2id$v=19$m=8,t=1,p=17" ARGON, "has another p than is allowed: 1 to 16 (lanes)"},
    {"$argon2id$v=19$m=8,t=1,p=257" ARGON, "has another p than is allowed: 1 to 16 (lanes)"},
    {"$argon2id$v=19$m=8,t=1,p=1,x=1" ARGON, "has another p than is allowed: 1 to 16 (lanes)"},
    {"$argon2id$v=19$m=8,t=1,p=2" ARGON, "has less memory than its lanes need: m is 8 * p or more"},
    {"$argon2id$v=19$m=8,t=1,p=1$c29t$RdescudvJCsgt3ub", "is damaged"},
    {"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$Rde", "is damaged"},
    {"$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ", "is damaged"},
};

static void shapes_of_hashes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct accounts_hash hash;
        const char *flaw = accounts_hash_parse(shapes[i].text, &hash);
        if (!shapes[i].flaw)
            assert_null(flaw);
        else
            assert_string_equal(flaw ? flaw : "good", shapes[i].flaw);
    }
}

static void new_hashes_are_argon2id_with_a_salt_of_their_own(void **state)
{
    (void)state;
    char *first = accounts_hash_make(bytes_of("secret"));
    char *second = accounts_hash_make(bytes_of("secret"));
    struct accounts_hash hash;
    bool failed;
    assert_memory_equal(first, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
    assert_string_not_equal(first, second);
    assert_null(accounts_hash_parse(first, &hash));
    assert_true(accounts_hash_verify(&hash, bytes_of("secret"), &failed));
    assert_false(accounts_hash_verify(&hash, bytes_of("Secret"), &failed));
    free(first);
    free(second);
}

// ---- the file ----

static void users_comments_and_blanks(void **state)
{
    (void)state;
    conf_files_write(&files, "users",
                     "\xef\xbb\xbf# a comment: with a colon\n"
                     "\n"
                     "   \t\r\n"
                     "zoe:" SECRET_ARGON2 "\r\n"
                     "  big lamp \t: " SECRET_ARGON2 " \t\n"
                     "j\xc3\xb6rg:" SECRET_ARGON2);
    struct accounts *accounts = load();
    assert_non_null(accounts);
    assert_true(accounts_has(accounts, "zoe"));
    assert_true(accounts_has(accounts, "big lamp"));
    assert_true(accounts_has(accounts, "j\xc3\xb6rg"));
    assert_false(accounts_has(accounts, "Zoe"));
    assert_false(accounts_has(accounts, ""));
    assert_false(accounts_has(accounts, "# a comment"));
    accounts_free(accounts);
}

static const struct {
    const char *text, *said;
} mistakes[] = {
    {"alice:secret\n", "users:1: the hash of user 'alice' is no hash: it is plain text, or of a "
                       "kind that is not known; make it with: sensorlogd passwd users 'alice'"},
    {"#\nalice\n", "users:2: is no USER:HASH; make it with: sensorlogd passwd users USER"},
    {":" SECRET_ARGON2 "\n",
     "users:1: is no USER:HASH; make it with: sensorlogd passwd users USER"},
    {" \t:" SECRET_ARGON2 "\n",
     "users:1: is no USER:HASH; make it with: sensorlogd passwd users USER"},
    {"b:$6$" SALT "$oajv\n", "users:1: the hash of user 'b' is damaged; make it with: sensorlogd "
                             "passwd users 'b'"},
    {"b:" SECRET_ARGON2 ":x\n", "users:1: the hash of user 'b' is damaged; make it with: "
                                "sensorlogd passwd users 'b'"},
    {"b:" SECRET_ARGON2 "\na:" SECRET_ARGON2 "\n\n b :" SECRET_ARGON2 "\n",
     "users:4: user 'b' is given twice, first in line 1"},
    {"\x01:" SECRET_ARGON2 "\n", "users:1: is no UTF-8 text, or has control characters"},
    {"a:" SECRET_ARGON2 "\n\xff:" SECRET_ARGON2 "\n",
     "users:2: is no UTF-8 text, or has control characters"},
};

static void mistakes_in_the_file(void **state)
{
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        conf_files_write(&files, "users", mistakes[i].text);
        assert_null(load());
        for (char *at; (at = strstr(error, files.directory)) != NULL;)
            memmove(at, at + strlen(files.directory) + 1,
                    strlen(at + strlen(files.directory) + 1) + 1);
        assert_string_equal(error, mistakes[i].said);
        assert_null(strstr(error, "secret"));
        end(state);
        start(state);
    }
}

static void files_that_cannot_be_read(void **state)
{
    (void)state;
    assert_null(load());
    assert_non_null(strstr(error, "/users: cannot be opened: No such file or directory"));
    assert_int_equal(mkfifo(path, 0600), 0); // must not hang
    add_written("users");
    assert_null(load());
    assert_non_null(strstr(error, "/users: is no regular file"));
}

static void whose_entry_has_changed(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "a:" SECRET_ARGON2 "\nb:" SECRET_ARGON2 "\n");
    struct accounts *before = load();
    conf_files_write(&files, "users",
                     "c:" SECRET_ARGON2 "\n a : " SECRET_ARGON2 "\nb:$6$" SALT "$" HASH "\n");
    struct accounts *after = load();
    assert_true(accounts_same(before, after, "a"));
    assert_false(accounts_same(before, after, "b")); // another password
    assert_false(accounts_same(before, after, "c")); // is new
    assert_false(accounts_same(after, before, "c")); // is gone
    assert_false(accounts_same(before, after, "d"));
    accounts_free(before);
    accounts_free(after);
}

// ---- checks ----

static void who_gets_in(void **state)
{
    (void)state;
    conf_files_write(&files, "users",
                     "alice:" SECRET_ARGON2
                     "\nbob:$6$l/5ZMsdQRh3F/Hz1$vy2ky7cSAn6a5DEZAwDfoOOCOGTDY"
                     "T2miLCsPC82CT5wXbCcAi95TEU9h7cJsq6GMLOj+QiOr0VvJD2yVLUFYQ==\n");
    struct accounts *accounts = load();
    assert_true(check(accounts, "alice", "secret"));
    assert_true(check(accounts, "bob", "hush"));
    assert_false(check(accounts, "alice", "hush"));
    assert_false(check(accounts, "alice", ""));
    assert_false(check(accounts, "bob", "secret"));
    // Whoever stands in for those who are not there, and whatever his password is.
    for (char name[] = "user a"; name[5] <= 'z'; name[5]++) {
        assert_false(check(accounts, name, "secret"));
        assert_false(check(accounts, name, "hush"));
    }
    assert_false(check(accounts, "", "secret"));
    accounts_free(accounts);
}

static void nobody_is_there(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "# nobody yet\n");
    struct accounts *accounts = load();
    assert_false(check(accounts, "alice", ""));
    accounts_free(accounts);
}

static void mosquitto_passwd_makes_files_that_are_read(void **state)
{
    (void)state;
    run("mosquitto_passwd -c -b %s alice 'a secret with blanks'", path);
    add_written("users");
    run("mosquitto_passwd -H sha512 -b %s bob b", path);
    run("mosquitto_passwd -H sha512-pbkdf2 -I 5000 -b %s 'big lamp' '\xc3\xa4$:%%'", path);
    struct accounts *accounts = load();
    assert_true(check(accounts, "alice", "a secret with blanks"));
    assert_true(check(accounts, "bob", "b"));
    assert_true(check(accounts, "big lamp", "\xc3\xa4$:%"));
    assert_false(check(accounts, "big lamp", "\xc3\xa4$:"));
    accounts_free(accounts);
}

// An unknown user takes as long as one who is there: compared by the processor time of many.
static double seconds_of(struct accounts *accounts, const char *name)
{
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (int i = 0; i < 20; i++)
        assert_false(check(accounts, name, "wrong"));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    return (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
}

static void an_unknown_user_takes_as_long(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "alice:$7$20000$" SALT "$" HASH "\n");
    struct accounts *accounts = load();
    double known_user = seconds_of(accounts, "alice"), unknown = seconds_of(accounts, "bob");
    assert_true(unknown > known_user / 3 && unknown < known_user * 3);
    accounts_free(accounts);
}

static void a_reload_does_not_hurt_checks_under_way(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "alice:" SECRET_ARGON2 "\n");
    struct answer answers = {.wanted = 50};
    struct accounts *accounts = load();
    for (unsigned i = 0; i < answers.wanted; i++)
        assert_non_null(
            accounts_check(accounts, worker, "alice", bytes_of("secret"), take_answer, &answers));
    accounts_free(accounts);
    loop_run(loop);
    assert_int_equal(answers.calls, 50);
    assert_true(answers.ok);
}

static void wait_for(void *arg)
{
    sem_wait(arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void cancelled_checks_do_not_answer(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "alice:" SECRET_ARGON2 "\n# 2\n");
    struct accounts *accounts = load();
    struct answer cancelled = {.wanted = 1}, last = {.wanted = 1};
    struct accounts_check *checks[10];
    for (size_t i = 0; i < 10; i++)
        checks[i] = accounts_check(accounts, worker, i % 2 ? "alice" : "nobody", bytes_of("secret"),
                                   take_answer, &cancelled);
    for (size_t i = 0; i < 10; i++)
        accounts_check_cancel(checks[i]);
    assert_non_null(
        accounts_check(accounts, worker, "alice", bytes_of("secret"), take_answer, &last));
    accounts_free(accounts);
    loop_run(loop);
    assert_int_equal(last.calls, 1);
    assert_int_equal(cancelled.calls, 0);
}

static void only_so_many_may_wait(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "alice:" SECRET_ARGON2 "\n");
    struct accounts *accounts = load();
    struct worker *busy = worker_new(loop, 1);
    struct answer answers = {.wanted = 1000};
    sem_t go;
    sem_init(&go, 0, 0);
    worker_submit(busy, wait_for, nothing, nothing, &go);
    struct bytes password = bytes_of("secret");
    for (unsigned i = 0; i < 1000; i++)
        assert_non_null(accounts_check(accounts, busy, "alice", password, take_answer, &answers));
    assert_null(accounts_check(accounts, busy, "alice", password, take_answer, &answers));
    sem_post(&go);
    loop_run(loop);
    assert_int_equal(answers.calls, 1000);
    // And so many bytes.
    static uint8_t large[65535];
    struct accounts_check *checks[20];
    unsigned count = 0;
    worker_submit(busy, wait_for, nothing, nothing, &go);
    while (count < 20 && (checks[count] = accounts_check(accounts, busy, "alice",
                                                         (struct bytes){large, sizeof large},
                                                         take_answer, &answers)) != NULL)
        count++;
    assert_int_equal(count, 16);
    while (count > 0)
        accounts_check_cancel(checks[--count]);
    sem_post(&go);
    assert_true(check(accounts, "alice", "secret"));
    worker_free(busy);
    accounts_free(accounts);
}

// ---- changes ----

static char *read_back(void)
{
    static char text[8192];
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void a_new_file_is_for_its_owner_alone(void **state)
{
    (void)state;
    mode_t mask = umask(0);
    assert_true(accounts_set(path, "alice", bytes_of("secret"), &error));
    umask(mask);
    add_written("users");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    struct accounts *accounts = load();
    assert_true(check(accounts, "alice", "secret"));
    accounts_free(accounts);
}

static void a_new_file_of_root_is_for_the_group_of_its_directory(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(chown(files.directory, 0, 65534), 0);
    assert_int_equal(chmod(files.directory, 0750), 0);
    assert_true(accounts_set(path, "alice", bytes_of("secret"), &error));
    add_written("users");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(status.st_uid, 0);
    assert_int_equal(status.st_gid, 65534);
}

static void other_lines_and_the_mode_stay(void **state)
{
    (void)state;
    conf_files_write(&files, "users",
                     "# first\n\nalicea:plain text\n alice :old\nzoe:" SECRET_ARGON2
                     "\nalice:older\n#alice:x\nlast:one");
    assert_int_equal(chmod(path, 0640), 0);
    assert_true(accounts_set(path, "alice", bytes_of("secret"), &error));
    char *text = read_back();
    static const char begin[] = "# first\n\nalicea:plain text\nalice:$argon2id$v=19$m=19456,";
    assert_memory_equal(text, begin, sizeof begin - 1);
    assert_non_null(strstr(text, "\nzoe:" SECRET_ARGON2 "\n#alice:x\nlast:one\n"));
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);

    assert_true(accounts_set(path, "last", bytes_of("secret"), &error));
    assert_true(accounts_set(path, "added", bytes_of("secret"), &error));
    assert_true(accounts_delete(path, "alicea", &error));
    struct accounts *accounts = load();
    assert_true(accounts_has(accounts, "alice"));
    assert_true(accounts_has(accounts, "zoe"));
    assert_true(accounts_has(accounts, "last"));
    assert_true(check(accounts, "added", "secret"));
    assert_false(accounts_has(accounts, "alicea"));
    accounts_free(accounts);
}

static void a_link_stays_a_link(void **state)
{
    (void)state;
    conf_files_make_directory(&files, "elsewhere");
    conf_files_write(&files, "elsewhere/real", "# mine\n");
    assert_int_equal(symlink("elsewhere/real", path), 0);
    add_written("users");
    assert_true(accounts_set(path, "alice", bytes_of("secret"), &error));
    struct stat status;
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_memory_equal(read_back(), "# mine\nalice:$argon2id$", 23);
}

static void what_cannot_be_changed(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "alice:" SECRET_ARGON2 "\n");
    static const char *const names[] = {"",     "a:b",  "#a",       " a", "a ",
                                        "a\nb", "\x7f", "\xc3\x28", "\ta"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_false(accounts_set(path, names[i], bytes_of("secret"), &error));
        assert_non_null(strstr(error, "the name '"));
        free(error);
    }
    assert_false(accounts_delete(path, "bob", &error));
    assert_non_null(strstr(error, "/users: has no user 'bob'"));
    free(error);
    assert_false(accounts_set("/nonexistent/users", "a", bytes_of("secret"), &error));
    assert_non_null(strstr(error, "/nonexistent: cannot be opened: No such file or directory"));
    assert_string_equal(read_back(), "alice:" SECRET_ARGON2 "\n");
}

static void changes_at_the_same_time_are_all_made(void **state)
{
    (void)state;
    conf_files_write(&files, "users", "");
    enum { WRITERS = 8 };
    for (int i = 0; i < WRITERS; i++) {
        if (fork() == 0) {
            char *name = mem_printf("user%d", i), *wrong = NULL;
            _exit(!accounts_set(path, name, bytes_of("secret"), &wrong));
        }
    }
    for (int i = 0, status; i < WRITERS; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct accounts *accounts = load();
    for (int i = 0; i < WRITERS; i++) {
        char *name = mem_printf("user%d", i);
        assert_true(accounts_has(accounts, name));
        free(name);
    }
    accounts_free(accounts);
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, start, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_hashes_are_verified),
        cmocka_unit_test(shapes_of_hashes),
        cmocka_unit_test(new_hashes_are_argon2id_with_a_salt_of_their_own),
        STORY(users_comments_and_blanks),
        STORY(mistakes_in_the_file),
        STORY(files_that_cannot_be_read),
        STORY(whose_entry_has_changed),
        STORY(who_gets_in),
        STORY(nobody_is_there),
        STORY(mosquitto_passwd_makes_files_that_are_read),
        STORY(an_unknown_user_takes_as_long),
        STORY(a_reload_does_not_hurt_checks_under_way),
        STORY(cancelled_checks_do_not_answer),
        STORY(only_so_many_may_wait),
        STORY(a_new_file_is_for_its_owner_alone),
        STORY(a_new_file_of_root_is_for_the_group_of_its_directory),
        STORY(other_lines_and_the_mode_stay),
        STORY(a_link_stays_a_link),
        STORY(what_cannot_be_changed),
        STORY(changes_at_the_same_time_are_all_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
