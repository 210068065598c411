//! A user's devices: registered, limited, named, and ended.
//!
//! Owns epochs and who has to make room. A device that is ended loses its registration, so that its HELLO is refused, and
//! leaves the time of its end, so that tokens from before are refused too. Its connection, wherever it is, learns of it
//! from a frame on the user's topic that no gateway passes on: [`end_notice`].

use bincode::{Decode, Encode};
use bytes::Bytes;
use rookery_wire::codec::{Blob, DecodeFault, Source};
use rookery_wire::frame::frame_bytes;
use rookery_wire::own::DeviceLine;
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, HEADER_BYTES, Kind};

use super::manage::own;
use super::outcome::{Answer, Outcome};
use super::user::{User, frozen};

/// Devices a user may have registered at most, whatever the configuration. Part of what apply decides.
pub const MAX_DEVICES: usize = 64;

/// Ended devices that a user remembers, for the tokens they had; the one ended first goes. Part of what apply decides.
pub const MAX_ENDED: usize = 256;

/// One registered device.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Device {
    /// Its registration; never given twice for one user.
    pub epoch: u32,
    /// The nonce it registered with.
    pub nonce: u64,
    /// The client program.
    pub agent: Blob,
    /// What kind of device it is, as it said when it registered.
    pub platform: Blob,
    /// Name for people.
    pub name: Blob,
    /// When it last registered, had cursors stored or said that it is in use, by the time of the log's entries, unix
    /// milliseconds.
    pub used_ms: u64,
    /// Log index at which it came to be one of the user's devices: what an earlier one of its name knew says nothing.
    pub began: u64,
}

/// What a device says of itself when it registers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[bincode(decode_context = "Source")]
pub struct Introduction {
    /// Kept by the client over retries.
    pub nonce: u64,
    /// The client program, for people.
    pub agent: Blob,
    /// What kind of device it is.
    pub platform: Blob,
    /// When its token was issued, unix milliseconds; none where no tokens are asked for.
    pub issued_ms: Option<u64>,
}

/// How many devices there may be, by the configuration of the node that took the HELLO (G8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DeviceBounds {
    /// Of one user.
    pub most: u32,
    /// Of those, of one platform.
    pub most_of_platform: u32,
    /// A newcomer beyond it is refused; else the least recently used makes room.
    pub refuse: bool,
}

impl Default for DeviceBounds {
    fn default() -> Self {
        let most = MAX_DEVICES as u32;
        Self { most, most_of_platform: most, refuse: false }
    }
}

/// Tells the gateways that a device has ended: a frame of kind GOAWAY on the user's topic, with a body of its own.
pub fn end_notice(device: &DeviceId, epoch: u32) -> Bytes {
    frame_bytes(Kind::GoAway, 0, &(device.clone(), epoch))
}

/// Reads what [`end_notice`] made.
///
/// # Errors
/// [`DecodeFault`].
pub fn read_end_notice(frame: &Bytes) -> Result<(DeviceId, u32), DecodeFault> {
    rookery_wire::decode(&frame.slice((4 + HEADER_BYTES).min(frame.len())..))
}

impl User {
    /// The epoch of a device, 0 if it is not registered.
    pub fn epoch(&self, device: &DeviceId) -> u32 {
        self.devices.get(device).map_or(0, |device| device.epoch)
    }

    /// When this device was last ended, unix milliseconds; 0 if it was not.
    pub fn ended_ms(&self, device: &DeviceId) -> u64 {
        self.ended.get(device).copied().unwrap_or(0)
    }

