//! Who a connection is: the one place where a request's identity is established.
//!
//! Owns: the judgement of HELLO in both modes, and the issuing of tokens for `rookery token`. Whoever passes gets an
//! [`Identity`]; everything behind it believes that and nothing else. Must never reach for the machine's clock
//! (the caller brings the time) nor put a token or a key into an error or a log.

mod provider;
#[cfg(test)]
mod tests;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rookery_wire::request::{Hello, Role};
use rookery_wire::{DeviceId, ErrorBody, ErrorCode, UserId};
use serde::{Deserialize, Serialize};

use crate::config::{Auth, AuthMode, Config};

const NO_SECRET: &str = "auth.secret is missing: set it (32 bytes or more) and auth.mode = \"token\"";

/// Longest token that is looked at.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Who a connection is, established once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user it acts for.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// As what.
    pub role: Role,
    /// `role == Role::Service`: may name another user to act for.
    pub service: bool,
    /// When its token was issued at the earliest, unix milliseconds, for the issuer's clock may be ahead by
    /// `auth.ended_leeway_ms`; 0 if the token does not say; none where no tokens are asked for.
    pub issued_ms: Option<u64>,
}

impl Identity {
    /// Whether the token is not later than the end of its device, which came at this time (0: it was not ended).
    pub fn is_from_before(&self, ended_ms: u64) -> bool {
        ended_ms > 0 && self.issued_ms.is_some_and(|issued| issued <= ended_ms)
    }
}

/// What a token says. Unknown claims are passed over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(default)]
    role: ClaimedRole,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClaimedRole {
    #[default]
    User,
    Service,
}

impl From<Role> for ClaimedRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Service => Self::Service,
        }
    }
}

/// Judges HELLO. Cheap to clone is not needed: share it.
pub struct Authenticator(Mode);

enum Mode {
    Open,
    Token(Box<Keys>),
}

struct Keys {
    key: DecodingKey,
    validation: Validation,
    leeway_ms: u64,
    ended_leeway_ms: u64,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Mode::Open => "Authenticator(open)",
            Mode::Token(_) => "Authenticator(token)",
        })
    }
}

impl Authenticator {
    /// The judge that `[auth]` asks for.
    ///
    /// # Errors
    /// Token mode without a key.
    pub fn from_config(config: &Config) -> Result<Self, String> {
        let auth = &config.auth;
        match auth.mode {
            AuthMode::Open => Ok(Self(Mode::Open)),
            AuthMode::Token if auth.secret.is_empty() => Err(NO_SECRET.to_owned()),
            AuthMode::Token => {
                provider::install();
                let mut validation = Validation::new(Algorithm::HS256);
                // Expiry is judged here, by the caller's clock.
                validation.validate_exp = false;
                validation.validate_nbf = false;
                validation.validate_aud = false;
                Ok(Self(Mode::Token(Box::new(Keys {
                    key: DecodingKey::from_secret(auth.secret.expose().as_bytes()),
                    validation,
                    leeway_ms: auth.leeway_ms,
                    ended_leeway_ms: auth.ended_leeway_ms,
                }))))
            }
        }
    }

    /// Who says this HELLO. `now_ms` is unix time in milliseconds.
    ///
    /// # Errors
    /// BAD_TOKEN, TOKEN_EXPIRED or TOKEN_MISMATCH, with what is wrong and what to do.
    pub fn authenticate(&self, hello: &Hello, now_ms: u64) -> Result<Identity, ErrorBody> {
        let mut issued_ms = None;
        if let Mode::Token(keys) = &self.0 {
            let claims = read(hello.token.as_ref(), &keys.key, &keys.validation)?;
            in_time(&claims, now_ms, keys.leeway_ms)?;
            matches(&claims, hello)?;
            let issued = claims.iat.unwrap_or(0).saturating_mul(1000);
            // It would outlive every end of its device that comes before that time.
            if issued > now_ms.saturating_add(keys.leeway_ms) {
                let ahead = (issued - now_ms) / 1000;
                return Err(bad(&format!(
                    "the token says that it is issued {ahead} s from now: look at the clocks (auth.leeway_ms)"
                )));
            }
            issued_ms = Some(issued.saturating_sub(keys.ended_leeway_ms));
        }
        Ok(Identity {
            user: hello.user.clone(),
            device: hello.device.clone(),
            role: hello.role,
            service: hello.role == Role::Service,
            issued_ms,
        })
    }
}

