//! Changes to groups in words, for people and for programs.

use rookery_client::wire::{Blob, GroupAction, Join, MemberRole, Policy, Retention, Who};
use serde_json::{Value, json};

use super::record::{hex, visible};

/// What somebody did to a group, to be read after the name of who did it.
pub(crate) fn action_words(action: &GroupAction) -> String {
    match action {
        GroupAction::SetProfile { name: Some(name), avatar: None } if !name.is_empty() => {
            format!("named the group {}", visible(&String::from_utf8_lossy(name.as_ref())))
        }
        GroupAction::SetProfile { name: None, avatar: Some(_) } => "changed the group's avatar".to_owned(),
        GroupAction::SetProfile { .. } => "changed the group's profile".to_owned(),
        GroupAction::SetAttribute { key, value: Some(_) } => {
            format!("set the group's {}", visible(key.as_str()))
        }
        GroupAction::SetAttribute { key, value: None } => {
            format!("took away the group's {}", visible(key.as_str()))
        }
        GroupAction::SetRole { user, role } => format!("made {user} {}", article(*role)),
        GroupAction::HandOver { user } => format!("handed the group over to {user}"),
        GroupAction::SetPolicy(policy) => format!("set the group's rules: {}", policy_words(*policy)),
        GroupAction::Mute { user, until_ms: 0 } => format!("lets {user} write again"),
        GroupAction::Mute { user, until_ms } => format!("muted {user} {}", until_words(*until_ms)),
        GroupAction::MuteAll { on: true } => "muted everybody but admins".to_owned(),
        GroupAction::MuteAll { on: false } => "lets everybody write again".to_owned(),
        GroupAction::Dissolve => "dissolved the group".to_owned(),
        GroupAction::SetRetention(retention) => format!("set that {}", retention_words(*retention)),
        GroupAction::Answer { user, accept: true } => format!("let {user} in"),
        GroupAction::Answer { user, accept: false } => format!("closed the request of {user} to join"),
        GroupAction::MakeCode { until_ms, uses, .. } => {
            let times = if *uses == 1 { "one".to_owned() } else { uses.to_string() };
            format!("made a code of invitation for {times}, good {}", until_words(*until_ms))
        }
        GroupAction::RevokeCode { id } => format!("took back the code of invitation {id}"),
        GroupAction::Bar { user, on: true } => format!("keeps {user} out"),
        GroupAction::Bar { user, on: false } => format!("keeps {user} out no more"),
        // By the one who wrote it, always.
        GroupAction::Asked { .. } => "asks to join".to_owned(),
        GroupAction::KeepVersions { on: true } => "set that what is said before an edit is kept".to_owned(),
        GroupAction::KeepVersions { on: false } => {
            "set that what is said before an edit is not kept".to_owned()
        }
    }
}

/// The same for programs: an object of one entry, its name.
pub(super) fn action_json(action: &GroupAction) -> Value {
    match action {
        GroupAction::SetProfile { name, avatar } => json!({ "set_profile": {
            "name": name.as_ref().map(bytes_json), "avatar": avatar.as_ref().map(bytes_json),
        } }),
        GroupAction::SetAttribute { key, value } => {
            json!({ "set_attribute": { "key": key, "value": value.as_ref().map(bytes_json) } })
        }
        GroupAction::SetRole { user, role } => {
            json!({ "set_role": { "user": user, "role": role_word(*role) } })
        }
        GroupAction::HandOver { user } => json!({ "hand_over": { "user": user } }),
        GroupAction::SetPolicy(policy) => json!({ "set_policy": policy_json(*policy) }),
        GroupAction::Mute { user, until_ms } => json!({ "mute": { "user": user, "until_ms": until_ms } }),
        GroupAction::MuteAll { on } => json!({ "mute_all": { "on": on } }),
        GroupAction::Dissolve => json!({ "dissolve": {} }),
        GroupAction::SetRetention(retention) => json!({ "set_retention": retention_json(*retention) }),
        GroupAction::Answer { user, accept } => json!({ "answer": { "user": user, "accept": accept } }),
        GroupAction::MakeCode { until_ms, uses, .. } => {
            json!({ "make_code": { "until_ms": until_ms, "uses": uses } })
        }
        GroupAction::RevokeCode { id } => json!({ "revoke_code": { "id": id } }),
        GroupAction::Bar { user, on } => json!({ "bar": { "user": user, "on": on } }),
        GroupAction::Asked { user } => json!({ "asked": { "user": user } }),
        GroupAction::KeepVersions { on } => json!({ "keep_versions": { "on": on } }),
    }
}

