//! The vectors of what is the user's own: every action and setting, the lists with their answers, the pushes.

use bytes::Bytes;
use rookery_wire::own::{
    DeviceLine, DevicePage, ListDevices, ListRelations, ManageSelf, Relation, RelationFilter, ShowTo,
};
use rookery_wire::own::{RelationPage, SelfAck, SessionSettings, Settings};
use rookery_wire::{Blob, DeviceId, RelationState, SessionSetting, UserAction};

use crate::bodies::Body;
use crate::cases::{Case, case, pair, team, user};

fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn set(setting: SessionSetting) -> UserAction {
    UserAction::SetSession { session: pair(), setting }
}

fn actions() -> Vec<(&'static str, &'static str, UserAction)> {
    let bob = || user("bob");
    vec![
        ("set pin", "by the time of pinning", set(SessionSetting::Pin(Some(1_790_000_000_000)))),
        ("set unpin", "", set(SessionSetting::Pin(None))),
        ("set mute", "until a time", set(SessionSetting::Mute(1_790_000_060_000))),
        ("set mute for ever", "", set(SessionSetting::Mute(u64::MAX))),
        ("set hide", "until there is more than 298 messages", set(SessionSetting::Hide(Some(298)))),
        ("set show", "", set(SessionSetting::Hide(None))),
        ("set mark unread", "", set(SessionSetting::MarkUnread(true))),
        ("set draft", "", set(SessionSetting::Draft(Blob::from("dear bo")))),
        ("set draft of bytes", "a draft is opaque", {
            set(SessionSetting::Draft(Blob(Bytes::from_static(&[0, 0xff]))))
        }),
        ("read all", "no fields", UserAction::ReadAll),
        ("clear session", "", UserAction::ClearSession { session: team(), seq: 251 }),
        ("delete messages", "", {
            UserAction::DeleteMessages { session: team(), from_seq: 252, to_seq: 65_536 }
        }),
        ("request friend", "", UserAction::RequestFriend { user: bob(), text: Blob::from("it's me, alice") }),
        ("accept friend", "", UserAction::AcceptFriend { user: bob() }),
        ("decline friend", "", UserAction::DeclineFriend { user: bob() }),
        ("remove friend", "", UserAction::RemoveFriend { user: bob() }),
        ("set remark", "", UserAction::SetRemark { user: bob(), remark: Blob::from("Bob from work") }),
        ("block", "", UserAction::Block { user: bob() }),
        ("unblock", "", UserAction::Unblock { user: bob() }),
        ("set strangers", "", UserAction::SetStrangers { refuse: true }),
        ("name device", "", {
            UserAction::NameDevice { device: device("phone"), name: Blob::from("the red one") }
        }),
        ("end device", "", UserAction::EndDevice { device: device("phone") }),
        ("set privacy", "", {
            UserAction::SetPrivacy { receipts: ShowTo::Nobody, presence: ShowTo::Friends }
        }),
    ]
}

pub(crate) fn requests() -> Vec<Case> {
    let mut cases = Vec::new();
    for (request, (name, note, action)) in (50..).zip(actions()) {
        let body = ManageSelf { number: u64::from(request) - 49, on_behalf_of: None, action };
        cases.push(case(name, note, request, Body::ManageSelf(body)));
    }
    let named = ManageSelf {
        number: 251,
        on_behalf_of: Some(user("alice")),
        action: UserAction::EndDevice { device: device("phone") },
    };
    let list = ListRelations { on_behalf_of: None, which: RelationFilter::All, after: None, limit: 200 };
    let next = ListRelations {
        on_behalf_of: Some(user("alice")),
        which: RelationFilter::Blocked,
        after: Some(user("bob")),
        limit: 1,
    };
    let devices = ListDevices { on_behalf_of: None, after: None, limit: 64 };
    let more = ListDevices { on_behalf_of: Some(user("alice")), after: Some(device("phone")), limit: 1 };
    cases.extend([
        case("end device on behalf", "a service acts for alice", 80, Body::ManageSelf(named)),
        case("list relations first", "", 81, Body::ListRelations(list)),
        case("list relations next", "blocked ones, for a service", 82, Body::ListRelations(next)),
        case("list devices first", "", 83, Body::ListDevices(devices)),
        case("list devices next", "for a service", 84, Body::ListDevices(more)),
    ]);
    cases
}

/// Everything set.
pub(crate) fn settings() -> Settings {
    Settings {
        pinned: Some(1_790_000_000_000),
        muted_until_ms: u64::MAX,
        hidden_count: Some(298),
        marked_unread: true,
        draft: Blob::from("dear bo"),
        cleared_seq: 251,
        deleted: vec![(253, 253), (260, 300)],
    }
}

fn relation(name: &str, state: RelationState) -> Relation {
    Relation {
        user: user(name),
        state,
        blocked: false,
        remark: Blob::default(),
        text: Blob::default(),
        since_ms: 1_790_000_000_000,
    }
}

pub(crate) fn replies() -> Vec<Case> {
    let relations = vec![
        Relation { text: Blob::from("it's me"), ..relation("bob", RelationState::Asked) },
        Relation { remark: Blob::from("Carol from work"), ..relation("carol", RelationState::Friends) },
        Relation { blocked: true, ..relation("mallory", RelationState::None) },
    ];
    let page = |relations, more| RelationPage {
        relations,
        more,
        refuses_strangers: more,
        receipts: ShowTo::All,
        presence: if more { ShowTo::Friends } else { ShowTo::All },
    };
    let none = page(vec![], false);
    let phone = DeviceLine {
        device: device("phone"),
        epoch: 1,
        platform: Blob::from("android"),
        name: Blob::from("the red one"),
        agent: Blob::from("client.py 1"),
        seen_ms: 1_790_000_000_000,
    };
    vec![
        case("self ack", "", 50, Body::SelfAck(SelfAck { number: 1, time_ms: 1_790_000_000_000, value: 1 })),
        case("relation page", "one who asks, a friend, one who is blocked", 81, {
            Body::RelationPage(page(relations, true))
        }),
        case("relation page empty", "", 82, Body::RelationPage(none)),
        case("device page", "", 83, Body::DevicePage(DevicePage { devices: vec![phone], more: false })),
    ]
}

pub(crate) fn pushes() -> Vec<Case> {
    vec![
        case("session settings", "everything is set", 0, {
            Body::SessionSettings(SessionSettings { session: pair(), settings: settings() })
        }),
        case("session settings none", "nothing is", 0, {
            Body::SessionSettings(SessionSettings { session: team(), settings: Settings::default() })
        }),
        case("relation", "bob has accepted", 0, Body::Relation(relation("bob", RelationState::Friends))),
    ]
}
