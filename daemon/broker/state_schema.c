// The tables of the state file. STRICT, with checks, so that quick_check finds what is not
// possible; no check is narrower than what the daemon can write, else it could never write it.
#include "broker/state_write.h"

static const char version_1[] =
    "CREATE TABLE session ("
    " id INTEGER PRIMARY KEY,"
    " client_id TEXT NOT NULL,"
    " username TEXT,"
    " expiry INTEGER NOT NULL CHECK (expiry BETWEEN 0 AND 4294967295)," // seconds
    " ended_us INTEGER NOT NULL,"                                       // 0: connected
    " next_packet_id INTEGER NOT NULL CHECK (next_packet_id BETWEEN 0 AND 65535),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 0 AND 255)"
    ") STRICT;"
    "CREATE TABLE subscription ("
    " session INTEGER NOT NULL,"
    " filter TEXT NOT NULL,"
    " id INTEGER NOT NULL CHECK (id BETWEEN 0 AND 4294967295),"
    " qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 255),"
    " retain_handling INTEGER NOT NULL CHECK (retain_handling BETWEEN 0 AND 255),"
    " no_local INTEGER NOT NULL CHECK (no_local BETWEEN 0 AND 1),"
    " retain_as_published INTEGER NOT NULL CHECK (retain_as_published BETWEEN 0 AND 1),"
    " PRIMARY KEY (session, filter)"
    ") WITHOUT ROWID, STRICT;"
    // Referred to by what follows; gone with the last reference.
    "CREATE TABLE publication ("
    " id INTEGER PRIMARY KEY,"
    " publisher INTEGER NOT NULL," // session, 0: none
    " received_us INTEGER NOT NULL,"
    " expires_us INTEGER," // NULL: never
    " qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 255),"
    " retain INTEGER NOT NULL CHECK (retain BETWEEN 0 AND 1),"
    " topic TEXT NOT NULL,"
    " properties BLOB NOT NULL,"
    " payload BLOB NOT NULL"
    ") STRICT;"
    "CREATE TABLE will ("
    " session INTEGER PRIMARY KEY,"
    " publication INTEGER NOT NULL,"
    " delay INTEGER NOT NULL CHECK (delay BETWEEN 0 AND 4294967295)" // seconds
    ") STRICT;"
    "CREATE TABLE delivery ("
    " session INTEGER NOT NULL,"
    " packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 0 AND 65535),"
    " position INTEGER NOT NULL," // their order
    " publication INTEGER,"       // NULL: released
    " qos INTEGER NOT NULL CHECK (qos BETWEEN 0 AND 255),"
    " phase INTEGER NOT NULL CHECK (phase BETWEEN 0 AND 255),"
    " retain INTEGER NOT NULL CHECK (retain BETWEEN 0 AND 1),"
    " sent INTEGER NOT NULL CHECK (sent BETWEEN 0 AND 1),"
    " subscription_ids BLOB NOT NULL,"
    " PRIMARY KEY (session, packet_id)"
    ") WITHOUT ROWID, STRICT;"
    "CREATE TABLE incoming ("
    " session INTEGER NOT NULL,"
    " packet_id INTEGER NOT NULL CHECK (packet_id BETWEEN 0 AND 65535),"
    " publication INTEGER," // NULL: nobody is to get it
    " mapped INTEGER NOT NULL CHECK (mapped BETWEEN 0 AND 1),"
    " PRIMARY KEY (session, packet_id)"
    ") WITHOUT ROWID, STRICT;"
    "CREATE TABLE retained ("
    " topic TEXT PRIMARY KEY NOT NULL,"
    " publication INTEGER NOT NULL"
    ") WITHOUT ROWID, STRICT;";

const char *const state_migrations[STATE_VERSION] = {version_1};