/// Text where the bytes are text, else hexadecimal.
pub(super) fn bytes_json(blob: &Blob) -> Value {
    match std::str::from_utf8(blob.as_ref()) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": hex(blob.as_ref()) }),
    }
}

pub(crate) fn role_word(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "member",
        MemberRole::Admin => "admin",
        MemberRole::Owner => "owner",
    }
}

fn article(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Member => "a plain member",
        MemberRole::Admin => "an admin",
        MemberRole::Owner => "the owner",
    }
}

fn who_word(who: Who) -> &'static str {
    match who {
        Who::All => "all",
        Who::Admins => "admins",
    }
}

pub(super) fn policy_json(policy: Policy) -> Value {
    json!({
        "write": who_word(policy.write), "invite": who_word(policy.invite), "change": who_word(policy.change),
        "history_before_joining": policy.history_before_joining, "join": join_word(policy.join),
    })
}

pub(crate) fn policy_words(policy: Policy) -> String {
    let history = if policy.history_before_joining { "visible" } else { "hidden" };
    format!(
        "{} write, {} invite, {} change the profile, older history is {history}, {}",
        who_word(policy.write),
        who_word(policy.invite),
        who_word(policy.change),
        match policy.join {
            Join::Closed => "nobody joins uninvited",
            Join::Request => "who asks may be let in",
            Join::Open => "everybody may join",
        }
    )
}

fn join_word(join: Join) -> &'static str {
    match join {
        Join::Closed => "closed",
        Join::Request => "request",
        Join::Open => "open",
    }
}

pub(super) fn retention_json(retention: Retention) -> Value {
    json!({ "age_ms": retention.age_ms, "count": retention.count })
}

/// What is kept of a group's messages.
pub(crate) fn retention_words(Retention { age_ms, count }: Retention) -> String {
    let age = format!("messages go after {} s", age_ms / 1000);
    match (age_ms, count) {
        (0, 0) => "messages are kept as the cluster's default says".to_owned(),
        (0, count) => format!("the last {count} messages are kept"),
        (_, 0) => age,
        (_, count) => format!("{age}, and the last {count} are kept"),
    }
}

/// Until when, in UTC; a time of day alone would say little of a week.
pub(crate) fn until_words(until_ms: u64) -> String {
    /// Beyond the year 9999 nobody means a date.
    const FAR: u64 = 253_402_300_800_000;
    if until_ms >= FAR {
        return "for good".to_owned();
    }
    let (year, month, day) = date(until_ms / 86_400_000);
    format!("until {year:04}-{month:02}-{day:02} {}", super::record::clock(until_ms))
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        u64::from(year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + leap(year) {
        left -= 365 + leap(year);
        year += 1;
    }
    let lengths = [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_with_their_date() {
        assert_eq!(until_words(951_782_400_000), "until 2000-02-29 00:00:00Z");
        assert_eq!(until_words(1_790_000_060_000), "until 2026-09-21 14:14:20Z");
        assert_eq!(until_words(u64::MAX), "for good");
    }

    #[test]
    fn words_cannot_steer_a_terminal() {
        let name = Some(Blob::from("a\x1b[2J"));
        assert_eq!(action_words(&GroupAction::SetProfile { name, avatar: None }), "named the group a␛[2J");
    }
}
