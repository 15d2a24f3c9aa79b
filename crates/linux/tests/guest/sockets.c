// Sockets of the machine itself: pairs, names, connections, messages, descriptors, credentials.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRY(...) do { errno = 0; long answer = (long)(__VA_ARGS__); \
    printf("%-58s %ld %s\n", #__VA_ARGS__, answer, answer < 0 ? strerrorname_np(errno) : "ok"); } while (0)
#define OPENED(fd, call) do { errno = 0; fd = (call); \
    printf("%-58s %s\n", #call, fd < 0 ? strerrorname_np(errno) : "opened"); } while (0)

static char buf[70000];
static struct sockaddr_un name;

static socklen_t named(const char *path)
{
    name.sun_family = AF_UNIX;
    memset(name.sun_path, 0, sizeof name.sun_path);
    // '@' stands for the zero byte of an abstract name.
    strcpy(name.sun_path, path);
    if (path[0] == '@')
        name.sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] != '@');
}

static void show_name(const char *what, int r, struct sockaddr_un *at, socklen_t len)
{
    printf("%s: %d, %u bytes, family %d, ", what, r, len, len >= 2 ? at->sun_family : -1);
    for (socklen_t i = 2; i < len; i++)
        putchar(at->sun_path[i - 2] ? at->sun_path[i - 2] : '@');
    putchar('\n');
}

static void pairs(void)
{
    int s[2], d[2], q[2];
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
    TRY(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, d));
    TRY(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, q));
    TRY(socketpair(AF_UNIX, 77, 0, (int[2]){ 0 }));
    TRY(socketpair(AF_UNIX, SOCK_STREAM, 5, (int[2]){ 0 }));
    TRY(write(s[0], "hello world", 11));
    TRY(recv(s[1], buf, 5, MSG_PEEK));
    TRY(recv(s[1], buf, 5, 0));
    TRY(recv(s[1], buf, 100, MSG_DONTWAIT));
    TRY(recv(s[1], buf, 100, MSG_DONTWAIT));
    TRY(send(d[0], "one", 3, 0));
    TRY(send(d[0], "second", 6, 0));
    TRY(send(d[0], "", 0, 0));
    TRY(recv(d[1], buf, 2, MSG_TRUNC));
    TRY(recv(d[1], buf, 100, 0));
    TRY(recv(d[1], buf, 100, 0));
    TRY(recv(d[1], buf, 100, 0));
    TRY(send(q[0], "packet", 6, MSG_EOR));
    TRY(recv(q[1], buf, 3, 0));
    TRY(recv(q[1], buf, 3, MSG_DONTWAIT));
    TRY(shutdown(s[0], SHUT_WR));
    TRY(recv(s[1], buf, 1, 0));
    TRY(send(s[0], "x", 1, MSG_NOSIGNAL));
    TRY(send(s[1], "back", 4, 0));
    TRY(shutdown(s[0], 3));
    close(s[1]);
    TRY(recv(s[0], buf, 100, 0));
    TRY(recv(s[0], buf, 100, 0));
    TRY(send(s[0], "x", 1, MSG_NOSIGNAL));
    struct pollfd p = { d[0], POLLIN | POLLOUT };
    TRY(poll(&p, 1, 0));
    printf("events %x\n", p.revents);
    close(d[1]);
    TRY(send(d[0], "x", 1, MSG_NOSIGNAL));
    TRY(lseek(q[0], 0, SEEK_SET));
    TRY(pwrite(q[0], "x", 1, 0));
    struct stat st;
    fstat(q[0], &st);
    printf("mode %o\n", st.st_mode & S_IFMT);
}

static void streams(void)
{
    struct sockaddr_un at;
    socklen_t len = named("/tmp/guest.socket"), got;
    int listening, client, served;
    unlink("/tmp/guest.socket");
    OPENED(listening, socket(AF_UNIX, SOCK_STREAM, 0));
    TRY(listen(listening, 1));
    TRY(bind(listening, (void *)&name, 1));
    TRY(bind(listening, (void *)&name, len));
    TRY(bind(listening, (void *)&name, len));
    OPENED(client, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    TRY(fcntl(client, F_GETFD));
    TRY(bind(client, (void *)&name, len));
    TRY(connect(client, (void *)&name, len));
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    TRY(recv(client, buf, 1, 0));
    TRY(listen(listening, 1));
    TRY(connect(client, (void *)&name, len));
    TRY(connect(client, (void *)&name, len));
    TRY(send(client, "before accept", 13, 0));
    got = sizeof at;
    OPENED(served, accept4(listening, (void *)&at, &got, SOCK_NONBLOCK));
    show_name("peer", 0, &at, got);
    TRY(fcntl(served, F_GETFL) & O_NONBLOCK);
    TRY(recv(served, buf, 100, 0));
    TRY(recv(served, buf, 100, 0));
    got = sizeof at;
    show_name("getsockname", getsockname(served, (void *)&at, &got), &at, got);
    got = sizeof at;
    show_name("getpeername", getpeername(client, (void *)&at, &got), &at, got);
    got = 4;
    show_name("cut", getpeername(client, (void *)&at, &got), &at, 4);
    printf("whole %u\n", got);
    struct ucred peer;
    got = sizeof peer;
    TRY(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &got));
    printf("peer %d, %u %u\n", peer.pid == getpid(), peer.uid, peer.gid);
    int value;
    got = sizeof value;
    getsockopt(client, SOL_SOCKET, SO_TYPE, &value, &got);
    printf("type %d\n", value);
    getsockopt(listening, SOL_SOCKET, SO_ACCEPTCONN, &value, &got);
    printf("listens %d\n", value);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    TRY(accept(listening, 0, 0));
    TRY(accept(client, 0, 0));
    close(served);
    TRY(recv(client, buf, 1, 0));
    TRY(send(client, "x", 1, MSG_NOSIGNAL));
    close(client);
    close(listening);
    OPENED(client, socket(AF_UNIX, SOCK_STREAM, 0));
    TRY(connect(client, (void *)&name, len));
    unlink("/tmp/guest.socket");
    TRY(connect(client, (void *)&name, len));
    len = named("@guest");
    TRY(bind(client, (void *)&name, len));
    got = sizeof at;
    show_name("abstract", getsockname(client, (void *)&at, &got), &at, got);
    int other;
    OPENED(other, socket(AF_UNIX, SOCK_DGRAM, 0));
    TRY(bind(other, (void *)&name, len));
    close(client);
    TRY(bind(other, (void *)&name, len));
    TRY(sendto(other, "self", 4, 0, (void *)&name, len));
    got = sizeof at;
    TRY(recvfrom(other, buf, 100, 0, (void *)&at, &got));
    show_name("from", 0, &at, got);
    close(other);
}

