//! A follower: writes what comes, syncs it, says how far it is. What arrives during a sync is one sync more, whatever it was.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::FileArgs;
use crate::part::{end_with_parent, say};
use crate::ring::Ring;

/// Bytes taken from the socket, and synced, at once.
const READ: usize = 4 << 20;

pub(crate) fn run(args: &FileArgs) -> anyhow::Result<()> {
    let mut ring = Ring::create(&args.file)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    say(&listener.local_addr()?.to_string())?;
    end_with_parent();
    let (mut leader, _) = listener.accept()?;
    leader.set_nodelay(true)?;
    let mut buffer = vec![0; READ];
    loop {
        let read = leader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        ring.append(&buffer[..read])?;
        ring.sync()?;
        leader.write_all(&ring.end().to_le_bytes())?;
    }
    say(&format!("{} {}", ring.end(), ring.hash()?))?;
    Ok(())
}
