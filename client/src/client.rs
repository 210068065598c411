//! The handle: checks what can be checked here, waits for room, hands over to the driver.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use rookery_wire::reply::{Ack, MemberPage, Page, ReadMark, Summary, SyncPage};
use rookery_wire::request::{Consistency, Direction, ListMembers, Pull, Read, Sync};
use rookery_wire::{Blob, ErrorCode, GroupId, Kind, SessionId, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::command::{Answer, Command, Op, Question};
use crate::driver;
use crate::error::ClientError;
use crate::event::Events;
use crate::options::Options;
use crate::outgoing::{
    AROUND_USERS, MAX_CONTENT_TYPE, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_USERS, Outgoing,
};
use crate::shared::{Shared, Stats};
use crate::since::{Mark, SyncChanges};

/// Questions in flight at once, for all clones of one client.
const ASKS: usize = 64;
/// Sessions in one page of [`Client::sync`].
pub(crate) const SYNC_PAGE: u32 = 200;
/// Bytes of records asked for in one page of [`Client::pull`].
const PULL_BYTES: u32 = 512 << 10;
/// How long [`Client::close`] waits for the driver.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// A device's client. Clones share one connection; the client ends with [`Client::close`], or when all clones and
/// the [`Events`] are gone.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    window: Arc<Semaphore>,
    asks: Arc<Semaphore>,
    pub(crate) shared: Arc<Shared>,
    deadline: Duration,
}

/// The answer to [`Client::sync`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncList {
    /// Every session that could be asked, newest activity first.
    pub sessions: Vec<Summary>,
    /// Sessions that could not be asked in time, and why.
    pub unresolved: Vec<(SessionId, ErrorCode)>,
}

/// A send under way. Dropping it does not stop the send.
#[derive(Debug)]
pub struct PendingAck {
    answer: oneshot::Receiver<Result<Ack, ClientError>>,
    shared: Arc<Shared>,
}

impl Future for PendingAck {
    type Output = Result<Ack, ClientError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(self.shared.ended())))
    }
}

impl Client {
    /// Connects to the first seed that answers and reads the session list once.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the cluster does not take this identity, [`ClientError::Deadline`] when no
    /// node answered within `request_deadline`, [`ClientError::Memory`], [`ClientError::Invalid`] without seeds.
    pub async fn connect(options: Options) -> Result<(Client, Events), ClientError> {
        if options.seeds.is_empty() {
            return Err(ClientError::Invalid("no seeds; name at least one node, host:port".to_owned()));
        }
        let shared = Arc::new(Shared::default());
        let window = options.window.max(1);
        let (commands, inbox) = mpsc::channel(window + ASKS + 1);
        let (event_sender, event_queue) = mpsc::channel(options.event_queue.max(1));
        let client = Client {
            commands,
            window: Arc::new(Semaphore::new(window)),
            asks: Arc::new(Semaphore::new(ASKS)),
            shared: Arc::clone(&shared),
            deadline: options.request_deadline,
        };
        let events = Events::new(event_queue, Arc::clone(&shared));
        driver::start(options, shared, inbox, event_sender).await?;
        Ok((client, events))
    }

    /// Sends and waits until the message is durable and applied.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::outcome_unknown`] says whether it may have been stored all the same.
    pub async fn send(&self, session: &SessionId, content: Outgoing) -> Result<Ack, ClientError> {
        self.send_pipelined(session, content).await?.await
    }

    /// Sends without waiting for the answer: waits only while the window is full. Messages to one session are
    /// stored in the order of these calls.
    ///
    /// # Errors
    /// What can be refused here; [`ClientError::Deadline`] when there was no room in time (nothing was sent).
    pub async fn send_pipelined(
        &self,
        session: &SessionId,
        content: Outgoing,
    ) -> Result<PendingAck, ClientError> {
        self.check(&content)?;
        let Outgoing { content_type, content, extensions, on_behalf_of } = content;
        self.numbered(session, Op::Send { content_type, content, extensions, on_behalf_of }).await
    }

