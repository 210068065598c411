//! Random bodies of what is the user's own.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rookery_wire::own::{
    Badge, DeviceLine, DevicePage, ListDevices, ListRelations, ManageSelf, Relation, RelationFilter, ShowTo,
};
use rookery_wire::own::{RelationPage, SelfAck, SessionSettings, Settings};
use rookery_wire::{RelationState, SessionSetting, UserAction};

use crate::bodies::Body;
use crate::strategies::{blob, device, number, number32, session, user};

fn setting() -> impl Strategy<Value = SessionSetting> {
    prop_oneof![
        option::of(number()).prop_map(SessionSetting::Pin),
        number().prop_map(SessionSetting::Mute),
        option::of(number()).prop_map(SessionSetting::Hide),
        any::<bool>().prop_map(SessionSetting::MarkUnread),
        blob().prop_map(SessionSetting::Draft),
    ]
}

fn show_to() -> impl Strategy<Value = ShowTo> {
    prop_oneof![Just(ShowTo::All), Just(ShowTo::Friends), Just(ShowTo::Nobody)]
}

/// Any change to what is a user's own.
pub(crate) fn action() -> impl Strategy<Value = UserAction> {
    prop_oneof![
        (session(), setting()).prop_map(|(session, setting)| UserAction::SetSession { session, setting }),
        Just(UserAction::ReadAll),
        (session(), number()).prop_map(|(session, seq)| UserAction::ClearSession { session, seq }),
        (session(), number(), number()).prop_map(|(session, from_seq, to_seq)| {
            UserAction::DeleteMessages { session, from_seq, to_seq }
        }),
        (user(), blob()).prop_map(|(user, text)| UserAction::RequestFriend { user, text }),
        user().prop_map(|user| UserAction::AcceptFriend { user }),
        user().prop_map(|user| UserAction::DeclineFriend { user }),
        user().prop_map(|user| UserAction::RemoveFriend { user }),
        (user(), blob()).prop_map(|(user, remark)| UserAction::SetRemark { user, remark }),
        user().prop_map(|user| UserAction::Block { user }),
        user().prop_map(|user| UserAction::Unblock { user }),
        any::<bool>().prop_map(|refuse| UserAction::SetStrangers { refuse }),
        (device(), blob()).prop_map(|(device, name)| UserAction::NameDevice { device, name }),
        device().prop_map(|device| UserAction::EndDevice { device }),
        (show_to(), show_to()).prop_map(|(receipts, presence)| UserAction::SetPrivacy { receipts, presence }),
    ]
}

/// How a session may be set.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let ranges = vec((number(), number()), 0..4);
    let orders = (option::of(number()), number(), option::of(number()));
    (orders, any::<bool>(), blob(), number(), ranges).prop_map(
        |((pinned, muted_until_ms, hidden_count), marked_unread, draft, cleared_seq, deleted)| Settings {
            pinned,
            muted_until_ms,
            hidden_count,
            marked_unread,
            draft,
            cleared_seq,
            deleted,
        },
    )
}

/// Unread messages of all sessions.
pub(crate) fn badge() -> impl Strategy<Value = Badge> {
    (number(), number(), number32()).prop_map(|(unread, muted, uncounted)| Badge { unread, muted, uncounted })
}

fn relation() -> impl Strategy<Value = Relation> {
    let state = prop_oneof![
        Just(RelationState::None),
        Just(RelationState::Requested),
        Just(RelationState::Asked),
        Just(RelationState::Friends),
    ];
    (user(), state, any::<bool>(), blob(), blob(), number()).prop_map(
        |(user, state, blocked, remark, text, since_ms)| Relation {
            user,
            state,
            blocked,
            remark,
            text,
            since_ms,
        },
    )
}

fn filter() -> impl Strategy<Value = RelationFilter> {
    prop_oneof![
        Just(RelationFilter::All),
        Just(RelationFilter::Friends),
        Just(RelationFilter::Requests),
        Just(RelationFilter::Blocked),
    ]
}

/// Any body of what is the user's own.
pub(crate) fn body() -> impl Strategy<Value = Body> {
    let line = (device(), number32(), blob(), blob(), blob(), number()).prop_map(
        |(device, epoch, platform, name, agent, seen_ms)| DeviceLine {
            device,
            epoch,
            platform,
            name,
            agent,
            seen_ms,
        },
    );
    prop_oneof![
        (number(), option::of(user()), action()).prop_map(|(number, on_behalf_of, action)| {
            Body::ManageSelf(ManageSelf { number, on_behalf_of, action })
        }),
        (option::of(user()), filter(), option::of(user()), number32()).prop_map(
            |(on_behalf_of, which, after, limit)| {
                Body::ListRelations(ListRelations { on_behalf_of, which, after, limit })
            }
        ),
        (option::of(user()), option::of(device()), number32()).prop_map(|(on_behalf_of, after, limit)| {
            Body::ListDevices(ListDevices { on_behalf_of, after, limit })
        }),
        (number(), number(), number()).prop_map(|(number, time_ms, value)| Body::SelfAck(SelfAck {
            number,
            time_ms,
            value
        })),
        (session(), settings())
            .prop_map(|(session, settings)| { Body::SessionSettings(SessionSettings { session, settings }) }),
        (vec(relation(), 0..4), any::<bool>(), any::<bool>(), show_to(), show_to()).prop_map(
            |(relations, more, refuses_strangers, receipts, presence)| {
                let page = RelationPage { relations, more, refuses_strangers, receipts, presence };
                Body::RelationPage(page)
            }
        ),
        relation().prop_map(Body::Relation),
        (vec(line, 0..4), any::<bool>())
            .prop_map(|(devices, more)| Body::DevicePage(DevicePage { devices, more })),
    ]
}
