// Brokers' URIs and addresses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf/uri.h"

static const struct {
    const char *text;
    const char *seen; // "HOST PORT PATH", with tls and ws where they are; or part of the flaw
} uris[] = {
    {"mqtt://h", "h 1883 -"},
    {"mqtt://h/", "h 1883 -"},
    {"mqtt://h:1", "h 1 -"},
    {"mqtts://broker.example", "broker.example 8883 - tls"},
    {"ws://127.0.0.1", "127.0.0.1 80 - ws"},
    {"ws://h:8083/", "h 8083 / ws"},
    {"ws://h:8083/mqtt", "h 8083 /mqtt ws"},
    {"wss://[2001:db8::1]/a/b?c=d", "2001:db8::1 443 /a/b?c=d tls ws"},
    {"wss://[fe80::1%eth0]:8443", "fe80::1%eth0 8443 - tls ws"},
    {"h:1883", "is no broker's address"},
    {"http://h", "is no broker's address"},
    {"MQTT://h", "is no broker's address"},
    {"mqtt://", "no valid host"},
    {"mqtt://h:0", "no valid port"},
    {"mqtt://h:65536", "no valid port"},
    {"mqtt://h:", "no valid port"},
    {"mqtt://::1", "no valid host"},
    {"mqtt://[::1", "a [ without ]"},
    {"mqtt://user:word@h", "holds a user"},
    {"wss://user@h/mqtt", "holds a user"},
    {"mqtt://h/mqtt", "has a path"},
    {"mqtts://h?x", "has a path"},
    {"ws://h?x=y", "no valid path"},
    {"ws://h/a#b", "no valid path"},
    {"ws://h/a b", "no valid path"},
    {"ws://h/a\r\nHost: x", "no valid path"},
    {"ws://h/\xC3\xA9", "no valid path"},
};

static void uris_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        struct uri uri;
        const char *flaw = NULL;
        char seen[200];
        if (!uri_parse(uris[i].text, &uri, &flaw)) {
            assert_non_null(strstr(flaw, uris[i].seen));
            continue;
        }
        snprintf(seen, sizeof seen, "%s %u %s%s%s", uri.host, uri.port, uri.path ? uri.path : "-",
                 uri.tls ? " tls" : "", uri.websocket ? " ws" : "");
        assert_string_equal(seen, uris[i].seen);
        free(uri.host);
        free(uri.path);
    }
}

static void addresses_have_a_port(void **state)
{
    (void)state;
    char *host;
    uint16_t port;
    const char *flaw;
    assert_true(uri_parse_address("[::1]:9680", &host, &port, &flaw));
    assert_string_equal(host, "::1");
    assert_int_equal(port, 9680);
    free(host);
    assert_false(uri_parse_address("127.0.0.1", &host, &port, &flaw));
    assert_non_null(strstr(flaw, "has no port"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uris_are_taken_apart),
        cmocka_unit_test(addresses_have_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
