// Opening a connection: names, addresses, and what comes of them.
#include "conn_rig.h"

#include <signal.h>

#include "base/worker.h"

// localhost may be ::1 first, where nobody listens.
static void connects_by_name(void **state)
{
    struct rig *f = *state;
    struct worker *worker = worker_new(f->loop, 1);
    uint16_t port;
    int listener = rig_bind(&port);
    assert_int_equal(listen(listener, 1), 0);
    rig_renew(f);
    conn_connect(f->conn, worker, "localhost", port, NULL);
    rig_run_until(f, "open");
    close(f->peer);
    f->peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    send(f->peer, rig_three, RIG_THREE_SIZE, MSG_NOSIGNAL);
    rig_run_until(f, "open " RIG_THREE);
    close(listener);
    worker_free(worker);
}

static void the_peer_has_an_address(void **state)
{
    struct rig *f = *state;
    char text[CONN_ADDRESS_SIZE], expected[CONN_ADDRESS_SIZE];
    struct sockaddr_in own;
    socklen_t length = sizeof own;
    uint16_t port;
    assert_string_equal(conn_peer_address(f->conn, text), "unknown"); // a UNIX socket
    int listener = rig_bind(&port);
    assert_int_equal(listen(listener, 1), 0);
    rig_peer_ends(f);
    f->peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getsockname(listener, (struct sockaddr *)&own, &length);
    assert_int_equal(connect(f->peer, (struct sockaddr *)&own, length), 0);
    getsockname(f->peer, (struct sockaddr *)&own, &length);
    rig_renew(f);
    conn_attach(f->conn, accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), NULL);
    snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(own.sin_port));
    assert_string_equal(conn_peer_address(f->conn, text), expected);
    assert_null(conn_peer_name(f->conn));
    close(listener);
}

static void tells_that_it_cannot_connect(void **state)
{
    struct rig *f = *state;
    struct worker *worker = worker_new(f->loop, 1);
    uint16_t port;
    // A label of more than 63 characters is no name, and no server is asked for it.
    char no_name[80] = "";
    memset(no_name, 'x', sizeof no_name - 1);
    int silent = rig_bind(&port); // bound, but not listening
    rig_renew(f);
    conn_connect(f->conn, worker, "127.0.0.1", port, NULL);
    rig_run_until(f, "closed");
    rig_renew(f);
    f->seen[0] = '\0';
    conn_connect(f->conn, worker, no_name, port, NULL);
    rig_run_until(f, "closed");
    rig_renew(f);
    conn_connect(f->conn, worker, "127.0.0.1", port, NULL); // freed before anything has come of it
    conn_free(f->conn);
    f->conn = NULL;
    close(silent);
    worker_free(worker);
}

static void a_reset_is_an_end(void **state)
{
    struct rig *f = *state;
    struct worker *worker = worker_new(f->loop, 1);
    struct linger none = {.l_onoff = 1};
    uint16_t port;
    int listener = rig_bind(&port);
    assert_int_equal(listen(listener, 1), 0);
    rig_renew(f);
    conn_connect(f->conn, worker, "127.0.0.1", port, NULL);
    rig_run_until(f, "open");
    rig_peer_ends(f);
    f->peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    setsockopt(f->peer, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    rig_peer_ends(f);
    rig_run_until(f, "open closed");
    assert_string_equal(f->why, "Connection reset by peer");
    close(listener);
    worker_free(worker);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_set_up, rig_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_peer_has_an_address),
        TEST(connects_by_name),
        TEST(tells_that_it_cannot_connect),
        TEST(a_reset_is_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
