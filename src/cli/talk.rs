//! `send`, `tail`, `pull` and `sessions`: the cluster for scripts.

use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rookery_client::wire::reply::Ack;
use rookery_client::wire::request::{Consistency, Direction};
use rookery_client::wire::{SessionId, UserId};
use rookery_client::{Client, Event, Outgoing, PendingAck, StartAt};

use super::connect::{ConnectArgs, session_name};
use super::record::{self, Shape};
use crate::terminal as out;

const NAMES: &str = "Sessions are named @USER, '#GROUP', group:GROUP or direct:USER,USER.";

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  rookery send --user ann @bob 'hello'
  rookery send --user ann '#team' < lines.txt          one message a line
  rookery send --user shop --service --for ann '#team' 'order 7 has left'
  rookery send --user ann @bob 'for a minute' --lasts 60
  rookery send --user ann @bob hi --json               prints seq, id and time

{NAMES}"))]
pub(super) struct SendArgs {
    /// Where to
    session: String,
    /// The message; without it, each line of stdin is one
    text: Option<String>,
    /// In the name of this user (with --service)
    #[arg(long = "for", value_name = "USER", requires = "service")]
    on_behalf_of: Option<UserId>,
    /// Media type
    #[arg(long, default_value = "text/plain")]
    content_type: String,
    /// Let the message go after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=315_360_000))]
    lasts: Option<u64>,
    /// Let the message go so many seconds after the other user of a direct session has read it
    #[arg(long, value_name = "S", conflicts_with = "lasts", value_parser = clap::value_parser!(u64).range(0..=315_360_000))]
    burns: Option<u64>,
    /// Print the acknowledgement as JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

/// Sends in flight while stdin is sent.
const SEND_AHEAD: usize = 128;
/// Devices over which the scripts of one user spread. Few beside the 64 a user may have: they must not push out a phone.
const SEND_DEVICES: u32 = 8;

/// Several scripts of one user may send at once, each as a device of its own as far as the names go.
pub(super) fn send_device() -> String {
    format!("cli-send-{}", std::process::id() % SEND_DEVICES)
}

pub(super) async fn send(args: SendArgs) -> Result<()> {
    let (client, session) = sender(&args.who, &args.session).await?;
    let make = |text: &str| {
        let mut message = Outgoing::text(text);
        message.content_type = args.content_type.clone().into_bytes().into();
        message.on_behalf_of.clone_from(&args.on_behalf_of);
        match (args.lasts, args.burns) {
            (Some(seconds), _) => message.lasting(Duration::from_secs(seconds)),
            (None, Some(seconds)) => message.burning(Duration::from_secs(seconds)),
            (None, None) => message,
        }
    };
    if let Some(text) = &args.text {
        report(&args, client.send_pipelined(&session, make(text)).await?).await?;
        client.close().await;
        return Ok(());
    }
    let mut waiting = std::collections::VecDeque::new();
    // Reading a line blocks this thread, which serves the connection too; so lines come from a thread of their own.
    let mut lines = stdin_lines();
    while let Some(line) = lines.recv().await {
        if waiting.len() >= SEND_AHEAD
            && let Some(first) = waiting.pop_front()
        {
            report(&args, first).await?;
        }
        waiting.push_back(client.send_pipelined(&session, make(&line?)).await?);
    }
    for ack in waiting {
        report(&args, ack).await?;
    }
    client.close().await;
    Ok(())
}

fn stdin_lines() -> tokio::sync::mpsc::Receiver<std::io::Result<String>> {
    let (lines, receiver) = tokio::sync::mpsc::channel(SEND_AHEAD);
    // Ends with stdin, or with the process.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

async fn report(args: &SendArgs, pending: PendingAck) -> Result<()> {
    let ack = match pending.await {
        Ok(ack) => ack,
        Err(fault) if fault.outcome_unknown() => {
            return Err(fault).context("not known whether it was stored; look with `rookery pull`");
        }
        Err(fault) => return Err(fault).context("not stored"),
    };
    acknowledge(args.json, &ack)
}

/// The ACK, for a program.
pub(super) fn acknowledge(json: bool, ack: &Ack) -> Result<()> {
    if json {
        out::line(serde_json::json!({
            "session": ack.session, "seq": ack.seq, "message_id": ack.message_id, "time_ms": ack.time_ms,
        }))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  rookery recall --user ann @bob 17                    nobody is shown message 17 any more
  rookery recall --user ann '#team' 204 --json         prints the signal's seq, id and time

{NAMES}"))]
pub(super) struct RecallArgs {
    /// Which session
    session: String,
    /// Which message
    seq: u64,
    /// Print the acknowledgement as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn recall(args: RecallArgs) -> Result<()> {
    let (client, session) = sender(&args.who, &args.session).await?;
    let ack = client.recall(&session, args.seq).await.context("not recalled")?;
    client.close().await;
    acknowledge(args.json, &ack)
}

/// A client that only asks, and the session it asks of.
pub(super) async fn sender(who: &ConnectArgs, session: &str) -> Result<(Client, SessionId)> {
    let session = who.session(session)?;
    let (client, events) = who.connect(&send_device()).await?;
    drop(events);
    Ok((client, session))
}

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  rookery edit --user ann @bob 17 'hello, Bob'

{NAMES}"))]
pub(super) struct EditArgs {
    /// Which session
    session: String,
    /// Which message
    seq: u64,
    /// What it says from now on
    text: String,
    /// Media type
    #[arg(long, default_value = "text/plain")]
    content_type: String,
    /// Print the acknowledgement as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn edit(args: EditArgs) -> Result<()> {
    let (client, session) = sender(&args.who, &args.session).await?;
    let mut content = Outgoing::text(&args.text);
    content.content_type = args.content_type.clone().into_bytes().into();
    let ack = client.edit(&session, args.seq, content).await.context("not edited")?;
    client.close().await;
    acknowledge(args.json, &ack)
}

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  rookery tail --user ann                              everything ann is sent from now on
  rookery tail --user ann '#team' @bob --json
  rookery tail --user ann --beginning --count 100

{NAMES} Ends with Ctrl-C, or after --count."))]
pub(super) struct TailArgs {
    /// Only these sessions
    sessions: Vec<String>,
    /// Begin with the oldest message kept, not with now
    #[arg(long)]
    beginning: bool,
    /// Print too what is kept nowhere: ephemeral messages, typing, receipts
    #[arg(long)]
    live: bool,
    /// End after so many messages
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn tail(args: TailArgs) -> Result<()> {
    let wanted: Vec<_> = args.sessions.iter().map(|name| args.who.session(name)).collect::<Result<_>>()?;
    let mut options = args.who.options("cli-tail")?;
    options.start = if args.beginning { StartAt::Beginning } else { StartAt::Now };
    let (client, mut events) = ConnectArgs::open(options).await?;
    let shape = if args.json { Shape::Json } else { Shape::Text };
    let mut left = args.count.unwrap_or(u64::MAX);
    let ctrl_c = tokio::signal::ctrl_c();
    tokio::pin!(ctrl_c);
    while left > 0 {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = &mut ctrl_c => break,
        };
        match event {
            None => bail!(
                "the connection has ended: another connection of the same device, or a refused identity"
            ),
            Some(Event::Message { session, record }) if wanted.is_empty() || wanted.contains(&session) => {
                out::line(record::line(&args.who.user, &session, &record, shape))?;
                left -= 1;
            }
            Some(Event::Skipped { session, from, to }) => {
                let name = session_name(&args.who.user, &session);
                out::tell(format_args!("{name}: {from} to {to} are no longer kept"));
            }
            Some(Event::Disconnected { reason }) => out::tell(format_args!("reconnecting: {reason}")),
            Some(event) if args.live => {
                if let Some(line) = super::live::passing(&args.who.user, &event, args.json) {
                    out::line(line)?;
                }
            }
            Some(_) => {}
        }
    }
    drop(events);
    client.close().await;
    Ok(())
}

#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  rookery pull --user ann @bob                         the last 50
  rookery pull --user ann '#team' --from 1 --count 500 --json
  rookery pull --user ann '#team' --before 1000        what stands before 1000

{NAMES}"))]
pub(super) struct PullArgs {
    /// Which session
    session: String,
    /// From this seq on, towards newer messages
    #[arg(long, value_name = "SEQ", conflicts_with = "before")]
    from: Option<u64>,
    /// The newest before this seq
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,
    /// At most so many
    #[arg(long, short = 'n', default_value_t = 50)]
    count: u32,
    /// The serving node's own replica as it is, though it may be behind (with --service)
    #[arg(long, requires = "service")]
    replica: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn pull(args: PullArgs) -> Result<()> {
    let session = args.who.session(&args.session)?;
    let (client, events) = args.who.connect("cli-pull").await?;
    drop(events);
    let consistency = if args.replica { Consistency::Replica } else { Consistency::Linearizable };
    let shape = if args.json { Shape::Json } else { Shape::Text };
    let show = |records: &[rookery_client::wire::Record]| -> Result<()> {
        for record in records {
            out::line(record::line(&args.who.user, &session, record, shape))?;
        }
        Ok(())
    };
    if let Some(mut from) = args.from {
        let mut left = args.count;
        while left > 0 {
            let page = client.pull(&session, from, Direction::Forward, left, consistency).await?;
            let Some(last) = page.records.last() else { break };
            show(&page.records)?;
            from = last.seq + 1;
            left = left.saturating_sub(u32::try_from(page.records.len()).unwrap_or(u32::MAX));
        }
    } else if args.before != Some(1) {
        show(&backward(&client, &session, &args, consistency).await?)?;
    }
    client.close().await;
    Ok(())
}

async fn backward(
    client: &Client,
    session: &rookery_client::wire::SessionId,
    args: &PullArgs,
    consistency: Consistency,
) -> Result<Vec<rookery_client::wire::Record>> {
    let mut newest = args.before.map_or(0, |before| before.saturating_sub(1));
    let mut found = std::collections::VecDeque::new();
    while found.len() < args.count as usize {
        let left = args.count - u32::try_from(found.len()).unwrap_or(0);
        let page = client.pull(session, newest, Direction::Backward, left, consistency).await?;
        let Some(first) = page.records.first().map(|record| record.seq) else { break };
        for record in page.records.into_iter().rev() {
            found.push_front(record);
        }
        if first <= 1 {
            break;
        }
        newest = first - 1;
    }
    Ok(found.into())
}
