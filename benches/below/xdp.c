/* xdp: AF_XDP in copy mode on one queue, without libraries. A filter of a few instructions hands UDP to PORT over IPv4 to the
 * socket and all else to the kernel; the echo swaps hardware addresses, addresses and ports and sums the UDP checksum.
 *
 *   dev=NAME      the interface
 *   native        XDP in the driver instead of in the generic path
 *   batch=64      packets for one wake-up of the sender
 *
 * build: cc -O2 -o xdp xdp.c
 */
#include "below.h"
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/ip.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define FRAMES 4096
#define FRAME 2048
#define RING 2048

struct ring { volatile uint32_t *producer, *consumer, *flags; void *entries; };

static long bpf(int command, union bpf_attr *a) { return syscall(SYS_bpf, command, a, sizeof *a); }

static struct ring map_ring(int fd, struct xdp_ring_offset *o, size_t entry, off_t page) {
	uint8_t *at = mmap(0, o->desc + RING * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, page);
	if (at == MAP_FAILED) fail("mmap of a ring");
	return (struct ring){(void *)(at + o->producer), (void *)(at + o->consumer), (void *)(at + o->flags), at + o->desc};
}

#define LOAD(size, to, from, offset) (struct bpf_insn){BPF_LDX | BPF_MEM | size, to, from, offset, 0}
#define MOVE(to, from) (struct bpf_insn){BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0}
#define SETTO(to, value) (struct bpf_insn){BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value}
#define ADD(to, value) (struct bpf_insn){BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value}
#define UNLESS(reg, value, skip) (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, reg, 0, skip, value}

