//! `session` and `device`: what is the user's own, for scripts.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rookery_client::Client;
use rookery_client::wire::own::{DeviceLine, SelfAck};
use rookery_client::wire::{Blob, DeviceId, SessionSetting, UserAction, UserId};
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

/// Devices asked for at once.
const DEVICES: u32 = 64;

/// A short-lived client that only asks.
pub(super) async fn asking(who: &ConnectArgs) -> Result<Client> {
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

pub(super) fn acknowledge(json: bool, ack: &SelfAck) -> Result<()> {
    if json {
        out::line(json!({ "number": ack.number, "time_ms": ack.time_ms, "value": ack.value }))?;
    }
    Ok(())
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
    /// Print the registered devices, one a line
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
        DeviceCommand::List => devices(&client, None, args.json).await,
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

/// Prints the devices of a user that a service names, or one's own.
pub(super) async fn devices(client: &Client, of: Option<&UserId>, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = match of {
            Some(of) => client.devices_of(of.clone(), after.take(), DEVICES).await?,
            None => client.devices(after.take(), DEVICES).await?,
        };
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

fn device_json(line: &DeviceLine) -> Value {
    json!({
        "device": line.device, "epoch": line.epoch, "platform": bytes_json(&line.platform),
        "name": bytes_json(&line.name), "agent": bytes_json(&line.agent), "seen_ms": line.seen_ms,
    })
}

pub(crate) fn device_words(line: &DeviceLine) -> String {
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
