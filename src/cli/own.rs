//! `session`, `people` and `device`: what is the user's own, for scripts.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use rookery_client::Client;
use rookery_client::wire::own::{DeviceLine, Relation, RelationFilter, SelfAck, ShowTo};
use rookery_client::wire::{Blob, DeviceId, RelationState, SessionSetting, UserAction, UserId};
use serde_json::{Value, json};

use super::connect::ConnectArgs;
use super::group_words::bytes_json;
use super::record::{clock, visible};
use super::talk::send_device;
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery session --user ann pin @bob
  rookery session --user ann mute '#team' 3600         no notifications for an hour
  rookery session --user ann hide '#team'              until something is written there
  rookery session --user ann draft @bob 'dear Bob'
  rookery session --user ann read-all --json
  rookery session --user ann delete @bob 17 20         for ann alone
  rookery session --user ann clear @bob")]
pub(super) struct SessionArgs {
    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, Subcommand)]
enum SessionCommand {
    /// Pin a session, above those pinned before
    Pin {
        /// Which
        session: String,
    },
    /// Unpin a session
    Unpin {
        /// Which
        session: String,
    },
    /// No notifications for so many seconds, or for good
    Mute {
        /// Which
        session: String,
        /// How long; without it for good
        seconds: Option<u64>,
    },
    /// Notifications again
    Unmute {
        /// Which
        session: String,
    },
    /// Hide a session until something is written there
    Hide {
        /// Which
        session: String,
        /// Whatever is written there
        #[arg(long)]
        always: bool,
    },
    /// Show a session again
    Show {
        /// Which
        session: String,
    },
    /// Show a session as unread
    MarkUnread {
        /// Which
        session: String,
    },
    /// Keep what is written and not sent; empty takes it away
    Draft {
        /// Where
        session: String,
        /// What
        text: String,
    },
    /// Read everything in all sessions
    ReadAll,
    /// Show nothing up to a message any more
    Clear {
        /// Which
        session: String,
        /// Up to which; without it up to the last one
        seq: Option<u64>,
    },
    /// Show some messages no more
    Delete {
        /// Where
        session: String,
        /// The first
        from: u64,
        /// The last, if there are several
        to: Option<u64>,
    },
}

/// A short-lived client that only asks.
async fn asking(who: &ConnectArgs) -> Result<Client> {
    let (client, events) = who.connect(&send_device()).await?;
    drop(events);
    Ok(client)
}

fn now_ms() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    u64::try_from(now.as_millis()).context("the clock is far off")
}

pub(super) async fn session(args: SessionArgs) -> Result<()> {
    let client = asking(&args.who).await?;
    let action = session_action(&client, &args).await?;
    let reads_all = action == UserAction::ReadAll;
    let ack = client.manage_self(action).await.context("not changed")?;
    client.close().await;
    if reads_all && !args.json {
        return Ok(out::line(format_args!("{} messages read", ack.value))?);
    }
    acknowledge(args.json, &ack)
}

async fn session_action(client: &Client, args: &SessionArgs) -> Result<UserAction> {
    let named = |name: &str| args.who.session(name);
    let set = |name: &str, setting| Ok(UserAction::SetSession { session: named(name)?, setting });
    match &args.command {
        SessionCommand::Pin { session } => set(session, SessionSetting::Pin(Some(now_ms()?))),
        SessionCommand::Unpin { session } => set(session, SessionSetting::Pin(None)),
        SessionCommand::Mute { session, seconds } => {
            let until =
                |seconds: u64| Ok::<_, anyhow::Error>(now_ms()?.saturating_add(seconds.saturating_mul(1000)));
            set(session, SessionSetting::Mute(seconds.map_or(Ok(u64::MAX), until)?))
        }
        SessionCommand::Unmute { session } => set(session, SessionSetting::Mute(0)),
        SessionCommand::Hide { session, always: true } => set(session, SessionSetting::Hide(Some(u64::MAX))),
        SessionCommand::Hide { session, always: false } => {
            let (_, count) = head(client, &named(session)?).await?;
            set(session, SessionSetting::Hide(Some(count)))
        }
        SessionCommand::Show { session } => set(session, SessionSetting::Hide(None)),
        SessionCommand::MarkUnread { session } => set(session, SessionSetting::MarkUnread(true)),
        SessionCommand::Draft { session, text } => {
            set(session, SessionSetting::Draft(Blob::from(text.as_str())))
        }
        SessionCommand::ReadAll => Ok(UserAction::ReadAll),
        SessionCommand::Clear { session, seq } => {
            let session = named(session)?;
            let seq = match seq {
                Some(seq) => *seq,
                None => head(client, &session).await?.0,
            };
            Ok(UserAction::ClearSession { session, seq })
        }
        SessionCommand::Delete { session, from, to } => Ok(UserAction::DeleteMessages {
            session: named(session)?,
            from_seq: *from,
            to_seq: to.unwrap_or(*from),
        }),
    }
}