fn bad(why: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadToken, format!("{why}; {}", ErrorCode::BadToken.remedy()))
}

fn read(token: &[u8], key: &DecodingKey, validation: &Validation) -> Result<Claims, ErrorBody> {
    if token.is_empty() {
        return Err(bad("this cluster asks for a token and HELLO carries none"));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(bad("the token is longer than 4096 bytes"));
    }
    jsonwebtoken::decode::<Claims>(token, key, validation).map(|data| data.claims).map_err(|fault| {
        bad(match fault.kind() {
            ErrorKind::InvalidSignature => "the token's signature is not by this cluster's auth.secret",
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "the token is not signed with HS256",
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
                "the token lacks a claim it needs (sub and exp; device and role if given: a text, user or service)"
            }
            _ => "the token is not a JWT",
        })
    })
}

fn in_time(claims: &Claims, now_ms: u64, leeway_ms: u64) -> Result<(), ErrorBody> {
    let end = claims.exp.saturating_mul(1000).saturating_add(leeway_ms);
    if now_ms >= end {
        let ago = (now_ms - claims.exp.saturating_mul(1000)) / 1000;
        let text = format!("the token expired {ago} s ago; {}", ErrorCode::TokenExpired.remedy());
        return Err(ErrorBody::new(ErrorCode::TokenExpired, text));
    }
    match claims.nbf {
        Some(from) if now_ms.saturating_add(leeway_ms) < from.saturating_mul(1000) => {
            Err(bad("the token is not valid yet"))
        }
        _ => Ok(()),
    }
}

fn matches(claims: &Claims, hello: &Hello) -> Result<(), ErrorBody> {
    let mismatch = |what: &str, token: &str, said: &str| {
        let text = format!("the token is for {what} {token}, HELLO says {said}");
        Err(ErrorBody::new(ErrorCode::TokenMismatch, text))
    };
    if claims.sub != hello.user.as_str() {
        return mismatch("user", &claims.sub, hello.user.as_str());
    }
    if let Some(device) = claims.device.as_deref().filter(|device| *device != hello.device.as_str()) {
        return mismatch("device", device, hello.device.as_str());
    }
    let word = |role| if role == ClaimedRole::User { "user" } else { "service" };
    let said = ClaimedRole::from(hello.role);
    if claims.role != said {
        return mismatch("role", word(claims.role), word(said));
    }
    Ok(())
}

/// What a new token says.
#[derive(Debug, Clone)]
pub struct Grant {
    /// For whom.
    pub user: UserId,
    /// For one device only; any if `None`.
    pub device: Option<DeviceId>,
    /// As what.
    pub role: Role,
    /// When it is issued, unix seconds: a token that is not later than the end of its device is refused.
    pub issued_s: u64,
    /// End of its life, unix seconds.
    pub expires_s: u64,
}

/// Signs a token with `auth.secret`.
///
/// # Errors
/// A text when `auth.secret` is absent or signing fails.
pub fn issue(auth: &Auth, grant: &Grant) -> Result<String, String> {
    if auth.secret.is_empty() {
        return Err(NO_SECRET.to_owned());
    }
    provider::install();
    let claims = Claims {
        sub: grant.user.as_str().to_owned(),
        exp: grant.expires_s,
        nbf: None,
        iat: Some(grant.issued_s),
        device: grant.device.as_ref().map(|device| device.as_str().to_owned()),
        role: grant.role.into(),
    };
    let key = EncodingKey::from_secret(auth.secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(|fault| fault.to_string())
}
