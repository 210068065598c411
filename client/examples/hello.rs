//! Says hello to somebody and prints what comes back: `hello 127.0.0.1:7401 ann bob`.

#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use rookery_client::wire::{SessionId, UserId};
use rookery_client::{Client, Event, Options, Outgoing, StartAt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [addr, me, you] = words.as_slice() else { return Err("usage: hello ADDR USER PEER".into()) };
    let (me, you): (UserId, UserId) = (me.parse()?, you.parse()?);
    let session = SessionId::direct(&me, &you)?;

    let mut options = Options::new([addr], me, "example".parse()?);
    options.start = StartAt::Now;
    let (client, mut events) = Client::connect(options).await?;
    let ack = client.send(&session, Outgoing::text("hello")).await?;
    println!("stored as number {} of {session}; waiting for messages, end with ctrl-c", ack.seq);

    while let Some(event) = events.recv().await {
        if let Event::Message { session, record } = event {
            let text = String::from_utf8_lossy(record.content.as_ref());
            println!("{session} {} {}: {text}", record.seq, record.sender);
        }
    }
    Ok(())
}
