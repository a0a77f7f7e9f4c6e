/*
 * A link between two network namespaces: what one sends the other receives
 * later, no faster than at a rate, or not at all.
 *
 *   link NAMESPACE ADDRESS NAMESPACE ADDRESS DELAY RATE QUEUE LOSS BURST SEED
 *
 * Each namespace gets a tun device "link" with its address, which brings the
 * length of the prefix with it. The rest holds in each direction: DELAY in
 * milliseconds, RATE in bytes a second, QUEUE in bytes, LOSS as a share of 1,
 * BURST the mean number of packets that are lost in a row, 0 for independent
 * losses. A packet that is lost has used the rate; one that finds the queue
 * full has not.
 *
 * Prints an empty line when packets may be sent. Lives until standard input
 * ends, then prints what became of the packets as JSON. A packet is counted
 * when it arrives or would have arrived, so none is counted that is still on
 * its way.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { READS_IN_A_ROW = 64, LONGEST = 65536, SECOND = 1000000000, DEVICE_QUEUE = 10000 };

typedef struct Packet {
    struct Packet *next;
    uint64_t due;
    int lost;
    int length;
    unsigned char data[];
} Packet;

typedef struct {
    uint64_t delay; /* nanoseconds */
    double rate;    /* bytes a nanosecond */
    double queue;   /* bytes */
    double enter;   /* chance that a packet is lost after one that was not */
    double leave;   /* chance that a packet is not lost after one that was */
} Character;

typedef struct {
    int in, out;
    Packet *first, **last;
    uint64_t free_at; /* when the queue is empty */
    int losing;
    uint64_t packets, bytes, lost, overflowed;
} Direction;

static uint64_t state;

static double chance(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void enter(int namespace, const char *name)
{
    if (namespace < 0 || setns(namespace, CLONE_NEWNET))
        fail(name);
}

static int device(const char *namespace, const char *address)
{
    char text[256];
    struct ifreq request = {.ifr_name = "link", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int home = open("/proc/self/ns/net", O_RDONLY);
    int file;

    snprintf(text, sizeof text, "/run/netns/%s", namespace);
    enter(open(text, O_RDONLY), namespace);
    file = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (file < 0 || ioctl(file, TUNSETIFF, &request))
        fail("/dev/net/tun");
    snprintf(text, sizeof text,
             "ip address add %s dev link && ip link set lo up &&"
             " ip link set dev link mtu 1500 txqueuelen %d up",
             address, DEVICE_QUEUE);
    if (system(text))
        exit(1);
    enter(home, "the first namespace");
    close(home);
    return file;
}

static int loses(Direction *way, const Character *link)
{
    way->losing = chance() < (way->losing ? 1 - link->leave : link->enter);
    return way->losing;
}

static void admit(Direction *way, const Character *link, const unsigned char *data, int length,
                  uint64_t at)
{
    uint64_t start = way->free_at > at ? way->free_at : at;
    Packet *packet;

    if ((double)(start - at) * link->rate > link->queue) {
        way->packets++;
        way->bytes += (uint64_t)length;
        way->overflowed++;
        return;
    }
    way->free_at = start + (uint64_t)(length / link->rate);
    packet = malloc(sizeof *packet + (size_t)length);
    if (!packet)
        fail("memory");
    packet->next = NULL;
    packet->due = way->free_at + link->delay;
    packet->lost = loses(way, link);
    packet->length = length;
    memcpy(packet->data, data, (size_t)length);
    *way->last = packet;
    way->last = &packet->next;
}

static void deliver(Direction *way, uint64_t at)
{
    Packet *packet;

    while ((packet = way->first) && packet->due <= at) {
        way->packets++;
        way->bytes += (uint64_t)packet->length;
        if (packet->lost)
            way->lost++;
        else if (write(way->out, packet->data, (size_t)packet->length) < 0)
            fail("write");
        way->first = packet->next;
        if (!way->first)
            way->last = &way->first;
        free(packet);
    }
}

static void take(Direction *way, const Character *link)
{
    static unsigned char buffer[LONGEST];
    uint64_t at = now();
    int count, length;

    for (count = 0; count < READS_IN_A_ROW; count++) {
        length = (int)read(way->in, buffer, sizeof buffer);
        if (length <= 0)
            return;
        if (buffer[0] >> 4 == 4) /* IPv6 only looks for neighbours */
            admit(way, link, buffer, length, at);
    }
}

static void carry(Direction ways[2], const Character *link)
{
    struct pollfd files[3] = {
        {ways[0].in, POLLIN, 0}, {ways[1].in, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    struct timespec wait;
    uint64_t at, next;
    int i;

    while (!files[2].revents) {
        at = now();
        next = at + SECOND / 10;
        for (i = 0; i < 2; i++) {
            deliver(&ways[i], at);
            if (ways[i].first && ways[i].first->due < next)
                next = ways[i].first->due;
        }
        at = now();
        wait.tv_sec = 0;
        wait.tv_nsec = next > at ? (long)(next - at) : 0;
        ppoll(files, 3, &wait, NULL);
        take(&ways[0], link);
        take(&ways[1], link);
    }
}

static void report(const char *name, const Direction *way)
{
    printf("\"%s\": {\"packets\": %llu, \"bytes\": %llu, \"lost\": %llu, \"overflowed\": %llu}",
           name, (unsigned long long)way->packets, (unsigned long long)way->bytes,
           (unsigned long long)way->lost, (unsigned long long)way->overflowed);
}

int main(int argc, char **argv)
{
    Direction ways[2] = {{0}, {0}};
    Character link;
    double loss, burst;
    int a, b, i;

    if (argc != 11) {
        fprintf(stderr, "link takes 10 arguments, see the head of link.c\n");
        return 2;
    }
    link.delay = (uint64_t)(atof(argv[5]) * 1e6);
    link.rate = atof(argv[6]) / 1e9;
    link.queue = atof(argv[7]);
    loss = atof(argv[8]);
    burst = atof(argv[9]);
    link.leave = burst > 0 ? 1 / burst : 1 - loss;
    link.enter = burst > 0 ? loss / (1 - loss) / burst : loss;
    state = strtoull(argv[10], NULL, 10) * 0x9E3779B97F4A7C15ull + 1;
    a = device(argv[1], argv[2]);
    b = device(argv[3], argv[4]);
    for (i = 0; i < 2; i++) {
        ways[i].in = i ? b : a;
        ways[i].out = i ? a : b;
        ways[i].last = &ways[i].first;
    }
    printf("\n");
    fflush(stdout);
    carry(ways, &link);
    printf("{");
    report("there", &ways[0]);
    printf(", ");
    report("back", &ways[1]);
    printf("}\n");
    return 0;
}