    /// Takes the content of a message back: the user's own within the cluster's window, any as an admin of a group. The
    /// ACK is that of the signal; once it is there nobody is shown the content any more.
    ///
    /// # Errors
    /// As [`Client::send`]; `NOT_ALLOWED`, `TOO_LATE`, `RECALLED` and `NO_SUCH_MESSAGE` among the refusals.
    pub async fn recall(&self, session: &SessionId, seq: u64) -> Result<Ack, ClientError> {
        self.numbered(session, Op::Recall { seq }).await?.await
    }

    /// Puts other content in the place of an own message's. Devices learn by a signal that names the seq, and pull what
    /// it says now.
    ///
    /// # Errors
    /// As [`Client::recall`].
    pub async fn edit(&self, session: &SessionId, seq: u64, content: Outgoing) -> Result<Ack, ClientError> {
        self.check(&content)?;
        let Outgoing { content_type, content, extensions, .. } = content;
        self.numbered(session, Op::Edit { seq, content_type, content, extensions }).await?.await
    }

    /// Creates a group of these members and the user itself.
    ///
    /// # Errors
    /// As [`Client::send`]; `SESSION_EXISTS` among the refusals.
    pub async fn create_group(&self, group: GroupId, members: &[UserId]) -> Result<Ack, ClientError> {
        self.membership(Kind::CreateGroup, &SessionId::group(group), members).await
    }

