//! How a group is managed: its profile, the roles of its members, who may do what, and who is muted.
//!
//! [`GroupAction`] is asked for with `MANAGE_GROUP`, and is the content of the signal that every member's devices get, so
//! that all of them go through the same changes in the same order.

use bincode::{Decode, Encode};

use crate::codec::{Blob, Source};
use crate::id::{AttributeKey, SessionId, UserId};
use crate::join::Join;

/// Longest name of a group for people, bytes.
pub const MAX_GROUP_NAME: usize = 256;
/// Longest avatar, bytes: a small picture or the text of an address.
pub const MAX_AVATAR: usize = 2048;
/// Longest value of an attribute, bytes.
pub const MAX_ATTRIBUTE: usize = 1024;
/// Attributes a group may have.
pub const MAX_ATTRIBUTES: usize = 32;
/// Bytes of all attributes of a group together, keys and values: with the profile they fit the smallest frame.
pub const MAX_ATTRIBUTE_BYTES: usize = 8192;

/// What a member is in a group, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum MemberRole {
    /// May what the group's policy lets all members do.
    Member,
    /// May what the policy keeps for admins; removes and mutes plain members.
    Admin,
    /// May everything; there is at most one.
    Owner,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Who {
    /// Every member.
    All,
    /// Admins and the owner.
    Admins,
}

/// Who may do what in a group, and what newcomers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// Who may write.
    pub write: Who,
    /// Who may add members.
    pub invite: Who,
    /// Who may change profile and attributes.
    pub change: Who,
    /// Whether a member may read what was written before it joined.
    pub history_before_joining: bool,
    /// Whether users come by themselves.
    pub join: Join,
}

impl Default for Policy {
    /// Of a new group: everybody writes, invites and reads everything; admins change the profile; nobody comes uninvited.
    fn default() -> Self {
        Self {
            write: Who::All,
            invite: Who::All,
            change: Who::Admins,
            history_before_joining: true,
            join: Join::Closed,
        }
    }
}

/// How long a session keeps its messages. What is older than that or beyond that number goes; 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Retention {
    /// Age at which a message goes, milliseconds.
    pub age_ms: u64,
    /// Records kept, signals among them.
    pub count: u64,
}

impl Retention {
    /// Whether nothing goes by it. A session for which nothing is set follows the cluster's default.
    pub fn is_none(&self) -> bool {
        self.age_ms == 0 && self.count == 0
    }

    /// What goes by either goes by this.
    #[must_use]
    pub fn stricter(self, other: Retention) -> Retention {
        let least =
            |one: u64, other: u64| if one == 0 || other == 0 { one.max(other) } else { one.min(other) };
        Retention { age_ms: least(self.age_ms, other.age_ms), count: least(self.count, other.count) }
    }
}

