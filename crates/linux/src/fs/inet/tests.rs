//! Tests of sockets among themselves; waiting and decoding are tested by guest programs.

use super::*;

fn tcp(network: &Rc<Network>, family: Family) -> Rc<InetSocket> {
    InetSocket::new(network, family, Protocol::Tcp)
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn receive(socket: &InetSocket) -> Result<Vec<u8>, Errno> {
    let mut into = [0; 100];
    let bytes = socket.receive(&mut into, Peek::No)?.bytes;
    Ok(into[..bytes].to_vec())
}

/// What happens when the last descriptor goes.
fn close(socket: &Rc<InetSocket>) {
    match &socket.state {
        State::Tcp(tcp) => tcp.close(socket),
        State::Udp(_) => (),
    }
}

/// A listener on 127.0.0.1:80, a client, and the server's side of the connection.
fn connected(network: &Rc<Network>) -> [Rc<InetSocket>; 3] {
    let (listener, client) = (tcp(network, Family::V4), tcp(network, Family::V4));
    listener.bind(at("127.0.0.1:80")).expect("free");
    listener.listen(5).expect("bound");
    assert_eq!(client.connect(at("127.0.0.1:80")), Err(Errno::EINPROGRESS));
    assert_eq!(client.connect(at("127.0.0.1:80")), Ok(()));
    let server = listener.accept().expect("waits");
    [listener, client, server]
}

#[test]
fn bytes_arrive_in_order_and_an_end_after_them() {
    let network = Rc::default();
    let [_listener, client, server] = connected(&network);
    assert_eq!(server.remote(), Ok(client.local()));
    assert_eq!(client.send(None, b"one"), Ok(3));
    assert_eq!(client.send(None, b"two"), Ok(3));
    assert_eq!(receive(&server), Ok(b"onetwo".to_vec()));
    assert_eq!(receive(&server), Err(Errno::EAGAIN));
    client.shutdown(1).expect("connected");
    assert_eq!(receive(&server), Ok(Vec::new()));
    assert_eq!(client.send(None, b"x"), Err(Errno::EPIPE));
    assert_eq!(server.send(None, b"still"), Ok(5));
    assert_eq!(receive(&client), Ok(b"still".to_vec()));
}

#[test]
fn closing_with_unread_bytes_resets_and_without_them_ends() {
    let network = Rc::default();
    let [_listener, client, server] = connected(&network);
    client.send(None, b"unread").expect("room");
    close(&server);
    assert_eq!(receive(&client), Err(Errno::ECONNRESET));
    let network = Rc::default();
    let [_listener, client, server] = connected(&network);
    close(&server);
    assert_eq!(receive(&client), Ok(Vec::new()));
    assert_eq!(client.send(None, b"gone"), Ok(4), "the first one is answered by a reset");
    assert_eq!(client.send(None, b"gone"), Err(Errno::EPIPE));
}

#[test]
fn a_full_queue_makes_clients_wait_until_somebody_is_accepted() {
    let network = Rc::default();
    let listener = tcp(&network, Family::V4);
    listener.bind(at("0.0.0.0:90")).expect("free");
    listener.listen(0).expect("bound");
    let [a, b] = [0, 1].map(|_| {
        let client = tcp(&network, Family::V4);
        assert_eq!(client.connect(at("127.0.0.1:90")), Err(Errno::EINPROGRESS));
        client
    });
    assert_eq!(a.connect(at("127.0.0.1:90")), Ok(()));
    assert_eq!(b.connect(at("127.0.0.1:90")), Err(Errno::EALREADY));
    assert!(listener.accept().is_ok());
    assert_eq!(b.connect(at("127.0.0.1:90")), Ok(()));
}

#[test]
fn ports_are_taken_by_address_family_and_reuse() {
    let network = Rc::default();
    let bind = |family, text: &str, reuse: i32| {
        let socket = tcp(&network, family);
        socket.options.borrow_mut().set(options::REUSEADDR, reuse);
        socket.bind(at(text)).map(|()| socket)
    };
    let any = bind(Family::V4, "0.0.0.0:70", 1).expect("free");
    assert_eq!(bind(Family::V4, "127.0.0.1:70", 0).err(), Some(Errno::EADDRINUSE));
    assert!(bind(Family::V4, "127.0.0.1:70", 1).is_ok());
    assert_eq!(bind(Family::V6, "[::]:70", 0).err(), Some(Errno::EADDRINUSE));
    assert!(bind(Family::V6, "[::1]:70", 0).is_ok());
    any.listen(1).expect("bound");
    assert_eq!(bind(Family::V4, "127.0.0.1:70", 1).err(), Some(Errno::EADDRINUSE));
    assert_eq!(bind(Family::V4, "10.0.0.1:70", 0).err(), Some(Errno::EADDRNOTAVAIL));
}

#[test]
fn ipv6_any_hears_ipv4_and_shows_it_mapped() {
    let network = Rc::default();
    let listener = tcp(&network, Family::V6);
    listener.bind(at("[::]:60")).expect("free");
    listener.listen(1).expect("bound");
    let client = tcp(&network, Family::V4);
    assert_eq!(client.connect(at("127.0.0.1:60")), Err(Errno::EINPROGRESS));
    let server = listener.accept().expect("waits");
    assert!(server.remote().expect("connected").to_string().starts_with("[::ffff:127.0.0.1]:"));
}

#[test]
fn nothing_but_the_loopback_is_reachable() {
    let network = Rc::default();
    assert_eq!(tcp(&network, Family::V4).connect(at("8.8.8.8:53")), Err(Errno::ENETUNREACH));
    assert_eq!(tcp(&network, Family::V4).connect(at("127.0.0.1:1")), Err(Errno::ECONNREFUSED));
    let udp = InetSocket::new(&network, Family::V6, Protocol::Udp);
    assert_eq!(udp.send(Some(at("[2001:db8::1]:53")), b"x"), Err(Errno::ENETUNREACH));
}

#[test]
fn messages_keep_their_bounds_and_a_connected_socket_hears_its_peer_only() {
    let network = Rc::default();
    let udp = || InetSocket::new(&network, Family::V4, Protocol::Udp);
    let (a, b, c) = (udp(), udp(), udp());
    a.bind(at("127.0.0.1:50")).expect("free");
    b.connect(at("127.0.0.1:50")).expect("reachable");
    assert_eq!(b.send(None, b"one"), Ok(3));
    assert_eq!(b.send(None, b"two"), Ok(3));
    assert_eq!(receive(&a), Ok(b"one".to_vec()));
    assert_eq!(receive(&a), Ok(b"two".to_vec()));
    assert_eq!(c.send(Some(b.local()), b"stranger"), Ok(8));
    assert_eq!(receive(&b), Err(Errno::EAGAIN));
    let nowhere = udp();
    nowhere.connect(at("127.0.0.1:51")).expect("reachable");
    assert_eq!(nowhere.send(None, b"x"), Ok(1));
    assert_eq!(receive(&nowhere), Err(Errno::ECONNREFUSED));
}
