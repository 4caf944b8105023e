/* blast: a DNS client that asks as fast as it is answered, or at a given rate, from one thread.
 *
 * It has to cost less than the servers that it drives, so it sends and receives in batches, and over UDP it may hand the kernel
 * trains of queries (GSO). Each socket has a window of queries under way. A query's id is its slot in the window and how often
 * that slot was used, so that a late answer is not taken for a new one; and an answer must repeat the question.
 *
 * The figures go to standard output as one JSON object.
 *
 * build: cc -O2 -o blast blast.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define BATCH 64                   /* queries or answers in one system call; what one GSO train may hold, too */
#define LARGEST_QUERY 320
#define LARGEST_ANSWER 4096
#define MOST_SOCKETS 1024
#define LOST_AFTER 1000000000ull   /* ns */
#define LOOK_FOR_LOST 50000000ull  /* ns */

static const char USAGE[] =
	"blast -p PORT -f FILE [-t SECONDS] [-S SOCKETS] [-w WINDOW] [-B ADDRESS,ADDRESS..] [-r RATE] [-R SEED] [-a ADDRESS] [-e] [-x] [-g | -T]\n"
	"  -f  queries, a line each: NAME TYPE\n"
	"  -S  client sockets (TCP: connections), 4\n"
	"  -w  queries under way on each socket, rounded up to a power of two, 32\n"
	"  -B  addresses to ask from, taken in turn by the sockets\n"
	"  -r  queries per second, instead of as fast as answers come; latency then counts from when a query was due\n"
	"  -a  the server's address, 127.0.0.1\n"
	"  -e  a random IPv4 /24 as client subnet in each query\n"
	"  -x  a random first label in each query\n"
	"  -g  GSO: queries of one length leave in one train\n"
	"  -T  TCP\n";

struct query { uint16_t length, question, subnet; uint8_t bytes[LARGEST_QUERY]; };
struct slot { uint64_t since; uint32_t query; uint16_t id; uint8_t busy; };
struct conn {
	int fd;
	struct slot *slots;
	uint32_t *free_slots, free_count;
	uint16_t *uses;
	uint8_t *in, *out;             /* TCP: what is not a whole answer yet, what was not written yet */
	size_t in_length, out_length;
};

static struct query *queries;
static uint32_t query_count, next_query;
static struct conn conns[MOST_SOCKETS];
static int socket_count = 4, window_bits, random_subnet, random_label, gso, tcp;
static uint32_t window = 32;
static double rate;
static uint64_t started, sent, answered, lost, stray, other_question, send_failed, truncated, without_records, rcodes[16];

static void fail(const char *what) { perror(what); exit(2); }
static void refuse(const char *why) { fprintf(stderr, "blast: %s\n", why); exit(2); }

static uint64_t state = 88172645463325252ull;
static inline uint64_t rnd(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }

static inline uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* --- latency: a histogram with 32 steps for each power of two of nanoseconds, so that a percentile is true to 3% */

static uint64_t histogram[64 * 32], slowest;

static inline void record(uint64_t ns) {
	if (ns > slowest) slowest = ns;
	if (ns < 32) { histogram[ns]++; return; }
	int power = 63 - __builtin_clzll(ns);
	histogram[(power - 4) * 32 + ((ns >> (power - 5)) & 31)]++;
}

static double percentile_us(double part) {
	uint64_t wanted = (uint64_t)(part * answered), seen = 0;
	for (int i = 0; i < 64 * 32; i++) {
		if ((seen += histogram[i]) <= wanted) continue;
		if (i < 32) return i / 1e3;
		int power = i / 32 + 4;
		return ((1ull << power) + ((uint64_t)(i % 32) << (power - 5))) / 1e3;
	}
	return slowest / 1e3;
}

/* --- queries */

static int type_number(const char *name) {
	if (!strcasecmp(name, "A")) return 1;
	if (!strcasecmp(name, "AAAA")) return 28;
	refuse("queries are of type A and AAAA");
	return 0;
}

