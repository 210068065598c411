//! `admin`: the business's side for scripts. Each change goes under a request key, so that a script that does not know how
//! its last run ended may run again.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use rookery_client::wire::admin::{AdminOutcome, AdminReply};
use rookery_client::wire::request::{Consistency, Direction};
use rookery_client::wire::{
    AdminAction, Blob, DeviceId, ErrorCode, GroupAction, GroupId, RequestKey, SessionId, UserAction, UserId,
};
use rookery_client::{Client, ClientError};
use rookery_raft::{Entropy, OsEntropy};
use serde_json::json;

use super::admin_words::{audit_json, audit_words};
use super::connect::{self, ConnectArgs};
use super::group::{self, Change, Company};
use super::group_words::policy_words;
use super::own;
use super::people::{self, Tie};
use super::record::{self, Shape};
use super::talk::send_device;
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery admin --user shop user create ann
  rookery admin --user shop --for ann group create team bob eve      ann owns it
  rookery admin --user shop group add team sam
  rookery admin --user shop group role team bob admin
  rookery admin --user shop --key order-7 send direct:ann,bob 'order 7 has left'
  rookery admin --user shop --for ann send @bob 'in the name of ann'
  rookery admin --user shop recall '#team' 17
  rookery admin --user shop people ann block mallory
  rookery admin --user shop people ann list blocked
  rookery admin --user shop device ann list
  rookery admin --user shop device ann end phone
  rookery admin --user shop sessions ann --json
  rookery admin --user shop export '#team' --from 1001 > team.jsonl
  rookery admin --user shop audit --after 250 --json

