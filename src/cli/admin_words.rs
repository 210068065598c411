//! Lines of the audit in words, for people and for programs.

use rookery_client::wire::{AuditEntity, AuditLine};
use serde_json::{Value, json};

use super::record::{clock, visible};

const ACTIONS: [&str; 10] = [
    "send",
    "recall",
    "edit",
    "create_group",
    "add_members",
    "remove_members",
    "manage",
    "own",
    "create_user",
    "sessions",
];
const MANAGE: u16 = 6;
const OF_GROUPS: [&str; 15] = [
    "set_profile",
    "set_attribute",
    "set_role",
    "hand_over",
    "set_policy",
    "mute",
    "mute_all",
    "dissolve",
    "set_retention",
    "answer",
    "make_code",
    "revoke_code",
    "bar",
    "asked",
    "keep_versions",
];
const OWN: u16 = 7;
const OF_USERS: [&str; 15] = [
    "set_session",
    "read_all",
    "clear_session",
    "delete_messages",
    "request_friend",
    "accept_friend",
    "decline_friend",
    "remove_friend",
    "set_remark",
    "block",
    "unblock",
    "set_strangers",
    "name_device",
    "end_device",
    "set_privacy",
];

/// What was asked for. A newer server may know more: that is a number.
fn action(line: &AuditLine) -> String {
    let named = |names: &[&str], number: u16| match names.get(usize::from(number)) {
        Some(name) => (*name).to_owned(),
        None => number.to_string(),
    };
    match line.action {
        MANAGE => named(&OF_GROUPS, line.part),
        OWN => named(&OF_USERS, line.part),
        other => named(&ACTIONS, other),
    }
}

/// One line, for programs.
pub(super) fn audit_json(line: &AuditLine) -> Value {
    let (entity, name) = match &line.entity {
        AuditEntity::Session(session) => ("session", session.to_string()),
        AuditEntity::User(user) => ("user", user.to_string()),
    };
    json!({
        "number": line.number, "time_ms": line.time_ms, "service": line.service, "device": line.device,
        "for": line.on_behalf_of, "action": action(line), entity: name, "key": line.key,
    })
}

/// The same for people.
pub(super) fn audit_words(line: &AuditLine) -> String {
    let entity = match &line.entity {
        AuditEntity::Session(session) => session.to_string(),
        AuditEntity::User(user) => format!("user {user}"),
    };
    let of = line.on_behalf_of.as_ref().map_or_else(String::new, |of| format!(" for {of}"));
    let (number, time) = (line.number, clock(line.time_ms));
    let key = visible(line.key.as_str());
    format!("{number} {time} {}{of} {} {}, key {key}", line.service, action(line), visible(&entity))
}

#[cfg(test)]
mod tests {
    use rookery_client::wire::own::ShowTo;
    use rookery_client::wire::{AdminAction, GroupAction, UserAction};

    use super::*;

    fn line((action, part): (u16, u16)) -> AuditLine {
        AuditLine {
            number: 7,
            time_ms: 1_790_000_000_000,
            service: "shop".parse().expect("a name"),
            device: "backend".parse().expect("a name"),
            on_behalf_of: Some("ann".parse().expect("a name")),
            action,
            part,
            entity: AuditEntity::User("ann".parse().expect("a name")),
            key: "k1".parse().expect("a key"),
        }
    }

    #[test]
    fn actions_have_the_names_of_their_numbers() {
        let ann = || "ann".parse().expect("a name");
        let known = [
            (
                AdminAction::Own(UserAction::EndDevice { device: "d".parse().expect("a device") }),
                "end_device",
            ),
            (AdminAction::Own(UserAction::Block { user: ann() }), "block"),
            (
                AdminAction::Manage { group: "g".parse().expect("a name"), action: GroupAction::Dissolve },
                "dissolve",
            ),
            (
                AdminAction::Own(UserAction::SetPrivacy { receipts: ShowTo::All, presence: ShowTo::All }),
                "set_privacy",
            ),
            (
                AdminAction::Manage {
                    group: "g".parse().expect("a name"),
                    action: GroupAction::Bar { user: ann(), on: true },
                },
                "bar",
            ),
            (
                AdminAction::Manage {
                    group: "g".parse().expect("a name"),
                    action: GroupAction::KeepVersions { on: true },
                },
                "keep_versions",
            ),
            (AdminAction::CreateUser { user: ann() }, "create_user"),
            (AdminAction::Sessions { after: None, limit: 1 }, "sessions"),
        ];
        for (asked, name) in known {
            assert_eq!(action(&line(asked.numbers())), name);
        }
        assert_eq!(action(&line((99, 0))), "99", "of a newer server");
        assert!(audit_words(&line((0, 0))).ends_with("shop for ann send user ann, key k1"));
        assert_eq!(audit_json(&line((0, 0)))["user"], "ann");
    }
}
