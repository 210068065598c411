//! A sender behind the client library: the same closed loop as [`super::send`], with what an application pays.

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rookery_client::{Client, Options, Outgoing};
use rookery_wire::{DeviceId, SessionId, UserId};
use tokio::time::Instant;

use super::content::Contents;
use super::send::{Sent, Span};

pub(super) struct LibrarySender {
    client: Client,
    window: usize,
    contents: Contents,
    next: u64,
    session: SessionId,
    sent: Sent,
}

impl LibrarySender {
    pub(super) async fn connect(
        seeds: Vec<String>,
        user: UserId,
        token: &str,
        session: SessionId,
        window: usize,
        contents: Contents,
    ) -> anyhow::Result<Self> {
        let mut options = Options::new(seeds, user, DeviceId::new("bench")?);
        options.token = Some(token.to_owned()).filter(|token| !token.is_empty());
        options.window = window.max(1);
        options.agent = "rookery bench".to_owned();
        // Without its events a client only sends, and reads no pushes.
        let (client, _) = Client::connect(options).await.context("connecting a sender")?;
        Ok(Self {
            client,
            window: window.max(1),
            contents,
            next: 1,
            session: session.clone(),
            sent: Sent::new(vec![session])?,
        })
    }

    /// Sends until the span is over and everything is answered.
    pub(super) async fn run(mut self, span: Span) -> anyhow::Result<Sent> {
        let mut flights = FuturesUnordered::new();
        loop {
            let over = Instant::now() >= span.to || self.sent.acked + flights.len() as u64 >= span.most;
            while !over && flights.len() < self.window {
                let began = Instant::now();
                let content = Outgoing::new("", self.contents.message(self.next));
                self.next += 1;
                let pending = self.client.send_pipelined(&self.session, content).await?;
                flights.push(async move { (began, pending.await) });
            }
            let Some((began, ack)) = flights.next().await else { break };
            self.sent.note(began, span, 0, ack?.seq);
        }
        self.client.close().await;
        Ok(self.sent)
    }
}
