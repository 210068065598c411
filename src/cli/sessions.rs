//! `sessions`: the session list, whole or since a mark.

use anyhow::{Result, bail};
use clap::Args;
use rookery_client::wire::{ErrorCode, SessionId};
use rookery_client::{Client, Mark, SyncChanges};

use super::connect::{ConnectArgs, session_name};
use super::record;
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery sessions --user ann
  rookery sessions --user ann --json
  rookery sessions --user ann --since ''               the whole list, and the mark of now
  rookery sessions --user ann --since 01a7... --json   what has changed since that mark, and the next one

A mark is of one cluster, user and device (--device). What has changed since it is printed with the sessions that were
left; `full` says that the mark is of no more use and the list is whole.")]
pub(super) struct SessionsArgs {
    /// Only what has changed since this mark, which an earlier run printed; '' for everything
    #[arg(long, value_name = "MARK")]
    since: Option<Mark>,
    /// One JSON array; with --since one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn sessions(args: SessionsArgs) -> Result<()> {
    let (client, events) = args.who.connect("cli-sessions").await?;
    drop(events);
    match &args.since {
        None => whole(client, &args).await,
        Some(mark) => since(client, &args, mark).await,
    }
}

async fn whole(client: Client, args: &SessionsArgs) -> Result<()> {
    let list = client.sync().await?;
    client.close().await;
    if args.json {
        let all: Vec<_> = list.sessions.iter().map(record::summary).collect();
        out::line(serde_json::to_string_pretty(&all)?)?;
    } else {
        out::line(record::table(&args.who.user, &list.sessions))?;
    }
    all_asked(&list.unresolved)
}

async fn since(client: Client, args: &SessionsArgs, mark: &Mark) -> Result<()> {
    let changes = client.sync_since(mark).await?;
    client.close().await;
    let SyncChanges { sessions, left, unresolved, full, total, badge, mark } = changes;
    if args.json {
        let sessions: Vec<_> = sessions.iter().map(record::summary).collect();
        let unresolved: Vec<_> =
            unresolved.iter().map(|(session, code)| serde_json::json!([session, code.number()])).collect();
        let changes = serde_json::json!({
            "sessions": sessions, "left": left, "unresolved": unresolved, "full": full, "total": total,
            "badge": { "unread": badge.unread, "muted": badge.muted, "uncounted": badge.uncounted },
            "mark": mark.to_string(),
        });
        out::line(serde_json::to_string_pretty(&changes)?)?;
        return Ok(());
    }
    if !sessions.is_empty() {
        out::line(record::table(&args.who.user, &sessions))?;
    }
    for session in &left {
        out::line(format!("left {}", session_name(&args.who.user, session)))?;
    }
    let what = if full { "the whole list" } else { "changed" };
    out::line(format!("{} of {total} sessions, {what}; next time: --since {mark}", sessions.len()))?;
    all_asked(&unresolved)
}

fn all_asked(unresolved: &[(SessionId, ErrorCode)]) -> Result<()> {
    if unresolved.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = unresolved.iter().map(|(session, code)| format!("{session}: {code}")).collect();
    bail!("{} sessions could not be asked: {}", names.len(), names.join("; "));
}