static void attach(int map, int device, uint16_t port, int native) {
	struct bpf_insn filter[] = {
		MOVE(6, 1), LOAD(BPF_W, 2, 1, offsetof(struct xdp_md, data)), LOAD(BPF_W, 3, 1, offsetof(struct xdp_md, data_end)),
		MOVE(4, 2), ADD(4, 42), {BPF_JMP | BPF_JGT | BPF_X, 4, 3, 12, 0},
		LOAD(BPF_H, 5, 2, 12), UNLESS(5, htons(ETH_P_IP), 10),
		LOAD(BPF_H, 5, 2, 14), {BPF_ALU64 | BPF_AND | BPF_K, 5, 0, 0, 0xff}, UNLESS(5, 0x45, 7),
		LOAD(BPF_B, 5, 2, 23), UNLESS(5, IPPROTO_UDP, 5),
		LOAD(BPF_H, 5, 2, 36), UNLESS(5, htons(port), 3),
		/* bpf_redirect_map(map, queue, XDP_PASS) */
		{BPF_JMP | BPF_JA, 0, 0, 2, 0},
		SETTO(0, XDP_PASS), {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
		LOAD(BPF_W, 2, 6, offsetof(struct xdp_md, rx_queue_index)),
		{BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map}, {0, 0, 0, 0, 0},
		SETTO(3, XDP_PASS), {BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
	};
	/* the jumps that leave go to SETTO(0, XDP_PASS) */
	int pass = 16, jumps[] = {5, 7, 10, 12, 14};
	for (int i = 0; i < 5; i++) filter[jumps[i]].off = pass - jumps[i] - 1;
	static char log[65536];
	union bpf_attr program = {.prog_type = BPF_PROG_TYPE_XDP, .insns = (uintptr_t)filter, .insn_cnt = sizeof filter / sizeof *filter,
		.license = (uintptr_t)"GPL", .log_buf = (uintptr_t)log, .log_size = sizeof log, .log_level = 1};
	int loaded = bpf(BPF_PROG_LOAD, &program);
	if (loaded < 0) { fprintf(stderr, "%s\n", log); fail("BPF_PROG_LOAD"); }
	union bpf_attr link = {.link_create = {.prog_fd = loaded, .target_ifindex = device, .attach_type = BPF_XDP,
		.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE}};
	if (bpf(BPF_LINK_CREATE, &link) < 0) fail("attaching XDP");  /* until the process ends */
}

static uint32_t add_up(const void *bytes, size_t length, uint32_t sum) {
	const uint8_t *b = bytes;
	for (; length > 1; length -= 2, b += 2) { uint16_t w; memcpy(&w, b, 2); sum += w; }
	return length ? sum + *b : sum;
}

static void turn_round(uint8_t *packet) {
	struct ethhdr *e = (void *)packet;
	struct iphdr *ip = (void *)(e + 1);
	struct udphdr *udp = (void *)(ip + 1);
	uint8_t hardware[6];
	memcpy(hardware, e->h_dest, 6);
	memcpy(e->h_dest, e->h_source, 6);
	memcpy(e->h_source, hardware, 6);
	uint32_t address = ip->saddr;
	ip->saddr = ip->daddr, ip->daddr = address;
	uint16_t port = udp->source;
	udp->source = udp->dest, udp->dest = port;
	((uint8_t *)(udp + 1))[2] |= 0x80;
	udp->check = 0;
	uint32_t sum = add_up(&ip->saddr, 8, htons(IPPROTO_UDP) + udp->len);
	sum = add_up(udp, ntohs(udp->len), sum);
	while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
	udp->check = sum == 0xffff ? 0xffff : ~sum;
}

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	int device = if_nametoindex(text("dev", "")), fd = socket(AF_XDP, SOCK_RAW, 0), size = RING, batch = word("batch", 64);
	if (!device) fail("dev=");
	if (fd < 0) fail("socket AF_XDP");
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	setrlimit(RLIMIT_MEMLOCK, &all);
	uint8_t *memory = mmap(0, FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct xdp_umem_reg umem = {.addr = (uintptr_t)memory, .len = FRAMES * FRAME, .chunk_size = FRAME};
	if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem)) fail("XDP_UMEM_REG");
	SET(fd, SOL_XDP, XDP_UMEM_FILL_RING, size);
	SET(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, size);
	SET(fd, SOL_XDP, XDP_RX_RING, size);
	SET(fd, SOL_XDP, XDP_TX_RING, size);
	struct xdp_mmap_offsets offsets;
	socklen_t length = sizeof offsets;
	if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length)) fail("XDP_MMAP_OFFSETS");
	struct ring fill = map_ring(fd, &offsets.fr, 8, XDP_UMEM_PGOFF_FILL_RING), done = map_ring(fd, &offsets.cr, 8, XDP_UMEM_PGOFF_COMPLETION_RING);
	struct ring rx = map_ring(fd, &offsets.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING), tx = map_ring(fd, &offsets.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
	for (uint32_t i = 0; i < RING; i++) ((uint64_t *)fill.entries)[i] = i * FRAME;
	__atomic_store_n(fill.producer, RING, __ATOMIC_RELEASE);
	struct sockaddr_xdp at = {.sxdp_family = AF_XDP, .sxdp_ifindex = device, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP};
	/* the queue of one that ended is let go some time later */
	for (int tries = 0; bind(fd, (void *)&at, sizeof at); usleep(20000)) if (errno != EBUSY || tries == 100) fail("bind AF_XDP");
	union bpf_attr create = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
	int map = bpf(BPF_MAP_CREATE, &create);
	if (map < 0) fail("BPF_MAP_CREATE");
	uint32_t queue = 0;
	union bpf_attr put = {.map_fd = map, .key = (uintptr_t)&queue, .value = (uintptr_t)&fd};
	if (bpf(BPF_MAP_UPDATE_ELEM, &put)) fail("BPF_MAP_UPDATE_ELEM");
	attach(map, device, atoi(argv[1]), word("native", 0));

	ready();
	uint32_t taken = 0, sending = 0, freed = 0, filled = RING;
	for (;;) {
		/* what was sent may be filled again */
		uint32_t ended = __atomic_load_n(done.producer, __ATOMIC_ACQUIRE);
		for (; freed != ended; freed++) ((uint64_t *)fill.entries)[filled++ % RING] = ((uint64_t *)done.entries)[freed % RING] & ~(uint64_t)(FRAME - 1);
		__atomic_store_n(done.consumer, freed, __ATOMIC_RELEASE);
		__atomic_store_n(fill.producer, filled, __ATOMIC_RELEASE);
		uint32_t there = __atomic_load_n(rx.producer, __ATOMIC_ACQUIRE), n = 0;
		if (there == taken && sending == freed) {
			struct pollfd wait = {.fd = fd, .events = POLLIN};
			poll(&wait, 1, -1);
			continue;
		}
		for (; taken != there && n < (uint32_t)batch; n++) {
			struct xdp_desc packet = ((struct xdp_desc *)rx.entries)[taken++ % RING];
			turn_round(memory + packet.addr);
			((struct xdp_desc *)tx.entries)[sending++ % RING] = (struct xdp_desc){.addr = packet.addr, .len = packet.len};
		}
		__atomic_store_n(rx.consumer, taken, __ATOMIC_RELEASE);
		__atomic_store_n(tx.producer, sending, __ATOMIC_RELEASE);
		if (n) received[0] += n, batches[0]++;
		sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0);
	}
}
