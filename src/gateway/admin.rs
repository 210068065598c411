//! The business's side: ADMIN as a command under a request key, AUDIT as a read.
//!
//! Every change is judged as its numbered sister is, then leaves a line in the audit, and only then goes to the entity it
//! touches. The gateway keeps nothing of it: whoever repeats a request is known by its key, there and in the audit.

use std::sync::Arc;

use rookery_wire::admin::{Admin, AdminOutcome, AdminReply, Audit, MAX_ADMIN_PAGE, UserSessionLine};
use rookery_wire::group::ManageGroup;
use rookery_wire::request::{Edit, Members, Recall, Send};
use rookery_wire::{
    AdminAction, AuditEntity, AuditLine, Burns, ErrorBody, ErrorCode, GroupId, Kind, RequestKey, SessionId,
    UserAction, UserId,
};
use sha2::{Digest, Sha256};
use tokio::time::{Duration, Instant, timeout_at};

use super::check::{self, refuse};
use super::connection::Connection;
use super::own::{self, Place};
use super::reads::{turn, unexpected};
use super::{groups, naming, receipts};
use crate::config::Limits;
use crate::shard::{Answer, Freshness, Read, ReadReply};
use crate::state::{
    Actor, ChangeKind, Command, EntityKey, Given, KEY_LIVES_MS, KeyedOwn, OwnBounds, UserAct,
};
use crate::system::audit::{REPEAT_MS, Wanted};

/// Stands for the number in the checks of a numbered request; an act under a key has none.
const ANY: u64 = 1;

// A line must not stand for what is carried out again, whatever passes between line and act: no deadline is ten minutes.
const _: () = assert!(REPEAT_MS + 600_000 < KEY_LIVES_MS);

/// What is wanted, judged as far as no state is needed.
#[derive(Debug, PartialEq)]
enum Plan {
    /// A session decides it.
    Session(Command),
    /// A user decides it, and may need to know of sessions first.
    Own(Actor, UserAction),
    /// A user comes to be.
    Create(Actor),
}

/// ADMIN.
pub(super) async fn admin(connection: Arc<Connection>, request: u32, admin: Admin) -> Result<(), ErrorBody> {
    is_service(&connection)?;
    if let AdminAction::Sessions { after, limit } = admin.action {
        return sessions(&connection, request, admin.key, admin.on_behalf_of, (after, limit)).await;
    }
    let options = &connection.core.options;
    // One for all its parts.
    let deadline = Instant::now() + Duration::from_millis(options.timing.request_deadline_ms);
    let plan = plan(connection.user(), &admin, &options.limits)?;
    let (wanted, bytes) = wanted(&connection, &admin, &plan);
    let audit = connection.core.audit.append(wanted, bytes, deadline).await?;
    let done = timeout_at(deadline, carried_out(&connection, &admin.key, plan)).await;
    let unknown = || refuse(ErrorCode::Unavailable, "the outcome is unknown; repeat with the same key");
    let (outcome, read) = done.unwrap_or_else(|_| unknown())?;
    if let Some(name) = &admin.on_behalf_of {
        for (session, seq) in read {
            receipts::note(&connection.core, name, &session, seq);
        }
    }
    connection.reply(Kind::AdminReply, request, &AdminReply { key: admin.key, audit, outcome });
    Ok(())
}

/// Has it done, and says what is read by it.
async fn carried_out(
    connection: &Connection,
    key: &RequestKey,
    plan: Plan,
) -> Result<(AdminOutcome, Vec<(SessionId, u64)>), ErrorBody> {
    let (command, read) = command(connection, key, plan).await?;
    let outcome = match connection.core.router.execute(&command).await {
        Answer::Ack(ack) => AdminOutcome::Stored(ack),
        Answer::Own(ack) => AdminOutcome::Done { time_ms: ack.time_ms, value: ack.value },
        Answer::Refused(error) => return Err(error),
        other => {
            tracing::error!(?other, "an ADMIN was answered with something else");
            return refuse(ErrorCode::Unavailable, "the outcome is unknown; repeat with the same key");
        }
    };
    Ok((outcome, read))
}