static void read_queries(const char *path) {
	FILE *file = fopen(path, "r");
	if (!file) fail(path);
	char line[1024], name[600], type[32];
	uint32_t capacity = 0;
	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, "%599s %31s", name, type) != 2) continue;
		if (query_count == capacity) {
			capacity = capacity ? capacity * 2 : 1024;
			if (!(queries = realloc(queries, capacity * sizeof *queries))) fail("memory");
		}
		struct query *q = &queries[query_count++];
		memset(q, 0, sizeof *q);
		uint8_t *p = q->bytes + 12;
		q->bytes[5] = 1;   /* QDCOUNT */
		q->bytes[11] = 1;  /* ARCOUNT: the OPT */
		for (char *label = name; *label;) {
			size_t length = strcspn(label, ".");
			if (!length || length > 63 || p - q->bytes + length > 250) refuse("a name that cannot be asked for");
			*p++ = length;
			memcpy(p, label, length);
			p += length;
			label += length;
			if (*label) label++;
		}
		*p++ = 0;
		*p++ = 0; *p++ = type_number(type);
		*p++ = 0; *p++ = 1;
		q->question = p - q->bytes - 12;
		static const uint8_t opt[] = {0, 0, 41, 1232 >> 8, 1232 & 255, 0, 0, 0, 0, 0};
		static const uint8_t subnet[] = {11, 0, 8, 0, 7, 0, 1, 24, 0};  /* RDLENGTH; option 8 of 7 octets: IPv4, /24, scope 0 */
		memcpy(p, opt, sizeof opt);
		p += sizeof opt;
		if (random_subnet) {
			memcpy(p, subnet, sizeof subnet);
			p += sizeof subnet;
			q->subnet = p - q->bytes;
			p += 3;
		} else *p++ = 0;
		q->length = p - q->bytes;
	}
	fclose(file);
	if (!query_count) refuse("no queries in the file");
}

static uint16_t write_query(struct conn *c, uint32_t index, uint64_t since, uint8_t *to) {
	struct slot *slot = &c->slots[index];
	struct query *q = &queries[next_query];
	*slot = (struct slot){since, next_query, (uint16_t)(++c->uses[index] << window_bits | index), 1};
	if (++next_query == query_count) next_query = 0;
	memcpy(to, q->bytes, q->length);
	to[0] = slot->id >> 8;
	to[1] = slot->id;
	if (q->subnet) {  /* 1.0.0.0 to 223.255.255.0, without 127 */
		uint64_t r = rnd();
		uint8_t first = 1 + (r & 0xffff) % 222;
		to[q->subnet] = first < 127 ? first : first + 1;
		to[q->subnet + 1] = r >> 16;
		to[q->subnet + 2] = r >> 24;
	}
	if (random_label) {
		uint64_t r = rnd();
		for (int i = 0; i < to[12]; i++, r = i % 12 ? r >> 5 : rnd()) to[13 + i] = "abcdefghijklmnopqrstuvwxyz234567"[r & 31];
	}
	return q->length;
}

static inline void release(struct conn *c, uint32_t index) {
	c->slots[index].busy = 0;
	c->free_slots[c->free_count++] = index;
}

static uint64_t due(uint64_t number, uint64_t present) {
	return rate > 0 ? started + (uint64_t)(number * 1e9 / rate) : present;
}

/* --- sending */