    /// Adds members to a group.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn add_members(&self, session: &SessionId, users: &[UserId]) -> Result<Ack, ClientError> {
        self.membership(Kind::AddMembers, session, users).await
    }

    /// Removes members from a group; the user itself to leave it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn remove_members(&self, session: &SessionId, users: &[UserId]) -> Result<Ack, ClientError> {
        self.membership(Kind::RemoveMembers, session, users).await
    }

    /// Who is in a session, by name, after `after`, at most `limit` (1–1,000).
    ///
    /// # Errors
    /// As [`Client::send`]; asking changes nothing.
    pub async fn members(
        &self,
        session: &SessionId,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<MemberPage, ClientError> {
        let list = ListMembers { session: session.clone(), after, limit };
        match self.ask(Question::Members(list)).await? {
            Answer::Members(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// The whole session list, all pages.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn sync(&self) -> Result<SyncList, ClientError> {
        let SyncChanges { sessions, unresolved, .. } = self.sync_since(&Mark::default()).await?;
        Ok(SyncList { sessions, unresolved })
    }

    /// One page of the session list: `after` is `next` of the page before, or empty; `limit` 1–200.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn sync_page(&self, after: Blob, limit: u32) -> Result<SyncPage, ClientError> {
        match self.ask(Question::Sync(Sync { after, limit, since: Blob::default() })).await? {
            Answer::Sync(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// A slice of a session's history; the server's bounds on count and bytes apply too.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn pull(
        &self,
        session: &SessionId,
        from_seq: u64,
        direction: Direction,
        max_count: u32,
        consistency: Consistency,
    ) -> Result<Page, ClientError> {
        let session = session.clone();
        let pull = Pull { session, from_seq, direction, max_count, max_bytes: PULL_BYTES, consistency };
        match self.ask(Question::Pull(pull)).await? {
            Answer::Page(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// Tells that the user has read a session up to `seq`; answers where the read cursor stands now.
    ///
    /// # Errors
    /// As [`Client::members`]; `BEYOND_END` among the refusals.
    pub async fn read(&self, session: &SessionId, seq: u64) -> Result<ReadMark, ClientError> {
        match self.ask(Question::Read(Read { session: session.clone(), seq })).await? {
            Answer::ReadMark(mark) => Ok(mark),
            other => Err(mismatch(&other)),
        }
    }

    /// The time to the node and back.
    ///
    /// # Errors
    /// As [`Client::members`].
    pub async fn ping(&self) -> Result<Duration, ClientError> {
        let begin = tokio::time::Instant::now();
        match self.ask(Question::Ping).await? {
            Answer::Pong => Ok(begin.elapsed()),
            other => Err(mismatch(&other)),
        }
    }

    /// The node that holds the connection, while there is one.
    pub fn node(&self) -> Option<u16> {
        self.shared.node.load(Ordering::Relaxed).checked_sub(1).and_then(|node| u16::try_from(node).ok())
    }

    /// The device's epoch.
    pub fn epoch(&self) -> u32 {
        self.shared.epoch.load(Ordering::Relaxed)
    }

    /// Counters since the client was made.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Ends the client: tells the cluster what was delivered, saves the memory, closes. Sends that have no answer
    /// yet fail with an unknown outcome, so await them first.
    pub async fn close(self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Close { done }).await.is_ok() {
            let _ = tokio::time::timeout(CLOSE_DEADLINE, ended).await;
        }
    }

    /// What need not be asked to be refused.
    fn check(&self, content: &Outgoing) -> Result<(), ClientError> {
        let limit = self.shared.content_limit.load(Ordering::Relaxed) as usize;
        if limit > 0 && content.content.len() > limit {
            return Err(ClientError::TooLarge { size: content.content.len(), limit });
        }
        if content.content_type.len() > MAX_CONTENT_TYPE {
            return Err(ClientError::Invalid(format!("a content type has at most {MAX_CONTENT_TYPE} bytes")));
        }
        if content.extensions.len() > MAX_EXTENSIONS {
            return Err(ClientError::Invalid(format!("a message has at most {MAX_EXTENSIONS} extensions")));
        }
        let bytes: usize = content.extensions.iter().map(|extension| extension.data.len()).sum();
        if bytes > MAX_EXTENSION_BYTES {
            let text = format!("extensions of {bytes} bytes, a message has at most {MAX_EXTENSION_BYTES}");
            return Err(ClientError::Invalid(text));
        }
        Ok(())
    }

    async fn membership(
        &self,
        kind: Kind,
        session: &SessionId,
        users: &[UserId],
    ) -> Result<Ack, ClientError> {
        if users.len() > MAX_USERS {
            return Err(ClientError::Invalid(format!("one request names at most {MAX_USERS} users")));
        }
        // A frame that is too long would end the connection, and be written again on the next one.
        let size = users.iter().fold(AROUND_USERS, |size, user| size + user.as_str().len() + 3);
        let limit = self.shared.frame_limit.load(Ordering::Relaxed) as usize;
        if limit > 0 && size > limit {
            let text = format!("{} users take {size} bytes, a request has at most {limit}", users.len());
            return Err(ClientError::Invalid(format!("{text}; name fewer at a time")));
        }
        self.numbered(session, Op::Members { kind, users: users.to_vec() }).await?.await
    }

    pub(crate) async fn numbered(&self, session: &SessionId, op: Op) -> Result<PendingAck, ClientError> {
        let permit = self.room(&self.window, op.kind().name()).await?;
        let (reply, answer) = oneshot::channel();
        self.submit(Command::Numbered { session: session.clone(), op, reply, permit })?;
        Ok(PendingAck { answer, shared: Arc::clone(&self.shared) })
    }

    pub(crate) async fn ask(&self, question: Question) -> Result<Answer, ClientError> {
        let permit = self.room(&self.asks, question.name()).await?;
        let (reply, answer) = oneshot::channel();
        self.submit(Command::Ask { question, reply, permit })?;
        answer.await.unwrap_or_else(|_| Err(self.shared.ended()))
    }

    /// A place among the requests in flight. The driver answers everything it has been given within the deadline,
    /// so only this wait needs a timer of its own, and only when it is a wait.
    async fn room(
        &self,
        places: &Arc<Semaphore>,
        what: &'static str,
    ) -> Result<OwnedSemaphorePermit, ClientError> {
        if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
            return Ok(permit);
        }
        match tokio::time::timeout(self.deadline, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(self.shared.ended()),
            Err(_) => {
                let last = "too many requests were in flight all the time".to_owned();
                Err(ClientError::Deadline { what, written: false, last })
            }
        }
    }

    /// The queue has a place for every permit, so this neither waits nor reorders.
    fn submit(&self, command: Command) -> Result<(), ClientError> {
        self.commands.try_send(command).map_err(|_| self.shared.ended())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("node", &self.node()).field("epoch", &self.epoch()).finish()
    }
}

pub(crate) fn mismatch(answer: &Answer) -> ClientError {
    ClientError::Protocol(format!("an answer of another kind than asked for: {answer:?}"))
}
