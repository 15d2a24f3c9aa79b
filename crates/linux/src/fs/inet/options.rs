//! What setsockopt sets and getsockopt shows of internet sockets (Linux net/core/sock.c).
//!
//! Options about the wire (segment sizes, keep-alive, time to live) are kept and shown; on a
//! loopback that loses nothing there is nothing else for them to do.

use std::collections::BTreeMap;

/// Level and name of an option.
pub(crate) type OptionKey = (i32, i32);

const SOCKET: i32 = 1;
const IP: i32 = 0;
const TCP: i32 = 6;
const IPV6: i32 = 41;

/// `SO_REUSEADDR`
pub(crate) const REUSEADDR: OptionKey = (SOCKET, 2);
/// `SO_SNDBUF`
pub(crate) const SNDBUF: OptionKey = (SOCKET, 7);
/// `SO_RCVBUF`
pub(crate) const RCVBUF: OptionKey = (SOCKET, 8);
/// `SO_REUSEPORT`
pub(crate) const REUSEPORT: OptionKey = (SOCKET, 15);
/// `IPV6_V6ONLY`
pub(crate) const V6ONLY: OptionKey = (IPV6, 26);

/// Options that are a number: key, value of a new socket, and whether any value but 0 is 1.
const NUMBERS: &[(OptionKey, i32, Shape)] = &[
    (REUSEADDR, 0, Shape::Switch),
    ((SOCKET, 5), 0, Shape::Switch),
    ((SOCKET, 6), 0, Shape::Switch),
    (SNDBUF, 212_992, Shape::Buffer(4608)),
    (RCVBUF, 212_992, Shape::Buffer(2304)),
    ((SOCKET, 9), 0, Shape::Switch),
    ((SOCKET, 10), 0, Shape::Switch),
    ((SOCKET, 12), 0, Shape::Number),
    (REUSEPORT, 0, Shape::Switch),
    ((SOCKET, 18), 1, Shape::Number),
    ((SOCKET, 29), 0, Shape::Switch),
    ((IP, 1), 0, Shape::Number),
    ((IP, 2), 64, Shape::Number),
    ((IP, 8), 0, Shape::Switch),
    ((IP, 10), 1, Shape::Number),
    ((IP, 11), 0, Shape::Switch),
    ((TCP, 1), 0, Shape::Switch),
    ((TCP, 2), 65_483, Shape::Number),
    ((TCP, 3), 0, Shape::Switch),
    ((TCP, 4), 7200, Shape::Number),
    ((TCP, 5), 75, Shape::Number),
    ((TCP, 6), 9, Shape::Number),
    ((TCP, 7), 6, Shape::Number),
    ((TCP, 9), 0, Shape::Number),
    ((TCP, 12), 1, Shape::Switch),
    ((TCP, 18), 0, Shape::Number),
    ((IPV6, 16), 64, Shape::Number),
    (V6ONLY, 0, Shape::Switch),
    ((IPV6, 49), 0, Shape::Switch),
    ((IPV6, 67), 0, Shape::Number),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Number,
    Switch,
    /// A buffer's size: doubled, at least this.
    Buffer(i32),
}

/// The options of one socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options {
    set: BTreeMap<OptionKey, i32>,
    /// `SO_LINGER`: on, seconds.
    pub(crate) linger: (i32, i32),
    /// `SO_RCVTIMEO` in nanoseconds; 0: none.
    pub(crate) receive_timeout: u64,
    /// `SO_SNDTIMEO` likewise.
    pub(crate) send_timeout: u64,
}

impl Options {
    /// The value of an option; 0 when there is no such option.
    pub(crate) fn get(&self, key: OptionKey) -> i32 {
        self.known(key).unwrap_or(0)
    }

    /// The value of an option; `None` when there is no such option.
    pub(crate) fn known(&self, key: OptionKey) -> Option<i32> {
        let (_, default, _) = NUMBERS.iter().find(|(known, ..)| *known == key)?;
        Some(self.set.get(&key).copied().unwrap_or(*default))
    }

    /// Changes an option; answers whether there is such an option.
    pub(crate) fn set(&mut self, key: OptionKey, value: i32) -> bool {
        let Some((_, _, shape)) = NUMBERS.iter().find(|(known, ..)| *known == key) else {
            return false;
        };
        let value = match shape {
            Shape::Number => value,
            Shape::Switch => i32::from(value != 0),
            // net.core.wmem_max, rmem_max; a negative size counts as unsigned.
            Shape::Buffer(least) => ((value as u32).min(212_992) as i32 * 2).max(*least),
        };
        self.set.insert(key, value);
        true
    }
}
