//! The driver task: all the IO of one client.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::command::Command;
use crate::error::ClientError;
use crate::event::Event;
use crate::options::Options;
use crate::shared::Shared;

pub(crate) async fn start(
    options: Options,
    _shared: Arc<Shared>,
    _commands: mpsc::Receiver<Command>,
    _events: mpsc::Sender<Event>,
) -> Result<(), ClientError> {
    Err(ClientError::Closed(format!("no driver yet for {}", options.user)))
}
