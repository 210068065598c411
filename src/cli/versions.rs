//! `versions`: what a message said before it was edited.

use anyhow::Result;
use clap::Args;
use rookery_client::Client;
use rookery_client::wire::SessionId;
use rookery_client::wire::versions::{MAX_VERSIONS, VersionLine};
use serde_json::{Value, json};

use super::connect::{ConnectArgs, session_name};
use super::record::{clock, hex, visible};
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery versions --user ann @bob 7                   what message 7 says and said, the newest first
  rookery versions --user ann '#team' 7 --json         one JSON object a line
  rookery versions --user ann '#team'                  whether versions are kept there
  rookery group --user ann keep-versions team on       keeps them from now on

What was said before an edit is kept where the owner of the group, or both users of a direct session, want it so.")]
pub(super) struct VersionsArgs {
    /// Which session
    session: String,
    /// Which message; without, only whether versions are kept is printed
    seq: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn versions(args: VersionsArgs) -> Result<()> {
    let session = args.who.session(&args.session)?;
    let (client, events) = args.who.connect(&super::talk::send_device()).await?;
    drop(events);
    let name = session_name(&args.who.user, &session);
    match args.seq {
        Some(seq) => list(&client, &session, seq, args.json).await?,
        None => {
            let kept = client.keeps_versions(&session).await?;
            out::line(if args.json {
                json!({ "session": session, "kept": kept }).to_string()
            } else {
                format!("{name}: what is said before an edit is {}", if kept { "kept" } else { "not kept" })
            })?;
        }
    }
    client.close().await;
    Ok(())
}

async fn list(client: &Client, session: &SessionId, seq: u64, json: bool) -> Result<()> {
    let mut before = 0;
    loop {
        let page = client.versions(session, seq, before, MAX_VERSIONS + 1).await?;
        for version in &page.versions {
            out::line(if json { object(session, seq, version).to_string() } else { words(version) })?;
        }
        match page.versions.last().filter(|_| page.more) {
            Some(last) => before = last.number,
            None => return Ok(()),
        }
    }
}

fn words(version: &VersionLine) -> String {
    let VersionLine { number, time_ms, by, content, .. } = version;
    if version.is_lost() {
        return format!("{number} (the cluster has lost it)");
    }
    let text = match std::str::from_utf8(content.as_ref()) {
        Ok(text) => visible(text),
        Err(_) => format!("({} bytes)", content.len()),
    };
    format!("{number} {} {by}: {text}", clock(*time_ms))
}

fn object(session: &SessionId, seq: u64, version: &VersionLine) -> Value {
    let VersionLine { number, time_ms, by, content_type, content, .. } = version;
    if version.is_lost() {
        return json!({ "session": session, "seq": seq, "number": number, "lost": true });
    }
    let mut object = json!({
        "session": session, "seq": seq, "number": number, "time_ms": time_ms, "by": by,
        "content_type": String::from_utf8_lossy(content_type.as_ref()),
    });
    match std::str::from_utf8(content.as_ref()) {
        Ok(text) => object["text"] = text.into(),
        Err(_) => object["hex"] = hex(content.as_ref()).into(),
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_client::wire::Blob;

    #[test]
    fn a_version_is_one_line_whatever_is_in_it() {
        let session: SessionId = "direct:ann,bob".parse().expect("a session");
        let version = |content: &[u8]| VersionLine {
            number: 2,
            time_ms: 45_296_000,
            by: "bob".parse().expect("a user"),
            content_type: Blob::from("text/plain"),
            content: Blob(content.to_vec().into()),
            extensions: Vec::new(),
        };
        assert_eq!(words(&version(b"a\n\x1b[2J")), "2 12:34:56Z bob: a⏎␛[2J");
        assert_eq!(words(&version(&[0xff, 0])), "2 12:34:56Z bob: (2 bytes)");
        let shown = object(&session, 7, &version(b"a\nb"));
        assert_eq!((shown["text"].as_str(), shown["number"].as_u64()), (Some("a\nb"), Some(2)));
        assert_eq!(object(&session, 7, &version(&[0xff, 0]))["hex"], "ff00");
        let lost = VersionLine::lost(1, "bob".parse().expect("a user"));
        assert_eq!(words(&lost), "1 (the cluster has lost it)");
        assert_eq!(object(&session, 7, &lost)["lost"], true);
    }
}
