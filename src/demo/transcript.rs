//! The conversation as text: reading it, and telling by line what is wrong with it.
//!
//! The format is described at the head of `demo/transcript.txt`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookery_wire::{DeviceId, GroupId, SessionId, UserId};

/// The transcript of the repository.
pub const SAMPLE: &str = include_str!("../../demo/transcript.txt");

/// Most devices a transcript may have: each is a connection, on a machine that runs the nodes too.
const MAX_DEVICES: usize = 500;
/// Most lines to play.
const MAX_STEPS: usize = 20_000;
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Most messages a second beside the script.
const MAX_BACKGROUND: u32 = 5_000;

/// Who is to be killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Victim {
    /// The leader of the shard with the most acknowledged messages.
    Busiest,
    /// The leader of this session's shard.
    LeaderOf(SessionId),
    /// This node.
    Node(u16),
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send a message.
    Message {
        /// Which device, as an index into [`Transcript::devices`].
        device: usize,
        /// Where to.
        session: SessionId,
        /// What.
        text: String,
    },
    /// Tell the watcher.
    Say(String),
    /// From now on wait so long between two messages.
    Pace(Duration),
    /// Wait.
    Pause(Duration),
    /// So many messages a second beside the script.
    Background(u32),
    /// kill -9.
    Kill(Victim),
    /// Start what was killed.
    Restart,
}

/// A device of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub name: DeviceId,
}

/// A whole conversation.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// All devices, a user's beside each other, its first one first.
    pub devices: Vec<Device>,
    /// Groups with their members; the first creates it.
    pub groups: Vec<(GroupId, Vec<UserId>)>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// What is wrong with a transcript.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct TranscriptError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there, and what would be right.
    pub text: String,
}

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(source: &str) -> Result<Self, TranscriptError> {
        let mut reader = Reader::default();
        for (at, line) in source.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                reader.line(line).map_err(|text| TranscriptError { line: at + 1, text })?;
            }
        }
        let transcript = reader.transcript;
        if transcript.messages() == 0 {
            let text = "there is no message in it".to_owned();
            return Err(TranscriptError { line: source.lines().count(), text });
        }
        Ok(transcript)
    }

    /// Messages it has.
    pub fn messages(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Message { .. })).count()
    }

    /// Users it has.
    pub fn users(&self) -> usize {
        self.devices.iter().map(|device| &device.user).collect::<BTreeSet<_>>().len()
    }

    /// Whether a user is in a session.
    pub fn is_member(&self, user: &UserId, session: &SessionId) -> bool {
        match session {
            SessionId::Direct { low, high } => low == user || high == user,
            SessionId::Group(group) => {
                self.groups.iter().any(|(name, members)| name == group && members.contains(user))
            }
        }
    }

    /// Every session that has a message, and every group.
    pub fn sessions(&self) -> BTreeSet<SessionId> {
        let groups = self.groups.iter().map(|(group, _)| SessionId::group(group.clone()));
        let spoken = self.steps.iter().filter_map(|step| match step {
            Step::Message { session, .. } => Some(session.clone()),
            _ => None,
        });
        groups.chain(spoken).collect()
    }
}

