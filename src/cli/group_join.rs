//! `group`, its ways in: joining, requests, codes of invitation, users kept out.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Subcommand;
use rookery_client::wire::join::{CodeLine, Outside, RequestLine};
use rookery_client::wire::reply::Ack;
use rookery_client::wire::{Blob, SessionId, UserId};
use rookery_client::{Client, InviteCode};
use serde_json::json;

use super::group_words::until_words;
use super::record::visible;
use crate::terminal as out;

/// Lines asked for at once.
const PAGE: u32 = 200;

/// How users come into a group.
#[derive(Debug, Subcommand)]
pub(super) enum Door {
    /// Come into a group, with a code or because it is open, or ask to
    Join {
        /// The group
        group: String,
        /// A code of invitation
        #[arg(long)]
        code: Option<String>,
        /// For those who answer the request, at most 256 bytes
        #[arg(long, default_value = "", hide_default_value = true)]
        text: String,
    },
    /// Take back your request to join
    Withdraw {
        /// The group
        group: String,
    },
    /// Let in a user who has asked to join
    Accept {
        /// The group
        group: String,
        /// Whom
        user: UserId,
    },
    /// Decline the request of a user
    Decline {
        /// The group
        group: String,
        /// Whose
        user: UserId,
    },
    /// Print who asks to join, one a line
    Requests {
        /// The group
        group: String,
        /// Those who are kept out instead
        #[arg(long)]
        barred: bool,
    },
    /// Keep a user out, or let it come again; who is a member stays one until it is removed
    Bar {
        /// The group
        group: String,
        /// Whom
        user: UserId,
        /// Let it come again
        #[arg(long)]
        off: bool,
    },
    /// Make a code of invitation and print it; it is shown only once
    Invite {
        /// The group
        group: String,
        /// Seconds for which it is good; a year at most
        #[arg(long, value_name = "S", default_value_t = 604_800)]
        age: u64,
        /// Users it lets in
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
    },
    /// Print the codes there are, one a line, by number; what they say is nowhere kept
    Codes {
        /// The group
        group: String,
    },
    /// Take back the code with this number
    Revoke {
        /// The group
        group: String,
        /// Its number
        code: u64,
    },
}

impl Door {
    pub(super) fn group(&self) -> &str {
        match self {
            Door::Join { group, .. }
            | Door::Withdraw { group }
            | Door::Accept { group, .. }
            | Door::Decline { group, .. }
            | Door::Requests { group, .. }
            | Door::Bar { group, .. }
            | Door::Invite { group, .. }
            | Door::Codes { group }
            | Door::Revoke { group, .. } => group,
        }
    }
}

/// Does it; the ACK of what was changed, unless it was told already.
pub(super) async fn door(
    client: &Client,
    me: &UserId,
    session: &SessionId,
    door: Door,
    json: bool,
) -> Result<Option<Ack>> {
    Ok(Some(match door {
        Door::Join { code, text, .. } => {
            let code = code.map(|code| code.parse::<InviteCode>()).transpose()?;
            let ack = client.join_group(session, code.as_ref(), Blob::from(text.as_str())).await?;
            let member = client.is_member(session).await?;
            out::line(if json {
                json!({ "session": session, "seq": ack.seq, "member": member }).to_string()
            } else if member {
                format!("you are a member of {session}")
            } else {
                format!("{session} is asked to let you in")
            })?;
            return Ok(None);
        }
        Door::Withdraw { .. } => client.answer_request(session, me.clone(), false).await?,
        Door::Accept { user, .. } => client.answer_request(session, user, true).await?,
        Door::Decline { user, .. } => client.answer_request(session, user, false).await?,
        Door::Bar { user, off, .. } => client.bar(session, user, !off).await?,
        Door::Revoke { code, .. } => client.revoke_code(session, code).await?,
        Door::Invite { age, uses, .. } => {
            let (code, ack) = client.make_code(session, in_seconds(age)?, uses).await?;
            out::line(if json {
                json!({ "session": session, "id": ack.seq, "code": code.to_string() }).to_string()
            } else {
                code.to_string()
            })?;
            return Ok(None);
        }
        Door::Requests { barred, .. } => {
            let which = if barred { Outside::Barred } else { Outside::Asking };
            requests(client, session, which, json).await?;
            return Ok(None);
        }
        Door::Codes { .. } => {
            codes(client, session, json).await?;
            return Ok(None);
        }
    }))
}

async fn requests(client: &Client, session: &SessionId, which: Outside, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = client.requests(session, which, after.take(), PAGE).await?;
        for RequestLine { user, text, since_ms } in &page.requests {
            let text = String::from_utf8_lossy(text.as_ref());
            out::line(if json {
                json!({ "user": user, "text": text, "since_ms": since_ms }).to_string()
            } else {
                format!("{user} {}", visible(&text)).trim_end().to_owned()
            })?;
        }
        match page.requests.last().filter(|_| page.more) {
            Some(last) => after = Some(last.user.clone()),
            None => return Ok(()),
        }
    }
}

async fn codes(client: &Client, session: &SessionId, json: bool) -> Result<()> {
    let mut after = 0;
    loop {
        let page = client.codes(session, after, PAGE).await?;
        for CodeLine { id, maker, made_ms, until_ms, uses, used } in &page.codes {
            out::line(if json {
                json!({
                    "id": id, "maker": maker, "made_ms": made_ms, "until_ms": until_ms, "uses": uses, "used": used,
                })
                .to_string()
            } else {
                format!("{id} by {maker}, {used} of {uses} used, good {}", until_words(*until_ms))
            })?;
        }
        match page.codes.last().filter(|_| page.more) {
            Some(last) => after = last.id,
            None => return Ok(()),
        }
    }
}

/// The time in so many seconds, by this machine's clock.
pub(super) fn in_seconds(seconds: u64) -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let now = u64::try_from(now.as_millis()).context("the clock is far off")?;
    Ok(now.saturating_add(seconds.saturating_mul(1000)))
}
