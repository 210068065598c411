//! Every command, from the line to what is asked of the cluster and what is then shown.

use std::time::Duration;

use ratatui::crossterm::event::KeyCode;
use rookery_client::wire::group::{Group, RoleLine, RolePage};
use rookery_client::wire::join::CodePage;
use rookery_client::wire::live::{EphemeralMessage, Passing, ReceiptCounts, ReceiptLine, ReceiptPage};
use rookery_client::wire::own::{DeviceLine, DevicePage, RelationFilter, RelationPage, SelfAck, ShowTo};
use rookery_client::wire::{
    Blob, ErrorBody, ErrorCode, GroupAction, Join, MemberRole, Policy, Retention, SessionSetting, UserAction,
    UserId, Who,
};
use rookery_client::{ClientError, Event, Goes};

use super::super::acts::{Action, Outcome};
use super::super::asking::{Answer, Ask, Rule};
use super::super::popup;
use super::super::state::Chat;
use super::{NOON, actions, bob, chat, message, press, record, screen, shows, summary, synced, team, typed};

/// With the group open.
fn in_team() -> Chat {
    let mut chat = chat();
    synced(&mut chat, vec![summary(team(), 3, 0), summary(bob(), 2, 0)]);
    chat.open(team());
    actions(&mut chat);
    chat
}