#[derive(Default)]
struct Reader {
    transcript: Transcript,
    /// First device of each user.
    users: BTreeMap<UserId, usize>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(order) = line.strip_prefix('@') {
            return self.order(order);
        }
        if let Some((from, rest)) = line.split_once('>') {
            let (to, text) =
                rest.split_once(':').ok_or("a message is NAME > #GROUP: TEXT or NAME > @USER: TEXT")?;
            return self.message(from.trim(), to.trim(), text.trim());
        }
        let (head, list) = line.split_once(':').ok_or("this is neither user, group, message nor @order")?;
        let names: Vec<&str> =
            list.split([',', ' ', '\t']).map(str::trim).filter(|name| !name.is_empty()).collect();
        match head.split_once(char::is_whitespace) {
            Some(("user", name)) => self.user(name.trim(), &names),
            Some(("group", name)) => self.group(name.trim(), &names),
            _ => Err(format!("{head} is nothing here; write user NAME: … or group NAME: …")),
        }
    }

    fn user(&mut self, name: &str, devices: &[&str]) -> Result<(), String> {
        let user: UserId = name.parse().map_err(|fault| format!("user {name}: {fault}"))?;
        if devices.is_empty() {
            return Err(format!("user {user} has no device: write user {user}: phone"));
        }
        if self.users.insert(user.clone(), self.transcript.devices.len()).is_some() {
            return Err(format!("user {user} is there twice"));
        }
        for (at, device) in devices.iter().enumerate() {
            if devices[..at].contains(device) {
                return Err(format!("user {user} has device {device} twice"));
            }
            let name = device.parse().map_err(|fault| format!("device {device}: {fault}"))?;
            self.transcript.devices.push(Device { user: user.clone(), name });
        }
        if self.transcript.devices.len() > MAX_DEVICES {
            return Err(format!("more than {MAX_DEVICES} devices"));
        }
        Ok(())
    }

    fn group(&mut self, name: &str, members: &[&str]) -> Result<(), String> {
        let group: GroupId = name.parse().map_err(|fault| format!("group {name}: {fault}"))?;
        if self.transcript.groups.iter().any(|(known, _)| *known == group) {
            return Err(format!("group {group} is there twice"));
        }
        let members: Vec<UserId> = members.iter().map(|name| self.known(name)).collect::<Result<_, _>>()?;
        if members.is_empty() {
            return Err(format!("group {group} has no members"));
        }
        self.transcript.groups.push((group, members));
        Ok(())
    }

    fn known(&self, name: &str) -> Result<UserId, String> {
        let user: UserId = name.parse().map_err(|fault| format!("user {name}: {fault}"))?;
        if self.users.contains_key(&user) {
            Ok(user)
        } else {
            Err(format!("there is no user {user}: write user {user}: phone above"))
        }
    }

    fn session(&self, me: &UserId, to: &str) -> Result<SessionId, String> {
        if let Some(name) = to.strip_prefix('@') {
            let peer = self.known(name)?;
            return SessionId::direct(me, &peer).map_err(|fault| fault.to_string());
        }
        let name = to.strip_prefix('#').ok_or_else(|| format!("{to} is neither #GROUP nor @USER"))?;
        let known = self.transcript.groups.iter().find(|(group, _)| group.as_str() == name);
        let (group, members) =
            known.ok_or_else(|| format!("there is no group {name}: write group {name}: … above"))?;
        if !members.contains(me) {
            return Err(format!("{me} is not in group {name}"));
        }
        Ok(SessionId::group(group.clone()))
    }

    fn message(&mut self, from: &str, to: &str, text: &str) -> Result<(), String> {
        let (name, device) = from.split_once('/').map_or((from, None), |(name, device)| (name, Some(device)));
        let user = self.known(name)?;
        let first = self.users.get(&user).copied().unwrap_or(0);
        let own = self.transcript.devices[first..].iter().take_while(|device| device.user == user);
        let device = match device {
            None => first,
            Some(wanted) => own
                .map(|device| device.name.as_str())
                .position(|name| name == wanted)
                .map(|at| first + at)
                .ok_or_else(|| format!("{user} has no device {wanted}"))?,
        };
        if text.is_empty() {
            return Err("a message without text".to_owned());
        }
        let session = self.session(&user, to)?;
        self.step(Step::Message { device, session, text: text.to_owned() })
    }

    fn order(&mut self, order: &str) -> Result<(), String> {
        let (word, rest) = order.split_once(char::is_whitespace).unwrap_or((order, ""));
        let rest = rest.trim();
        let step = match word {
            "say" => Step::Say(rest.to_owned()),
            "pace" => Step::Pace(time(rest)?),
            "pause" => Step::Pause(time(rest)?),
            "background" => match rest.parse() {
                Ok(rate) if rate <= MAX_BACKGROUND => Step::Background(rate),
                _ => return Err(format!("write @background 0 to {MAX_BACKGROUND} (messages a second)")),
            },
            "kill" => Step::Kill(self.victim(rest)?),
            "restart" => Step::Restart,
            other => {
                return Err(format!(
                    "there is no @{other}; there are say, pace, pause, background, kill, restart"
                ));
            }
        };
        self.step(step)
    }

    fn victim(&self, rest: &str) -> Result<Victim, String> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            ["leader", "of", "busiest"] => Ok(Victim::Busiest),
            ["leader", "of", group] if group.starts_with('#') => {
                let name = &group[1..];
                let known = self.transcript.groups.iter().find(|(known, _)| known.as_str() == name);
                let (group, _) = known.ok_or_else(|| format!("there is no group {name}"))?;
                Ok(Victim::LeaderOf(SessionId::group(group.clone())))
            }
            ["node", number] => number.parse().map(Victim::Node).map_err(|_| format!("{number} is no node")),
            _ => Err("write @kill leader of busiest, @kill leader of #GROUP or @kill node N".to_owned()),
        }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        if self.transcript.steps.len() >= MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} lines to play"));
        }
        self.transcript.steps.push(step);
        Ok(())
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is not a time: write 40ms or 1.5s, at most {} s", MAX_PAUSE.as_secs());
    let time = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(ms), _) => ms.trim().parse().ok().map(Duration::from_millis),
        (None, Some(s)) => s.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()),
        (None, None) => None,
    };
    time.filter(|time| *time <= MAX_PAUSE).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_what_the_demo_promises() {
        let sample = Transcript::parse(SAMPLE).expect("demo/transcript.txt");
        assert!(sample.users() >= 20, "{}", sample.users());
        assert!(sample.devices.len() > sample.users(), "several devices each");
        let sessions = sample.sessions();
        assert!(sessions.iter().any(|session| matches!(session, SessionId::Direct { .. })));
        assert!(sessions.iter().any(|session| matches!(session, SessionId::Group(_))));
        let kill = sample.steps.iter().position(|step| *step == Step::Kill(Victim::Busiest)).expect("a kill");
        assert!(kill > sample.steps.len() / 4 && kill < sample.steps.len() * 3 / 4, "midway: {kill}");
        let restart = sample.steps.iter().position(|step| *step == Step::Restart).expect("a restart");
        assert!(restart > kill);
    }

    #[test]
    fn lines_become_steps() {
        let text = "user ann: phone, laptop\nuser bob: phone\ngroup team: ann bob\n\n# nothing\n\
                    ann/laptop > @bob: a: b > c\n@pause 1.5s\n@kill leader of #team\n@kill node 2";
        let read = Transcript::parse(text).expect("good");
        let [message, pause, leader, node] = read.steps.as_slice() else { panic!("{:?}", read.steps) };
        let pair =
            SessionId::direct(&"ann".parse().expect("ann"), &"bob".parse().expect("bob")).expect("pair");
        assert_eq!(*message, Step::Message { device: 1, session: pair, text: "a: b > c".to_owned() });
        assert_eq!(*pause, Step::Pause(Duration::from_millis(1500)));
        assert!(matches!(leader, Step::Kill(Victim::LeaderOf(_))));
        assert_eq!(*node, Step::Kill(Victim::Node(2)));
    }

    #[test]
    fn mistakes_name_line_and_remedy() {
        for (text, line, part) in [
            ("user ann: phone\nann > @bob: hi", 2, "no user bob"),
            ("user ann: phone\nann > #team: hi", 2, "no group team"),
            ("user ann: phone\nuser bob: x\ngroup g: bob\nann > #g: hi", 4, "ann is not in group g"),
            ("user ann: phone\nann > @ann: hi", 2, "two different users"),
            ("user ann: phone\nann/watch > @ann: hi", 2, "no device watch"),
            ("user ann:", 1, "no device"),
            ("user ann: a\nuser ann: b", 2, "twice"),
            ("@explode", 1, "there is no @explode"),
            ("@pause long", 1, "40ms"),
            ("@pause 1000s", 1, "at most"),
            ("@background -1", 1, "@background 0 to"),
            ("what is this", 1, "neither"),
            ("user ann: phone\n", 1, "no message"),
        ] {
            let fault = Transcript::parse(text).expect_err(text);
            assert_eq!(fault.line, line, "{text}: {fault}");
            assert!(fault.text.contains(part), "{text}: {fault}");
        }
    }
}
