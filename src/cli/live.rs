//! `receipts`, `ephemeral` and `watch`: people as they are now, for scripts.

use anyhow::{Result, bail};
use clap::Args;
use rookery_client::wire::live::{
    EphemeralMessage, Passing, PresenceLine, Receipt, ReceiptPage, SessionPresence, WatchMode, Which,
};
use rookery_client::wire::{ErrorCode, GroupId, SessionId, UserId};
use rookery_client::{Event, Events};
use serde_json::{Value, json};

use super::connect::{ConnectArgs, session_name};
use super::record::{clock, hex, visible};
use super::talk::sender;
use crate::terminal as out;

/// Members asked for at once.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery receipts --user ann '#team' 17               who has read message 17, and how many have not
  rookery receipts --user ann '#team' 17 --unread      who has not
  rookery receipts --user ann @bob 204 --json")]
pub(super) struct ReceiptsArgs {
    /// Which session
    session: String,
    /// Which message
    seq: u64,
    /// Those who have not read it
    #[arg(long)]
    unread: bool,
    /// One JSON object a line: the counts, then each member
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn receipts(args: ReceiptsArgs) -> Result<()> {
    let (client, session) = sender(&args.who, &args.session).await?;
    let which = if args.unread { Which::Unread } else { Which::Read };
    let (mut after, mut unresolved) = (None, Vec::new());
    loop {
        let ReceiptPage { users, unresolved: unknown, next, counts } =
            client.receipts(&session, args.seq, which, after, PAGE).await?;
        if let Some(counts) = counts {
            match args.json {
                true => out::line(json!({
                    "read": counts.read, "unread": counts.unread, "hidden": counts.hidden,
                }))?,
                false => out::tell(format_args!("{} have read it, {} have not", counts.read, counts.unread)),
            }
        }
        for line in users {
            match args.json {
                true => out::line(json!({ "user": line.user, "read_seq": line.read_seq }))?,
                false => out::line(line.user)?,
            }
        }
        unresolved.extend(unknown);
        after = next;
        if after.is_none() {
            break;
        }
    }
    client.close().await;
    none_unknown(&unresolved)
}

fn none_unknown(unknown: &[(UserId, ErrorCode)]) -> Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = unknown.iter().take(20).map(|(user, code)| format!("{user}: {code}")).collect();
    bail!("{} users could not be asked: {}", unknown.len(), names.join("; "));
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery ephemeral --user ann @bob 'look up!'         bob sees it if he is there now; nobody later
  rookery ephemeral --user ann '#team' --typing        ann is typing
  rookery ephemeral --user ann @bob psst --json        one JSON object, once it was let through
  rookery tail --user bob --live                       prints such messages as they come")]
pub(super) struct EphemeralArgs {
    /// Where to
    session: String,
    /// What to say
    #[arg(required_unless_present = "typing", conflicts_with = "typing")]
    text: Option<String>,
    /// Say that you are typing
    #[arg(long)]
    typing: bool,
    /// Media type
    #[arg(long, default_value = "text/plain")]
    content_type: String,
    /// Print what was let through as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn ephemeral(args: EphemeralArgs) -> Result<()> {
    let (client, session) = sender(&args.who, &args.session).await?;
    let body = match &args.text {
        Some(text) => json!({ "content_type": args.content_type, "bytes": text.len() }),
        None => json!({ "typing": true }),
    };
    match args.text {
        Some(text) => client.ephemeral(&session, &args.content_type, text.into_bytes().into()).await?,
        None => client.typing(&session, true).await?,
    }
    client.close().await;
    if args.json {
        out::line(json!({ "session": session, "ephemeral": body }))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery watch --user ann bob cid                     who is there, and who comes and goes
  rookery watch --user ann bob --once --json           only how it is now
  rookery watch --user ann --group team --once         who of a group is there

You can watch your friends, those you have a direct session with, and who is online of your groups, as far as they let you. Ends with Ctrl-C, or after --once.")]
pub(super) struct WatchArgs {
    /// Whom
    #[arg(required_unless_present = "groups")]
    users: Vec<UserId>,
    /// Or the members of a group who are there; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupId>,
    /// Print how it is now and end
    #[arg(long)]
    once: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn watch(args: WatchArgs) -> Result<()> {
    let (client, mut events) = args.who.connect("cli-watch").await?;
    let page = client.watch(WatchMode::Replace, &args.users).await?;
    tell_presence(&page.users, args.json)?;
    for (user, code) in &page.refused {
        out::tell(format_args!("{user}: {code}"));
    }
    for group in args.groups {
        tell_group(&client.watch_session(&SessionId::group(group), true).await?, args.json)?;
    }
    if !args.once {
        follow(&mut events, args.json).await?;
    }
    drop(events);
    client.close().await;
    match page.refused.is_empty() {
        true => Ok(()),
        false => none_unknown(&page.refused),
    }
}

/// Prints until it is told to stop.
async fn follow(events: &mut Events, json: bool) -> Result<()> {
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = &mut ctrl_c => return Ok(()),
        };
        match event {
            Some(Event::Presence(lines)) => tell_presence(&lines, json)?,
            Some(Event::SessionPresence(presence)) => tell_group(&presence, json)?,
            Some(Event::Disconnected { reason }) => out::tell(format_args!("reconnecting: {reason}")),
            Some(_) => {}
            None => bail!(
                "the connection has ended: another connection of the same device, or a refused identity"
            ),
        }
    }
}

fn tell_presence(lines: &[PresenceLine], json: bool) -> Result<()> {
    for line in lines {
        if json {
            out::line(presence_json(line))?;
        } else if line.online {
            out::line(format_args!("{} is online", line.user))?;
        } else if line.last_seen_ms == 0 {
            out::line(format_args!("{} is offline", line.user))?;
        } else {
            out::line(format_args!("{} is offline, last seen {}", line.user, clock(line.last_seen_ms)))?;
        }
    }
    Ok(())
}

/// Who of a group is there, or what has changed of that.
fn tell_group(presence: &SessionPresence, json: bool) -> Result<()> {
    let SessionPresence { session, whole, users, others } = presence;
    if json {
        let users: Vec<Value> = users.iter().map(presence_json).collect();
        out::line(json!({ "session": session, "whole": whole, "users": users, "others": others }))?;
        return Ok(());
    }
    let mut words: Vec<String> = Vec::new();
    for (online, verb) in [(true, "online"), (false, "offline")] {
        let names: Vec<&str> =
            users.iter().filter(|line| line.online == online).map(|line| line.user.as_str()).collect();
        if !names.is_empty() || (online && *whole) {
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            words.push(format!("{verb}: {names}"));
        }
    }
    if *others > 0 {
        words.push(format!("and {others} more online"));
    }
    out::line(format_args!("{session} {}", words.join("; ")))?;
    Ok(())
}

fn presence_json(line: &PresenceLine) -> Value {
    json!({ "user": line.user, "online": line.online, "last_seen_ms": line.last_seen_ms })
}

/// What `tail --live` prints of an event that is no message.
pub(super) fn passing(me: &UserId, event: &Event, json: bool) -> Option<String> {
    match event {
        Event::Ephemeral(message) if json => Some(message_json(message).to_string()),
        Event::Ephemeral(EphemeralMessage { session, sender, body, time_ms, .. }) => {
            let what = match body {
                Passing::Typing { on: true } => "is typing".to_owned(),
                Passing::Typing { on: false } => "has stopped typing".to_owned(),
                Passing::Content { content, .. } => {
                    format!("(passing) {}", visible(&String::from_utf8_lossy(content.as_ref())))
                }
            };
            Some(format!("{} {} {sender} {what}", clock(*time_ms), session_name(me, session)))
        }
        Event::Receipt(Receipt { session, user, seq }) if json => {
            Some(json!({ "session": session, "receipt": { "user": user, "seq": seq } }).to_string())
        }
        Event::Receipt(Receipt { session, user, seq }) => {
            Some(format!("{} {user} has read up to {seq}", session_name(me, session)))
        }
        _ => None,
    }
}

fn message_json(message: &EphemeralMessage) -> Value {
    let body = match &message.body {
        Passing::Typing { on } => json!({ "typing": on }),
        Passing::Content { content_type, content } => {
            let content_type = String::from_utf8_lossy(content_type.as_ref());
            match std::str::from_utf8(content.as_ref()) {
                Ok(text) => json!({ "content_type": content_type, "text": text }),
                Err(_) => json!({ "content_type": content_type, "hex": hex(content.as_ref()) }),
            }
        }
    };
    json!({
        "session": message.session, "sender": message.sender, "device": message.device,
        "time_ms": message.time_ms, "ephemeral": body,
    })
}
