//! `group`: groups for scripts. Who is in one, who may do what there, what it looks like, and its end.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use rookery_client::Client;
use rookery_client::wire::group::Group;
use rookery_client::wire::{
    AttributeKey, Blob, GroupAction, Join, MemberRole, Policy, Retention, SessionId, UserId, Who,
};
use serde_json::json;

use super::connect::ConnectArgs;
use super::group_join::{Door, door, in_seconds};
use super::group_words::{
    bytes_json, policy_json, policy_words, retention_json, retention_words, role_word, until_words,
};
use super::talk::{acknowledge, send_device};
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery group --user ann create team bob eve
  rookery group --user ann add team sam
  rookery group --user ann remove team eve
  rookery group --user ann members team
  rookery group --user ann info team --json
  rookery group --user ann profile team --name 'The team' --avatar-file crow.png
  rookery group --user ann role team bob admin
  rookery group --user ann policy team --write admins --history hidden
  rookery group --user ann mute team sam 600
  rookery group --user ann retention team --age 86400 --count 10000
  rookery group --user ann retention @bob --age 86400
  rookery group --user ann keep-versions team on
  rookery group --user ann policy team --join request
  rookery group --user eve join team --text 'it is me'
  rookery group --user ann accept team eve
  rookery group --user ann invite team --uses 10
  rookery group --user ann dissolve team")]
pub(super) struct GroupArgs {
    /// Print answers as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    #[command(flatten)]
    Company(Company),
    /// Print the members, one a line
    Members {
        /// The group
        group: String,
    },
    /// Print how the group is set, or a direct session is kept
    Info {
        /// The group, or @USER
        group: String,
    },
    /// Print the owner, the admins and the muted members, one a line
    Roles {
        /// The group
        group: String,
    },
    #[command(flatten)]
    Door(Door),
    #[command(flatten)]
    Change(Change),
}

/// Who is in a group: what its members do, and a backend.
#[derive(Debug, Subcommand)]
pub(super) enum Company {
    /// Make a group of yourself and these users; for `admin`, of these users
    Create {
        /// Its name
        group: String,
        /// Members
        users: Vec<UserId>,
    },
    /// Add members
    Add {
        /// The group
        group: String,
        /// Whom
        #[arg(required = true)]
        users: Vec<UserId>,
    },
    /// Remove members; yourself to leave
    Remove {
        /// The group
        group: String,
        /// Whom
        #[arg(required = true)]
        users: Vec<UserId>,
    },
}

impl Company {
    pub(super) fn group(&self) -> &str {
        match self {
            Company::Create { group, .. } | Company::Add { group, .. } | Company::Remove { group, .. } => {
                group
            }
        }
    }

    pub(super) fn users(&self) -> &[UserId] {
        match self {
            Company::Create { users, .. } | Company::Add { users, .. } | Company::Remove { users, .. } => {
                users
            }
        }
    }
}