/// Last seq and count of a session.
async fn head(client: &Client, session: &rookery_client::wire::SessionId) -> Result<(u64, u64)> {
    let list = client.sync().await?;
    match list.sessions.iter().find(|line| line.session == *session) {
        Some(line) => Ok((line.last_seq, line.count)),
        None => bail!("{session} is not among your sessions"),
    }
}

fn acknowledge(json: bool, ack: &SelfAck) -> Result<()> {
    if json {
        out::line(json!({ "number": ack.number, "time_ms": ack.time_ms, "value": ack.value }))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery people --user ann request bob 'it is me, Ann'
  rookery people --user bob accept ann
  rookery people --user ann remark bob 'Bob from work'
  rookery people --user ann list --json
  rookery people --user ann block mallory
  rookery people --user ann list blocked
  rookery people --user ann strangers refuse
  rookery people --user ann privacy --receipts friends --presence nobody")]
pub(super) struct PeopleArgs {
    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
    #[command(subcommand)]
    command: PeopleCommand,
}

#[derive(Debug, Subcommand)]
enum PeopleCommand {
    /// Ask a user to be a friend; who has been asked accepts by this
    Request {
        /// Whom
        user: UserId,
        /// What to say to it
        #[arg(default_value = "")]
        text: String,
    },
    /// Accept a request
    Accept {
        /// Whose
        user: UserId,
    },
    /// Decline a request
    Decline {
        /// Whose
        user: UserId,
    },
    /// End a friendship, or take a request back
    Remove {
        /// With whom
        user: UserId,
    },
    /// Call a user something; empty takes that away
    Remark {
        /// Whom
        user: UserId,
        /// What
        text: String,
    },
    /// Friends, requests and blocked users
    List {
        /// Which
        #[arg(value_enum, default_value = "all")]
        which: WhichWord,
    },
    /// Take nothing that a user writes any more
    Block {
        /// Whom
        user: UserId,
    },
    /// Take that back
    Unblock {
        /// Whom
        user: UserId,
    },
    /// Whether users who are no friends may begin a session
    Strangers {
        /// What
        #[arg(value_enum)]
        word: StrangersWord,
    },
    /// To whom to show how far one has read, and whether one is there; without a word: how that is set
    Privacy {
        /// How far one has read
        #[arg(long, value_enum)]
        receipts: Option<ShowWord>,
        /// Whether one is there
        #[arg(long, value_enum)]
        presence: Option<ShowWord>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShowWord {
    All,
    Friends,
    Nobody,
}

impl From<ShowWord> for ShowTo {
    fn from(word: ShowWord) -> Self {
        match word {
            ShowWord::All => Self::All,
            ShowWord::Friends => Self::Friends,
            ShowWord::Nobody => Self::Nobody,
        }
    }
}

fn show_word(to: ShowTo) -> &'static str {
    match to {
        ShowTo::All => "all",
        ShowTo::Friends => "friends",
        ShowTo::Nobody => "nobody",
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhichWord {
    All,
    Friends,
    Requests,
    Blocked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrangersWord {
    Allow,
    Refuse,
}

impl From<WhichWord> for RelationFilter {
    fn from(word: WhichWord) -> Self {
        match word {
            WhichWord::All => Self::All,
            WhichWord::Friends => Self::Friends,
            WhichWord::Requests => Self::Requests,
            WhichWord::Blocked => Self::Blocked,
        }
    }
}

/// Relations asked for at once.
const PAGE: u32 = 200;

pub(super) async fn people(args: PeopleArgs) -> Result<()> {
    let client = asking(&args.who).await?;
    let done = match args.command {
        PeopleCommand::Request { user, text } => {
            stand(args.json, &user, client.request_friend(user.clone(), &text).await?)
        }
        PeopleCommand::Accept { user } => stand(args.json, &user, client.accept_friend(user.clone()).await?),
        PeopleCommand::Decline { user } => {
            stand(args.json, &user, client.decline_friend(user.clone()).await?)
        }
        PeopleCommand::Remove { user } => stand(args.json, &user, client.remove_friend(user.clone()).await?),
        PeopleCommand::Block { user } => stand(args.json, &user, client.block(user.clone()).await?),
        PeopleCommand::Unblock { user } => stand(args.json, &user, client.unblock(user.clone()).await?),
        PeopleCommand::Remark { user, text } => {
            let remark = Blob::from(text.as_str());
            acknowledge(args.json, &client.manage_self(UserAction::SetRemark { user, remark }).await?)
        }
        PeopleCommand::Strangers { word } => {
            let refuse = word == StrangersWord::Refuse;
            acknowledge(args.json, &client.manage_self(UserAction::SetStrangers { refuse }).await?)
        }
        PeopleCommand::Privacy { receipts, presence } => {
            privacy(&client, receipts.map(Into::into), presence.map(Into::into), args.json).await
        }
        PeopleCommand::List { which } => list(&client, which.into(), args.json).await,
    };
    client.close().await;
    done
}

/// Sets what is given, leaves the rest as it is, and says how it is then.
async fn privacy(
    client: &Client,
    receipts: Option<ShowTo>,
    presence: Option<ShowTo>,
    json: bool,
) -> Result<()> {
    let page = client.relations(RelationFilter::All, None, 1).await?;
    let is_set = receipts.is_some() || presence.is_some();
    let (receipts, presence) = (receipts.unwrap_or(page.receipts), presence.unwrap_or(page.presence));
    if is_set {
        client.manage_self(UserAction::SetPrivacy { receipts, presence }).await?;
    }
    let (receipts, presence) = (show_word(receipts), show_word(presence));
    match json {
        true => out::line(json!({ "receipts": receipts, "presence": presence }))?,
        false => out::line(format_args!("shows receipts to {receipts}, presence to {presence}"))?,
    }
    Ok(())
}

fn stand(json: bool, user: &UserId, state: RelationState) -> Result<()> {
    match json {
        true => out::line(json!({ "user": user, "state": state_word(state) }))?,
        false => out::line(format_args!("{user}: {}", state_words(state)))?,
    }
    Ok(())
}

fn state_word(state: RelationState) -> &'static str {
    match state {
        RelationState::None => "none",
        RelationState::Requested => "requested",
        RelationState::Asked => "asked",
        RelationState::Friends => "friends",
    }
}

/// How a user stands to the one who asks.
pub(crate) fn state_words(state: RelationState) -> &'static str {
    match state {
        RelationState::None => "nothing between you",
        RelationState::Requested => "asked, no answer yet",
        RelationState::Asked => "asks you to be a friend",
        RelationState::Friends => "a friend",
    }
}

async fn list(client: &Client, which: RelationFilter, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = client.relations(which, after.take(), PAGE).await?;
        for line in &page.relations {
            match json {
                true => out::line(relation_json(line))?,
                false => out::line(relation_words(line))?,
            }
        }
        match page.relations.last().filter(|_| page.more) {
            Some(last) => after = Some(last.user.clone()),
            None => return Ok(()),
        }
    }
}

pub(super) fn relation_json(line: &Relation) -> Value {
    json!({
        "user": line.user, "state": state_word(line.state), "blocked": line.blocked,
        "remark": bytes_json(&line.remark), "text": bytes_json(&line.text), "since_ms": line.since_ms,
    })
}

/// One relation as one line, for people.
pub(crate) fn relation_words(line: &Relation) -> String {
    let shown = |blob: &Blob| visible(&String::from_utf8_lossy(blob.as_ref()));
    let mut words = format!("{} {}", line.user, state_words(line.state));
    if !line.remark.is_empty() {
        words += &format!(", called {}", shown(&line.remark));
    }
    if !line.text.is_empty() {
        words += &format!(": {}", shown(&line.text));
    }
    if line.blocked {
        words += " (blocked)";
    }
    words
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery device --user ann list --json
  rookery device --user ann name phone 'the red one'
  rookery device --user ann end phone                  its connection ends, its tokens are refused")]
pub(super) struct DeviceArgs {
    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// All registered devices
    List,
    /// Name a device for people
    Name {
        /// Which
        device: DeviceId,
        /// Its name
        name: String,
    },
    /// End a device
    End {
        /// Which
        device: DeviceId,
    },
}

pub(super) async fn device(args: DeviceArgs) -> Result<()> {
    let client = asking(&args.who).await?;
    let done = match args.command {
        DeviceCommand::List => devices(&client, args.json).await,
        DeviceCommand::Name { device, name } => {
            let name = Blob::from(name.as_str());
            known(&client.manage_self(UserAction::NameDevice { device, name }).await?, args.json)
        }
        DeviceCommand::End { device } => known(&client.end_device(device).await?, args.json),
    };
    client.close().await;
    done
}

fn known(ack: &SelfAck, json: bool) -> Result<()> {
    if ack.value == 0 {
        bail!("there is no such device; `rookery device list` names them");
    }
    acknowledge(json, ack)
}

async fn devices(client: &Client, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = client.devices(after.take(), 64).await?;
        for line in &page.devices {
            match json {
                true => out::line(device_json(line))?,
                false => out::line(device_words(line))?,
            }
        }
        match page.devices.last().filter(|_| page.more) {
            Some(last) => after = Some(last.device.clone()),
            None => return Ok(()),
        }
    }
}

pub(super) fn device_json(line: &DeviceLine) -> Value {
    json!({
        "device": line.device, "epoch": line.epoch, "platform": bytes_json(&line.platform),
        "name": bytes_json(&line.name), "agent": bytes_json(&line.agent), "seen_ms": line.seen_ms,
    })
}

pub(super) fn device_words(line: &DeviceLine) -> String {
    let shown = |blob: &Blob| visible(&String::from_utf8_lossy(blob.as_ref()));
    let name = if line.name.is_empty() { String::new() } else { format!(" ({})", shown(&line.name)) };
    format!(
        "{}{name} {} {} last seen {}",
        line.device,
        shown(&line.platform),
        shown(&line.agent),
        clock(line.seen_ms)
    )
}
