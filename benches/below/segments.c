/* segments: UDP_GRO on receive and UDP_SEGMENT (GSO) on send.
 *
 *   gro    a train from one sender comes as one message
 *   gso    answers of one batch for one address and port, of one length, leave as one message
 *
 * What came as a train leaves as one in any case, if `gso` is there. `joined` counts answers that left in another's message.
 *
 * build: cc -O2 -o segments segments.c
 */
#include "below.h"

#define BATCH 32
#define LARGEST 65536

static uint8_t bytes[BATCH][LARGEST];
static struct sockaddr_in from[BATCH];
static struct mmsghdr in[BATCH], out[BATCH * 64];
static struct iovec room[BATCH], parts[BATCH * 64];
static char came[BATCH][CMSG_SPACE(sizeof(int))], leaves[BATCH * 64][CMSG_SPACE(sizeof(uint16_t))];

struct answer { uint8_t *bytes; struct sockaddr_in *to; uint16_t length; };

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	int fd = open_udp(argv[1]), gso = word("gso", 0);
	static struct answer answers[BATCH * 64];
	ready();
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			room[i] = (struct iovec){bytes[i], LARGEST};
			in[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &room[i], .msg_iovlen = 1,
				.msg_control = came[i], .msg_controllen = sizeof came[i]};
		}
		int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, 0), count = 0;
		if (n <= 0) continue;
		for (int i = 0; i < n; i++) {
			struct cmsghdr *c = CMSG_FIRSTHDR(&in[i].msg_hdr);
			uint32_t length = in[i].msg_len, segment = c && c->cmsg_type == UDP_GRO ? *(uint32_t *)CMSG_DATA(c) : length;
			for (uint32_t at = 0; at < length && count < BATCH * 64; at += segment) {
				bytes[i][at + 2] |= 0x80;
				answers[count++] = (struct answer){bytes[i] + at, &from[i], length - at < segment ? length - at : segment};
			}
		}
		received[0] += count, batches[0]++;
		/* Each answer joins the first message for its address and port that has its length; parts follow each other by message. */
		static int message_of[BATCH * 64], first[BATCH * 64], size[BATCH * 64];
		int messages = 0;
		for (int i = 0; i < count; i++) {
			int m = messages;
			if (gso) for (m = 0; m < messages; m++) {
				struct answer *a = &answers[first[m]];
				if (a->to->sin_port == answers[i].to->sin_port && a->to->sin_addr.s_addr == answers[i].to->sin_addr.s_addr
				    && a->length == answers[i].length && size[m] < 64) break;
			}
			if (m == messages) first[messages] = i, size[messages++] = 0;
			else joined++;
			size[m]++;
			message_of[i] = m;
		}
		int start[BATCH * 64], next = 0;
		for (int m = 0; m < messages; m++) {
			struct answer *a = &answers[first[m]];
			start[m] = next;
			out[m].msg_hdr = (struct msghdr){.msg_name = a->to, .msg_namelen = sizeof *a->to, .msg_iov = &parts[next], .msg_iovlen = size[m]};
			if (size[m] > 1) {
				out[m].msg_hdr.msg_control = leaves[m];
				out[m].msg_hdr.msg_controllen = sizeof leaves[m];
				struct cmsghdr *c = CMSG_FIRSTHDR(&out[m].msg_hdr);
				*c = (struct cmsghdr){.cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(2)};
				memcpy(CMSG_DATA(c), &a->length, 2);
			}
			next += size[m];
		}
		for (int i = 0; i < count; i++) parts[start[message_of[i]]++] = (struct iovec){answers[i].bytes, answers[i].length};
		for (int done = 0; done < messages;) {
			int m = sendmmsg(fd, out + done, messages - done, 0);
			if (m < 0 && errno != EAGAIN) fail("sendmmsg UDP_SEGMENT");
			if (m <= 0) break;
			done += m;
		}
	}
}
