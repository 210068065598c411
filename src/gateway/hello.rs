//! The first frame of a connection: HELLO, judged before anything is held for it.

use std::time::Duration;

use bytes::BytesMut;
use rookery_raft::BoxStream;
use rookery_wire::frame::frame_bytes;
use rookery_wire::request::Hello;
use rookery_wire::{Decoder, ErrorBody, ErrorCode, Frame, FrameFault, Kind, Retry, VERSION, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::check;
use super::core::Core;
use super::reads::unexpected;
use crate::config::Beyond;
use crate::identity::Identity;
use crate::shard::{Answer, Freshness, Read, ReadReply, Turn};
use crate::state::{Command, DeviceBounds, EntityKey, Introduction};

/// No HELLO needs more: names, a token and a label.
const MAX_HELLO: u32 = 16 << 10;
/// Bytes that are read ahead of WELCOME.
const AHEAD: usize = 64 << 10;
/// What the peer link's handshake begins with: a node that was given the wrong port is told so.
const PEER_MAGIC: &[u8] = b"\x89RKp";
/// A refusal must be written within this time.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// Who was welcomed.
pub(super) struct Welcomed {
    pub(super) identity: Identity,
    pub(super) epoch: u32,
    /// Its place among the connections of the device.
    pub(super) turn: Turn,
    /// The last number of its acts on what is the user's own.
    pub(super) last_number: u64,
    /// The request id of HELLO.
    pub(super) request: u32,
    /// It was registered before.
    pub(super) returns: bool,
}

/// A refusal of the connection: with the request id it answers, or 0.
pub(super) struct Refusal {
    request: u32,
    error: ErrorBody,
}

impl Refusal {
    pub(super) fn of(error: ErrorBody) -> Self {
        Self { request: 0, error }
    }

    /// Writes it and hangs up, in a way that lets the other side read it.
    pub(super) async fn send(self, core: &Core, mut socket: BoxStream) {
        core.stats.error(self.error.code);
        let frame = frame_bytes(Kind::Error, self.request, &self.error);
        let write = async {
            socket.write_all(&frame).await?;
            socket.shutdown().await
        };
        if let Ok(Ok(())) = timeout(REFUSAL_DEADLINE, write).await {
            super::linger(&mut socket).await;
        }
    }
}

/// Reads HELLO and establishes who it is. `Ok(None)`: the other side went.
pub(super) async fn greet(
    core: &Core,
    socket: &mut BoxStream,
    buffer: &mut BytesMut,
) -> Result<Option<Welcomed>, Refusal> {
    let wait = Duration::from_millis(core.options.timing.hello_ms);
    let frame = match timeout(wait, first_frame(socket, buffer)).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None)) => return Ok(None),
        Err(_) => {
            let text = format!("no whole HELLO came within timing.hello_ms = {} ms", wait.as_millis());
            return Err(Refusal::of(ErrorBody::new(ErrorCode::HelloRequired, text)));
        }
        Ok(Err(error)) => return Err(Refusal::of(error)),
    };
    let request = frame.request_id;
    let refused = |error| Refusal { request, error };
    let hello = read_hello(&frame).map_err(refused)?;
    let identity = core.authenticator.authenticate(&hello, core.clock.unix_ms()).map_err(refused)?;
    // Who has given up waiting has connected elsewhere by now, and must not be taken for the later of the two.
    let (epoch, turn, last_number) = tokio::select! {
        biased;
        () = hung_up(socket, buffer) => return Ok(None),
        arrived = arrive(core, &hello, &identity) => arrived.map_err(refused)?,
    };
    Ok(Some(Welcomed { identity, epoch, turn, last_number, request, returns: hello.epoch != 0 }))
}

