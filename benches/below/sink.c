/* sink: sending alone, towards a device that drops (the script makes a dummy in a namespace): what building and routing a
 * datagram cost, without the receiver's part that loopback adds. Nothing is received; it ends by itself and tells ns a datagram.
 *
 *   to=ADDRESS count=MESSAGES batch=32 peers=64   addresses from `to` on, in turn
 *   fresh          another port of the peer for each datagram: what a firewall that keeps track of flows has never seen
 *   one            sendto instead of sendmmsg
 *   connected      one peer, a connected socket
 *   gso=N          N answers for one peer in a train
 *   pktinfo        with the address to leave from
 *   dontroute, confirm; and the socket options of below.h
 *
 * build: cc -O2 -o sink sink.c
 */
#include "below.h"
#include <sys/resource.h>

#define MOST 256
#define LENGTH 72

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	static uint8_t bytes[MOST][LENGTH * 64];
	static struct sockaddr_in to[1024];
	static struct iovec parts[MOST];
	static struct mmsghdr messages[MOST];
	static char control[MOST][CMSG_SPACE(sizeof(struct in_pktinfo))];
	int fd = open_udp(argv[1]), batch = word("batch", 32), peers = word("peers", 64), gso = word("gso", 1), count = word("count", 200000);
	int flags = (word("dontroute", 0) ? MSG_DONTROUTE : 0) | (word("confirm", 0) ? MSG_CONFIRM : 0), next = 0, fresh = word("fresh", 0), port = getpid() * 7919;
	struct in_pktinfo info = {0};
	inet_pton(AF_INET, text("at", "127.0.0.1"), &info.ipi_spec_dst);
	for (int i = 0; i < peers; i++) {
		to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(1024 + i * 61)};
		inet_pton(AF_INET, text("to", "127.0.0.1"), &to[i].sin_addr);
		to[i].sin_addr.s_addr = htonl(ntohl(to[i].sin_addr.s_addr) + i);
	}
	if (word("connected", 0) && connect(fd, (void *)&to[0], sizeof to[0])) fail("connect");
	for (int i = 0; i < batch; i++) {
		parts[i] = (struct iovec){bytes[i], LENGTH * gso};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
		struct cmsghdr *c = (struct cmsghdr *)control[i];
		if (gso > 1) {
			uint16_t length = LENGTH;
			*c = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(2)};
			memcpy(CMSG_DATA(c), &length, 2);
			messages[i].msg_hdr.msg_control = c, messages[i].msg_hdr.msg_controllen = CMSG_SPACE(2);
		} else if (word("pktinfo", 0)) {
			*c = (struct cmsghdr){.cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof info)};
			memcpy(CMSG_DATA(c), &info, sizeof info);
			messages[i].msg_hdr.msg_control = c, messages[i].msg_hdr.msg_controllen = CMSG_SPACE(sizeof info);
		}
	}
	struct timespec before, after;
	long sent = -count / 10 / gso;  /* the first tenth warms */
	for (int measuring = 0; sent < count / gso;) {
		if (!measuring && sent >= 0) measuring = 1, sent = 0, clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
		if (!word("connected", 0)) for (int i = 0; i < batch; i++) {
			if (fresh) to[next].sin_port = htons(1024 + port++ % 64000);
			messages[i].msg_hdr.msg_name = &to[next], messages[i].msg_hdr.msg_namelen = sizeof to[0];
			if (++next == peers) next = 0;
		}
		if (word("one", 0)) {
			if (sendto(fd, bytes[0], LENGTH, flags, messages[0].msg_hdr.msg_name, messages[0].msg_hdr.msg_namelen) < 0) fail("sendto");
			sent++;
			continue;
		}
		int m = sendmmsg(fd, messages, batch, flags);
		if (m <= 0) fail("sendmmsg");
		sent += m;
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
	double ns = (after.tv_sec - before.tv_sec) * 1e9 + after.tv_nsec - before.tv_nsec;
	printf("{\"ns\": %.1f}\n", ns / ((double)sent * gso));
}
