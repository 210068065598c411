//! Connections of the bench: HELLO under a name of its own, one request and its answer, group creation.

use std::time::Duration;

use anyhow::{Context, bail};
use rookery_wire::request::{Hello, Members, Role, Sync};
use rookery_wire::{Blob, DeviceId, ErrorBody, Frame, Kind, Retry, SessionId, UserId};
use tokio::time::{Instant, sleep, timeout};

use crate::check::link::{Link, LinkFault, body};

/// How long one request of the preparation may take.
const ANSWER: Duration = Duration::from_secs(15);
/// Attempts to connect: right after the start a node may not take everybody at once.
const ATTEMPTS: u32 = 20;

/// A device the cluster knows, as it says HELLO.
pub(super) struct Registration(Hello);

impl Registration {
    /// One attempt to connect.
    pub(super) async fn open(&self, addr: &str) -> Result<Link, LinkFault> {
        Link::open(addr, &self.0).await.map(|(link, _)| link)
    }
}

/// Connects as `user` with one device.
pub(super) async fn connect(addr: &str, user: &UserId, role: Role, token: &str) -> anyhow::Result<Link> {
    register(addr, user, role, token).await.map(|(link, _)| link)
}

/// Connects as `user` with a new device, and gives what it needs to come back.
pub(super) async fn register(
    addr: &str,
    user: &UserId,
    role: Role,
    token: &str,
) -> anyhow::Result<(Link, Registration)> {
    register_device(addr, user, "bench", role, token).await
}

/// The same with a device of this name, for users who have several.
pub(super) async fn register_device(
    addr: &str,
    user: &UserId,
    device: &str,
    role: Role,
    token: &str,
) -> anyhow::Result<(Link, Registration)> {
    let hello = Hello {
        min_version: rookery_wire::VERSION,
        max_version: rookery_wire::VERSION,
        user: user.clone(),
        device: DeviceId::new(device)?,
        epoch: 0,
        nonce: rand::random::<u64>() | 1,
        role,
        token: Blob::from(token),
        agent: Blob::from("rookery bench"),
        platform: Blob::default(),
    };
    let (link, epoch) = say_hello(addr, &hello).await?;
    Ok((link, Registration(Hello { epoch, ..hello })))
}

/// Connects with a device that the cluster knows.
pub(super) async fn reconnect(addr: &str, device: &Registration) -> anyhow::Result<Link> {
    say_hello(addr, &device.0).await.map(|(link, _)| link)
}

async fn say_hello(addr: &str, hello: &Hello) -> anyhow::Result<(Link, u32)> {
    let mut attempt = 0;
    loop {
        match Link::open(addr, hello).await {
            Ok((link, welcome)) => return Ok((link, welcome.epoch)),
            Err(fault) if attempt >= ATTEMPTS => return Err(fault).context(format!("connecting to {addr}")),
            Err(_) => {}
        }
        attempt += 1;
        sleep(Duration::from_millis(50)).await;
    }
}

/// Asks once and waits for the answer; pushes in between are dropped.
pub(super) async fn ask<T: bincode::Encode>(
    link: &mut Link,
    kind: Kind,
    request: &T,
) -> anyhow::Result<Frame> {
    let until = Instant::now() + ANSWER;
    loop {
        let id = link.ask(kind, request);
        link.flush().await?;
        let frame = timeout(ANSWER, async {
            loop {
                let frame = link.next().await?;
                if frame.request_id == id {
                    return Ok::<_, crate::check::link::LinkFault>(frame);
                }
            }
        });
        let frame = frame.await.with_context(|| format!("{} was not answered", kind.name()))??;
        if frame.kind != Kind::Error as u8 {
            return Ok(frame);
        }
        let error: ErrorBody = body(&frame)?;
        match error.retry {
            Retry::After(ms) if Instant::now() < until => sleep(Duration::from_millis(ms.into())).await,
            _ => bail!("{}: {error}", kind.name()),
        }
    }
}

/// Creates a group of these users.
pub(super) async fn create_group(
    link: &mut Link,
    session: &SessionId,
    users: &[UserId],
) -> anyhow::Result<()> {
    let mut members = users.chunks(1_000).enumerate();
    let Some((_, first)) = members.next() else { bail!("a group needs a member") };
    let mut request =
        Members { session: session.clone(), client_seq: 1, on_behalf_of: None, users: first.to_vec() };
    ask(link, Kind::CreateGroup, &request).await?;
    for (at, more) in members {
        request = Members { client_seq: at as u64 + 1, users: more.to_vec(), ..request };
        ask(link, Kind::AddMembers, &request).await?;
    }
    Ok(())
}

/// Subscribes to everything the user is in.
pub(super) async fn sync(link: &mut Link) -> anyhow::Result<()> {
    ask(link, Kind::Sync, &Sync { after: Blob::default(), limit: 200, since: Blob::default() })
        .await
        .map(drop)
}
