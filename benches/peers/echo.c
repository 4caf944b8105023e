/* echo: what the kernel's sockets cost by themselves. Sends each DNS message back with QR set, over UDP by recvmmsg and
 * sendmmsg from one thread, and over TCP by epoll from another. No server that uses these sockets can be below it.
 *
 * build: cc -O2 -pthread -o echo echo.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64
#define LARGEST 4096

static void fail(const char *what) { perror(what); exit(1); }

static void serve_udp(int fd) {
	static uint8_t bytes[BATCH][LARGEST];
	static struct sockaddr_in from[BATCH];
	static struct iovec parts[BATCH];
	static struct mmsghdr messages[BATCH];
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){bytes[i], LARGEST};
			messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, 0);
		for (int i = 0; i < n; i++) {
			bytes[i][2] |= 0x80;
			parts[i].iov_len = messages[i].msg_len;
		}
		for (int done = 0; done < n;) {
			int m = sendmmsg(fd, messages + done, n - done, 0);
			if (m <= 0) break;
			done += m;
		}
	}
}

struct conn { int fd; size_t length; uint8_t bytes[65536]; };

/* Whole messages go back as they came, what is left waits for its rest. Gives 0 once the client is gone. */
static int answer(struct conn *c) {
	ssize_t n = recv(c->fd, c->bytes + c->length, sizeof c->bytes - c->length, 0);
	if (n <= 0) return 0;
	c->length += n;
	size_t whole = 0;
	while (c->length - whole >= 2) {
		size_t length = c->bytes[whole] << 8 | c->bytes[whole + 1];
		if (c->length - whole < 2 + length) break;
		if (length > 2) c->bytes[whole + 4] |= 0x80;
		whole += 2 + length;
	}
	if (whole && send(c->fd, c->bytes, whole, MSG_NOSIGNAL) != (ssize_t)whole) return 0;
	c->length -= whole;
	memmove(c->bytes, c->bytes + whole, c->length);
	return 1;
}

static void *serve_tcp(void *listener) {
	int listening = *(int *)listener, poll = epoll_create1(0), one = 1;
	struct epoll_event ready[64], new = {.events = EPOLLIN, .data.ptr = 0};
	epoll_ctl(poll, EPOLL_CTL_ADD, listening, &new);
	for (;;) {
		int n = epoll_wait(poll, ready, 64, -1);
		for (int i = 0; i < n; i++) {
			struct conn *c = ready[i].data.ptr;
			if (c && !answer(c)) {
				close(c->fd);
				free(c);
			} else if (!c && (c = calloc(1, sizeof *c))) {
				c->fd = accept(listening, 0, 0);
				setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
				struct epoll_event readable = {.events = EPOLLIN, .data.ptr = c};
				epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &readable);
			}
		}
	}
	return 0;
}

int main(int argc, char **argv) {
	if (argc != 2) { fprintf(stderr, "echo PORT\n"); return 2; }
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0), size = 4 << 20, one = 1;
	setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	setsockopt(udp, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(udp, (void *)&at, sizeof at) || bind(tcp, (void *)&at, sizeof at) || listen(tcp, 64)) fail("echo: cannot listen");
	pthread_t thread;
	if (pthread_create(&thread, 0, serve_tcp, &tcp)) fail("echo: no thread");
	serve_udp(udp);
}