static uint32_t send_udp(struct conn *c, uint32_t count, uint64_t present) {
	static uint8_t bytes[BATCH * LARGEST_QUERY];
	static struct mmsghdr messages[BATCH];
	static struct iovec parts[BATCH];
	static char control[BATCH][CMSG_SPACE(2)];
	uint32_t used[BATCH], inside[BATCH];  /* slots, and queries in each message */
	uint8_t *to = bytes;
	uint32_t n = 0;
	uint16_t last = 0;
	for (uint32_t i = 0; i < count; i++) {
		used[i] = c->free_slots[--c->free_count];
		uint16_t length = write_query(c, used[i], due(sent + i, present), to);
		if (gso && n && length == last) {
			parts[n - 1].iov_len += length;
			inside[n - 1]++;
		} else {
			parts[n] = (struct iovec){to, length};
			messages[n].msg_hdr = (struct msghdr){.msg_iov = &parts[n], .msg_iovlen = 1};
			if (gso) {
				messages[n].msg_hdr.msg_control = control[n];
				messages[n].msg_hdr.msg_controllen = sizeof control[n];
				struct cmsghdr *segment = CMSG_FIRSTHDR(&messages[n].msg_hdr);
				segment->cmsg_level = SOL_UDP;
				segment->cmsg_type = UDP_SEGMENT;
				segment->cmsg_len = CMSG_LEN(2);
				memcpy(CMSG_DATA(segment), &length, 2);
			}
			inside[n++] = 1;
		}
		to += last = length;
	}
	int done = sendmmsg(c->fd, messages, n, 0);
	if (done < 0 && errno != EAGAIN && errno != ECONNREFUSED && errno != ENOBUFS) fail("sendmmsg");
	uint32_t gone = 0;
	for (int i = 0; i < done; i++) gone += inside[i];
	for (uint32_t i = gone; i < count; i++) release(c, used[i]);
	send_failed += count - gone;
	return gone;
}

static void flush_tcp(struct conn *c) {
	if (!c->out_length) return;
	ssize_t done = send(c->fd, c->out, c->out_length, MSG_NOSIGNAL);
	if (done < 0 && errno == EAGAIN) return;
	if (done < 0) fail("send over TCP");
	c->out_length -= done;
	memmove(c->out, c->out + done, c->out_length);
}

static uint32_t send_tcp(struct conn *c, uint32_t count, uint64_t present) {
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *to = c->out + c->out_length;
		uint16_t length = write_query(c, c->free_slots[--c->free_count], due(sent + i, present), to + 2);
		to[0] = length >> 8;
		to[1] = length;
		c->out_length += 2 + length;
	}
	flush_tcp(c);
	return count;
}

/* Sends at most `most` queries on a socket and gives how many. */
static uint32_t ask(struct conn *c, uint32_t most) {
	uint32_t count = c->free_count < most ? c->free_count : most;
	if (count > BATCH) count = BATCH;
	if (!count) return 0;
	uint32_t gone = tcp ? send_tcp(c, count, now()) : send_udp(c, count, now());
	sent += gone;
	return gone;
}

/* --- receiving */

static void take(struct conn *c, const uint8_t *answer, size_t length, uint64_t present) {
	if (length < 12 || !(answer[2] & 0x80)) { stray++; return; }
	uint16_t id = answer[0] << 8 | answer[1];
	uint32_t index = id & (window - 1);
	struct slot *slot = &c->slots[index];
	if (!slot->busy || slot->id != id) { stray++; return; }
	struct query *q = &queries[slot->query];
	int skip = random_label ? 1 + q->bytes[12] : 0;  /* what was written there is not kept */
	if (length < 12u + q->question || memcmp(answer + 12 + skip, q->bytes + 12 + skip, q->question - skip)) other_question++;
	release(c, index);
	answered++;
	rcodes[answer[3] & 15]++;
	if (answer[2] & 2) truncated++;
	if (!(answer[3] & 15) && !answer[6] && !answer[7]) without_records++;
	record(present > slot->since ? present - slot->since : 0);
}

static void receive_udp(struct conn *c) {
	static uint8_t bytes[BATCH][LARGEST_ANSWER];
	static struct mmsghdr messages[BATCH];
	static struct iovec parts[BATCH];
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){bytes[i], LARGEST_ANSWER};
		messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
	}
	int n = recvmmsg(c->fd, messages, BATCH, MSG_DONTWAIT, 0);
	if (n < 0 && errno != EAGAIN && errno != ECONNREFUSED) fail("recvmmsg");
	uint64_t present = now();
	for (int i = 0; i < n; i++) take(c, bytes[i], messages[i].msg_len, present);
}

#define INPUT 131072

