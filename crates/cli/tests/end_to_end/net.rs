//! `--net`: without it nothing leaves the machine, with it programs reach the host's network.

use crate::kilburn::{Outcome, compile, kilburn_in};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
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

/// What `program` prints with these options of `kilburn run`.
fn talk(program: &str, options: &[&str], arguments: &[String]) -> Option<Outcome> {
    let work = tempfile::tempdir().expect("a folder");
    if !compile(work.path(), "talk", program, &["-w", "-static"]) {
        return None;
    }
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
    let Some(found) = talk(PROGRAM, &["--net=host"], &arguments) else { return };
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
    let Some(found) = talk(PROGRAM, &[], &ports) else { return };
    assert_eq!(
        found.stdout,
        "connect ENETUNREACH\nmessage ENETUNREACH\nnobody there ENETUNREACH\n\
         without waiting ENETUNREACH\ninside ECONNREFUSED\n"
    );
    assert!(tcp.accept().is_err(), "somebody connected");
    assert!(udp.recv_from(&mut [0; 10]).is_err(), "a message came");
}

/// Asks the name server at the host's loopback for both kinds of addresses of a name, as programs
/// do: glibc sends the two questions with one sendmmsg.
const RESOLVER: &str = r#"
#include <arpa/inet.h>
#include <netdb.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>

static void look_up(const char *name)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all;
    int answer = getaddrinfo(name, "80", &hints, &all), families[] = { AF_INET, AF_INET6 };
    char text[100];
    printf("%s: %s\n", name, answer ? gai_strerror(answer) : "found");
    /* Their order is that of what the host can reach. */
    for (int i = 0; i < 2 && !answer; i++)
        for (struct addrinfo *one = all; one; one = one->ai_next)
            if (one->ai_family == families[i]) {
                getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
                printf("%s\n", text);
            }
}

int main(int argc, char **argv)
{
    res_init();
    _res.nscount = 1;
    _res.nsaddr_list[0].sin_family = AF_INET;
    _res.nsaddr_list[0].sin_port = htons(atoi(argv[1]));
    inet_pton(AF_INET, "10.0.2.2", &_res.nsaddr_list[0].sin_addr);
    look_up("known.test");
    look_up("unknown.test");
    return 0;
}
"#;

/// The answer to a question about names: `known.test` has an address of each kind.
fn answer_of_name_server(question: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\x05known\x04test\0";
    const NAME_AT: usize = 12;
    let name_end = NAME_AT + NAME.len();
    let is_known = question.get(NAME_AT..name_end) == Some(NAME);
    let zero = question[NAME_AT..].iter().position(|byte| *byte == 0).expect("a name ends");
    let kind = NAME_AT + zero + 1;
    let address = match &question[kind..kind + 2] {
        [0, 1] => Ipv4Addr::new(192, 0, 2, 7).octets().to_vec(),
        [0, 28] => "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets().to_vec(),
        other => panic!("asked for {other:?}"),
    };
    let mut answer = question[..2].to_vec();
    // An answer, with recursion; no error, or no such name. One question, the answers, no more.
    answer.extend([0x81, if is_known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(is_known), 0, 0, 0, 0]);
    answer.extend_from_slice(&question[NAME_AT..kind + 4]);
    if is_known {
        // The name as in the question, kind and class as asked, a minute to live.
        answer.extend([0xc0, NAME_AT as u8]);
        answer.extend_from_slice(&question[kind..kind + 4]);
        answer.extend([0, 0, 0, 60, 0, address.len() as u8]);
        answer.extend(address);
    }
    answer
}

#[test]
fn names_are_asked_of_the_hosts_name_server() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("bound").port().to_string();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((n, from)) = server.recv_from(&mut bytes) {
            let _ = server.send_to(&answer_of_name_server(&bytes[..n]), from);
        }
    });
    let Some(found) = talk(RESOLVER, &["--net=host"], &[port]) else { return };
    assert_eq!(
        found.stdout,
        "known.test: found\n192.0.2.7\n2001:db8::7\nunknown.test: Name or service not known\n",
        "{}",
        found.stderr
    );
}
