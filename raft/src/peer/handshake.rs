//! The handshake of the peer link: who is there, of which cluster, and can prove it.
//!
//! ```text
//! hello    magic 8, protocol u16, node u16, meant u16, store u64, cluster 0 | 1 + 16, format u32, speaks 3 × u16, nonce 32
//! dialler → hello
//!         ← 0, hello, proof          or 1, text
//! dialler → 0, proof                 or 1, text
//!         ← 0                        or 1, text
//! proof    HMAC-SHA256(secret, role | dialler's hello | acceptor's hello)
//! text     u16 length, UTF-8
//! ```
//! `meant` is the number under which the other side was dialled (0 in the acceptor's hello). Each side checks the other
//! only after the other proved the secret. Only `protocol` is judged before that, as soon as it is there: it says how to
//! read the rest, and a hello of another protocol may be shorter. A stranger who dials learns what stands in the
//! acceptor's hello (node, store, cluster, format, versions), and gets a proof to which it can try secrets at leisure: the
//! secret must be one that cannot be guessed. The link is authenticated when it is made; it is not encrypted.
//!
//! Owns: those bytes and the checks. Must never take a peer whose proof, cluster, number, format or versions are wrong.

use std::io;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{PeerOptions, Speaks};
use crate::codec::{Sink, Take};
use crate::seam::{BoxStream, Entropy};

/// The first bytes on a peer link. Read as the length of a client's frame they are far above any bound.
const MAGIC: [u8; 8] = *b"\x89RKpeer\n";

/// Version of everything in `peer/`.
const PROTOCOL: u16 = 2;

/// A hello up to and with its protocol.
const HELLO_HEAD: usize = 8 + 2;
const HELLO: usize = HELLO_HEAD + 2 + 2 + 8 + 17 + 4 + 6 + 32;
const PROOF: usize = 32;

/// The longest refusal text that is read, in bytes.
const MAX_TEXT: usize = 1024;

/// Client frames begin with a length and this version byte; see docs/protocol.md.
const CLIENT_VERSION: u8 = 1;
/// No client frame is longer, in bytes: only to tell clients from garbage.
const CLIENT_FRAME_MAX: u32 = 64 << 20;

/// A refused caller may still be sending: so long and so many bytes are read and dropped.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 << 10;

/// What one side says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    protocol: u16,
    pub(super) node: u16,
    meant: u16,
    pub(super) store: u64,
    cluster: Option<[u8; 16]>,
    format: u32,
    speaks: Speaks,
    nonce: [u8; 32],
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The network failed; it is tried again.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// This side refused, and said so to the other.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side refused this node.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(String),
}

impl Failure {
    /// What keeps the two nodes apart until somebody changes something, whichever side noticed.
    pub(super) fn between_us(&self) -> Option<&str> {
        match self {
            Self::Io(_) => None,
            Self::Refused(text) | Self::RefusedByPeer(text) => Some(text),
        }
    }
}

impl Hello {
    fn of(options: &PeerOptions, cluster: Option<[u8; 16]>, meant: u16, entropy: &dyn Entropy) -> Self {
        let mut nonce = [0; 32];
        for chunk in nonce.chunks_exact_mut(8) {
            chunk.copy_from_slice(&entropy.u64().to_le_bytes());
        }
        Self {
            protocol: PROTOCOL,
            node: options.node,
            meant,
            store: options.store,
            cluster,
            format: options.format,
            speaks: options.speaks,
            nonce,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HELLO);
        out.put_slice(&MAGIC);
        Sink::put_u16(&mut out, self.protocol);
        Sink::put_u16(&mut out, self.node);
        Sink::put_u16(&mut out, self.meant);
        Sink::put_u64(&mut out, self.store);
        Sink::put_u8(&mut out, u8::from(self.cluster.is_some()));
        out.put_slice(&self.cluster.unwrap_or_default());
        Sink::put_u32(&mut out, self.format);
        let Speaks { messages, entries, records } = self.speaks;
        for version in [messages, entries, records] {
            Sink::put_u16(&mut out, version);
        }
        out.put_slice(&self.nonce);
        out
    }

