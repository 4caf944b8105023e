/* What the variants share: words on the command line, a bound socket, counts that are told at the end.
 *
 * Each variant sends every DNS message back with QR set, as ../peers/echo.c does: `VARIANT PORT [WORD | WORD=VALUE]..`.
 * A socket option that the kernel refuses ends the program with its name: no variant runs without what it is named for.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

static char **words;

static inline const char *text(const char *name, const char *otherwise) {
	size_t length = strlen(name);
	for (char **w = words; *w; w++)
		if (!strncmp(*w, name, length) && (!(*w)[length] || (*w)[length] == '=')) return (*w)[length] ? *w + length + 1 : "1";
	return otherwise;
}

static inline int word(const char *name, int otherwise) {
	const char *found = text(name, 0);
	return found ? atoi(found) : otherwise;
}

static inline void fail(const char *what) { fprintf(stderr, "%s: %s\n", what, strerror(errno)); exit(3); }

static inline void option(int fd, int level, int name, int value, const char *text) {
	if (setsockopt(fd, level, name, &value, sizeof value)) fail(text);
}
#define SET(fd, level, name, value) option(fd, level, name, value, #name)

/* How many came, with how many receives; by worker for those that have several. */
static volatile uint64_t received[2], batches[2], own_cpu[2], joined;

static inline void tell(int signal) {
	(void)signal;
	char line[256];
	int length = snprintf(line, sizeof line, "{\"received\": [%lu, %lu], \"batches\": [%lu, %lu], \"own_cpu\": [%lu, %lu], \"joined\": %lu}\n",
		received[0], received[1], batches[0], batches[1], own_cpu[0], own_cpu[1], joined);
	if (write(1, line, length)) _exit(0);
	_exit(0);
}

static inline void begin(char **argv) {
	if (!argv[1] || atoi(argv[1]) < 1) { fprintf(stderr, "PORT [WORD | WORD=VALUE]..\n"); exit(2); }
	words = argv + 2;
	signal(SIGTERM, tell);
	prctl(PR_SET_TIMERSLACK, 1);
}

/* The script waits for this. */
static inline void ready(void) { puts("ready"); fflush(stdout); }

/* `at` is the address, `any` the wildcard one. */
static inline int open_udp(const char *port) {
	int fd = socket(AF_INET, SOCK_DGRAM, 0), size = 4 << 20;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	inet_pton(AF_INET, word("any", 0) ? "0.0.0.0" : text("at", "127.0.0.1"), &at.sin_addr);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (word("reuseport", 0)) SET(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (word("nocheck", 0)) SET(fd, SOL_SOCKET, SO_NO_CHECK, 1);
	if (word("pmtu", -1) >= 0) SET(fd, IPPROTO_IP, IP_MTU_DISCOVER, word("pmtu", 0));
	if (word("priority", -1) >= 0) SET(fd, SOL_SOCKET, SO_PRIORITY, word("priority", 0));
	if (word("pktinfo", 0)) SET(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (word("zerocopy", 0)) SET(fd, SOL_SOCKET, SO_ZEROCOPY, 1);
	if (word("busy", 0)) SET(fd, SOL_SOCKET, SO_BUSY_POLL, word("busy", 0));
	if (word("prefer", 0)) SET(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
	if (word("gro", 0)) SET(fd, SOL_UDP, UDP_GRO, 1);
	if (bind(fd, (void *)&at, sizeof at)) fail("bind");
	return fd;
}
