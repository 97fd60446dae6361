// Clients of the broker: a connection each, from the accepted socket to its end.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/message.h"
#include "mqtt/conn.h"

struct accounts;
struct broker;
struct client;
struct publication;
struct session;

// Takes the accepted socket over; the client lives in the broker's lists until it is closed.
void client_new(struct broker *broker, int fd, const struct conn_transport *transport);
// Closes all at once and says nothing to anybody.
void clients_free(struct broker *broker);
// The client with this id, while it has not begun to end; NULL where it is gone.
struct client *client_by_id(const struct broker *broker, uint64_t id);
// What is due for those that had something to do in this turn of the loop.
void clients_turn(struct broker *broker);
// "Room again" in the budget.
void clients_resume(struct broker *broker);
// Sends what acknowledgements are due and the reason, and lets all go.
void clients_end(struct broker *broker, uint8_t reason, const char *why);
// Closes those that have been told already and still have not gone.
void clients_cut(struct broker *broker);
// After a reload: those who are no longer allowed go. The broker has the new accounts; before are
// the ones by which clients have logged in.
void clients_check(struct broker *broker, const struct accounts *before);
// A message that a client has published has its verdict.
void client_settled(struct broker *broker, const struct message *message);

// QoS 2: PostgreSQL's identifiers are known; or one is gone.
void exchanges_judge(struct broker *broker);
void exchange_forgotten(struct broker *broker, uint64_t session_id, uint16_t packet_id);
// Those that wait to be judged are abandoned.
void exchanges_abandon(struct broker *broker);
// A will that is published is a message for the mappings too.
void client_publish_will(struct broker *broker, const char *client_id,
                         const struct publication *will);
