//! The bounds of requests that are judged before the log: each is refused with an error code of its own, so that a client knows
//! which one it met, and `detail` is the most that is allowed. docs/protocol.md lists them, with those that are judged at apply.

use rookery_wire::{ErrorBody, ErrorCode};

/// What there may be so much of.
pub(super) struct Bound {
    pub(super) code: ErrorCode,
    /// Said behind a number: `bytes of content`.
    of: &'static str,
    /// The key of cluster.toml that sets it; none: it is the protocol's, the same in every cluster.
    key: Option<&'static str>,
}

macro_rules! bounds {
    (@key) => { None };
    (@key $key:literal) => { Some($key) };
    ($($name:ident = $code:ident, $of:literal $(, $key:literal)?;)+) => {
        $(pub(super) const $name: Bound =
            Bound { code: ErrorCode::$code, of: $of, key: bounds!(@key $($key)?) };)+
        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[Bound] = &[$($name),+];
    };
}

bounds! {
    CONTENT = ContentTooLarge, "bytes of content", "limits.content";
    CONTENT_TYPE = ContentTypeTooLong, "bytes of content_type";
    EXTENSIONS = TooManyExtensions, "extensions";
    EXTENSION_BYTES = ExtensionsTooLarge, "bytes of data of extensions";
    USERS = TooManyUsers, "users";
    CURSORS = TooManyCursors, "cursors";
    WATCHED = TooMany, "users to be watched on one connection", "limits.watched";
    GROUPS_WATCHED = TooManyGroupsWatched, "groups to be watched on one connection", "limits.watched_sessions";
    WATCH_ANSWER = WatchTooLarge, "users whose answer is to fit one frame", "limits.frame";
    EPHEMERAL = EphemeralTooLarge, "bytes of content that is not kept", "limits.ephemeral";
    GROUP_NAME = GroupNameTooLong, "bytes of the name of a group";
    AVATAR = AvatarTooLarge, "bytes of an avatar";
    ATTRIBUTE = AttributeTooLarge, "bytes of the value of an attribute";
    INVITE_CODE = InviteCodeTooLong, "bytes of a code";
    JOIN_TEXT = JoinTextTooLong, "bytes of the text of a request to join";
    USES = TooManyUses, "uses of a code";
    FRIEND_TEXT = FriendTextTooLong, "bytes of the text of a friend request";
    REMARK = RemarkTooLong, "bytes of a remark";
    DEVICE_NAME = DeviceNameTooLong, "bytes of the name of a device";
    DRAFT = DraftTooLarge, "bytes of a draft", "limits.draft_bytes";
    AGENT = AgentTooLong, "bytes of agent";
    PLATFORM = PlatformTooLong, "bytes of platform";
}

impl Bound {
    /// Refuses more than the most.
    ///
    /// # Errors
    /// This bound's own.
    pub(super) fn hold(&self, found: usize, most: usize) -> Result<(), ErrorBody> {
        if found <= most { Ok(()) } else { Err(self.refusal(found, most)) }
    }

    /// The refusal of so many.
    pub(super) fn refusal(&self, found: usize, most: usize) -> ErrorBody {
        let key = self.key.map(|key| format!(" ({key})")).unwrap_or_default();
        let text = format!("{found} {}, at most {most} are allowed{key}", self.of);
        ErrorBody::new(self.code, text).with_detail(most as u64)
    }
}