static void receive_tcp(struct conn *c) {
	ssize_t n = recv(c->fd, c->in + c->in_length, INPUT - c->in_length, MSG_DONTWAIT);
	if (n == 0) refuse("the server closed a connection");
	if (n < 0 && errno == EAGAIN) return;
	if (n < 0) fail("receive over TCP");
	c->in_length += n;
	uint64_t present = now();
	size_t at = 0;
	while (c->in_length - at >= 2) {
		size_t length = c->in[at] << 8 | c->in[at + 1];
		if (c->in_length - at < 2 + length) break;
		take(c, c->in + at + 2, length, present);
		at += 2 + length;
	}
	c->in_length -= at;
	memmove(c->in, c->in + at, c->in_length);
}

static void give_up_lost(uint64_t present) {
	for (int i = 0; i < socket_count; i++)
		for (uint32_t j = 0; j < window; j++) {
			struct slot *slot = &conns[i].slots[j];
			if (slot->busy && present > slot->since + LOST_AFTER) { release(&conns[i], j); lost++; }
		}
}

static uint32_t under_way(void) {
	uint32_t count = 0;
	for (int i = 0; i < socket_count; i++) count += window - conns[i].free_count;
	return count;
}

/* --- the run */

static void open_sockets(const char *address, int port, char *sources) {
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	if (inet_pton(AF_INET, address, &to.sin_addr) != 1) refuse("an address that is none");
	char *source[64];
	int source_count = 0;
	for (char *s = sources ? strtok(sources, ",") : 0; s && source_count < 64; s = strtok(0, ",")) source[source_count++] = s;
	for (int i = 0; i < socket_count; i++) {
		struct conn *c = &conns[i];
		int size = 4 << 20, one = 1;
		c->fd = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
		if (c->fd < 0) fail("socket");
		if (source_count) {
			struct sockaddr_in from = {.sin_family = AF_INET};
			if (inet_pton(AF_INET, source[i % source_count], &from.sin_addr) != 1) refuse("an address that is none");
			if (bind(c->fd, (void *)&from, sizeof from)) fail("bind");
		}
		if (tcp) setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		else {
			setsockopt(c->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
			setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
		}
		if (connect(c->fd, (void *)&to, sizeof to)) fail("connect");
		c->slots = calloc(window, sizeof *c->slots);
		c->uses = calloc(window, sizeof *c->uses);
		c->free_slots = calloc(window, sizeof *c->free_slots);
		if (!c->slots || !c->uses || !c->free_slots) fail("memory");
		if (tcp && (!(c->in = malloc(INPUT)) || !(c->out = malloc(window * (LARGEST_QUERY + 2))))) fail("memory");
		for (uint32_t j = 0; j < window; j++) {
			c->free_slots[c->free_count++] = window - 1 - j;
			c->uses[j] = rnd();
		}
	}
}

/* What was due until now, spread over the sockets in turn. */
static void ask_what_is_due(uint64_t present) {
	static int turn;
	uint64_t wanted = (uint64_t)((present - started) * rate / 1e9) + 1;
	for (int tried = 0; sent < wanted && tried < socket_count; tried++) {
		uint64_t missing = wanted - sent;
		ask(&conns[turn], missing < BATCH ? missing : BATCH);
		turn = (turn + 1) % socket_count;
	}
}

static struct timespec until_next(int asking, uint64_t present) {
	uint64_t next = asking && rate > 0 ? due(sent, present) : present + 1000000;
	uint64_t wait = next > present ? next - present : 0;
	return (struct timespec){0, wait < 1000000 ? wait : 1000000};
}

static uint64_t run(double seconds) {
	struct epoll_event ready[MOST_SOCKETS];
	int poll = epoll_create1(0);
	for (int i = 0; i < socket_count; i++) {
		struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = &conns[i]};
		if (epoll_ctl(poll, EPOLL_CTL_ADD, conns[i].fd, &wanted)) fail("epoll_ctl");
	}
	started = now();
	uint64_t end = started + (uint64_t)(seconds * 1e9), look = started, last = started, present;
	for (;;) {
		present = now();
		int asking = present < end;
		if (!asking && (!under_way() || present > end + LOST_AFTER)) break;
		if (present > look + LOOK_FOR_LOST || look == started) {
			give_up_lost(present);
			look = present;
			/* the first queries, and those for which others were lost */
			if (asking && !rate) for (int i = 0; i < socket_count; i++) ask(&conns[i], BATCH);
		}
		if (asking && rate > 0) ask_what_is_due(present);
		struct timespec wait = until_next(asking, now());
		int n = epoll_pwait2(poll, ready, MOST_SOCKETS, &wait, 0);
		if (n < 0 && errno != EINTR) fail("epoll_pwait2");
		for (int i = 0; i < n; i++) {
			struct conn *c = ready[i].data.ptr;
			uint64_t before = answered;
			if (tcp) { flush_tcp(c); receive_tcp(c); } else receive_udp(c);
			if (answered != before) last = present;
			if (asking && !rate) ask(c, BATCH);
		}
	}
	lost += under_way();
	return last;
}

