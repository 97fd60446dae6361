// Wills: what is published for a client whose connection has ended without a good-bye.
#pragma once

#include <stdint.h>

#include "broker/publication.h"

struct session;

// The session's will from now on; message is held. Not yet in the state.
void will_set(struct session *session, struct publication *message, uint32_t delay);
// The connection ended elapsed_ms ago: publishes the will now or later [MQTT-3.1.3-9]. Nothing
// where there is none.
void will_start(struct session *session, int64_t elapsed_ms);
// Publishes the will at once, if there is one.
void will_publish(struct session *session);
// Forgets it, says nothing to the state.
void will_free(struct session *session);