/// One change to a group.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub enum GroupAction {
    /// Changes the profile; what is none stays as it is, what is empty is taken away.
    SetProfile {
        /// Name for people, at most [`MAX_GROUP_NAME`] bytes.
        name: Option<Blob>,
        /// Picture or its address, at most [`MAX_AVATAR`] bytes.
        avatar: Option<Blob>,
    },
    /// Sets one of at most [`MAX_ATTRIBUTES`] attributes of the application's own.
    SetAttribute {
        /// Which.
        key: AttributeKey,
        /// At most [`MAX_ATTRIBUTE`] bytes; none takes the attribute away.
        value: Option<Blob>,
    },
    /// Makes a member an admin, or a plain member again. The owner's doing.
    SetRole {
        /// Whom.
        user: UserId,
        /// Not [`MemberRole::Owner`]: ownership is handed over.
        role: MemberRole,
    },
    /// Gives the group to another member; who owned it stays as an admin. The owner's doing.
    HandOver {
        /// To whom.
        user: UserId,
    },
    /// Sets who may do what. The owner's doing.
    SetPolicy(Policy),
    /// A member may not write until this time. Admins mute plain members, the owner mutes anybody else.
    Mute {
        /// Whom.
        user: UserId,
        /// Unix milliseconds; 0 lets the member write again.
        until_ms: u64,
    },
    /// Nobody but admins and the owner may write, until this is taken back.
    MuteAll {
        /// From now on, or no longer.
        on: bool,
    },
    /// The end: every member leaves, and no later act is accepted. The owner's doing.
    Dissolve,
    /// Sets how long the group keeps its messages: the owner's doing. In a direct session, what its user wishes: of both
    /// users' wishes and the cluster's default the strictest holds.
    SetRetention(Retention),
    /// Answers a request to join, for who may add members. Declining one's own request takes it back. Who is let in is named
    /// by a record of members, so records hold this only where it declines.
    Answer {
        /// Whose.
        user: UserId,
        /// It joins.
        accept: bool,
    },
    /// Makes a code of invitation, for who may add members. Its number is the seq of this record.
    MakeCode {
        /// SHA-256 of the code; empty in the record.
        hash: Blob,
        /// Until when it is good, unix milliseconds; 0, or what is later than that, is a year from now. The record says which.
        until_ms: u64,
        /// Users it lets in, 1 to 100,000.
        uses: u32,
    },
    /// Takes a code back. Its maker's or the admins' doing.
    RevokeCode {
        /// Its number.
        id: u64,
    },
    /// Keeps a user out, whoever would let it in, or lets it come again; a member stays one until it is removed. The admins'
    /// doing.
    Bar {
        /// Whom.
        user: UserId,
        /// It is kept out.
        on: bool,
    },
    /// In records only: a user asks to join.
    Asked {
        /// Who.
        user: UserId,
    },
    /// Whether what an edit takes the place of is kept: the owner's doing. In a direct session, the word of its user: it is kept
    /// if neither says no and one says yes, or the cluster's default does. Turned off, what was kept goes.
    KeepVersions {
        /// It is kept.
        on: bool,
    },
}

/// `MANAGE_GROUP`: one change to a group. Numbered like a send, and answered by ACK.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct ManageGroup {
    /// The group.
    pub session: SessionId,
    /// The device's next number in this session.
    pub client_seq: u64,
    /// Named user, for a service only.
    pub on_behalf_of: Option<UserId>,
    /// What is to change.
    pub action: GroupAction,
}

/// `GROUP_INFO`: how a group is set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct GroupInfo {
    /// The group.
    pub session: SessionId,
}

/// `LIST_ROLES`: who in a group is more or less than a plain member, by name, paged.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ListRoles {
    /// The group.
    pub session: SessionId,
    /// The last name of the page before; none for the first.
    pub after: Option<UserId>,
    /// At most so many (1–1,000).
    pub limit: u32,
}

/// `GROUP`: the answer to GROUP_INFO.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Group {
    /// Which.
    pub session: SessionId,
    /// Its name for people; empty if it has none.
    pub name: Blob,
    /// Its avatar; empty if it has none.
    pub avatar: Blob,
    /// Its attributes, by key.
    pub attributes: Vec<(AttributeKey, Blob)>,
    /// Who may do what.
    pub policy: Policy,
    /// Only admins and the owner may write.
    pub mute_all: bool,
    /// Whose it is; none if a service made it and nobody was given it.
    pub owner: Option<UserId>,
    /// The role of the user who asks; none for a service.
    pub role: Option<MemberRole>,
    /// Until when the user who asks is muted, unix milliseconds; it may have passed. 0 if not muted.
    pub muted_until_ms: u64,
    /// Members it has.
    pub members: u32,
    /// It has been dissolved; only services still see it.
    pub dissolved: bool,
    /// How long it keeps its messages, if that was set for it.
    pub retention: Retention,
}

/// One line of a [`RolePage`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RoleLine {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: MemberRole,
    /// Until when it is muted, unix milliseconds; it may have passed. 0 if not muted.
    pub muted_until_ms: u64,
}

/// `ROLE_PAGE`: the answer to LIST_ROLES.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RolePage {
    /// The owner, admins, and members that are or were muted, by name.
    pub roles: Vec<RoleLine>,
    /// Whether there are more after the last of them.
    pub more: bool,
}
