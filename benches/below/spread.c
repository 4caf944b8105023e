/* spread: two workers, each pinned to a CPU with a socket of its own at one address, and who of them gets a query.
 *
 *   (nothing)   the kernel's hash of addresses and ports
 *   cbpf        SO_ATTACH_REUSEPORT_CBPF: the worker of the CPU that the packet came in on
 *   incoming    SO_INCOMING_CPU on each socket
 *   workers=1   only the first, for comparison
 *
 * `own_cpu` counts queries that were taken up on the CPU that they came in on: the script's clients are pinned, and over
 * loopback a query comes in where its sender runs, so 127.0.0.2 asks from CPU 0 and 127.0.0.3 from CPU 1.
 *
 * build: cc -O2 -pthread -o spread spread.c
 */
#include "below.h"
#include <linux/filter.h>
#include <pthread.h>

#define BATCH 32
#define LARGEST 4096

static int sockets[2];

static void *serve(void *number) {
	long worker = (long)number;
	int fd = sockets[worker];
	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	CPU_SET(worker, &cpus);
	if (sched_setaffinity(0, sizeof cpus, &cpus)) fail("sched_setaffinity");
	uint8_t (*bytes)[LARGEST] = calloc(BATCH, LARGEST);
	struct sockaddr_in from[BATCH];
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH];
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			parts[i] = (struct iovec){bytes[i], LARGEST};
			messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, 0), own = 0;
		if (n <= 0) continue;
		for (int i = 0; i < n; i++) {
			bytes[i][2] |= 0x80;
			parts[i].iov_len = messages[i].msg_len;
			own += (ntohl(from[i].sin_addr.s_addr) & 255) == 2 + worker;
		}
		received[worker] += n, batches[worker]++, own_cpu[worker] += own;
		for (int done = 0; done < n;) {
			int m = sendmmsg(fd, messages + done, n - done, 0);
			if (m <= 0) break;
			done += m;
		}
	}
	return 0;
}

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	int workers = word("workers", 2);
	for (int i = 0; i < workers; i++) {
		sockets[i] = open_udp(argv[1]);
		if (word("incoming", 0)) SET(sockets[i], SOL_SOCKET, SO_INCOMING_CPU, i);
	}
	struct sock_filter by_cpu[] = {{BPF_LD | BPF_W | BPF_ABS, 0, 0, SKF_AD_OFF + SKF_AD_CPU}, {BPF_RET | BPF_A, 0, 0, 0}};
	struct sock_fprog program = {2, by_cpu};
	if (word("cbpf", 0) && setsockopt(sockets[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program)) fail("SO_ATTACH_REUSEPORT_CBPF");
	ready();
	pthread_t thread;
	if (workers == 2 && pthread_create(&thread, 0, serve, (void *)1)) fail("no thread");
	serve(0);
}