/// What a line asks for.
fn asked(line: &str) -> Vec<Action> {
    let mut chat = in_team();
    typed(&mut chat, line);
    assert!(chat.input.is_empty(), "{line}: {:?}", chat.notice);
    actions(&mut chat)
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn notice(chat: &Chat) -> &str {
    chat.notice.as_ref().map_or("", |(text, _)| text)
}

#[test]
fn the_group_is_managed() {
    let manage = |action| vec![Action::Manage { session: team(), action }];
    let profile = |name: Option<&str>, avatar: Option<&str>| {
        manage(GroupAction::SetProfile { name: name.map(Blob::from), avatar: avatar.map(Blob::from) })
    };
    assert_eq!(asked("/set name The  team"), profile(Some("The team"), None));
    assert_eq!(asked("/set avatar https://crow"), profile(None, Some("https://crow")));
    assert_eq!(asked("/set avatar"), profile(None, Some("")));
    let key = || "colour".parse().unwrap();
    assert_eq!(
        asked("/set attribute colour dark red"),
        manage(GroupAction::SetAttribute { key: key(), value: Some(Blob::from("dark red")) })
    );
    assert_eq!(asked("/set attribute colour"), manage(GroupAction::SetAttribute { key: key(), value: None }));
    for (word, role) in [("admin", MemberRole::Admin), ("member", MemberRole::Member)] {
        let action = GroupAction::SetRole { user: user("bob"), role };
        assert_eq!(asked(&format!("/set {word} @bob")), manage(action));
    }
    assert_eq!(asked("/set owner bob"), manage(GroupAction::HandOver { user: user("bob") }));
    for (line, until_ms) in [("mute bob", u64::MAX), ("mute bob 5", NOON + 300_000), ("unmute bob", 0)] {
        assert_eq!(asked(&format!("/set {line}")), manage(GroupAction::Mute { user: user("bob"), until_ms }));
    }
    assert_eq!(asked("/set mute-all on"), manage(GroupAction::MuteAll { on: true }));
    let keeps = GroupAction::SetRetention(Retention { age_ms: 7 * 86_400_000, count: 0 });
    assert_eq!(asked("/set keep 7"), manage(keeps));
    assert_eq!(asked("/set versions on"), manage(GroupAction::KeepVersions { on: true }));
    assert_eq!(asked("/set bar eve"), manage(GroupAction::Bar { user: user("eve"), on: true }));
    assert_eq!(asked("/set unbar eve"), manage(GroupAction::Bar { user: user("eve"), on: false }));
    assert_eq!(asked("/revoke 9"), manage(GroupAction::RevokeCode { id: 9 }));
    let both: Vec<Action> = ["bob", "eve"]
        .map(|name| GroupAction::Answer { user: user(name), accept: true })
        .map(|action| Action::Manage { session: team(), action })
        .into();
    assert_eq!(asked("/requests accept @bob, eve"), both);
    let declined = GroupAction::Answer { user: user("bob"), accept: false };
    assert_eq!(asked("/requests decline bob"), manage(declined));
    let change = |add, users| vec![Action::Change { session: team(), add, users }];
    assert_eq!(asked("/add bob, @eve"), change(true, vec![user("bob"), user("eve")]));
    assert_eq!(asked("/remove bob"), change(false, vec![user("bob")]));
}

#[test]
fn rules_codes_and_lists_are_asked_for() {
    let ask = |ask| vec![Action::Ask(ask)];
    let rule = |rule| ask(Ask::Rule { session: team(), rule });
    assert_eq!(asked("/set write admins"), rule(Rule::Write(Who::Admins)));
    assert_eq!(asked("/set invite all"), rule(Rule::Invite(Who::All)));
    assert_eq!(asked("/set change all"), rule(Rule::Change(Who::All)));
    assert_eq!(asked("/set history hidden"), rule(Rule::History(false)));
    assert_eq!(asked("/set join open"), rule(Rule::Join(Join::Open)));
    let invite =
        |uses, days: u64| ask(Ask::Invite { session: team(), uses, until_ms: NOON + days * 86_400_000 });
    assert_eq!((asked("/invite"), asked("/invite 5 1")), (invite(1, 7), invite(5, 1)));
    assert_eq!(asked("/codes"), ask(Ask::Codes { session: team() }));
    assert_eq!(asked("/barred"), ask(Ask::Barred { session: team() }));
    assert_eq!(asked("/roles"), ask(Ask::Roles { session: team() }));
    assert_eq!(asked("/info"), ask(Ask::Info { session: team() }));
    assert_eq!(asked("/receipts 2"), ask(Ask::Receipts { session: team(), seq: 2 }));
    assert_eq!(asked("/verify"), ask(Ask::Digest { session: team() }));
    assert_eq!(
        asked("/passing look  up!"),
        ask(Ask::Passing { session: team(), text: "look  up!".to_owned() })
    );
    let (group, me) = ("nest".parse().unwrap(), user("ann"));
    assert_eq!(asked("/withdraw #nest"), ask(Ask::Withdraw { group, me }));
    assert_eq!(asked("/my people"), ask(Ask::Relations { which: RelationFilter::All }));
    assert_eq!(asked("/my people blocked"), ask(Ask::Relations { which: RelationFilter::Blocked }));
    assert_eq!(asked("/my devices"), ask(Ask::Devices));
    let privacy = |receipts, presence| ask(Ask::Privacy { receipts, presence });
    assert_eq!(asked("/my receipts friends"), privacy(Some(ShowTo::Friends), None));
    assert_eq!(asked("/my presence nobody"), privacy(None, Some(ShowTo::Nobody)));
    assert_eq!(asked("/my privacy"), privacy(None, None));
    let join = |code| vec![Action::Join { group: "nest".parse().unwrap(), code }];
    assert_eq!(asked("/join #nest"), join(None));
    assert_eq!(asked("/join nest ABCD EFGH"), join(Some("abcd-efgh".parse().unwrap())));
}

#[test]
fn what_is_the_users_own_is_changed() {
    let own = |action| vec![Action::Own(action)];
    let set = |setting| own(UserAction::SetSession { session: team(), setting });
    assert_eq!(asked("/my pin"), set(SessionSetting::Pin(Some(NOON))));
    assert_eq!(asked("/my unpin"), set(SessionSetting::Pin(None)));
    assert_eq!(asked("/my mute"), set(SessionSetting::Mute(u64::MAX)));
    assert_eq!(asked("/my mute 10"), set(SessionSetting::Mute(NOON + 600_000)));
    assert_eq!(asked("/my unmute"), set(SessionSetting::Mute(0)));
    assert_eq!(asked("/my hide"), set(SessionSetting::Hide(Some(3))), "the session's count");
    assert_eq!(asked("/my hide always"), set(SessionSetting::Hide(Some(u64::MAX))));
    assert_eq!(asked("/my show"), set(SessionSetting::Hide(None)));
    assert_eq!(asked("/my unread"), set(SessionSetting::MarkUnread(true)));
    assert_eq!(asked("/my read-all"), own(UserAction::ReadAll));
    assert_eq!(asked("/my clear"), own(UserAction::ClearSession { session: team(), seq: 3 }));
    let delete = |from_seq, to_seq| own(UserAction::DeleteMessages { session: team(), from_seq, to_seq });
    assert_eq!((asked("/my delete 3"), asked("/my delete 1 3")), (delete(3, 3), delete(1, 3)));
    let text = Blob::from("it is me");
    assert_eq!(asked("/my friend bob it is me"), own(UserAction::RequestFriend { user: user("bob"), text }));
    assert_eq!(asked("/my accept bob"), own(UserAction::AcceptFriend { user: user("bob") }));
    assert_eq!(asked("/my decline @bob"), own(UserAction::DeclineFriend { user: user("bob") }));
    assert_eq!(asked("/my unfriend bob"), own(UserAction::RemoveFriend { user: user("bob") }));
    let remark = Blob::from("Bob from work");
    assert_eq!(
        asked("/my remark bob Bob from work"),
        own(UserAction::SetRemark { user: user("bob"), remark })
    );
    assert_eq!(asked("/my block @bob"), own(UserAction::Block { user: user("bob") }));
    assert_eq!(asked("/my unblock bob"), own(UserAction::Unblock { user: user("bob") }));
    assert_eq!(asked("/my strangers refuse"), own(UserAction::SetStrangers { refuse: true }));
    let (device, name) = ("phone".parse().unwrap(), Blob::from("the red one"));
    assert_eq!(asked("/my device phone the red one"), own(UserAction::NameDevice { device, name }));
    assert_eq!(asked("/my end phone"), own(UserAction::EndDevice { device: "phone".parse().unwrap() }));
}

#[test]
fn a_group_is_ended_only_under_its_name() {
    let mut chat = in_team();
    typed(&mut chat, "/set dissolve nest");
    assert_eq!(actions(&mut chat), []);
    assert!(notice(&chat).contains("/set dissolve team"), "{}", notice(&chat));
    typed(&mut chat, "/set dissolve #team");
    assert_eq!(actions(&mut chat), [Action::Manage { session: team(), action: GroupAction::Dissolve }]);
    chat.open(bob());
    actions(&mut chat);
    typed(&mut chat, "/set dissolve team");
    assert_eq!((actions(&mut chat), notice(&chat)), (vec![], "that is for groups"));
}

#[test]
fn messages_that_go_are_sent_as_such() {
    let mut chat = in_team();
    let sent = |chat: &mut Chat| match actions(chat).as_slice() {
        [Action::Send { text, goes, .. }] => Some((text.clone(), *goes)),
        _ => None,
    };
    typed(&mut chat, "/lasting 2h see  you");
    assert_eq!(sent(&mut chat), Some(("see  you".to_owned(), Goes::After(Duration::from_secs(7_200)))));
    typed(&mut chat, "/burning 30s secret");
    assert_eq!(sent(&mut chat), None, "nobody in particular reads it");
    assert!(notice(&chat).contains("/lasting"));
    chat.open(bob());
    actions(&mut chat);
    typed(&mut chat, "/burning 30s secret");
    assert_eq!(sent(&mut chat), Some(("secret".to_owned(), Goes::OnceRead(Duration::from_secs(30)))));
    typed(&mut chat, "//shrug");
    assert_eq!(sent(&mut chat), Some(("/shrug".to_owned(), Goes::Never)));
    typed(&mut chat, "/edit  so it  is ");
    assert_eq!(actions(&mut chat), []);
    assert!(notice(&chat).contains("/numbers") || notice(&chat).contains("number"), "{}", notice(&chat));
}

#[test]
fn what_came_of_it_is_said() {
    let own = |action: UserAction, value: u64| {
        let mut chat = in_team();
        let ack = SelfAck { number: 1, time_ms: NOON, value };
        chat.outcome(Outcome::Own(action, Ok(ack)));
        notice(&chat).to_owned()
    };
    let friend = |value| own(UserAction::RequestFriend { user: user("bob"), text: Blob::default() }, value);
    assert_eq!(
        (friend(1), friend(3)),
        ("bob is asked to be a friend".into(), "bob and you are friends".into())
    );
    assert_eq!(own(UserAction::ReadAll, 4), "4 messages read");
    let end = |value| own(UserAction::EndDevice { device: "phone".parse().unwrap() }, value);
    assert_eq!(end(1), "phone has ended");
    assert!(end(0).contains("/my devices"));
    let mut chat = in_team();
    chat.outcome(Outcome::Answered(Ok(Answer::Said("all read".to_owned()))));
    assert_eq!(notice(&chat), "all read");
    let refusal = ClientError::Refused(ErrorBody::new(ErrorCode::NotAllowed, "admins do that"));
    chat.outcome(Outcome::Answered(Err(refusal)));
    assert_eq!(notice(&chat), "admins do that");
}

#[test]
fn lists_are_shown_and_cannot_speak_to_the_terminal() {
    let page = |users: &[&str], counts| ReceiptPage {
        users: users.iter().map(|name| ReceiptLine { user: user(name), read_seq: 7 }).collect(),
        unresolved: Vec::new(),
        next: None,
        counts,
    };
    let counts = ReceiptCounts { read: 2, unread: 1, hidden: 1 };
    let read = popup::receipts(7, &page(&["bob", "cat"], Some(counts)), &page(&["dan"], None));
    let lines = ["2 have read it, 1 have not, 1 do not show it", "read by bob, cat", "not read by dan"];
    assert_eq!(
        (read.title.as_str(), read.lines.as_slice()),
        ("Message 7", lines.map(String::from).as_slice())
    );

    let device = DeviceLine {
        device: "phone".parse().unwrap(),
        epoch: 2,
        platform: Blob::from("ios"),
        name: Blob::from("red\u{1b}[2J"),
        agent: Blob::from("crow/1"),
        seen_ms: 45_296_000,
    };
    let devices = popup::devices(&DevicePage { devices: vec![device], more: false });
    assert!(devices.lines[0].starts_with("phone (red") && !devices.lines[0].contains('\u{1b}'));
    assert!(devices.lines[1].contains("/my end"));

    let roles = [("ann", MemberRole::Owner, 0), ("bob", MemberRole::Member, u64::MAX)];
    let roles = roles.map(|(name, role, until)| RoleLine { user: user(name), role, muted_until_ms: until });
    let roles = popup::roles(&RolePage { roles: roles.into(), more: true });
    assert_eq!(roles.lines, ["ann owner", "bob member, muted for good", "… and more"]);
    let nobody = RelationPage {
        relations: Vec::new(),
        more: false,
        refuses_strangers: false,
        receipts: ShowTo::All,
        presence: ShowTo::All,
    };
    assert_eq!(popup::relations(&nobody).lines, ["(nobody)"]);
    assert_eq!(popup::codes(&CodePage { codes: Vec::new(), more: false }).lines, ["(there are none)"]);

    let group = Group {
        session: team(),
        name: Blob::from("The\ncrows"),
        avatar: Blob::default(),
        attributes: vec![("colour".parse().unwrap(), Blob::from("red"))],
        policy: Policy::default(),
        mute_all: true,
        owner: Some(user("ann")),
        role: Some(MemberRole::Admin),
        muted_until_ms: 0,
        members: 3,
        dissolved: false,
        retention: Retention { age_ms: 0, count: 9 },
    };
    let info = popup::info(&group, true).lines.join("|");
    for text in [
        "name The crows|",
        "colour red|",
        "3 members, owned by ann|you are: admin|",
        "is muted|",
        "last 9",
        "is kept",
    ] {
        assert!(info.contains(text), "{text} in {info}");
    }
}

#[test]
fn help_lists_commands_in_groups_and_scrolls() {
    let mut chat = in_team();
    typed(&mut chat, "/help");
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "── Talking") && shows(&rows, "more (PgDn)"), "{rows:#?}");
    assert!(!shows(&rows, "Ctrl-C"), "{rows:#?}");
    press(&mut chat, KeyCode::PageDown);
    assert!(!shows(&screen(&mut chat, 80, 24), "── Talking"));
    press(&mut chat, KeyCode::End);
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "Ctrl-C") && !shows(&rows, "more (PgDn)"), "{rows:#?}");
    press(&mut chat, KeyCode::Esc);
    assert!(chat.popup.is_none());
    typed(&mut chat, "/help people");
    assert!(shows(&screen(&mut chat, 80, 24), "/my friend USER [TEXT]"));
    press(&mut chat, KeyCode::Esc);
    typed(&mut chat, "/help /set mute");
    let rows = screen(&mut chat, 80, 24);
    assert!(shows(&rows, "/set mute USER") && !shows(&rows, "/set admin"), "{rows:#?}");
    press(&mut chat, KeyCode::Esc);
    typed(&mut chat, "/help herons");
    assert!(chat.popup.is_none() && notice(&chat).contains("nothing about herons"));
}

