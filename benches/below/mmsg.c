/* mmsg: recvmmsg and sendmmsg, and what can be set or said differently with them. The base of all figures is `mmsg PORT`.
 *
 *   batch=32      messages in a call
 *   one           recvfrom and sendto instead, a message at a time
 *   first         a blocking recvfrom for the first message, recvmmsg without waiting for the others
 *   epoll         epoll_wait, then recvmmsg without waiting
 *   spin          recvmmsg without waiting, again and again
 *   nap=US        sleep before a receive unless the last one filled the batch, so that more is there
 *   connected     send by a connected socket, to the first that asked
 *   dontroute, confirm, zerocopy   flags of the send
 * and the socket options of below.h.
 *
 * build: cc -O2 -o mmsg mmsg.c
 */
#include "below.h"
#include <linux/errqueue.h>
#include <sys/epoll.h>

#define MOST 256
#define LARGEST 4096

static uint8_t bytes[MOST][LARGEST];
static struct sockaddr_in from[MOST];
static struct iovec parts[MOST];
static struct mmsghdr messages[MOST];
static char control[MOST][CMSG_SPACE(sizeof(struct in_pktinfo))];

static void one_at_a_time(int fd) {
	for (;;) {
		socklen_t length = sizeof from[0];
		ssize_t n = recvfrom(fd, bytes[0], LARGEST, 0, (void *)&from[0], &length);
		if (n < 3) continue;
		received[0]++, batches[0]++;
		bytes[0][2] |= 0x80;
		sendto(fd, bytes[0], n, 0, (void *)&from[0], length);
	}
}

/* What the kernel says of the pages that it took: may only be used again once it has. */
static void wait_for_pages(int fd, uint32_t wanted) {
	static uint32_t done;
	while (done < wanted) {
		char room[128];
		struct msghdr message = {.msg_control = room, .msg_controllen = sizeof room};
		if (recvmsg(fd, &message, MSG_ERRQUEUE) < 0) continue;
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		if (c) done = ((struct sock_extended_err *)CMSG_DATA(c))->ee_data + 1;
	}
}

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	int fd = open_udp(argv[1]), batch = word("batch", 32), nap = word("nap", 0), first = word("first", 0), connected = word("connected", 0);
	int is_connected = 0, pktinfo = word("pktinfo", 0), zerocopy = word("zerocopy", 0), poll = word("epoll", 0) ? epoll_create1(0) : -1;
	uint32_t pages = 0;
	int receive = word("spin", 0) || poll >= 0 ? MSG_DONTWAIT : MSG_WAITFORONE;
	int send = (word("dontroute", 0) ? MSG_DONTROUTE : 0) | (word("confirm", 0) ? MSG_CONFIRM : 0) | (zerocopy ? MSG_ZEROCOPY : 0);
	if (batch < 1 || batch > MOST) return 2;
	if (poll >= 0) {
		struct epoll_event wanted = {.events = EPOLLIN};
		if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted)) fail("epoll_ctl");
	}
	ready();
	if (word("one", 0)) one_at_a_time(fd);
	for (int n = 0;;) {
		for (int i = 0; i < batch; i++) {
			parts[i] = (struct iovec){bytes[i], LARGEST};
			messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
			if (pktinfo) messages[i].msg_hdr.msg_control = control[i], messages[i].msg_hdr.msg_controllen = sizeof control[i];
		}
		if (nap && n < batch) nanosleep(&(struct timespec){.tv_nsec = nap * 1000}, 0);
		struct epoll_event ready;
		if (poll >= 0 && epoll_wait(poll, &ready, 1, -1) < 1) continue;
		if (first) {
			ssize_t length = recvfrom(fd, bytes[0], LARGEST, 0, (void *)&from[0], &messages[0].msg_hdr.msg_namelen);
			if (length < 0) continue;
			messages[0].msg_len = length;
			n = recvmmsg(fd, messages + 1, batch - 1, MSG_DONTWAIT, 0);
			n = n < 0 ? 1 : n + 1;
		} else n = recvmmsg(fd, messages, batch, receive, 0);
		if (n <= 0) continue;
		received[0] += n, batches[0]++;
		for (int i = 0; i < n; i++) {
			bytes[i][2] |= 0x80;
			parts[i].iov_len = messages[i].msg_len;
			if (pktinfo) ((struct in_pktinfo *)CMSG_DATA((struct cmsghdr *)control[i]))->ipi_ifindex = 0;
			if (is_connected) messages[i].msg_hdr.msg_name = 0, messages[i].msg_hdr.msg_namelen = 0;
		}
		for (int done = 0; done < n;) {
			int m = sendmmsg(fd, messages + done, n - done, send);
			if (m < 0 && zerocopy) fail("sendmmsg MSG_ZEROCOPY");
			if (m <= 0) break;
			done += m;
			if (zerocopy) pages += m;
		}
		if (zerocopy) wait_for_pages(fd, pages);
		if (connected && !is_connected) is_connected = !connect(fd, (void *)&from[0], sizeof from[0]);
	}
}
