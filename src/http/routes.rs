//! Path and method to answer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};

use super::Subject;
use super::metrics;

/// An order to move a leader is given up after this time.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// Answers one request. Never fails: what is wrong becomes a status code and a line of text.
pub(super) async fn answer(request: Request<Incoming>, from: SocketAddr, subject: &dyn Subject) -> Answer {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let post = *request.method() == Method::POST;
    match request.uri().path() {
        "/livez" if get => text(StatusCode::OK, "ok\n"),
        "/readyz" if get => match subject.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" if get => match metrics::render(&subject.status(), subject.ready().is_ok()) {
            Ok(page) => typed(StatusCode::OK, metrics::CONTENT_TYPE, page),
            Err(fault) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot render: {fault}\n")),
        },
        "/status" if get => match serde_json::to_string_pretty(&subject.status()) {
            Ok(page) => typed(StatusCode::OK, "application/json", page + "\n"),
            Err(fault) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot render: {fault}\n")),
        },
        "/transfer" | "/shutdown" if post => order(&request, from, subject).await,
        "/livez" | "/readyz" | "/metrics" | "/status" => refuse_method("GET"),
        "/transfer" | "/shutdown" => refuse_method("POST"),
        path => text(
            StatusCode::NOT_FOUND,
            format!("no page {path}: there are /livez /readyz /metrics /status\n"),
        ),
    }
}

async fn order(request: &Request<Incoming>, from: SocketAddr, subject: &dyn Subject) -> Answer {
    if !from.ip().is_loopback() {
        return text(StatusCode::FORBIDDEN, "orders are taken from this machine only\n");
    }
    // A page in a browser on this machine could post here too; browsers name their origin.
    if request.headers().contains_key(ORIGIN) {
        return text(StatusCode::FORBIDDEN, "orders are not taken from browsers\n");
    }
    if request.uri().path() == "/shutdown" {
        subject.shutdown();
        return text(StatusCode::ACCEPTED, "stopping\n");
    }
    let query = request.uri().query().unwrap_or_default();
    let number = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    let shard = number("shard").and_then(|text| text.parse::<u32>().ok());
    let to = number("to").and_then(|text| text.parse::<u16>().ok());
    let (Some(shard), Some(to)) = (shard, to) else {
        return text(StatusCode::BAD_REQUEST, "write /transfer?shard=SHARD&to=NODE\n");
    };
    match tokio::time::timeout(TRANSFER_DEADLINE, subject.transfer(shard, to)).await {
        Ok(Ok(())) => text(StatusCode::OK, format!("shard {shard} is led by node {to}\n")),
        Ok(Err(why)) => text(StatusCode::CONFLICT, format!("{why}\n")),
        Err(_) => text(StatusCode::GATEWAY_TIMEOUT, format!("shard {shard} has not moved within 10 s\n")),
    }
}

fn refuse_method(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body.into())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
