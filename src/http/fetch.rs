//! The other side of these pages, for the command line, demo and scripts: one request, one answer, one deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::status::NodeStatus;

/// Largest answer that is read.
const ANSWER_BYTES: usize = 4 << 20;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens there, or the connection broke.
    #[error("{addr} does not answer: {why}")]
    Unreachable {
        /// Who was asked.
        addr: String,
        /// What happened.
        why: String,
    },
    /// Connected, but no answer in time: the process may be stopped or overloaded.
    #[error("{addr} has not answered within {} ms", .deadline.as_millis())]
    Silent {
        /// Who was asked.
        addr: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// It answered with an error.
    #[error("{addr}: {text}")]
    Refused {
        /// Who was asked.
        addr: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
}

/// A node's status.
///
/// # Errors
/// [`FetchError`] says how it failed.
pub async fn status(addr: &str, deadline: Duration) -> Result<NodeStatus, FetchError> {
    let body = send(addr, Method::GET, "/status", deadline).await?;
    serde_json::from_slice(&body).map_err(|fault| FetchError::Refused {
        addr: addr.to_owned(),
        status: 200,
        text: format!("/status is not a node's status: {fault}"),
    })
}

/// Whether a node says it is ready.
///
/// # Errors
/// [`FetchError::Refused`] carries the reason why it is not.
pub async fn ready(addr: &str, deadline: Duration) -> Result<(), FetchError> {
    send(addr, Method::GET, "/readyz", deadline).await.map(drop)
}

/// Gives an order, e.g. `/shutdown`. Returns what the node says.
///
/// # Errors
/// [`FetchError`] says how it failed.
pub async fn post(addr: &str, path: &str, deadline: Duration) -> Result<String, FetchError> {
    let body = send(addr, Method::POST, path, deadline).await?;
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

async fn send(addr: &str, method: Method, path: &str, deadline: Duration) -> Result<Bytes, FetchError> {
    let silent = || FetchError::Silent { addr: addr.to_owned(), deadline };
    match tokio::time::timeout(deadline, exchange(addr, method, path)).await {
        Err(_) => Err(silent()),
        Ok(Err(why)) => Err(FetchError::Unreachable { addr: addr.to_owned(), why: why.to_string() }),
        Ok(Ok((status, body))) if (200..300).contains(&status) => Ok(body),
        Ok(Ok((status, body))) => Err(FetchError::Refused {
            addr: addr.to_owned(),
            status,
            text: String::from_utf8_lossy(&body).trim().to_owned(),
        }),
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(addr: &str, method: Method, path: &str) -> Result<(u16, Bytes), AnyError> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::builder().method(method).uri(path).header(HOST, addr).body(Empty::<Bytes>::new())?;
    // The connection makes progress beside the request and ends with it.
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok::<_, AnyError>((status, body))
    };
    tokio::pin!(answered);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        done = &mut answered => done,
        ended = &mut connection => {
            ended?;
            answered.await
        }
    }
}
