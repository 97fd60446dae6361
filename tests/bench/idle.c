// Connections that do nothing: idle PORT COUNT opens them, says "connected", and holds them until
// its input ends.
#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void allow_files(unsigned count)
{
    struct rlimit limit = {count + 100, count + 100};

    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        err(1, "%u open files", count + 100);
}

static void open_one(uint16_t port, unsigned number)
{
    static const unsigned char connack[] = {0x20, 2, 0, 0};
    unsigned char packet[64] = {0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0}, answer[4];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int id = snprintf((char *)packet + 14, sizeof packet - 14, "idle-%u", number);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    packet[1] = (unsigned char)(12 + id);
    packet[13] = (unsigned char)id;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "connection %u to port %u", number, port);
    if (send(fd, packet, 14u + (size_t)id, MSG_NOSIGNAL) != 14 + id ||
        recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
        memcmp(answer, connack, sizeof answer) != 0)
        errx(1, "connection %u is not accepted", number);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: idle PORT COUNT");
    unsigned count = (unsigned)atoi(argv[2]);
    allow_files(count);
    for (unsigned i = 0; i < count; i++)
        open_one((uint16_t)atoi(argv[1]), i);
    puts("connected");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
