//! From a frame to a request: what goes through the log is gathered per shard, what is read gets a task of its own.

use std::sync::Arc;

use bincode::Decode;
use rookery_wire::codec::Source;
use rookery_wire::group::ManageGroup;
use rookery_wire::join::JoinGroup;
use rookery_wire::request::{Delivered, Edit, ListMembers, Members, Pull, Recall, Send, Sync};
use rookery_wire::{ErrorBody, ErrorCode, Frame, Kind, decode};

use super::connection::Connection;
use super::core::Core;
use super::times::Arrival;
use super::{
    admin, check, company, cursors, delivered, digests, groups, join, naming, own, passing, reads, receipts,
    standing, sync, versions, watch,
};
use crate::router::{Order, Request, Waiter};
use crate::state::{ChangeKind, Command};

/// Requests of one visit to the read buffer, by shard, in the order in which they came.
pub(super) struct Batch {
    came: Arrival,
    shards: Vec<(u32, Vec<Request>)>,
    held: Option<Held>,
}

/// A request that cannot go on before something was read. What comes behind it on its connection is not looked at until it has:
/// it would overtake it.
pub(super) struct Held {
    came: Arrival,
    frame: Frame,
    command: Command,
}

impl Held {
    /// Reads, and has the request go on, or be refused.
    pub(super) async fn go_on(mut self, connection: &Arc<Connection>) {
        let told = match &mut self.command {
            Command::Act { act, .. } => naming::tell(&connection.core, act).await,
            _ => Ok(()),
        };
        let mut batch = Batch { came: self.came, shards: Vec::new(), held: None };
        act(connection, &self.frame, told.map(|()| self.command), &mut batch);
        batch.submit(&connection.core);
    }
}

impl Batch {
    pub(super) fn new(core: &Core) -> Self {
        Self { came: core.times.arrival(), shards: Vec::new(), held: None }
    }

    fn add(&mut self, shard: u32, request: Request) {
        match self.shards.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, requests)) => requests.push(request),
            None => self.shards.push((shard, vec![request])),
        }
    }

    /// The request for whose sake no other may be taken now.
    pub(super) fn held(&mut self) -> Option<Held> {
        self.held.take()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn submit(self, core: &Core) {
        for (shard, requests) in self.shards {
            core.router.submit(shard, requests);
        }
    }
}

/// Takes one frame. Every request is answered once, now or later.
pub(super) fn dispatch(connection: &Arc<Connection>, frame: Frame, batch: &mut Batch) {
    let request = frame.request_id;
    let kind = Kind::from_number(frame.kind);
    if kind == Some(Kind::Delivered) && request == 0 {
        return quiet_delivered(connection, &frame);
    }
    connection.begin();
    if kind != Some(Kind::Sync) {
        standing::look_once(connection);
    }
    let limits = &connection.core.options.limits;
    match kind {
        Some(Kind::Send) => {
            let command = body::<Send>(&frame).and_then(|mut send| {
                let actor = connection.actor(send.on_behalf_of.take());
                check::send(actor, send, limits)
            });
            act(connection, &frame, command, batch);
        }
        Some(Kind::Recall) => {
            let command = body::<Recall>(&frame).and_then(|mut recall| {
                let actor = connection.actor(recall.on_behalf_of.take());
                check::recall(actor, recall, limits)
            });
            act(connection, &frame, command, batch);
        }
        Some(Kind::Edit) => {
            let command = body::<Edit>(&frame).and_then(|mut edit| {
                let actor = connection.actor(edit.on_behalf_of.take());
                check::edit(actor, edit, limits)
            });
            act(connection, &frame, command, batch);
        }
        Some(Kind::CreateGroup) => change(connection, &frame, ChangeKind::Create, batch),
        Some(Kind::AddMembers) => change(connection, &frame, ChangeKind::Add, batch),
        Some(Kind::RemoveMembers) => change(connection, &frame, ChangeKind::Remove, batch),
        Some(Kind::ManageGroup) => {
            let command = body::<ManageGroup>(&frame).and_then(|mut manage| {
                let actor = connection.actor(manage.on_behalf_of.take());
                groups::manage(actor, manage, limits)
            });
            act(connection, &frame, command, batch);
        }
        Some(Kind::JoinGroup) => {
            let command = body::<JoinGroup>(&frame).and_then(|mut asked| {
                let actor = connection.actor(asked.on_behalf_of.take());
                let command = join::join(actor, asked, limits)?;
                join::in_turn(connection)?;
                Ok(command)
            });
            act(connection, &frame, command, batch);
        }
        Some(Kind::ListRequests) => with(connection, (&frame, batch.came), body(&frame), join::requests),
        Some(Kind::ListCodes) => with(connection, (&frame, batch.came), body(&frame), join::codes),
        Some(Kind::ListVersions) => with(connection, (&frame, batch.came), body(&frame), versions::list),
        Some(Kind::GroupInfo) => with(connection, (&frame, batch.came), body(&frame), groups::info),
        Some(Kind::ListRoles) => with(connection, (&frame, batch.came), body(&frame), groups::roles),
        Some(Kind::ManageSelf) => with(connection, (&frame, batch.came), body(&frame), own::manage),
        Some(Kind::ListRelations) => with(connection, (&frame, batch.came), body(&frame), own::relations),
        Some(Kind::ListDevices) => with(connection, (&frame, batch.came), body(&frame), own::devices),
        Some(Kind::Receipts) => with(connection, (&frame, batch.came), body(&frame), receipts::page),
        Some(Kind::Ephemeral) => {
            let checked = body(&frame).and_then(|asked| passing::check(connection, asked));
            with(connection, (&frame, batch.came), checked, passing::pass);
        }
        Some(Kind::Digest) => with(connection, (&frame, batch.came), body(&frame), digests::digest),
        Some(Kind::Watch) => with(connection, (&frame, batch.came), body(&frame), watch::watch),
        Some(Kind::WatchSession) => with(connection, (&frame, batch.came), body(&frame), company::watch),
        Some(Kind::Admin) => with(connection, (&frame, batch.came), body(&frame), admin::admin),
        Some(Kind::Audit) => with(connection, (&frame, batch.came), body(&frame), admin::audit),
        Some(Kind::Delivered) => loud_delivered(connection, &frame, batch.came),
        Some(Kind::Ping) => connection.reply(Kind::Pong, request, &()),
        Some(Kind::Pull) => with(connection, (&frame, batch.came), body::<Pull>(&frame), reads::pull),
        Some(Kind::ListMembers) => {
            with(connection, (&frame, batch.came), body::<ListMembers>(&frame), reads::list)
        }
        Some(Kind::Read) => with(connection, (&frame, batch.came), body(&frame), reads::read_mark),
        Some(Kind::Sync) => with(connection, (&frame, batch.came), body::<Sync>(&frame), sync::page),
        Some(Kind::Hello) => {
            let text = "this connection was welcomed already; open another for another identity";
            connection.refuse(request, &ErrorBody::new(ErrorCode::AlreadyWelcome, text));
        }
        Some(_) | None => {
            let text = format!("frames of kind {} are not asked of a server", frame.kind);
            connection.refuse(request, &ErrorBody::new(ErrorCode::UnknownKind, text));
        }
    }
}