#[test]
fn numbers_are_shown_when_they_are_wanted() {
    let mut chat = in_team();
    message(&mut chat, team(), record(4, "bob", "look"));
    assert!(shows(&screen(&mut chat, 80, 20), "11:04 bob: look"));
    typed(&mut chat, "/numbers");
    assert!(shows(&screen(&mut chat, 80, 20), "11:04 4 bob: look"));
    typed(&mut chat, "/numbers");
    assert!(shows(&screen(&mut chat, 80, 20), "11:04 bob: look"));
}

#[test]
fn what_is_said_in_passing_is_shown_for_a_moment_and_not_from_muted_sessions() {
    let mut chat = in_team();
    let says = |text: &str| {
        let (content_type, content) = (Blob::from("text/plain"), Blob::from(text));
        Event::Ephemeral(EphemeralMessage {
            session: bob(),
            sender: user("bob"),
            device: "phone".parse().unwrap(),
            time_ms: NOON,
            body: Passing::Content { content_type, content },
        })
    };
    chat.event(says("look up!"));
    assert_eq!(notice(&chat), "bob, in passing: look up!");
    assert!(chat.sessions[&bob()].entries.is_empty(), "it is kept nowhere");
    chat.notice = None;
    chat.session(&bob()).settings.muted_until_ms = u64::MAX;
    chat.event(says("again"));
    assert_eq!(notice(&chat), "");
}

#[test]
fn a_session_is_opened_by_its_name_if_it_is_there() {
    let mut chat = in_team();
    typed(&mut chat, "/open @bob");
    assert_eq!(chat.open, Some(bob()));
    typed(&mut chat, "/open #nowhere");
    assert_eq!(chat.open, Some(bob()));
    assert!(notice(&chat).contains("/join"), "{}", notice(&chat));
    typed(&mut chat, "/open #team");
    assert_eq!(chat.open, Some(team()));
}