    /// Devices by id, after `after`.
    pub fn devices_after(&self, after: Option<&DeviceId>) -> impl Iterator<Item = DeviceLine> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.devices.range::<DeviceId, _>((from, Unbounded)).map(|(id, device)| DeviceLine {
            device: id.clone(),
            epoch: device.epoch,
            platform: device.platform.clone(),
            name: device.name.clone(),
            agent: device.agent.clone(),
            seen_ms: device.used_ms,
        })
    }

    /// Gives the device an epoch.
    pub fn register(
        &mut self,
        device: &DeviceId,
        says: &Introduction,
        bounds: &DeviceBounds,
        time_ms: u64,
    ) -> Outcome {
        if self.frozen {
            return frozen();
        }
        if let Some(refusal) = self.refuses_token(device, says.issued_ms) {
            return Outcome::answer(Answer::Refused(refusal));
        }
        if let Some(known) = self.devices.get_mut(device)
            && known.nonce == says.nonce
        {
            known.used_ms = known.used_ms.max(time_ms);
            return Outcome::answer(Answer::Epoch(known.epoch));
        }
        let leaving = match self.room_for(device, says, bounds) {
            Ok(leaving) => leaving,
            Err(refusal) => return Outcome::answer(Answer::Refused(refusal)),
        };
        let epoch = self.last_epoch + 1;
        let mut outcome = Outcome::answer(Answer::Epoch(epoch));
        let notices = leaving.iter().filter_map(|id| Some(end_notice(id, self.devices.get(id)?.epoch)));
        outcome.user_frames.extend(notices);
        let name = self.devices.get(device).map(|known| known.name.clone()).unwrap_or_default();
        let (agent, platform) = (own(&says.agent), own(&says.platform));
        let began = self.devices.get(device).map_or(self.applying, |known| known.began);
        let known = Device { epoch, nonce: says.nonce, agent, platform, name, used_ms: time_ms, began };
        for device in &leaving {
            self.let_go(device);
        }
        self.forget_series(device);
        self.last_epoch = epoch;
        self.devices.insert(device.clone(), known);
        outcome
    }

    /// A token that was issued before the device was ended is refused; one that does not say when counts as such.
    pub fn refuses_token(&self, device: &DeviceId, issued_ms: Option<u64>) -> Option<ErrorBody> {
        let (issued, ended) = (issued_ms?, self.ended_ms(device));
        (ended > 0 && issued <= ended).then(|| {
            let text = format!("{device} of {} was ended; a token issued later is needed", self.id);
            ErrorBody::new(ErrorCode::DeviceEnded, text)
        })
    }

    /// Who makes room for this device.
    fn room_for(
        &self,
        device: &DeviceId,
        says: &Introduction,
        bounds: &DeviceBounds,
    ) -> Result<Vec<DeviceId>, ErrorBody> {
        let most = (bounds.most as usize).clamp(1, MAX_DEVICES);
        let of_platform = (bounds.most_of_platform as usize).max(1);
        let mut others: Vec<(&DeviceId, &Device)> =
            self.devices.iter().filter(|(id, _)| *id != device).collect();
        others.sort_by_key(|(_, known)| (known.used_ms, known.epoch));
        let same = others.iter().filter(|(_, known)| known.platform == says.platform).count();
        let mut leaving = Vec::new();
        for (full, most, alike) in
            [(same >= of_platform, of_platform, true), (others.len() >= most, most, false)]
        {
            if !full {
                continue;
            }
            if bounds.refuse {
                let text = format!("{} has {most} devices, as many as allowed", self.id);
                return Err(ErrorBody::new(ErrorCode::TooManyDevices, text).with_detail(most as u64));
            }
            let mut there = 0;
            let candidates = others.iter().filter(|(_, known)| !alike || known.platform == says.platform);
            let candidates: Vec<&DeviceId> = candidates.map(|(id, _)| *id).collect();
            there += candidates.iter().filter(|id| !leaving.contains(**id)).count();
            for id in candidates {
                if there >= most && !leaving.contains(id) {
                    leaving.push(id.clone());
                    there -= 1;
                }
            }
        }
        Ok(leaving)
    }

    /// A device goes, and what only it had.
    pub(super) fn let_go(&mut self, device: &DeviceId) {
        self.devices.remove(device);
        self.forget_series(device);
        for (session, link) in &mut self.links {
            if link.delivered.remove(device).is_some() {
                self.dirty.links.insert(session.clone());
            }
        }
    }

    /// A device goes by request, with its tokens.
    pub(super) fn end(&mut self, device: &DeviceId, time_ms: u64) {
        self.let_go(device);
        self.ended.insert(device.clone(), time_ms.max(1));
        while self.ended.len() > MAX_ENDED {
            let first = self.ended.iter().min_by_key(|(id, ended)| (**ended, (*id).clone()));
            let Some(first) = first.map(|(id, _)| id.clone()) else { break };
            self.ended.remove(&first);
        }
    }

    /// An epoch never comes again, so its numbers need not be kept.
    fn forget_series(&mut self, device: &DeviceId) {
        let of_device = self.series.keys().filter(|key| key.user == self.id && key.device == *device);
        for key in of_device.cloned().collect::<Vec<_>>() {
            self.series.remove(&key);
            self.dirty.series.insert(key);
        }
    }
}
