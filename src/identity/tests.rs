//! Both modes, each refusal with its code, and no way around the signature.

use rookery_wire::request::{Hello, Role};
use rookery_wire::{Blob, ErrorCode};

use super::{Authenticator, Grant, issue};
use crate::config::{Auth, AuthMode, Config, Secret};

const NOW_S: u64 = 1_800_000_000;

fn auth() -> Auth {
    Auth {
        mode: AuthMode::Token,
        secret: Secret::new("0123456789abcdef0123456789abcdef"),
        leeway_ms: 2_000,
        ended_leeway_ms: 3_000,
    }
}

fn judge(auth: Auth) -> Authenticator {
    Authenticator::from_config(&Config { auth, ..Config::default() }).expect("a judge")
}

fn hello(user: &str, device: &str, role: Role, token: &str) -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        user: user.parse().expect("user"),
        device: device.parse().expect("device"),
        epoch: 0,
        nonce: 1,
        role,
        token: Blob::from(token),
        agent: Blob::default(),
        platform: Blob::default(),
    }
}

fn grant(user: &str, device: Option<&str>, role: Role) -> Grant {
    Grant {
        issued_s: 1_000,
        user: user.parse().expect("user"),
        device: device.map(|device| device.parse().expect("device")),
        role,
        expires_s: NOW_S + 60,
    }
}

fn code(token: &str, user: &str, device: &str, role: Role, now_s: u64) -> Option<ErrorCode> {
    let judge = judge(auth());
    judge.authenticate(&hello(user, device, role, token), now_s * 1000).err().map(|error| error.code)
}

#[test]
fn open_mode_believes_what_hello_says() {
    let judge = judge(Auth::default());
    let who = judge.authenticate(&hello("ann", "phone", Role::Service, ""), 0).expect("open");
    assert_eq!((who.user.as_str(), who.device.as_str(), who.service), ("ann", "phone", true));
}

#[test]
fn a_token_names_user_device_and_role() {
    let token = issue(&auth(), &grant("ann", Some("phone"), Role::User)).expect("issue");
    assert_eq!(code(&token, "ann", "phone", Role::User, NOW_S), None);
    assert_eq!(code(&token, "bob", "phone", Role::User, NOW_S), Some(ErrorCode::TokenMismatch));
    assert_eq!(code(&token, "ann", "laptop", Role::User, NOW_S), Some(ErrorCode::TokenMismatch));
    assert_eq!(code(&token, "ann", "phone", Role::Service, NOW_S), Some(ErrorCode::TokenMismatch));
    let any = issue(&auth(), &grant("ann", None, Role::Service)).expect("issue");
    assert_eq!(code(&any, "ann", "whatever", Role::Service, NOW_S), None);
}

#[test]
fn a_token_ends_by_the_callers_clock_with_leeway() {
    let token = issue(&auth(), &grant("ann", None, Role::User)).expect("issue");
    assert_eq!(code(&token, "ann", "phone", Role::User, NOW_S + 61), None);
    assert_eq!(code(&token, "ann", "phone", Role::User, NOW_S + 62), Some(ErrorCode::TokenExpired));
}

#[test]
fn a_token_from_the_future_is_refused_but_for_the_leeway() {
    let from = |issued_s| {
        let token = issue(&auth(), &Grant { issued_s, ..grant("ann", None, Role::User) }).expect("issue");
        code(&token, "ann", "phone", Role::User, NOW_S)
    };
    assert_eq!((from(NOW_S), from(NOW_S + 2)), (None, None));
    assert_eq!(from(NOW_S + 3), Some(ErrorCode::BadToken));
}

/// The issuer's clock may be ahead by the leeway: what it says to be issued just after the end may be from before.
#[test]
fn a_token_opens_an_ended_device_only_if_it_is_later_by_more_than_the_leeway() {
    let ended_ms = NOW_S * 1000;
    let from_before = |issued_s| {
        let token = issue(&auth(), &Grant { issued_s, ..grant("ann", None, Role::User) }).expect("issue");
        let now_ms = ended_ms + 10_000;
        let who = judge(auth()).authenticate(&hello("ann", "phone", Role::User, &token), now_ms);
        who.expect("a good token").is_from_before(ended_ms)
    };
    assert!(from_before(0) && from_before(NOW_S) && from_before(NOW_S + 3));
    assert!(!from_before(NOW_S + 4));
}

#[test]
fn what_is_not_signed_with_the_key_is_refused() {
    let token = issue(&auth(), &grant("ann", None, Role::User)).expect("issue");
    let other = Auth { secret: Secret::new("another key, also of 32 bytes or more"), ..auth() };
    let foreign = issue(&other, &grant("ann", None, Role::User)).expect("issue");
    // {"alg":"none"} with the claims of a good token and no signature.
    let claims = token.split('.').nth(1).expect("claims");
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
    for bad in ["", "nonsense", "a.b.c", &foreign, &unsigned, &token[..token.len() - 4]] {
        assert_eq!(code(bad, "ann", "phone", Role::User, NOW_S), Some(ErrorCode::BadToken), "{bad}");
    }
    let long = "x".repeat(super::MAX_TOKEN_BYTES + 1);
    assert_eq!(code(&long, "ann", "phone", Role::User, NOW_S), Some(ErrorCode::BadToken));
}

#[test]
fn errors_tell_neither_token_nor_key() {
    let token = issue(&auth(), &grant("ann", None, Role::User)).expect("issue");
    let judge = judge(auth());
    let error = judge.authenticate(&hello("bob", "phone", Role::User, &token), 0).expect_err("mismatch");
    assert!(error.message().contains("for user ann, HELLO says bob"), "{error}");
    assert!(!error.message().contains(&token));
    assert!(issue(&Auth::default(), &grant("ann", None, Role::User)).is_err(), "no secret, no token");
}
