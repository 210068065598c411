//! What is the user's own: how a session is set, what is not to be seen, devices.

use rookery_client::wire::{Blob, DeviceId, SessionSetting, UserAction};

use super::super::acts::Action;
use super::super::asking::Ask;
use super::words::Wrong;
use super::{Command, Parsed, command, does};

pub(super) const SESSION: &[Command] = &[
    command("my pin", "", "keep the session at the top of the list", |words| {
        words.end()?;
        does(|chat| {
            let now_ms = chat.now_ms;
            chat.set(SessionSetting::Pin(Some(now_ms)));
        })
    }),
    command("my unpin", "", "no longer", |words| {
        words.end()?;
        set(SessionSetting::Pin(None))
    }),
    command("my mute", "[MINUTES]", "no highlight for so long, or for good", |words| {
        let minutes = words.only_number()?;
        does(move |chat| {
            let until = chat.in_minutes(minutes);
            chat.set(SessionSetting::Mute(until));
        })
    }),
    command("my unmute", "", "highlighted again", |words| {
        words.end()?;
        set(SessionSetting::Mute(0))
    }),
    command("my hide", "[always]", "out of the list until somebody writes, or always", |mut words| {
        let always = match words.next() {
            None => false,
            Some("always") => true,
            Some(_) => return Err(Wrong::Usage),
        };
        words.end()?;
        does(move |chat| {
            let count = chat.current().map_or(0, |session| session.count);
            chat.set(SessionSetting::Hide(Some(if always { u64::MAX } else { count })));
        })
    }),
    command("my show", "", "in the list again", |words| {
        words.end()?;
        set(SessionSetting::Hide(None))
    }),
    command("my hidden", "", "sessions that are hidden; /open opens one", |words| {
        words.end()?;
        does(|chat| chat.show_hidden())
    }),
    command("my unread", "", "mark the session as unread", |words| {
        words.end()?;
        set(SessionSetting::MarkUnread(true))
    }),
    command("my read-all", "", "read everything in all sessions", |words| {
        words.end()?;
        does(|chat| chat.actions.push(Action::Own(UserAction::ReadAll)))
    }),
    command("my clear", "", "show nothing of what was written until now", |words| {
        words.end()?;
        does(|chat| chat.own(|session, seq| UserAction::ClearSession { session, seq }))
    }),
    command("my delete", "N [M]", "show message N, or N to M, no more; /numbers shows them", |mut words| {
        let from_seq = words.number()?.ok_or(Wrong::Usage)?;
        let to_seq = words.only_number()?.unwrap_or(from_seq);
        if to_seq < from_seq {
            return Err(Wrong::Said(format!("{to_seq} comes before {from_seq}")));
        }
        does(move |chat| {
            chat.own(|session, _| UserAction::DeleteMessages { session, from_seq, to_seq });
        })
    }),
];

pub(super) const DEVICES: &[Command] = &[
    command("my devices", "", "the devices you are registered with", |words| {
        words.end()?;
        does(|chat| chat.actions.push(Action::Ask(Ask::Devices)))
    }),
    command("my device", "DEVICE NAME…", "name a device for people", |mut words| {
        let device: DeviceId = words.named()?;
        let name = Blob::from(words.text()?.as_str());
        does(move |chat| chat.actions.push(Action::Own(UserAction::NameDevice { device, name })))
    }),
    command("my end", "DEVICE", "end a device: its connection, its tokens", |mut words| {
        let device: DeviceId = words.named()?;
        words.end()?;
        does(move |chat| chat.actions.push(Action::Own(UserAction::EndDevice { device })))
    }),
];

fn set(setting: SessionSetting) -> Parsed {
    does(move |chat| chat.set(setting))
}