int main(int argc, char **argv) {
	const char *file = 0, *address = "127.0.0.1";
	char *sources = 0;
	int port = 0, option;
	double seconds = 4;
	while ((option = getopt(argc, argv, "p:f:t:S:w:B:r:R:a:exgT")) != -1) switch (option) {
	case 'p': port = atoi(optarg); break;
	case 'f': file = optarg; break;
	case 't': seconds = atof(optarg); break;
	case 'S': socket_count = atoi(optarg); break;
	case 'w': window = atoi(optarg); break;
	case 'B': sources = optarg; break;
	case 'r': rate = atof(optarg); break;
	case 'R': state ^= strtoull(optarg, 0, 0) * 0x9E3779B97F4A7C15ull; break;
	case 'a': address = optarg; break;
	case 'e': random_subnet = 1; break;
	case 'x': random_label = 1; break;
	case 'g': gso = 1; break;
	case 'T': tcp = 1; break;
	default: fputs(USAGE, stderr); return 2;
	}
	if (!file || port < 1 || (gso && tcp)) { fputs(USAGE, stderr); return 2; }
	if (socket_count < 1 || socket_count > MOST_SOCKETS) refuse("1 to 1024 sockets");
	while ((1u << window_bits) < window) window_bits++;
	window = 1u << window_bits;
	if (window_bits > 14) refuse("a window of at most 16384");

	prctl(PR_SET_TIMERSLACK, 1);  /* at a given rate a query leaves when it is due, not 50 us later */
	read_queries(file);
	next_query = rnd() % query_count;
	open_sockets(address, port, sources);
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	uint64_t last = run(seconds);
	uint64_t present = now();
	getrusage(RUSAGE_SELF, &after);

	double wall = (present - started) / 1e9, answering = last > started ? (last - started) / 1e9 : wall;
	double cpu = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) + (after.ru_utime.tv_usec - before.ru_utime.tv_usec) / 1e6
	           + (after.ru_stime.tv_sec - before.ru_stime.tv_sec) + (after.ru_stime.tv_usec - before.ru_stime.tv_usec) / 1e6;
	printf("{\"answers_per_s\": %.0f, \"sent\": %lu, \"answered\": %lu, \"lost\": %lu, \"stray\": %lu, \"other_question\": %lu, "
	       "\"send_failed\": %lu, \"truncated\": %lu, \"without_records\": %lu, \"client_cpu\": %.3f, \"rcodes\": {",
	       answered / answering, sent, answered, lost, stray, other_question, send_failed, truncated, without_records, cpu / wall);
	const char *comma = "";
	for (int i = 0; i < 16; i++) if (rcodes[i]) { printf("%s\"%d\": %lu", comma, i, rcodes[i]); comma = ", "; }
	printf("}, \"us\": {\"p50\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, \"max\": %.1f}}\n",
	       percentile_us(.5), percentile_us(.99), percentile_us(.999), slowest / 1e3);
	return 0;
}
