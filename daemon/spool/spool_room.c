// The bound of the spool's file, lower where the disk has less room: found by asking the file
// system from time to time, since messages come faster than it can be asked.
#include "spool/spool_room.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/loop.h"

enum { LOOK_MS = 200, LOOK_BYTES = 1 << 20, RESERVE_MAX = 64 << 20, RESERVE_PART = 4 };

// An entry is written twice, to the log and to the file, and the log is kept; where the disk has no
// more, there is what entries have left free in the file. What is in it may stay.
static uint64_t look(const struct spool_room *room, uint64_t written)
{
    struct statvfs system;
    struct stat file;
    if (statvfs(room->path, &system) != 0 || stat(room->path, &file) != 0)
        return room->max_bytes; // whatever is wrong, the disk's thread will say it
    uint64_t free = (uint64_t)system.f_bavail * system.f_frsize;
    uint64_t reserve = (uint64_t)system.f_blocks * system.f_frsize / RESERVE_PART;
    if (reserve > RESERVE_MAX)
        reserve = RESERVE_MAX;
    uint64_t size = (uint64_t)file.st_size, limit = size - size / 16;
    uint64_t more = written + (free > reserve ? (free - reserve) / 2 : 0);
    if (more > limit)
        limit = more;
    return limit < room->max_bytes ? limit : room->max_bytes;
}

uint64_t spool_room_limit(struct spool_room *room, uint64_t bytes, uint64_t pending)
{
    int64_t now = loop_now_ms();
    uint64_t more = bytes > room->looked_bytes ? bytes - room->looked_bytes : 0;
    if (room->looked_ms == 0 || now - room->looked_ms >= LOOK_MS || more >= LOOK_BYTES) {
        room->looked_ms = now;
        room->looked_bytes = bytes;
        room->limit = look(room, bytes - pending);
    }
    return room->limit;
}
