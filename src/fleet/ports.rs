//! Ports for clusters of one run: demo, check, bench, tests.

use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::LazyLock;

use parking_lot::Mutex;

/// Where ports are looked for: below those that systems give to outgoing connections (from 32768 on Linux). A node that
/// is away for a moment must find its ports free when it comes back, whatever connects meanwhile.
const PORTS: Range<u16> = 10_000..32_000;
/// Ports tried for each that is wanted.
const TRIES: usize = 200;

/// Given out by this process, and never again: between being found and being listened on a port looks free to others.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// Addresses of the loopback interface that are free and were given to nobody else in this process.
///
/// # Errors
/// When there are not as many.
pub fn free_addresses(count: usize) -> io::Result<Vec<String>> {
    let mut given = GIVEN.lock();
    let mut found = Vec::with_capacity(count);
    for _ in 0..count * TRIES {
        let port = rand::random_range(PORTS);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            found.push(format!("127.0.0.1:{port}"));
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    let text =
        format!("found {} free ports from {} to {}, {count} are needed", found.len(), PORTS.start, PORTS.end);
    Err(io::Error::new(io::ErrorKind::AddrInUse, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        let all: Vec<String> = (0..20).flat_map(|_| free_addresses(9).expect("ports")).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }
}
