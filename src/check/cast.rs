//! Who takes part in a run: users, their devices, sessions, and who is in which. Drawn from the seed before the
//! first connection, so that every name has its number from the beginning.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rookery_wire::{DeviceId, GroupId, SessionId, UserId};

use super::history::{DeviceIx, Names, SessionIx, UserIx};

/// How big the cast is.
#[derive(Clone, Copy, Debug)]
pub struct CastSize {
    /// Users, at least 4.
    pub users: u32,
    /// Devices of each user that speak the protocol themselves.
    pub devices: u32,
    /// Direct sessions; the pairs are drawn.
    pub pairs: u32,
    /// Groups.
    pub groups: u32,
    /// Members of each group at its creation.
    pub group_members: u32,
    /// Users with one more device, which listens through the client library.
    pub listeners: u32,
    /// Every third group keeps so many records; 0: all keep everything.
    pub keep: u64,
}

/// A group and what happens to its membership.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its session.
    pub session: SessionIx,
    /// The device that creates it and later adds and removes.
    pub owner: DeviceIx,
    /// Members at the creation, the owner's user among them.
    pub members: Vec<UserIx>,
    /// A user who is added and removed again and again; none of the members.
    pub guest: UserIx,
    /// How many records it is to keep, if not all.
    pub keep: Option<u64>,
}

/// The names of a run and the roles behind them.
#[derive(Clone, Debug)]
pub struct Cast {
    /// Names.
    pub names: Names,
    /// Devices that speak the protocol themselves.
    pub speakers: Vec<DeviceIx>,
    /// Devices behind the client library.
    pub listeners: Vec<DeviceIx>,
    /// Direct sessions with their two users.
    pub pairs: Vec<(SessionIx, [UserIx; 2])>,
    /// Groups.
    pub groups: Vec<Group>,
    /// The business's backend: a service, in no session.
    pub backend: UserIx,
    by_user: HashMap<UserId, UserIx>,
    by_device: HashMap<(UserIx, DeviceId), DeviceIx>,
    by_session: HashMap<SessionId, SessionIx>,
}

impl Cast {
    /// Draws a cast. `tag` keeps the names of one run apart from those of other runs on the same cluster.
    ///
    /// # Errors
    /// When the tag makes names that are none (too long, control characters).
    pub fn draw(size: CastSize, tag: &str, seed: u64) -> Result<Self, rookery_wire::id::IdFault> {
        let mut random = StdRng::seed_from_u64(seed ^ 0x00c4_57ca_57ca_57ca);
        let mut cast = Self {
            names: Names::default(),
            speakers: Vec::new(),
            listeners: Vec::new(),
            pairs: Vec::new(),
            groups: Vec::new(),
            backend: UserIx(u32::MAX),
            by_user: HashMap::new(),
            by_device: HashMap::new(),
            by_session: HashMap::new(),
        };
        let count = size.users.max(4);
        for number in 0..count {
            cast.add_user(UserId::new(&format!("{tag}-user{number:02}"))?);
        }
        for user in 0..count {
            for number in 0..size.devices.max(1) {
                let device = cast.add_device(UserIx(user), DeviceId::new(&format!("raw{number}"))?);
                cast.speakers.push(device);
            }
        }
        for user in 0..size.listeners.min(count) {
            let device = cast.add_device(UserIx(user), DeviceId::new("app")?);
            cast.listeners.push(device);
        }
        for _ in 0..size.pairs {
            let a = random.random_range(0..count);
            let b = (a + random.random_range(1..count)) % count;
            cast.add_pair(UserIx(a), UserIx(b))?;
        }
        for number in 0..size.groups {
            cast.add_group(&mut random, size, &format!("{tag}-group{number}"))?;
        }
        cast.add_user(UserId::new(&format!("{tag}-backend"))?);
        cast.backend = UserIx(cast.names.users.len() as u32 - 1);
        Ok(cast)
    }

    fn add_user(&mut self, user: UserId) {
        let at = UserIx(self.names.users.len() as u32);
        self.by_user.insert(user.clone(), at);
        self.names.users.push(user);
    }

    fn add_device(&mut self, user: UserIx, device: DeviceId) -> DeviceIx {
        let at = DeviceIx(self.names.devices.len() as u32);
        self.by_device.insert((user, device.clone()), at);
        self.names.devices.push((user, device));
        at
    }

    fn add_session(&mut self, session: SessionId) -> SessionIx {
        let at = SessionIx(self.names.sessions.len() as u32);
        self.by_session.insert(session.clone(), at);
        self.names.sessions.push(session);
        at
    }

    fn add_pair(&mut self, a: UserIx, b: UserIx) -> Result<(), rookery_wire::id::IdFault> {
        let (Some(left), Some(right)) =
            (self.names.users.get(a.0 as usize), self.names.users.get(b.0 as usize))
        else {
            return Ok(());
        };
        let session = SessionId::direct(left, right)?;
        if !self.by_session.contains_key(&session) {
            let session = self.add_session(session);
            self.pairs.push((session, [a, b]));
        }
        Ok(())
    }

    fn add_group(
        &mut self,
        random: &mut StdRng,
        size: CastSize,
        name: &str,
    ) -> Result<(), rookery_wire::id::IdFault> {
        let mut users: Vec<UserIx> = (0..self.names.users.len() as u32).map(UserIx).collect();
        users.shuffle(random);
        // One stays outside as the guest.
        let wanted = (size.group_members.max(2) as usize).min(users.len() - 1);
        let mut members = users.split_off(users.len() - wanted);
        members.sort_unstable();
        let owner_user = members.first().copied();
        let owner = self.speakers.iter().copied().find(|device| Some(self.user_of(*device)) == owner_user);
        let (Some(owner), Some(guest)) = (owner, users.first().copied()) else { return Ok(()) };
        let session = self.add_session(SessionId::group(GroupId::new(name)?));
        let keep = (size.keep > 0 && self.groups.len() % 3 == 1).then_some(size.keep);
        self.groups.push(Group { session, owner, members, guest, keep });
        Ok(())
    }

    /// The user of one of our devices.
    pub fn user_of(&self, device: DeviceIx) -> UserIx {
        self.names.devices.get(device.0 as usize).map_or(UserIx(u32::MAX), |(user, _)| *user)
    }

    /// Whether a user neither writes nor reads there: the last member of a group that keeps its last records only, to whom
    /// everything that is kept is unread.
    pub fn is_silent(&self, user: UserIx, session: SessionIx) -> bool {
        let mut groups = self.groups.iter().filter(|group| group.keep.is_some() && group.session == session);
        groups.any(|group| group.members.last() == Some(&user))
    }

    /// The names under which a device says HELLO.
    pub fn hello_of(&self, device: DeviceIx) -> Option<(UserId, DeviceId)> {
        let (user, id) = self.names.devices.get(device.0 as usize)?;
        Some((self.names.users.get(user.0 as usize)?.clone(), id.clone()))
    }

    /// A session's name.
    pub fn session(&self, session: SessionIx) -> Option<&SessionId> {
        self.names.sessions.get(session.0 as usize)
    }

    /// The number of a user's name.
    pub fn find_user(&self, user: &UserId) -> Option<UserIx> {
        self.by_user.get(user).copied()
    }

    /// The number of a device's name.
    pub fn find_device(&self, user: &UserId, device: &DeviceId) -> Option<DeviceIx> {
        self.by_device.get(&(self.find_user(user)?, device.clone())).copied()
    }

    /// The number of a session's name.
    pub fn find_session(&self, session: &SessionId) -> Option<SessionIx> {
        self.by_session.get(session).copied()
    }
}
