//! `people`: friends, requests, blocked users, and who may see what of a user, for scripts.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use rookery_client::Client;
use rookery_client::wire::own::{Relation, RelationFilter, ShowTo};
use rookery_client::wire::{Blob, RelationState, UserAction, UserId};
use serde_json::{Value, json};

use super::connect::ConnectArgs;
use super::group_words::bytes_json;
use super::own::{acknowledge, asking};
use super::record::visible;
use crate::terminal as out;

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
    #[command(flatten)]
    Tie(Tie),
    /// Call a user something; empty takes that away
    Remark {
        /// Whom
        user: UserId,
        /// What
        text: String,
    },
    /// Allow users who are no friends to begin a session, or refuse them
    Strangers {
        /// What
        #[arg(value_enum)]
        word: StrangersWord,
    },
    /// Set to whom is shown how far you have read and whether you are there, and print it
    Privacy {
        /// How far you have read
        #[arg(long, value_enum)]
        receipts: Option<ShowWord>,
        /// Whether you are there
        #[arg(long, value_enum)]
        presence: Option<ShowWord>,
    },
}

/// How a user stands to others: what a user changes itself, and a backend for it.
#[derive(Debug, Subcommand)]
pub(super) enum Tie {
    /// Print friends, requests and blocked users, one a line
    List {
        /// Which
        #[arg(value_enum, default_value = "all")]
        which: WhichWord,
    },
    /// Ask a user to be a friend; who has been asked accepts by this
    Request {
        /// Whom
        user: UserId,
        /// What to say to it
        #[arg(default_value = "", hide_default_value = true)]
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
    /// Take nothing that a user writes any more
    Block {
        /// Whom
        user: UserId,
    },
    /// Take a block back
    Unblock {
        /// Whom
        user: UserId,
    },
}

impl Tie {
    /// What changes, and how one stands to whom; else what to list.
    pub(super) fn action(&self) -> Result<(&UserId, UserAction), RelationFilter> {
        Ok(match self {
            Tie::List { which } => return Err((*which).into()),
            Tie::Request { user, text } => {
                (user, UserAction::RequestFriend { user: user.clone(), text: Blob::from(text.as_str()) })
            }
            Tie::Accept { user } => (user, UserAction::AcceptFriend { user: user.clone() }),
            Tie::Decline { user } => (user, UserAction::DeclineFriend { user: user.clone() }),
            Tie::Remove { user } => (user, UserAction::RemoveFriend { user: user.clone() }),
            Tie::Block { user } => (user, UserAction::Block { user: user.clone() }),
            Tie::Unblock { user } => (user, UserAction::Unblock { user: user.clone() }),
        })
    }
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

pub(crate) fn show_word(to: ShowTo) -> &'static str {
    match to {
        ShowTo::All => "all",
        ShowTo::Friends => "friends",
        ShowTo::Nobody => "nobody",
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum WhichWord {
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
        PeopleCommand::Tie(tie) => match tie.action() {
            Ok((user, action)) => stand(args.json, user, client.relate(action).await?),
            Err(which) => relations(&client, None, which, args.json).await,
        },
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

/// Prints how a user that a service names stands to others, or oneself.
pub(super) async fn relations(
    client: &Client,
    of: Option<&UserId>,
    which: RelationFilter,
    json: bool,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = match of {
            Some(of) => client.relations_of(of.clone(), which, after.take(), PAGE).await?,
            None => client.relations(which, after.take(), PAGE).await?,
        };
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

fn relation_json(line: &Relation) -> Value {
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