fn body<T: Decode<Source>>(frame: &Frame) -> Result<T, ErrorBody> {
    decode(&frame.body).map_err(|fault| {
        let kind = Kind::from_number(frame.kind).map_or("?", Kind::name);
        ErrorBody::new(ErrorCode::BadFrame, format!("{kind}: {fault}"))
    })
}

fn change(connection: &Arc<Connection>, frame: &Frame, kind: ChangeKind, batch: &mut Batch) {
    let limits = &connection.core.options.limits;
    let command = body::<Members>(frame).and_then(|mut members| {
        let actor = connection.actor(members.on_behalf_of.take());
        let command = check::members(actor, members, kind, limits)?;
        if kind != ChangeKind::Remove {
            groups::in_turn(connection)?;
        }
        Ok(command)
    });
    match command {
        Ok(command) if matches!(&command, Command::Act { act, .. } if naming::asks(limits, act)) => {
            batch.held = Some(Held { came: batch.came, frame: frame.clone(), command });
        }
        command => act(connection, frame, command, batch),
    }
}

/// Puts a numbered act on its way to its session's shard.
fn act(connection: &Arc<Connection>, frame: &Frame, command: Result<Command, ErrorBody>, batch: &mut Batch) {
    match command {
        Ok(command) => {
            let shard = command.entity().shard(connection.core.router.shards());
            let order = match &command {
                Command::Act { session, client_seq, .. } => {
                    Some(Order { sender: connection.series(session), number: *client_seq })
                }
                _ => None,
            };
            let waiter = Arc::clone(connection) as Arc<dyn Waiter>;
            let ticket = batch.came.ticket(frame.kind, frame.request_id);
            let command = command.encode();
            batch.add(shard, Request { command, order, waiter, ticket, carried: false });
        }
        Err(error) => connection.refuse(frame.request_id, &error),
    }
}

/// DELIVERED without a request id is answered by nothing, not even an error.
fn quiet_delivered(connection: &Arc<Connection>, frame: &Frame) {
    standing::look_once(connection);
    if let Ok(delivered) = body::<Delivered>(frame)
        && check::cursors(&delivered.cursors).is_ok()
        && !delivered.cursors.is_empty()
    {
        cursors::gather(connection, delivered.cursors);
    }
}

fn loud_delivered(connection: &Arc<Connection>, frame: &Frame, came: Arrival) {
    let checked = body::<Delivered>(frame).and_then(|delivered| {
        check::cursors(&delivered.cursors)?;
        Ok(delivered.cursors)
    });
    match checked {
        Ok(cursors) if cursors.is_empty() => connection.reply(Kind::Ok, frame.request_id, &()),
        checked => with(connection, (frame, came), checked, delivered::delivered),
    }
}

/// Gives a request that has to wait for reads a task of its own, bounded by the window.
fn with<T, F>(
    connection: &Arc<Connection>,
    (frame, came): (&Frame, Arrival),
    body: Result<T, ErrorBody>,
    serve: impl FnOnce(Arc<Connection>, u32, T) -> F,
) where
    F: Future<Output = Result<(), ErrorBody>> + core::marker::Send + 'static,
{
    let (ticket, request) = (came.ticket(frame.kind, frame.request_id), frame.request_id);
    let body = match body {
        Ok(body) => body,
        Err(error) => return connection.refuse(request, &error),
    };
    let work = serve(Arc::clone(connection), request, body);
    let connection = Arc::clone(connection);
    let core = Arc::clone(&connection.core);
    core.spawn(async move {
        let served = tokio::select! {
            () = connection.cancel.cancelled() => return,
            served = work => served,
        };
        if let Err(error) = served {
            connection.refuse(request, &error);
        }
        connection.core.times.answered(std::iter::once(ticket));
    });
}