The user is a service; in token mode its token has the role service (rookery token shop --role service). Who gives the same
--key again, and asks for the same, gets the first answer again, for a day at least. Without --key one is drawn and
printed.")]
pub(super) struct AdminArgs {
    /// Print answers as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// The name of this request, 1 to 64 bytes; the same in every repeat
    #[arg(long, global = true, value_name = "KEY")]
    key: Option<RequestKey>,
    /// In the name of this user; without it, as the system
    #[arg(long = "for", global = true, value_name = "USER")]
    on_behalf_of: Option<UserId>,
    #[command(flatten)]
    who: ConnectArgs,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Take names for users
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Create groups, manage them and their members
    Group {
        #[command(subcommand)]
        command: Box<GroupCommand>,
    },
    /// Send a message
    Send {
        /// Where to
        session: String,
        /// The message
        text: String,
        /// Media type
        #[arg(long, default_value = "text/plain")]
        content_type: String,
    },
    /// Take the content of a message back
    Recall {
        /// Where
        session: String,
        /// Which message
        seq: u64,
    },
    /// Put other content in the place of a message's
    Edit {
        /// Where
        session: String,
        /// Which message
        seq: u64,
        /// What it says from now on
        text: String,
    },
    /// Manage the friends, requests and blocked users of a user
    People {
        /// Whose
        of: UserId,
        #[command(subcommand)]
        command: Tie,
    },
    /// List and end a user's devices
    Device {
        /// Whose
        of: UserId,
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// List a user's sessions, by name
    Sessions {
        /// Whose
        of: UserId,
    },
    /// Print all records of a session as JSON lines
    Export {
        /// Which
        session: String,
        /// From this seq on: where an export that was broken off goes on
        #[arg(long, value_name = "SEQ", default_value_t = 1)]
        from: u64,
    },
    /// Print what backends have asked for
    Audit {
        /// Lines after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// At most so many
        #[arg(long, short = 'n', value_name = "N")]
        count: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Take a name for a user that is not there yet
    Create {
        /// The name
        user: UserId,
    },
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    #[command(flatten)]
    Company(Company),
    #[command(flatten)]
    Change(Change),
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// Print the registered devices, one a line
    List,
    /// End a device: its connection at once, its registration, its tokens
    End {
        /// Which
        device: DeviceId,
    },
}

/// Records, lines and sessions asked for at once.
const PAGE: u32 = 500;

/// What a command asks for.
enum Plan {
    /// A change, in this user's name.
    Change(Option<UserId>, AdminAction),
    /// Only reading.
    Read,
}

pub(super) async fn admin(mut args: AdminArgs) -> Result<()> {
    args.who.service = true;
    let (client, events) = args.who.connect(&send_device()).await?;
    drop(events);
    let done = match plan(&client, &mut args).await? {
        Plan::Change(of, action) => change(&client, &args, of, action).await,
        Plan::Read => read(&client, &args).await,
    };
    client.close().await;
    done
}

/// The session a backend names; `@bob` is the one of the user in whose name it acts.
fn session(args: &AdminArgs, name: &str) -> Result<SessionId> {
    connect::session(args.on_behalf_of.as_ref().unwrap_or(&args.who.user), name)
}

fn group_name(name: &str) -> Result<GroupId> {
    name.trim_start_matches('#').parse().context("group")
}

async fn plan(client: &Client, args: &mut AdminArgs) -> Result<Plan> {
    let own = |of: &UserId, action| Ok(Plan::Change(Some(of.clone()), AdminAction::Own(action)));
    let of = args.on_behalf_of.clone();
    let action = match &args.command {
        AdminCommand::User { command: UserCommand::Create { user } } => {
            AdminAction::CreateUser { user: user.clone() }
        }
        AdminCommand::Group { command } => {
            if let (Some(_), GroupCommand::Change(change)) = (&args.key, &**command) {
                change.repeats().map_err(anyhow::Error::msg).context("with --key")?;
            }
            group_action(client, command).await?
        }
        AdminCommand::Send { session: name, text, content_type } => AdminAction::Send {
            session: session(args, name)?,
            content_type: Blob::from(content_type.as_str()),
            content: Blob::from(text.as_str()),
            extensions: Vec::new(),
        },
        AdminCommand::Recall { session: name, seq } => {
            AdminAction::Recall { session: session(args, name)?, seq: *seq }
        }
        AdminCommand::Edit { session: name, seq, text } => AdminAction::Edit {
            session: session(args, name)?,
            seq: *seq,
            content_type: Blob::from("text/plain"),
            content: Blob::from(text.as_str()),
            extensions: Vec::new(),
        },
        AdminCommand::People { of, command } => match command.action() {
            Ok((_, action)) => return own(of, action),
            Err(_) => return Ok(Plan::Read),
        },
        AdminCommand::Device { of, command: DeviceCommand::End { device } } => {
            return own(of, UserAction::EndDevice { device: device.clone() });
        }
        AdminCommand::Device { command: DeviceCommand::List, .. }
        | AdminCommand::Sessions { .. }
        | AdminCommand::Export { .. }
        | AdminCommand::Audit { .. } => return Ok(Plan::Read),
    };
    Ok(Plan::Change(of, action))
}

fn company_action(company: &Company) -> Result<AdminAction> {
    let (group, users) = (group_name(company.group())?, company.users().to_vec());
    Ok(match company {
        Company::Create { .. } => AdminAction::CreateGroup { group, users },
        Company::Add { .. } => AdminAction::AddMembers { group, users },
        Company::Remove { .. } => AdminAction::RemoveMembers { group, users },
    })
}

async fn group_action(client: &Client, command: &GroupCommand) -> Result<AdminAction> {
    Ok(match command {
        GroupCommand::Company(company) => company_action(company)?,
        GroupCommand::Change(change) => {
            let name = group_name(change.group())?;
            let action = group::action(client, &SessionId::group(name.clone()), change).await?;
            AdminAction::Manage { group: name, action }
        }
    })
}

async fn change(client: &Client, args: &AdminArgs, of: Option<UserId>, action: AdminAction) -> Result<()> {
    let key = match &args.key {
        Some(key) => key.clone(),
        None => drawn()?,
    };
    let again = repeat_of(&key, &action);
    match client.admin(key.clone(), of, action).await {
        Ok(reply) => told(args.json, &reply),
        Err(fault) => {
            let became = match &fault {
                ClientError::Refused(refusal) if refusal.code == ErrorCode::KeyReused => {
                    format!("the key {key} was used for something else; that stands, and this was not done")
                }
                ClientError::Refused(_) => "not done".to_owned(),
                _ => format!("not known to be done; repeat it with {again}"),
            };
            Err(fault).context(became)
        }
    }
}

/// What makes another run ask for the same: the key, and what this run took from its clock or from the group.
fn repeat_of(key: &RequestKey, action: &AdminAction) -> String {
    match action {
        AdminAction::Manage { action: GroupAction::Mute { until_ms, .. }, .. }
            if !matches!(*until_ms, 0 | u64::MAX) =>
        {
            format!("--key {key} and --until {until_ms} in the place of seconds")
        }
        AdminAction::Manage { action: GroupAction::SetPolicy(policy), .. } => {
            format!("--key {key} and the policy named whole: {}", policy_words(*policy))
        }
        _ => format!("--key {key}"),
    }
}

fn drawn() -> Result<RequestKey> {
    let bits = OsEntropy;
    format!("cli-{:016x}{:016x}", bits.u64(), bits.u64()).parse().context("key")
}

fn told(json: bool, reply: &AdminReply) -> Result<()> {
    let (key, audit) = (&reply.key, reply.audit);
    let words = match &reply.outcome {
        AdminOutcome::Stored(ack) if json => json!({
            "key": key, "audit": audit, "session": ack.session, "seq": ack.seq,
            "message_id": ack.message_id, "time_ms": ack.time_ms,
        })
        .to_string(),
        AdminOutcome::Done { time_ms, value } if json => {
            json!({ "key": key, "audit": audit, "time_ms": time_ms, "value": value }).to_string()
        }
        AdminOutcome::Stored(ack) => format!("{} {}, audit {audit}, key {key}", ack.session, ack.seq),
        AdminOutcome::Done { value: 0, .. } => format!("nothing to change, audit {audit}, key {key}"),
        AdminOutcome::Done { .. } | AdminOutcome::Sessions { .. } => {
            format!("done, audit {audit}, key {key}")
        }
    };
    Ok(out::line(words)?)
}

async fn read(client: &Client, args: &AdminArgs) -> Result<()> {
    match &args.command {
        AdminCommand::Sessions { of } => sessions(client, of, args.json).await,
        AdminCommand::People { of, command: Tie::List { which } } => {
            people::relations(client, Some(of), (*which).into(), args.json).await
        }
        AdminCommand::Device { of, .. } => own::devices(client, Some(of), args.json).await,
        AdminCommand::Export { session: name, from } => {
            export(client, &args.who.user, &session(args, name)?, *from).await
        }
        AdminCommand::Audit { after, count } => {
            audit(client, *after, count.unwrap_or(u64::MAX), args.json).await
        }
        _ => Ok(()),
    }
}

async fn sessions(client: &Client, of: &UserId, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let (lines, more) = client.sessions_of(of.clone(), after.take(), PAGE).await?;
        for line in &lines {
            match json {
                true => out::line(json!({
                    "session": line.session, "joined_seq": line.joined_seq, "read_seq": line.read_seq,
                }))?,
                false => out::line(format_args!("{} read up to {}", line.session, line.read_seq))?,
            }
        }
        match lines.last().filter(|_| more) {
            Some(last) => after = Some(last.session.clone()),
            None => return Ok(()),
        }
    }
}

/// Up to where the session stood when the last page was read. What breaks it off is told with where to go on.
async fn export(client: &Client, me: &UserId, session: &SessionId, from: u64) -> Result<()> {
    let mut next = from.max(1);
    loop {
        let page = client.pull(session, next, Direction::Forward, PAGE, Consistency::Linearizable).await;
        let page = page.with_context(|| format!("broken off; go on with --from {next}"))?;
        if page.first_seq > next {
            out::tell(format_args!("{next} to {} are no longer kept", page.first_seq - 1));
        }
        for record in &page.records {
            out::line(record::line(me, session, record, Shape::Json))?;
        }
        match page.records.last() {
            Some(last) if last.seq < page.last_seq => next = last.seq + 1,
            _ => break,
        }
    }
    Ok(())
}

async fn audit(client: &Client, after: u64, count: u64, json: bool) -> Result<()> {
    let (mut after, mut left) = (after, count);
    while left > 0 {
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = client.audit(after, limit).await?;
        if after > 0 && page.first > after + 1 {
            out::tell(format_args!("{} to {} are no longer kept", after + 1, page.first - 1));
        }
        for line in &page.lines {
            match json {
                true => out::line(audit_json(line))?,
                false => out::line(audit_words(line))?,
            }
        }
        let Some(last) = page.lines.last() else { break };
        after = last.number;
        left = left.saturating_sub(page.lines.len() as u64);
        if after >= page.last {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        admin: AdminArgs,
    }

    fn change(words: &str) -> Change {
        let line = "admin --user shop group ".to_owned() + words;
        let Ok(line) = Line::try_parse_from(line.split_whitespace()) else { panic!("{words}") };
        match line.admin.command {
            AdminCommand::Group { command } => match *command {
                GroupCommand::Change(change) => change,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_another_run_would_ask_otherwise_takes_no_key() {
        for words in ["mute team sam 60", "policy team --write admins"] {
            assert!(change(words).repeats().is_err(), "{words}");
        }
        let whole = "policy team --write all --invite all --change admins --history hidden --join open";
        for words in ["mute team sam", "mute team sam --until 1790000000001", "unmute team sam", whole] {
            assert!(change(words).repeats().is_ok(), "{words}");
        }
        let key: RequestKey = "k".parse().expect("a key");
        let mute = GroupAction::Mute { user: "sam".parse().expect("a name"), until_ms: 1_790_000_000_001 };
        let mute = AdminAction::Manage { group: "team".parse().expect("a name"), action: mute };
        assert!(repeat_of(&key, &mute).contains("--until 1790000000001"));
    }
}
