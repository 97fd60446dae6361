// Properties of a PUBLISH, encoded, as paho takes them.
#pragma once

#include <MQTTProperties.h>
#include <stdint.h>

#include "base/bytes.h"

// The list points into the encoded bytes; the caller frees list.array, and nothing else of it.
// It ends before one that a PUBLISH does not hand on. expiry in seconds; UINT32_MAX: none.
MQTTProperties properties_list(struct bytes encoded, uint32_t expiry);