// Descriptors and credentials beside the bytes.
static void messages(void)
{
    int s[2], file[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(file);
    union { char raw[256]; struct cmsghdr head; } control;
    struct iovec out[2] = { { "ab", 2 }, { "cde", 3 } };
    struct msghdr m = { .msg_iov = out, .msg_iovlen = 2, .msg_control = control.raw };
    m.msg_controllen = CMSG_SPACE(sizeof(int));
    memset(&control, 0, sizeof control);
    control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.head), &file[1], sizeof(int));
    TRY(sendmsg(s[0], &m, 0));
    close(file[1]);
    struct iovec in = { buf, 100 };
    m = (struct msghdr){ .msg_iov = &in, .msg_iovlen = 1, .msg_control = control.raw,
        .msg_controllen = sizeof control };
    memset(&control, 0, sizeof control);
    TRY(recvmsg(s[1], &m, MSG_CMSG_CLOEXEC));
    printf("flags %x, control %zu, level %d, type %d\n", m.msg_flags, m.msg_controllen,
        control.head.cmsg_level, control.head.cmsg_type);
    int passed;
    memcpy(&passed, CMSG_DATA(&control.head), sizeof passed);
    TRY(fcntl(passed, F_GETFD));
    TRY(write(passed, "through", 7));
    TRY(read(file[0], buf, 100));
    // No room for it: it is gone, and closed.
    m = (struct msghdr){ .msg_iov = out, .msg_iovlen = 1, .msg_control = control.raw };
    m.msg_controllen = CMSG_SPACE(sizeof(int));
    control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.head), &passed, sizeof(int));
    TRY(sendmsg(s[0], &m, 0));
    close(passed);
    TRY(recv(s[1], buf, 100, 0));
    TRY(read(file[0], buf, 100));
    int on = 1;
    TRY(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    TRY(send(s[0], "who", 3, 0));
    m = (struct msghdr){ .msg_iov = &in, .msg_iovlen = 1, .msg_control = control.raw,
        .msg_controllen = sizeof control };
    TRY(recvmsg(s[1], &m, 0));
    struct ucred from;
    memcpy(&from, CMSG_DATA(&control.head), sizeof from);
    printf("type %d, from %d, %u %u\n", control.head.cmsg_type, from.pid == getpid(), from.uid, from.gid);
}

// Blocking: a child at the other end.
static void together(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    fflush(stdout);
    int pid = fork();
    if (pid == 0) {
        close(s[0]);
        long sum = 0, got;
        while ((got = read(s[1], buf, sizeof buf)) > 0)
            for (long i = 0; i < got; i++)
                sum += buf[i];
        printf("child: %ld\n", sum);
        fflush(stdout);
        _exit(0);
    }
    close(s[1]);
    memset(buf, 1, sizeof buf);
    long sent = 0;
    for (int i = 0; i < 20; i++)
        sent += write(s[0], buf, sizeof buf);
    printf("sent %ld\n", sent);
    fflush(stdout);
    close(s[0]);
    waitpid(pid, 0, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    close(s[1]);
    pid = fork();
    if (pid == 0) {
        write(s[0], "x", 1);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("a broken pipe: signal %d\n", WTERMSIG(status));
    TRY(socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? -1 : 0);
    TRY(socket(AF_UNIX, SOCK_RAW, 0) < 0 ? -1 : 0);
    TRY(socket(99, SOCK_STREAM, 0));
    TRY(listen(1, 1));
    TRY(listen(999, 1));
    TRY(recv(0, buf, 1, 0));
}

int main(void)
{
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    pairs();
    streams();
    messages();
    together();
    return 0;
}