fn is_service(connection: &Connection) -> Result<(), ErrorBody> {
    if connection.identity.service {
        return Ok(());
    }
    refuse(ErrorCode::Forbidden, "only a service identity acts for the business")
}

/// Judges what needs no state.
fn plan(service: &UserId, admin: &Admin, limits: &Limits) -> Result<Plan, ErrorBody> {
    let of = |name: Option<&UserId>| {
        let actor = Actor::keyed(service.clone(), name.cloned());
        actor.ok_or_else(|| ErrorBody::new(ErrorCode::BadRequest, "nobody acts"))
    };
    let actor = of(admin.on_behalf_of.as_ref())?;
    let Admin { key, action, .. } = admin;
    let (client_seq, on_behalf_of) = (ANY, None);
    let group = |group: &GroupId| SessionId::group(group.clone());
    let change = |kind, of_group: &GroupId, users: &[UserId]| {
        let members =
            Members { session: group(of_group), client_seq, on_behalf_of: None, users: users.to_vec() };
        check::members(actor.clone(), members, kind, limits)
    };
    let numbered = match action.clone() {
        AdminAction::Send { session, content_type, content, extensions } => {
            if actor.is_system() && extensions.iter().any(|extension| extension.tag == Burns::TAG) {
                return refuse(ErrorCode::BadRequest, "what the system says does not go once it is read");
            }
            let send = Send { session, client_seq, on_behalf_of, content_type, content, extensions };
            check::send(actor.clone(), send, limits)?
        }
        AdminAction::Recall { session, seq } => {
            check::recall(actor.clone(), Recall { session, client_seq, on_behalf_of, seq }, limits)?
        }
        AdminAction::Edit { session, seq, content_type, content, extensions } => {
            let edit = Edit { session, client_seq, on_behalf_of, seq, content_type, content, extensions };
            check::edit(actor.clone(), edit, limits)?
        }
        AdminAction::CreateGroup { group, users } => change(ChangeKind::Create, &group, &users)?,
        AdminAction::AddMembers { group, users } => change(ChangeKind::Add, &group, &users)?,
        AdminAction::RemoveMembers { group, users } => change(ChangeKind::Remove, &group, &users)?,
        AdminAction::Manage { group: name, action } => {
            let manage = ManageGroup { session: group(&name), client_seq, on_behalf_of, action };
            groups::manage(actor.clone(), manage, limits)?
        }
        AdminAction::Own(action) => {
            if actor.on_behalf_of.is_none() {
                return refuse(
                    ErrorCode::BadRequest,
                    "on_behalf_of is empty: name the user whose things it concerns",
                );
            }
            own::check_action(&actor, &action, limits)?;
            return Ok(Plan::Own(actor, action));
        }
        AdminAction::CreateUser { user } => {
            if actor.on_behalf_of.is_some() {
                return refuse(
                    ErrorCode::BadRequest,
                    "a user is created in nobody's name; leave on_behalf_of empty",
                );
            }
            return Ok(Plan::Create(of(Some(&user))?));
        }
        AdminAction::Sessions { .. } => return refuse(ErrorCode::BadRequest, "this is no change"),
    };
    match numbered {
        Command::Act { actor, session, act, .. } => {
            Ok(Plan::Session(Command::KeyedAct { actor, session, key: key.clone(), act }))
        }
        other => {
            tracing::error!(?other, "a check has made something else of an ADMIN");
            refuse(ErrorCode::BadRequest, "this cannot be asked for under a key")
        }
    }
}

/// The line that tells of it, and how many bytes wait with it.
fn wanted(connection: &Connection, admin: &Admin, plan: &Plan) -> (Wanted, usize) {
    let entity = match plan {
        Plan::Session(command) => match command.entity().key() {
            EntityKey::Session(session) => AuditEntity::Session(session),
            EntityKey::User(user) => AuditEntity::User(user),
        },
        Plan::Own(actor, _) | Plan::Create(actor) => AuditEntity::User(actor.name().clone()),
    };
    let service = connection.user().clone();
    let (action, part) = admin.action.numbers();
    let line = AuditLine {
        number: 0,
        time_ms: 0,
        service,
        device: connection.device().clone(),
        on_behalf_of: admin.on_behalf_of.clone(),
        action,
        part,
        entity,
        key: admin.key.clone(),
    };
    let mark = mark(&line);
    (Wanted { line, mark }, rookery_wire::encode(admin).len())
}

