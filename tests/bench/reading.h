// What the simulated sensors of the benchmark send.
#pragma once

enum { READING_TOPIC_MAX = 64, READING_PAYLOAD_MAX = 160 };

enum reading_kind {
    READING_TEXT,  // "300 feet" on sensors/altimeter/N
    READING_JSON,  // an object of 120 bytes with five numbers on sensors/weather/N
    READING_KEYED, // {"ts":1700000000000,"feet":300} on sensors/keyed/N, each at another time
};

// Ends the program where the name is neither "text" nor "json" nor "keyed".
enum reading_kind reading_kind_parse(const char *name);
// Reading number of one hundred sensors that take turns; both buffers are filled as texts.
void reading_make(enum reading_kind kind, unsigned number, char topic[READING_TOPIC_MAX],
                  char payload[READING_PAYLOAD_MAX]);