/// What changes a group, its members aside.
#[derive(Debug, Subcommand)]
pub(super) enum Change {
    /// Set the group's name for people and its avatar
    Profile(ProfileArgs),
    /// Set an attribute; without a value, take it away
    Attribute {
        /// The group
        group: String,
        /// Which
        key: AttributeKey,
        /// Its value, at most 1024 bytes
        value: Option<String>,
    },
    /// Make a member an admin, or a plain member again
    Role {
        /// The group
        group: String,
        /// Whom
        user: UserId,
        /// As what
        role: RoleWord,
    },
    /// Give the group to another member; you stay as an admin
    HandOver {
        /// The group
        group: String,
        /// To whom
        user: UserId,
    },
    /// Set who may do what; what is not named stays as it is
    Policy(PolicyArgs),
    /// Forbid a member to write, for some seconds or for ever
    Mute {
        /// The group
        group: String,
        /// Whom
        user: UserId,
        /// For how long; for ever without
        seconds: Option<u64>,
        /// Until then, unix milliseconds; the same in every repeat
        #[arg(long, value_name = "MS", conflicts_with = "seconds")]
        until: Option<u64>,
    },
    /// Let a muted member write again
    Unmute {
        /// The group
        group: String,
        /// Whom
        user: UserId,
    },
    /// Let nobody write but admins and the owner
    MuteAll {
        /// The group
        group: String,
        /// Take it back
        #[arg(long)]
        off: bool,
    },
    /// Set how long messages are kept; without either bound, as the cluster's default says. With @USER, how long you wish it
    Retention {
        /// The group, or @USER
        group: String,
        /// Seconds after which a message goes
        #[arg(long, value_name = "S")]
        age: Option<u64>,
        /// Messages kept, signals among them
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Keep what messages said before they were edited, or no longer; then what was kept goes. With @USER, your word
    KeepVersions {
        /// The group, or @USER
        group: String,
        /// Whether it is kept
        keep: OnOff,
    },
    /// End the group for ever: everybody leaves it, and its name is not used again
    Dissolve {
        /// The group
        group: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    /// The group
    group: String,
    /// Name for people, at most 256 bytes; empty for none
    #[arg(long)]
    name: Option<String>,
    /// Address of a picture, at most 2048 bytes; empty for none
    #[arg(long, conflicts_with = "avatar_file")]
    avatar: Option<String>,
    /// A picture of at most 2048 bytes
    #[arg(long, value_name = "FILE")]
    avatar_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// The group
    group: String,
    /// Who may write
    #[arg(long)]
    write: Option<WhoWord>,
    /// Who may add members
    #[arg(long)]
    invite: Option<WhoWord>,
    /// Who may change profile and attributes
    #[arg(long)]
    change: Option<WhoWord>,
    /// Whether members see what was written before they joined
    #[arg(long)]
    history: Option<HistoryWord>,
    /// Whether users come by themselves
    #[arg(long)]
    join: Option<JoinWord>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RoleWord {
    Admin,
    Member,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WhoWord {
    All,
    Admins,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum JoinWord {
    Closed,
    Request,
    Open,
}

impl From<JoinWord> for Join {
    fn from(word: JoinWord) -> Join {
        match word {
            JoinWord::Closed => Join::Closed,
            JoinWord::Request => Join::Request,
            JoinWord::Open => Join::Open,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HistoryWord {
    Visible,
    Hidden,
}

impl From<WhoWord> for Who {
    fn from(word: WhoWord) -> Who {
        match word {
            WhoWord::All => Who::All,
            WhoWord::Admins => Who::Admins,
        }
    }
}

/// Members, or roles, asked for at once.
const PAGE: u32 = 1000;

pub(super) async fn group(args: GroupArgs) -> Result<()> {
    let named = |group: &str| match group.starts_with('@') {
        true => args.who.session(group),
        false => args.who.session(&format!("#{}", group.trim_start_matches('#'))),
    };
    let (client, events) = args.who.connect(&send_device()).await?;
    drop(events);
    let done = match args.command {
        GroupCommand::Company(company) => {
            let (name, users) = (company.group().trim_start_matches('#'), company.users());
            Some(match company {
                Company::Create { .. } => client.create_group(name.parse().context("group")?, users).await?,
                Company::Add { .. } => client.add_members(&named(name)?, users).await?,
                Company::Remove { .. } => client.remove_members(&named(name)?, users).await?,
            })
        }
        GroupCommand::Members { group } => {
            members(&client, &named(&group)?, args.json).await?;
            None
        }
        GroupCommand::Roles { group } => {
            roles(&client, &named(&group)?, args.json).await?;
            None
        }
        GroupCommand::Info { group } => {
            let info = client.group_info(&named(&group)?).await?;
            out::line(if args.json { info_json(&info)? } else { info_words(&info) })?;
            None
        }
        GroupCommand::Door(entry) => {
            let session = named(entry.group())?;
            door(&client, &args.who.user, &session, entry, args.json).await?
        }
        GroupCommand::Change(change) => {
            let session = named(change.group())?;
            let action = action(&client, &session, &change).await?;
            Some(client.manage(&session, action).await?)
        }
    };
    client.close().await;
    done.map_or(Ok(()), |ack| acknowledge(args.json, &ack))
}

impl Change {
    /// Whether run again it asks for the same again, whatever the time is then and whatever came between; if not, what to
    /// say so that it does.
    pub(super) fn repeats(&self) -> Result<(), &'static str> {
        match self {
            Change::Mute { seconds: Some(_), .. } => Err(
                "seconds count from now, so a repeat would ask for something else; give the end with --until MS",
            ),
            Change::Policy(PolicyArgs {
                write: Some(_),
                invite: Some(_),
                change: Some(_),
                history: Some(_),
                join: Some(_),
                ..
            }) => Ok(()),
            Change::Policy(_) => {
                Err("what is not named is taken as it is then, so a repeat might ask for something else; \
                                      name --write, --invite, --change, --history and --join")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn group(&self) -> &str {
        match self {
            Change::Profile(ProfileArgs { group, .. })
            | Change::Policy(PolicyArgs { group, .. })
            | Change::Attribute { group, .. }
            | Change::Role { group, .. }
            | Change::HandOver { group, .. }
            | Change::Mute { group, .. }
            | Change::Unmute { group, .. }
            | Change::MuteAll { group, .. }
            | Change::Retention { group, .. }
            | Change::KeepVersions { group, .. }
            | Change::Dissolve { group } => group,
        }
    }
}

/// What is asked of the cluster. A policy is whole, so what was not named is read first.
pub(super) async fn action(client: &Client, session: &SessionId, change: &Change) -> Result<GroupAction> {
    Ok(match change {
        Change::Profile(args) => profile(args)?,
        Change::Attribute { key, value, .. } => {
            GroupAction::SetAttribute { key: key.clone(), value: value.as_deref().map(Blob::from) }
        }
        Change::Role { user, role, .. } => {
            let role = match role {
                RoleWord::Admin => MemberRole::Admin,
                RoleWord::Member => MemberRole::Member,
            };
            GroupAction::SetRole { user: user.clone(), role }
        }
        Change::HandOver { user, .. } => GroupAction::HandOver { user: user.clone() },
        Change::Policy(args) => policy(args, client.group_info(session).await?.policy)?,
        Change::Mute { user, seconds, until, .. } => {
            let until_ms = until.map_or_else(|| seconds.map_or(Ok(u64::MAX), in_seconds), Ok)?;
            GroupAction::Mute { user: user.clone(), until_ms }
        }
        Change::Unmute { user, .. } => GroupAction::Mute { user: user.clone(), until_ms: 0 },
        Change::MuteAll { off, .. } => GroupAction::MuteAll { on: !*off },
        Change::Retention { age, count, .. } => GroupAction::SetRetention(Retention {
            age_ms: age.unwrap_or(0).saturating_mul(1000),
            count: count.unwrap_or(0),
        }),
        Change::KeepVersions { keep, .. } => GroupAction::KeepVersions { on: matches!(keep, OnOff::On) },
        Change::Dissolve { .. } => GroupAction::Dissolve,
    })
}

fn profile(args: &ProfileArgs) -> Result<GroupAction> {
    let avatar = match (&args.avatar, &args.avatar_file) {
        (Some(address), _) => Some(Blob::from(address.as_str())),
        (None, Some(file)) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Some(Blob(bytes.into()))
        }
        (None, None) => None,
    };
    let name = args.name.as_deref().map(Blob::from);
    if name.is_none() && avatar.is_none() {
        bail!("nothing to set: give --name, --avatar or --avatar-file");
    }
    Ok(GroupAction::SetProfile { name, avatar })
}

fn policy(args: &PolicyArgs, now: Policy) -> Result<GroupAction> {
    let who = [args.write, args.invite, args.change];
    if who.iter().all(Option::is_none) && args.history.is_none() && args.join.is_none() {
        bail!("nothing to set: give --write, --invite, --change, --history or --join");
    }
    Ok(GroupAction::SetPolicy(Policy {
        write: args.write.map_or(now.write, Who::from),
        invite: args.invite.map_or(now.invite, Who::from),
        change: args.change.map_or(now.change, Who::from),
        history_before_joining: args
            .history
            .map_or(now.history_before_joining, |history| matches!(history, HistoryWord::Visible)),
        join: args.join.map_or(now.join, Join::from),
    }))
}

async fn members(client: &Client, session: &SessionId, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = client.members(session, after.take(), PAGE).await?;
        for user in &page.users {
            if json {
                out::line(json!({ "user": user }))?;
            } else {
                out::line(user)?;
            }
        }
        match page.users.last().filter(|_| page.more) {
            Some(last) => after = Some(last.clone()),
            None => return Ok(()),
        }
    }
}

async fn roles(client: &Client, session: &SessionId, json: bool) -> Result<()> {
    let mut after = None;
    loop {
        let page = client.roles(session, after.take(), PAGE).await?;
        for line in &page.roles {
            let role = role_word(line.role);
            if json {
                let line = json!({ "user": line.user, "role": role, "muted_until_ms": line.muted_until_ms });
                out::line(line)?;
            } else {
                out::line(format_args!("{} {role}{}", line.user, muted(line.muted_until_ms)))?;
            }
        }
        match page.roles.last().filter(|_| page.more) {
            Some(last) => after = Some(last.user.clone()),
            None => return Ok(()),
        }
    }
}

fn muted(until_ms: u64) -> String {
    if until_ms == 0 { String::new() } else { format!(" muted {}", until_words(until_ms)) }
}

fn info_json(info: &Group) -> Result<String> {
    let attributes: serde_json::Map<_, _> =
        info.attributes.iter().map(|(key, value)| (key.to_string(), bytes_json(value))).collect();
    Ok(serde_json::to_string_pretty(&json!({
        "session": info.session, "name": bytes_json(&info.name), "avatar": bytes_json(&info.avatar),
        "attributes": attributes, "policy": policy_json(info.policy), "mute_all": info.mute_all,
        "owner": info.owner, "role": info.role.map(role_word), "muted_until_ms": info.muted_until_ms,
        "members": info.members, "dissolved": info.dissolved, "retention": retention_json(info.retention),
    }))?)
}

fn info_words(info: &Group) -> String {
    let shown = |blob: &Blob| match std::str::from_utf8(blob.as_ref()) {
        Ok(text) => super::record::visible(text),
        Err(_) => format!("({} bytes)", blob.len()),
    };
    let mut lines = vec![
        format!("group     {}", info.session),
        format!("name      {}", shown(&info.name)),
        format!("avatar    {}", shown(&info.avatar)),
        format!("members   {}", info.members),
        format!("owner     {}", info.owner.as_ref().map_or("nobody", UserId::as_str)),
        format!("you       {}{}", info.role.map_or("a service", role_word), muted(info.muted_until_ms)),
        format!("policy    {}", policy_words(info.policy)),
        format!("kept      {}", retention_words(info.retention)),
    ];
    lines.extend(info.mute_all.then(|| "muted     all but admins and the owner".to_owned()));
    lines.extend(info.dissolved.then(|| "dissolved".to_owned()));
    let attributes = info.attributes.iter();
    lines.extend(attributes.map(|(key, value)| {
        format!("attribute {} = {}", super::record::visible(key.as_str()), shown(value))
    }));
    lines.join("\n")
}