    fn decode(bytes: &[u8; HELLO]) -> Option<Self> {
        let mut take = Take::new(&bytes[MAGIC.len()..]);
        Some(Self {
            protocol: take.u16()?,
            node: take.u16()?,
            meant: take.u16()?,
            store: take.u64()?,
            cluster: {
                let formed = take.u8()? != 0;
                let id: [u8; 16] = take.bytes(16)?.try_into().ok()?;
                formed.then_some(id)
            },
            format: take.u32()?,
            speaks: Speaks { messages: take.u16()?, entries: take.u16()?, records: take.u16()? },
            nonce: take.bytes(32)?.try_into().ok()?,
        })
    }
}

/// Who proves.
#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Acceptor,
}

fn mac(secret: &[u8], role: Role, dialler: &[u8], acceptor: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length; the error type is of the general trait.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(match role {
        Role::Dialler => b"rookery peer, dialler\0",
        Role::Acceptor => b"rookery peer, acceptor",
    });
    mac.update(dialler);
    mac.update(acceptor);
    mac
}

fn proof(secret: &[u8], role: Role, dialler: &[u8], acceptor: &[u8]) -> [u8; PROOF] {
    mac(secret, role, dialler, acceptor).finalize().into_bytes().into()
}

const BAD_SECRET: &str =
    "the cluster secret differs; both nodes need the same cluster.secret in cluster.toml";

/// The remedy where two builds cannot talk.
const SAME_BUILD: &str =
    "the nodes of a cluster run the same version of the program: stop them all, then start that one on each";

fn other_protocol(me: u16, theirs: u16) -> String {
    format!("node {me} speaks peer protocol {PROTOCOL}, and the other node {theirs}; {SAME_BUILD}")
}

/// Dials side: `meant` is the node number this address should belong to.
pub(super) async fn dial(
    stream: &mut BoxStream,
    options: &PeerOptions,
    cluster: Option<[u8; 16]>,
    meant: u16,
    entropy: &dyn Entropy,
) -> Result<Hello, Failure> {
    let mine = Hello::of(options, cluster, meant, entropy).encode();
    stream.write_all(&mine).await?;
    read_verdict(stream).await?;
    let mut theirs = [0; HELLO];
    stream.read_exact(&mut theirs).await?;
    let mut their_proof = [0; PROOF];
    stream.read_exact(&mut their_proof).await?;
    if !theirs.starts_with(&MAGIC) {
        return Err(Failure::Refused(format!(
            "what listens at node {meant}'s address is not a rookery peer port"
        )));
    }
    let checked = match Hello::decode(&theirs) {
        None => Err("unreadable hello".to_owned()),
        Some(_)
            if mac(&options.secret, Role::Acceptor, &mine, &theirs).verify_slice(&their_proof).is_err() =>
        {
            Err(BAD_SECRET.to_owned())
        }
        Some(hello) if hello.protocol != PROTOCOL => Err(other_protocol(options.node, hello.protocol)),
        Some(hello) => check(options, cluster, &hello, Some(meant)).map(|()| hello),
    };
    match checked {
        Err(text) => refuse(stream, text).await,
        Ok(hello) => {
            let mut out = vec![0];
            out.extend_from_slice(&proof(&options.secret, Role::Dialler, &mine, &theirs));
            stream.write_all(&out).await?;
            read_verdict(stream).await?;
            Ok(hello)
        }
    }
}

/// Accepting side.
pub(super) async fn accept(
    stream: &mut BoxStream,
    options: &PeerOptions,
    cluster: Option<[u8; 16]>,
    known: &mut (dyn FnMut(u16) -> bool + Send),
    entropy: &dyn Entropy,
) -> Result<Hello, Failure> {
    let theirs = read_first_hello(stream, options).await?;
    let Some(hello) = Hello::decode(&theirs) else {
        return refuse(stream, "unreadable hello".to_owned()).await;
    };
    let known = known(hello.node);
    let mine = Hello::of(options, cluster, 0, entropy).encode();
    let mut out = vec![0];
    out.extend_from_slice(&mine);
    out.extend_from_slice(&proof(&options.secret, Role::Acceptor, &theirs, &mine));
    stream.write_all(&out).await?;
    read_verdict(stream).await?;
    let mut their_proof = [0; PROOF];
    stream.read_exact(&mut their_proof).await?;
    if mac(&options.secret, Role::Dialler, &theirs, &mine).verify_slice(&their_proof).is_err() {
        return refuse(stream, BAD_SECRET.to_owned()).await;
    }
    let checked = if known || hello.node == options.node {
        check(options, cluster, &hello, None)
    } else {
        Err(format!("node {} knows no node {}; add it to cluster.toml", options.node, hello.node))
    };
    match checked {
        Err(text) => refuse(stream, text).await,
        Ok(()) => {
            stream.write_all(&[0]).await?;
            Ok(hello)
        }
    }
}

