//! Random bodies of group management.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::group::{Group, GroupInfo, ListRoles, ManageGroup, RoleLine, RolePage};
use rookery_wire::{AttributeKey, GroupAction, Join, MemberRole, Policy, Retention, Who};

use crate::bodies::Body;
use crate::strategies::{blob, name, number, number32, session, user};

fn key() -> impl Strategy<Value = AttributeKey> {
    name().prop_map(|name| AttributeKey::new(&name).unwrap())
}

fn role() -> impl Strategy<Value = MemberRole> {
    prop_oneof![Just(MemberRole::Member), Just(MemberRole::Admin), Just(MemberRole::Owner)]
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![Just(Who::All), Just(Who::Admins)]
}

fn policy() -> impl Strategy<Value = Policy> {
    let join = prop_oneof![Just(Join::Closed), Just(Join::Request), Just(Join::Open)];
    (who(), who(), who(), any::<bool>(), join).prop_map(
        |(write, invite, change, history_before_joining, join)| Policy {
            write,
            invite,
            change,
            history_before_joining,
            join,
        },
    )
}

fn retention() -> impl Strategy<Value = Retention> {
    (number(), number()).prop_map(|(age_ms, count)| Retention { age_ms, count })
}

/// Any action.
pub(crate) fn action() -> impl Strategy<Value = GroupAction> {
    prop_oneof![
        (option::of(blob()), option::of(blob()))
            .prop_map(|(name, avatar)| GroupAction::SetProfile { name, avatar }),
        (key(), option::of(blob())).prop_map(|(key, value)| GroupAction::SetAttribute { key, value }),
        (user(), role()).prop_map(|(user, role)| GroupAction::SetRole { user, role }),
        user().prop_map(|user| GroupAction::HandOver { user }),
        policy().prop_map(GroupAction::SetPolicy),
        (user(), number()).prop_map(|(user, until_ms)| GroupAction::Mute { user, until_ms }),
        any::<bool>().prop_map(|on| GroupAction::MuteAll { on }),
        Just(GroupAction::Dissolve),
        retention().prop_map(GroupAction::SetRetention),
        (user(), any::<bool>()).prop_map(|(user, accept)| GroupAction::Answer { user, accept }),
        (blob(), number(), number32()).prop_map(|(hash, until_ms, uses)| GroupAction::MakeCode {
            hash,
            until_ms,
            uses
        }),
        number().prop_map(|id| GroupAction::RevokeCode { id }),
        (user(), any::<bool>()).prop_map(|(user, on)| GroupAction::Bar { user, on }),
        user().prop_map(|user| GroupAction::Asked { user }),
        any::<bool>().prop_map(|on| GroupAction::KeepVersions { on }),
    ]
}

fn group() -> impl Strategy<Value = Body> {
    let profile = (blob(), blob(), vec((key(), blob()), 0..4));
    let settings = (policy(), any::<bool>(), any::<bool>(), retention());
    let people = (option::of(user()), option::of(role()), number(), number32());
    (session(), profile, settings, people).prop_map(|(session, profile, settings, people)| {
        let (name, avatar, attributes) = profile;
        let (policy, mute_all, dissolved, retention) = settings;
        let (owner, role, muted_until_ms, members) = people;
        Body::Group(Group {
            session,
            name,
            avatar,
            attributes,
            policy,
            mute_all,
            owner,
            role,
            muted_until_ms,
            members,
            dissolved,
            retention,
        })
    })
}

/// Any body of group management.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let line = (user(), role(), number()).prop_map(|(user, role, muted_until_ms)| RoleLine {
        user,
        role,
        muted_until_ms,
    });
    prop_oneof![
        (session(), number(), option::of(user()), action()).prop_map(
            |(session, client_seq, on_behalf_of, action)| {
                Body::ManageGroup(ManageGroup { session, client_seq, on_behalf_of, action })
            }
        ),
        session().prop_map(|session| Body::GroupInfo(GroupInfo { session })),
        (session(), option::of(user()), number32())
            .prop_map(|(session, after, limit)| Body::ListRoles(ListRoles { session, after, limit })),
        group(),
        (vec(line, 0..6), any::<bool>()).prop_map(|(roles, more)| Body::RolePage(RolePage { roles, more })),
    ]
}