/// Tells a repeat from another request by what the line says of it, whichever device asks. Content has no part in it: the mark
/// outlives what is recalled, and what is hashed can be guessed. Other content under the same key is refused where the key is
/// remembered. Half of a SHA-256, so that nobody finds two requests with one mark and has one of them done without a line.
fn mark(line: &AuditLine) -> u128 {
    let AuditLine { service, on_behalf_of, action, part, entity, key, .. } = line;
    let hash = Sha256::digest(rookery_wire::encode(&(service, on_behalf_of, action, part, entity, key)));
    hash.first_chunk::<16>().map_or(0, |half| u128::from_be_bytes(*half))
}

/// The command, with what the entity must be told of others; and what is read by it, of which others hear.
async fn command(
    connection: &Connection,
    key: &RequestKey,
    plan: Plan,
) -> Result<(Command, Vec<(SessionId, u64)>), ErrorBody> {
    let key = key.clone();
    let (actor, action) = match plan {
        Plan::Session(mut command) => {
            if let Command::KeyedAct { act, .. } = &mut command {
                naming::tell(&connection.core, act).await?;
            }
            return Ok((command, Vec::new()));
        }
        Plan::Create(actor) => {
            return Ok((Command::KeyedOwn { actor, key, act: KeyedOwn::Create }, Vec::new()));
        }
        Plan::Own(actor, action) => (actor, action),
    };
    let _turn = turn(connection).await?;
    let limits = &connection.core.options.limits;
    let given = own::prepared(connection, &actor, &action, Place::Key(&key)).await?;
    let bounds = OwnBounds { deletions: limits.deletions_per_session, relations: limits.relations_per_user };
    let read = match &given {
        Given::Heads { cursors, .. } => own::stands(cursors),
        _ => Vec::new(),
    };
    let act = KeyedOwn::Act(UserAct { number: 0, action, given, bounds });
    Ok((Command::KeyedOwn { actor, key, act }, read))
}

/// A page of a user's sessions.
async fn sessions(
    connection: &Connection,
    request: u32,
    key: RequestKey,
    user: Option<UserId>,
    (after, limit): (Option<SessionId>, u32),
) -> Result<(), ErrorBody> {
    let Some(user) = user else {
        return refuse(
            ErrorCode::BadRequest,
            "on_behalf_of is empty: name the user whose sessions are asked for",
        );
    };
    let _turn = turn(connection).await?;
    let router = &connection.core.router;
    let shard = router.shard_of(&EntityKey::User(user.clone()));
    let device = connection.device().clone();
    let read = Read::UserSessions { user, device, after, left_since: None };
    let (found, mut more) = match router.read(shard, read, Freshness::Linearizable).await? {
        ReadReply::UserSessions { sessions, more, .. } => (sessions, more),
        other => return Err(unexpected(&other)),
    };
    let limit = limit.clamp(1, MAX_ADMIN_PAGE) as usize;
    let mut lines: Vec<UserSessionLine> = found
        .into_iter()
        .take(limit + 1)
        .map(|line| UserSessionLine {
            session: line.session,
            joined_seq: line.joined_seq,
            read_seq: line.read_seq,
        })
        .collect();
    let kept = own::how_many_fit(&connection.core, &lines, 0).min(limit);
    more |= lines.len() > kept;
    lines.truncate(kept);
    let outcome = AdminOutcome::Sessions { sessions: lines, more };
    connection.reply(Kind::AdminReply, request, &AdminReply { key, audit: 0, outcome });
    Ok(())
}

/// AUDIT.
pub(super) async fn audit(connection: Arc<Connection>, request: u32, audit: Audit) -> Result<(), ErrorBody> {
    is_service(&connection)?;
    let _turn = turn(&connection).await?;
    let limit = audit.limit.clamp(1, MAX_ADMIN_PAGE);
    let mut page = connection.core.audit.page(audit.after, limit).await?;
    let kept = own::how_many_fit(&connection.core, &page.lines, 0);
    page.lines.truncate(kept);
    connection.reply(Kind::AuditPage, request, &page);
    Ok(())
}