/// Resolves when the other side closes; what it sends meanwhile waits in the buffer, up to a bound.
async fn hung_up(socket: &mut BoxStream, buffer: &mut BytesMut) {
    while buffer.len() < AHEAD {
        match socket.read_buf(buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

async fn first_frame(socket: &mut BoxStream, buffer: &mut BytesMut) -> Result<Option<Frame>, ErrorBody> {
    let decoder = Decoder::new(MAX_HELLO);
    loop {
        if buffer.starts_with(PEER_MAGIC) {
            let text = "this is a client port; nodes connect to the `peer` address of cluster.toml";
            return Err(ErrorBody::new(ErrorCode::WrongPort, text));
        }
        match decoder.next(buffer) {
            Ok(Some(frame)) => return Ok(Some(frame)),
            Ok(None) => {}
            Err(fault) => return Err(frame_error(&fault)),
        }
        match socket.read_buf(buffer).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

/// What to say about bytes that are no frame.
pub(super) fn frame_error(fault: &FrameFault) -> ErrorBody {
    let (code, detail) = match fault {
        FrameFault::TooLarge { max, .. } => (ErrorCode::FrameTooLarge, u64::from(*max)),
        FrameFault::Version(_) => (ErrorCode::VersionUnsupported, u64::from(VERSION)),
        FrameFault::TooShort(_) => (ErrorCode::BadFrame, 0),
    };
    ErrorBody::new(code, fault.to_string()).with_detail(detail)
}

fn read_hello(frame: &Frame) -> Result<Hello, ErrorBody> {
    if Kind::from_number(frame.kind) != Some(Kind::Hello) {
        return Err(ErrorBody::new(ErrorCode::HelloRequired, "the first frame of a connection is HELLO"));
    }
    let hello: Hello = decode(&frame.body)
        .map_err(|fault| ErrorBody::new(ErrorCode::BadFrame, format!("HELLO: {fault}")))?;
    if hello.min_version > VERSION || hello.max_version < VERSION {
        let text = format!(
            "the client speaks versions {} to {}, this server {VERSION}",
            hello.min_version, hello.max_version
        );
        return Err(ErrorBody::new(ErrorCode::VersionUnsupported, text).with_detail(u64::from(VERSION)));
    }
    check::device(&hello.agent, &hello.platform)?;
    Ok(hello)
}

/// The device's registration, made now or the one the client brings if the user's shard knows it, and the turn of
/// this connection. The turn is asked for last, so that who connects later has a later one.
async fn arrive(core: &Core, hello: &Hello, identity: &Identity) -> Result<(u32, Turn, u64), ErrorBody> {
    let (user, device) = (identity.user.clone(), identity.device.clone());
    let wanted = if hello.epoch == 0 { register(core, hello, identity).await? } else { hello.epoch };
    let shard = core.router.shard_of(&EntityKey::User(user.clone()));
    match core.router.read(shard, Read::Arrive { user, device }, Freshness::Linearizable).await? {
        ReadReply::Arrived { ended_ms, .. } if identity.is_from_before(ended_ms) => Err(ErrorBody::new(
            ErrorCode::DeviceEnded,
            format!("{} was ended; a token issued later is needed", hello.device),
        )),
        ReadReply::Arrived { epoch, turn, last_number, .. } if epoch == wanted => {
            Ok((epoch, turn, last_number))
        }
        ReadReply::Arrived { .. } => Err(ErrorBody::new(
            ErrorCode::BadEpoch,
            format!("epoch {wanted} is not this device's; register again with epoch 0"),
        )),
        other => Err(unexpected(&other)),
    }
}

async fn register(core: &Core, hello: &Hello, identity: &Identity) -> Result<u32, ErrorBody> {
    let (user, device) = (identity.user.clone(), identity.device.clone());
    let says = Introduction {
        nonce: hello.nonce,
        agent: hello.agent.clone(),
        platform: hello.platform.clone(),
        issued_ms: identity.issued_ms,
    };
    let limits = &core.options.limits;
    let bounds = DeviceBounds {
        most: limits.devices_per_user,
        most_of_platform: limits.devices_per_platform,
        refuse: limits.devices_beyond == Beyond::Refuse,
    };
    let command = Command::Register { user, device, says, bounds };
    match core.router.execute(&command).await {
        Answer::Epoch(epoch) => Ok(epoch),
        Answer::Refused(error) => Err(error),
        other => {
            tracing::error!(?other, "a registration was answered with something else");
            let text = "the registration was not answered; connect again";
            Err(ErrorBody::new(ErrorCode::Unavailable, text).with_retry(Retry::Reconnect))
        }
    }
}
