//! `--net`: without it nothing leaves the machine, with it programs reach the host's network.

use crate::kilburn::{Outcome, kilburn_in, run, skip};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Talks to TCP and UDP echoes on the host's loopback, and to a port nobody listens on.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in at(const char *ip, int port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, ip, &to.sin_addr);
    return to;
}

static const char *error(long answer)
{
    return answer < 0 ? strerrorname_np(errno) : "ok";
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = at("10.0.2.2", atoi(argv[1])), peer;
    socklen_t len = sizeof peer;
    char text[100] = "";
    int fd = socket(AF_INET, SOCK_STREAM, 0), answer;
    answer = connect(fd, (void *)&to, sizeof to);
    printf("connect %s\n", error(answer));
    if (!answer) {
        printf("send %zd\n", send(fd, "hello", 5, 0));
        printf("receive %zd", recv(fd, text, sizeof text, 0));
        printf(" %s\n", text);
        getpeername(fd, (void *)&peer, &len);
        printf("peer %s %d\n", inet_ntoa(peer.sin_addr), peer.sin_port == to.sin_port);
        getsockname(fd, (void *)&peer, &len);
        printf("port %d\n", peer.sin_port != 0);
        printf("again %s\n", error(connect(fd, (void *)&to, sizeof to)));
        printf("listen %s\n", error(listen(fd, 1)));
        /* More than fits anywhere at once. */
        static char many[3000000], back[65536];
        long sent = 0, received = 0, n;
        fcntl(fd, F_SETFL, O_NONBLOCK);
        while (received < sizeof many) {
            struct pollfd ready = { fd, POLLIN | (sent < sizeof many ? POLLOUT : 0), 0 };
            if (poll(&ready, 1, 20000) != 1)
                break;
            if (ready.revents & POLLOUT && (n = write(fd, many, sizeof many - sent)) > 0)
                sent += n;
            if (ready.revents & POLLIN && (n = read(fd, back, sizeof back)) > 0)
                received += n;
        }
        printf("%ld sent, %ld back\n", sent, received);
        printf("nothing more %s\n", error(read(fd, text, 1)));
        fcntl(fd, F_SETFL, 0);
        printf("shut %s, end %zd\n", error(shutdown(fd, SHUT_WR)), read(fd, text, 1));
    }
    close(fd);
    to = at("10.0.2.2", atoi(argv[2]));
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    printf("message %s\n", error(sendto(fd, "question", 8, 0, (void *)&to, sizeof to)));
    if (argc > 4) {
        memset(text, 0, sizeof text);
        len = sizeof peer;
        answer = recvfrom(fd, text, 4, MSG_TRUNC, (void *)&peer, &len);
        printf("%d %s from %s %d\n", answer, text, inet_ntoa(peer.sin_addr), peer.sin_port == to.sin_port);
        struct timeval short_while = { 0, 50000 };
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &short_while, sizeof short_while);
        printf("no other %s\n", error(recv(fd, text, 1, 0)));
    }
    close(fd);
    to = at("10.0.2.2", atoi(argv[3]));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    printf("nobody there %s\n", error(connect(fd, (void *)&to, sizeof to)));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    answer = connect(fd, (void *)&to, sizeof to);
    if (answer < 0 && errno == EINPROGRESS) {
        struct pollfd ready = { fd, POLLOUT, 0 };
        poll(&ready, 1, 20000);
        len = sizeof answer;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &answer, &len);
        errno = answer;
        answer = -1;
    }
    printf("without waiting %s\n", error(answer));
    close(fd);
    /* The loopback stays inside. */
    to = at("127.0.0.1", atoi(argv[1]));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    printf("inside %s\n", error(connect(fd, (void *)&to, sizeof to)));
    return 0;
}
"#;

/// What the program prints with these options of `kilburn run`.
fn talk(options: &[&str], arguments: &[String]) -> Option<Outcome> {
    let work = tempfile::tempdir().expect("a folder");
    std::fs::write(work.path().join("talk.c"), PROGRAM).expect("written");
    let mut command = Command::new("riscv64-linux-gnu-gcc");
    command.args(["-O1", "-static", "-o", "talk", "talk.c"]).current_dir(work.path());
    if command.output().is_err() {
        skip("riscv64-linux-gnu-gcc is not installed (Debian package gcc-riscv64-linux-gnu)");
        return None;
    }
    let compiled = run(command, b"");
    assert!(work.path().join("talk").exists(), "{}", compiled.stderr);
    let mut line = vec!["run".to_owned()];
    line.extend(options.iter().map(|option| (*option).to_owned()));
    line.push("./talk".into());
    line.extend_from_slice(arguments);
    Some(kilburn_in(work.path(), &line))
}

/// Sends back what comes, until the other side ends.
fn echo(listener: &TcpListener) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    let mut bytes = [0; 65536];
    while let Ok(n) = stream.read(&mut bytes)
        && n > 0
        && stream.write_all(&bytes[..n]).is_ok()
    {}
}

#[test]
fn programs_reach_the_hosts_network_when_asked_to() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    // Bound and not listening: nobody else gets the port, and who connects is refused.
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let ports = [tcp.local_addr(), udp.local_addr(), nobody.local_addr()]
        .map(|addr| addr.expect("bound").port().to_string());
    thread::spawn(move || echo(&tcp));
    thread::spawn(move || {
        let mut bytes = [0; 100];
        while let Ok((n, from)) = udp.recv_from(&mut bytes) {
            // Not at once: the guest has to wait.
            thread::sleep(Duration::from_millis(20));
            let _ = udp.send_to(&bytes[..n], from);
        }
    });
    let arguments = [&ports[..], &["outside".to_owned()]].concat();
    let Some(found) = talk(&["--net=host"], &arguments) else { return };
    assert_eq!(
        found.stdout,
        "connect ok\nsend 5\nreceive 5 hello\npeer 10.0.2.2 1\nport 1\nagain EISCONN\nlisten EINVAL\n\
         3000000 sent, 3000000 back\nnothing more EAGAIN\nshut ok, end 0\nmessage ok\n\
         8 ques from 10.0.2.2 1\nno other EAGAIN\nnobody there ECONNREFUSED\n\
         without waiting ECONNREFUSED\ninside ECONNREFUSED\n",
        "{}",
        found.stderr
    );
    assert_eq!(found.status, 0);
}

#[test]
fn without_being_asked_to_nothing_leaves_the_machine() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    tcp.set_nonblocking(true).expect("possible");
    udp.set_nonblocking(true).expect("possible");
    let ports = [tcp.local_addr(), udp.local_addr(), tcp.local_addr()]
        .map(|addr| addr.expect("bound").port().to_string());
    let Some(found) = talk(&[], &ports) else { return };
    assert_eq!(
        found.stdout,
        "connect ENETUNREACH\nmessage ENETUNREACH\nnobody there ENETUNREACH\n\
         without waiting ENETUNREACH\ninside ECONNREFUSED\n"
    );
    assert!(tcp.accept().is_err(), "somebody connected");
    assert!(udp.recv_from(&mut [0; 10]).is_err(), "a message came");
}