/// Reads a hello byte by byte as far as it is one, so that a client or a stranger is answered at its first bytes.
async fn read_first_hello(stream: &mut BoxStream, options: &PeerOptions) -> Result<[u8; HELLO], Failure> {
    let mut bytes = [0; HELLO];
    let mut have = 0;
    while have < HELLO {
        let read = stream.read(&mut bytes[have..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        have += read;
        let magic = have.min(MAGIC.len());
        if bytes[..magic] == MAGIC[..magic] {
            let theirs = u16::from_le_bytes([bytes[8], bytes[9]]);
            if have >= HELLO_HEAD && theirs != PROTOCOL {
                return refuse(stream, other_protocol(options.node, theirs)).await;
            }
            continue;
        }
        // Six bytes tell a client; fewer that are not ours are waited for until the deadline of the handshake.
        if have < 6 {
            continue;
        }
        let len = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        return if bytes[4] == CLIENT_VERSION && len <= CLIENT_FRAME_MAX {
            stream.write_all(&options.client_refusal).await?;
            hang_up(stream).await?;
            Err(Failure::Refused("a client's frame came to the peer port".to_owned()))
        } else {
            refuse(stream, "this is the peer port of a rookery node, and you are no peer".to_owned()).await
        };
    }
    Ok(bytes)
}

/// Everything but the secret. The text is for the people of the other side.
fn check(
    options: &PeerOptions,
    cluster: Option<[u8; 16]>,
    hello: &Hello,
    meant: Option<u16>,
) -> Result<(), String> {
    let me = options.node;
    if let Some(meant) = meant
        && hello.node != meant
    {
        return Err(format!(
            "node {meant} was dialled and node {} answered; the addresses in cluster.toml are mixed up",
            hello.node
        ));
    }
    if meant.is_none() && hello.meant != me {
        return Err(format!(
            "this is node {me}, and node {} was dialled; the addresses in cluster.toml are mixed up",
            hello.meant
        ));
    }
    if hello.node == me {
        return Err(format!(
            "two nodes say that they are node {me}; give each its own number in cluster.toml"
        ));
    }
    if let (Some(mine), Some(theirs)) = (cluster, hello.cluster)
        && mine != theirs
    {
        return Err(format!(
            "node {me} is of cluster {}, node {} of cluster {}; a folder of another cluster was used: \
             correct node.data in cluster.toml",
            hex(&mine),
            hello.node,
            hex(&theirs)
        ));
    }
    if hello.format > options.format {
        return Err(format!(
            "node {} writes format {}, node {me} knows formats up to {}; upgrade node {me} first",
            hello.node, hello.format, options.format
        ));
    }
    if hello.speaks != options.speaks {
        return Err(format!(
            "node {me} speaks {}, and node {} {}; {SAME_BUILD} (`rookery --version` says what it speaks)",
            options.speaks, hello.node, hello.speaks
        ));
    }
    match &options.admit {
        Some(admit) => admit(hello.node, hello.store),
        None => Ok(()),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Tells the other side and gives the failure back.
async fn refuse<T>(stream: &mut BoxStream, text: String) -> Result<T, Failure> {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    let mut out = vec![1];
    Sink::put_u16(&mut out, u16::try_from(bytes.len()).unwrap_or(0));
    out.put_slice(bytes);
    stream.write_all(&out).await?;
    hang_up(stream).await?;
    Err(Failure::Refused(text))
}

/// Ends a refused connection in a way that lets the other side read why: closed over unread bytes, the kernel would
/// send a reset that takes the refusal with it.
async fn hang_up(stream: &mut BoxStream) -> io::Result<()> {
    stream.shutdown().await?;
    let drain = async {
        let mut scratch = [0; 1024];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    // Whoever goes on talking after that has had its chance.
    let _ = tokio::time::timeout(LINGER, drain).await;
    Ok(())
}

async fn read_verdict(stream: &mut BoxStream) -> Result<(), Failure> {
    match stream.read_u8().await? {
        0 => Ok(()),
        1 => {
            let len = usize::from(stream.read_u16_le().await?).min(MAX_TEXT);
            let mut text = vec![0; len];
            stream.read_exact(&mut text).await?;
            Err(Failure::RefusedByPeer(String::from_utf8_lossy(&text).into_owned()))
        }
        _ => Err(Failure::Refused("what answered is not a rookery peer port".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::SeededEntropy;
    use std::collections::BTreeMap;

    fn options(node: u16) -> PeerOptions {
        PeerOptions::new(node, 70 + u64::from(node), "", BTreeMap::new(), b"a secret of the cluster".to_vec())
    }

    type Outcome = (Result<Hello, Failure>, Result<Hello, Failure>);

    async fn meet(
        dialler: &PeerOptions,
        acceptor: &PeerOptions,
        clusters: [Option<[u8; 16]>; 2],
        meant: u16,
    ) -> Outcome {
        let (a, b) = tokio::io::duplex(4096);
        let (mut a, mut b): (BoxStream, BoxStream) = (Box::new(a), Box::new(b));
        let entropy = SeededEntropy::new(1);
        let mut known = |node| node < 9;
        tokio::join!(
            dial(&mut a, dialler, clusters[0], meant, &entropy),
            accept(&mut b, acceptor, clusters[1], &mut known, &entropy)
        )
    }

    #[tokio::test]
    async fn peers_meet_formed_or_not() {
        for clusters in [[None, None], [Some([1; 16]), None], [None, Some([1; 16])], [Some([1; 16]); 2]] {
            let (dialled, accepted) = meet(&options(1), &options(2), clusters, 2).await;
            assert_eq!((dialled.unwrap().store, accepted.unwrap().store), (72, 71));
        }
    }

    #[tokio::test]
    async fn a_hello_of_another_protocol_is_answered_before_it_is_whole() {
        let mut hello = Hello::of(&options(1), None, 2, &SeededEntropy::new(1)).encode();
        hello[8] = 1;
        // As short as the first protocol's was, and shorter: no more may be waited for.
        for sent in [HELLO - 6, HELLO_HEAD] {
            let (mut a, b) = tokio::io::duplex(4096);
            let mut b: BoxStream = Box::new(b);
            a.write_all(&hello[..sent]).await.unwrap();
            let mut known = |_| true;
            let mine = options(2);
            let entropy = SeededEntropy::new(1);
            let (accepted, heard) =
                tokio::join!(accept(&mut b, &mine, None, &mut known, &entropy), async move {
                    let mut heard = Vec::new();
                    a.read_to_end(&mut heard).await.unwrap();
                    String::from_utf8_lossy(&heard).into_owned()
                });
            let said = accepted.unwrap_err().to_string();
            for text in [said, heard] {
                assert!(text.contains("peer protocol 2, and the other node 1; the nodes"), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn both_sides_learn_what_differs() {
        let stranger = PeerOptions { secret: b"another secret altogether".to_vec(), ..options(1) };
        let newer = PeerOptions { format: 2, ..options(1) };
        let speaks = |messages, entries, records| PeerOptions {
            speaks: Speaks { messages, entries, records },
            ..options(1)
        };
        let unknown = PeerOptions {
            admit: Some(std::sync::Arc::new(|node, store| {
                Err(format!("store {store} of node {node} is retired"))
            })),
            ..options(2)
        };
        let cases = [
            (stranger, options(2), [None, None], 2, "secret differs"),
            (options(1), options(3), [None, None], 2, "mixed up"),
            (options(2), options(2), [None, None], 2, "its own number"),
            (options(1), options(2), [Some([1; 16]), Some([2; 16])], 2, "another cluster"),
            (newer, options(2), [None, None], 2, "upgrade node 2"),
            (speaks(8, 0, 0), options(2), [None, None], 2, "messages 8, entries 0, records 0"),
            (speaks(0, 9, 0), options(2), [None, None], 2, "messages 0, entries 9, records 0"),
            (speaks(0, 0, 1), options(2), [None, None], 2, "messages 0, entries 0, records 1"),
            (options(1), unknown, [None, None], 2, "store 71 of node 1 is retired"),
        ];
        for (dialler, acceptor, clusters, meant, text) in cases {
            let (dialled, accepted) = meet(&dialler, &acceptor, clusters, meant).await;
            for said in [dialled.unwrap_err(), accepted.unwrap_err()] {
                assert!(said.to_string().contains(text), "{said} lacks {text}");
            }
        }
    }
}
