//! Coming into groups by oneself: codes of invitation, requests, and what admins do about them.
//!
//! A code is drawn here and shown once: the cluster is given its SHA-256 and keeps no more of it.

use std::fmt;
use std::str::FromStr;

use rookery_wire::join::{CodePage, ListCodes, ListRequests, MAX_CODE, MAX_JOIN_TEXT, Outside, RequestPage};
use rookery_wire::reply::Ack;
use rookery_wire::{Blob, ErrorCode, GroupAction, SessionId, UserId};
use sha2::{Digest, Sha256};

use crate::client::{Client, mismatch};
use crate::command::{Answer, Op, Question};
use crate::error::ClientError;
use crate::groups::fits;

/// Digits of a code: those that are not taken for each other (no I, L, O, U).
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of a code that is drawn: 130 bits.
const LENGTH: usize = 26;
/// Digits that are written without a hyphen.
const PART: usize = 5;

/// A code of invitation. Whoever has it can join, so it does not show itself in logs; write it with `to_string`.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteCode(String);

impl InviteCode {
    /// A new one, of 130 random bits.
    pub fn draw() -> Self {
        let drawn: [u8; LENGTH] = rand::random();
        Self(drawn.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect())
    }

    /// What JOIN_GROUP carries.
    pub fn bytes(&self) -> Blob {
        Blob::from(self.0.as_str())
    }

    /// What the cluster keeps.
    pub fn hash(&self) -> Blob {
        Blob(Sha256::digest(self.0.as_bytes()).to_vec().into())
    }
}

/// As a person writes it: hyphens, spaces and small letters do not matter, nor O for 0, and I or L for 1.
impl FromStr for InviteCode {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let mut code = String::with_capacity(text.len());
        for letter in text.chars().filter(|letter| !(letter.is_whitespace() || *letter == '-')) {
            let digit = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            if !u8::try_from(digit).is_ok_and(|digit| DIGITS.contains(&digit)) {
                return Err(ClientError::Invalid(format!("a code has no {letter:?}")));
            }
            code.push(digit);
        }
        if code.is_empty() || code.len() > MAX_CODE {
            return Err(ClientError::Invalid(format!("a code has 1 to {MAX_CODE} digits")));
        }
        Ok(Self(code))
    }
}

impl fmt::Display for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, digit) in self.0.chars().enumerate() {
            if at > 0 && at % PART == 0 {
                f.write_str("-")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteCode(…)")
    }
}

impl Client {
    /// Comes into a group, with a code or because it is open, or asks to, with a text of at most 256 bytes for those who
    /// answer. Which of both it was, [`Client::is_member`] says; the event [`crate::Event::Joined`] comes when it has come
    /// in, now or later.
    ///
    /// # Errors
    /// As [`Client::send`]; `CODE_UNKNOWN`, `CODE_EXPIRED`, `CODE_USED_UP`, `JOIN_CLOSED`, `BARRED`, `NO_ROOM` and
    /// `ASKED_LATELY` among the refusals, and `NOT_ALLOWED` for one who is a member already.
    pub async fn join_group(
        &self,
        session: &SessionId,
        code: Option<&InviteCode>,
        text: Blob,
    ) -> Result<Ack, ClientError> {
        if !matches!(session, SessionId::Group(_)) {
            return Err(ClientError::Invalid(format!("{session} is no group")));
        }
        fits("the text of a request", Some(&text), MAX_JOIN_TEXT)?;
        self.numbered(session, Op::Join { code: code.map(InviteCode::bytes), text }).await?.await
    }

    /// Whether this user is a member of a group now.
    ///
    /// # Errors
    /// As [`Client::group_info`], but for NOT_MEMBER and DISSOLVED, which are a no.
    pub async fn is_member(&self, session: &SessionId) -> Result<bool, ClientError> {
        match self.group_info(session).await {
            Ok(group) => Ok(group.role.is_some()),
            Err(error) => match error.code() {
                Some(ErrorCode::NotMember | ErrorCode::Dissolved) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Lets in who asks to join, or declines. Declining one's own request takes it back.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `NOT_MEMBER` if no request of that user waits for an answer, `GROUP_FULL`.
    pub async fn answer_request(
        &self,
        session: &SessionId,
        user: UserId,
        accept: bool,
    ) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::Answer { user, accept }).await
    }

    /// Makes a code of invitation that lets in so many users (1 to 100,000) until a time, in unix milliseconds; 0 is as
    /// long as may be, a year. Its number is the seq of the ACK. Nobody can be told the code again.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `NO_ROOM` if the group has as many codes as it may, `CODE_EXPIRED` if that time is over
    /// by the group's clock.
    pub async fn make_code(
        &self,
        session: &SessionId,
        until_ms: u64,
        uses: u32,
    ) -> Result<(InviteCode, Ack), ClientError> {
        let code = InviteCode::draw();
        let action = GroupAction::MakeCode { hash: code.hash(), until_ms, uses };
        let ack = self.manage(session, action).await?;
        Ok((code, ack))
    }

    /// Takes a code back.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `CODE_UNKNOWN`.
    pub async fn revoke_code(&self, session: &SessionId, id: u64) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::RevokeCode { id }).await
    }

    /// Keeps a user out of a group, or lets it come again. A member stays one until it is removed.
    ///
    /// # Errors
    /// As [`Client::set_profile`]; `NO_ROOM` if the group keeps as many out as it may.
    pub async fn bar(&self, session: &SessionId, user: UserId, on: bool) -> Result<Ack, ClientError> {
        self.manage(session, GroupAction::Bar { user, on }).await
    }

    /// Who asks to join a group, or is kept out of it, by name, after `after`, at most `limit` (1–200). Who is no member is
    /// told of its own request, and of none when that was declined or taken back.
    ///
    /// # Errors
    /// As [`Client::members`]; `NOT_ALLOWED`.
    pub async fn requests(
        &self,
        session: &SessionId,
        which: Outside,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<RequestPage, ClientError> {
        let list = ListRequests { session: session.clone(), which, after, limit };
        match self.ask(Question::Requests(list)).await? {
            Answer::Requests(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }

    /// The codes of a group, after the one with this number (0 for the first), at most `limit` (1–32).
    ///
    /// # Errors
    /// As [`Client::requests`].
    pub async fn codes(&self, session: &SessionId, after: u64, limit: u32) -> Result<CodePage, ClientError> {
        match self.ask(Question::Codes(ListCodes { session: session.clone(), after, limit })).await? {
            Answer::Codes(page) => Ok(page),
            other => Err(mismatch(&other)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = InviteCode::draw();
        let shown = code.to_string();
        assert_eq!((shown.len(), shown.matches('-').count()), (LENGTH + 5, 5));
        for written in
            [shown.to_lowercase(), shown.replace('-', " "), shown.replace('0', "O").replace('1', "l")]
        {
            assert_eq!(written.parse::<InviteCode>().unwrap(), code, "{written}");
        }
        assert_ne!(InviteCode::draw(), code);
        assert_eq!(code.hash().len(), rookery_wire::join::CODE_HASH);
        assert!(!format!("{code:?}").contains(&code.0));
        for wrong in ["", "--", "U2", "Ä", &"7".repeat(MAX_CODE + 1)] {
            assert!(wrong.parse::<InviteCode>().is_err(), "{wrong}");
        }
    }
}
