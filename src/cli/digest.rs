//! `digest`: a proof that the records of a session are those that the cluster holds.

use anyhow::{Result, bail};
use clap::Args;
use rookery_client::Verified;
use serde_json::json;

use super::connect::{ConnectArgs, session_name};
use crate::terminal as out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery digest --user ann '#team'                    reads all of it and compares digests
  rookery digest --user ann @bob --json                one JSON object

Recalled, edited and expired messages change nothing in a digest, and trimmed ones neither. Exit code 1 when there is a
difference; docs/protocol.md says how a digest comes to be.")]
pub(super) struct DigestArgs {
    /// Which session
    session: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: ConnectArgs,
}

pub(super) async fn digest(args: DigestArgs) -> Result<()> {
    let session = args.who.session(&args.session)?;
    let (client, events) = args.who.connect("cli-digest").await?;
    drop(events);
    let Verified { from_seq, proof, cluster, differs } = client.verify_after(&session, None).await?;
    client.close().await;
    let name = session_name(&args.who.user, &session);
    if args.json {
        let differs = differs.map(|(from_seq, to_seq)| json!({ "from_seq": from_seq, "to_seq": to_seq }));
        out::line(json!({
            "session": session, "from_seq": from_seq, "seq": proof.seq, "digest": proof.digest,
            "cluster": cluster, "agree": differs.is_none(), "differs": differs,
        }))?;
    } else if differs.is_none() {
        let seq = proof.seq;
        out::line(format_args!("{name}: records {from_seq} to {seq} are those of the cluster: {cluster}"))?;
    }
    if let Some((from, to)) = differs {
        let ours = proof.digest;
        bail!(
            "{name}: the records differ from what the cluster holds, first among {from} to {to}: {ours} instead of {cluster}"
        );
    }
    Ok(())
}
