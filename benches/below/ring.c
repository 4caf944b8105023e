/* ring: io_uring. One multishot recvmsg that fills buffers of a ring, a sendmsg for each answer.
 *
 *   defer     IORING_SETUP_SINGLE_ISSUER and DEFER_TASKRUN
 *   sqpoll    a kernel thread on the server's CPU submits; CPU says which
 *   zc        sendmsg_zc
 *   cqe       a completion for each send; else only for those that fail (sends end before the call that submits them does)
 *
 * build: cc -O2 -o ring ring.c -luring
 */
#include "below.h"
#include <liburing.h>

#define BUFFERS 1024
#define SIZE 2048
#define RECEIVE BUFFERS

static uint8_t memory[BUFFERS][SIZE];
static struct msghdr outgoing[BUFFERS];
static struct iovec parts[BUFFERS];
static struct msghdr shape = {.msg_namelen = sizeof(struct sockaddr_in)};
static struct io_uring ring;
static struct io_uring_buf_ring *free_buffers;
static int given_back;

static void give_back(int buffer) {
	io_uring_buf_ring_add(free_buffers, memory[buffer], SIZE, buffer, io_uring_buf_ring_mask(BUFFERS), given_back++);
}

static struct io_uring_sqe *entry(void) {
	struct io_uring_sqe *e;
	while (!(e = io_uring_get_sqe(&ring))) io_uring_submit(&ring);
	return e;
}

static void receive(void) {
	struct io_uring_sqe *e = entry();
	io_uring_prep_recvmsg_multishot(e, 0, &shape, 0);
	e->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	e->buf_group = 0;
	e->user_data = RECEIVE;
}

int main(int argc, char **argv) {
	(void)argc;
	begin(argv);
	int fd = open_udp(argv[1]), zc = word("zc", 0), cqe_each = word("cqe", 0) || word("sqpoll", 0);
	struct io_uring_params how = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 4096};
	if (word("defer", 0)) how.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	if (word("sqpoll", 0)) how.flags |= IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF, how.sq_thread_cpu = word("cpu", 0), how.sq_thread_idle = 1;
	if ((errno = -io_uring_queue_init_params(1024, &ring, &how))) fail("io_uring_setup");
	if ((errno = -io_uring_register_files(&ring, &fd, 1))) fail("io_uring_register_files");
	if (posix_memalign((void **)&free_buffers, 4096, BUFFERS * sizeof(struct io_uring_buf))) fail("memory");
	struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)free_buffers, .ring_entries = BUFFERS};
	if ((errno = -io_uring_register_buf_ring(&ring, &group, 0))) fail("io_uring_register_buf_ring");
	io_uring_buf_ring_init(free_buffers);
	for (int i = 0; i < BUFFERS; i++) give_back(i);
	io_uring_buf_ring_advance(free_buffers, given_back);
	receive();
	static int sent[BUFFERS];
	ready();
	for (;;) {
		int count = io_uring_submit_and_wait(&ring, 1);
		if (count < 0 && count != -EINTR && count != -EBUSY && count != -EAGAIN) { errno = -count; fail("io_uring_enter"); }
		given_back = 0;
		static int sends;
		if (!cqe_each && !zc) while (sends) give_back(sent[--sends]);
		struct io_uring_cqe *c;
		unsigned head, seen = 0, came = 0;
		io_uring_for_each_cqe(&ring, head, c) {
			seen++;
			if (c->user_data != RECEIVE) {
				if (zc ? !(c->flags & IORING_CQE_F_MORE) : cqe_each) give_back(c->user_data);
				if (c->res < 0 && c->res != -EAGAIN) { errno = -c->res; fail("send"); }
				continue;
			}
			if (!(c->flags & IORING_CQE_F_MORE)) receive();
			if (c->res < 0) { if (c->res == -ENOBUFS) continue; errno = -c->res; fail("multishot recvmsg"); }
			int buffer = c->flags >> IORING_CQE_BUFFER_SHIFT;
			struct io_uring_recvmsg_out *message = io_uring_recvmsg_validate(memory[buffer], c->res, &shape);
			if (!message) { give_back(buffer); continue; }
			uint8_t *payload = io_uring_recvmsg_payload(message, &shape);
			payload[2] |= 0x80;
			came++;
			parts[buffer] = (struct iovec){payload, io_uring_recvmsg_payload_length(message, c->res, &shape)};
			outgoing[buffer] = (struct msghdr){.msg_name = io_uring_recvmsg_name(message), .msg_namelen = message->namelen, .msg_iov = &parts[buffer], .msg_iovlen = 1};
			struct io_uring_sqe *e = entry();
			if (zc) io_uring_prep_sendmsg_zc(e, 0, &outgoing[buffer], MSG_DONTWAIT);
			else io_uring_prep_sendmsg(e, 0, &outgoing[buffer], MSG_DONTWAIT);
			e->flags |= IOSQE_FIXED_FILE | (cqe_each || zc ? 0 : IOSQE_CQE_SKIP_SUCCESS);
			e->user_data = buffer;
			if (!cqe_each && !zc) sent[sends++] = buffer;
		}
		io_uring_cq_advance(&ring, seen);
		io_uring_buf_ring_advance(free_buffers, given_back);
		if (came) received[0] += came, batches[0]++;
	}
}
