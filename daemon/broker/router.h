// Who subscribes to what: the subscriptions of all sessions in a tree of their filters, and the
// groups that share one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct session;

// One subscription; the session that makes it owns it.
struct subscription_entry {
    struct subscription_entry *next; // of the same session
    struct session *session;
    struct group *group; // that shares the filter; NULL: not shared. The router's own
    uint32_t id;         // Subscription Identifier, 0: none
    uint8_t qos;
    bool no_local, retain_as_published;
    char filter[]; // with $share/NAME/
};

// Those who share a filter under one name [MQTT-4.8.2-4]: each message goes to one of them.
struct group {
    struct subscription_entry **members; // at least one
    size_t count, capacity;
    size_t turn; // of members, who is asked first next time
};

struct router;

struct router *router_new(void);
void router_free(struct router *router); // all subscriptions have been removed
void router_add(struct router *router, struct subscription_entry *entry);
void router_remove(struct router *router, struct subscription_entry *entry);
// Whether any subscription matches.
bool router_wants(const struct router *router, struct bytes topic);

// Calls each for all subscriptions that match and are not shared, then share for the groups of the
// others. Neither may change the router.
struct router_calls {
    void (*each)(void *arg, struct subscription_entry *entry);
    void (*share)(void *arg, struct group *group);
    void *arg;
};
void router_match(const struct router *router, struct bytes topic,
                  const struct router_calls *calls);
