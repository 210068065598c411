//! `rookery chat`: a terminal to talk in.
//!
//! Four parts that can be read alone: what the chat knows and decides ([`state`] and [`outcomes`], over [`conversation`], [`fading`],
//! [`facts`], [`company`], [`drafts`], [`input`], [`commands`]), what it looks like ([`view`], over [`history`], [`popup`], [`wrap`], [`palette`], [`zone`]), which key does what
//! ([`keys`]), and the loop here, which only carries events in and actions ([`acts`]) out to
//! where they are done ([`doing`], [`asking`]). It must leave the terminal as it
//! found it, however it ends ([`screen`]), and show nothing of a message that the terminal could take for a command.

mod acts;
mod asking;
mod commands;
mod company;
mod conversation;
mod doing;
mod drafts;
mod facts;
mod fading;
mod history;
mod input;
mod keys;
mod outcomes;
mod palette;
mod popup;
mod screen;
mod state;
mod view;
mod wrap;
mod zone;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use crossterm::event::EventStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use ratatui::crossterm::event::Event as Terminal;
use rookery_client::wire::SessionId;
use rookery_client::{Client, ClientError, Event, Events, Goes, Mark, Memory, Outgoing, StartAt, SyncList};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::acts::{About, Action, Outcome};
use self::palette::Palette;
use self::screen::Screen;
use self::state::{Chat, Connection};
use self::view::Look;
use self::zone::Zone;
use super::connect::ConnectArgs;

/// Shortest time between two drawings: a busy group must not eat a slow line.
const FRAME: Duration = Duration::from_millis(40);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Events taken from the client before the screen is looked at again.
const BATCH: usize = 512;
/// How long the end waits for messages that are on their way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The device, unless another is named.
const DEVICE: &str = "terminal";

/// Chat in the terminal
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery chat --user ann                        chat as ann on the cluster of ./cluster.toml
  rookery chat --user ann @bob                   and open the conversation with bob
  rookery chat --user bob --addr 10.0.0.1:7401   on a cluster elsewhere

Inside, /help shows keys and commands. NO_COLOR is honoured.")]
pub(crate) struct ChatArgs {
    /// Session to open: @USER, '#GROUP'
    session: Option<String>,
    #[command(flatten)]
    who: ConnectArgs,
    /// Address of a node, host:port; may be given several times (as --seed)
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    addr: Vec<String>,
    /// Keep what this device must remember in this folder, so that a restart goes on as the same device
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Connects, then talks until the person has had enough.
///
/// # Errors
/// There is no terminal, the arguments make no sense, or the cluster does not take this user.
pub(crate) async fn run(mut args: ChatArgs) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("chat needs a terminal; in scripts use `rookery send` and `rookery tail`");
    }
    let open = args.session.as_deref().map(|name| args.who.session(name)).transpose()?;
    args.who.seed.append(&mut args.addr);
    let mut options = args.who.options(DEVICE)?;
    options.start = StartAt::Now;
    if let Some(folder) = &args.data_dir {
        let name = format!("{}@{}.json", options.user, options.device).replace(['/', '\\'], "_");
        options.memory = Memory::File(folder.join(name));
    }
    let (me, device) = (options.user.clone(), options.device.clone());
    let waiting = crate::terminal::spinner("connecting");
    let connected = ConnectArgs::open(options).await;
    waiting.finish_and_clear();
    let (client, events) = connected?;
    let connection = Connection::Down { reason: "connecting".to_owned() };
    let mut chat = Chat::new(me, device, connection);
    chat.tick(now_ms());
    let mark = Arc::new(Mutex::new(Mark::default()));
    let list = listed(&client, &mark).await.context("cannot read the session list")?;
    chat.outcome(Outcome::Synced(Ok(list)));
    if let Some(session) = open.or_else(|| chat.listed().first().map(|session| session.id.clone())) {
        chat.open(session);
    }
    let screen = Screen::take("rookery").context("cannot take the terminal")?;
    let talk = Talk { client: client.clone(), chat, screen, work: JoinSet::new(), rows: 0, mark };
    let (ended, work) = talk.run(events).await;
    // What was typed last may still be on its way.
    let _ = timeout(LAST_WORDS, work.join_all()).await;
    client.close().await;
    ended
}

/// What has changed in the session list since the mark, which moves on; everything, if the mark is refused. Two at once do no
/// harm: lines are only put in the place of older ones, and the older of two marks is as good.
async fn listed(client: &Client, mark: &Mutex<Mark>) -> Result<SyncList, ClientError> {
    let since = mark.lock().clone();
    let changes = match client.sync_since(&since).await {
        Err(ClientError::Refused(_)) if !since.is_empty() => client.sync_since(&Mark::default()).await,
        told => told,
    }?;
    *mark.lock() = changes.mark;
    Ok(SyncList { sessions: changes.sessions, unresolved: changes.unresolved })
}

struct Talk {
    client: Client,
    chat: Chat,
    screen: Screen,
    work: JoinSet<Outcome>,
    /// Where the session list stands that was read last.
    mark: Arc<Mutex<Mark>>,
    /// Rows of history on the screen.
    rows: usize,
}

impl Talk {
    async fn run(mut self, mut events: Events) -> (Result<()>, JoinSet<Outcome>) {
        let ended = self.talk(&mut events).await;
        // However it ends: what is written and not sent is saved.
        self.chat.leave();
        self.act();
        (ended, self.work)
    }

    async fn talk(&mut self, events: &mut Events) -> Result<()> {
        let look = Look { palette: Palette::from_env(), zone: Zone::Local };
        let mut typed = EventStream::new();
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut hang_up, mut end) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
        let mut changed = true;
        loop {
            if !self.act() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = hang_up.recv() => return Ok(()),
                _ = end.recv() => return Ok(()),
                _ = frames.tick(), if changed => {
                    self.draw(look)?;
                    changed = false;
                }
                key = typed.next() => {
                    let key = key.context("the terminal has gone")?.context("reading the terminal")?;
                    self.typed(key)?;
                    changed = true;
                }
                event = events.recv() => {
                    self.told(event)?;
                    for _ in 0..BATCH {
                        let Some(event) = events.try_recv() else { break };
                        self.told(Some(event))?;
                    }
                    changed = true;
                }
                Some(done) = self.work.join_next() => {
                    self.chat.outcome(done.context("a task of the chat failed")?);
                    changed = true;
                }
                _ = clock.tick() => {
                    self.chat.tick(now_ms());
                    changed = true;
                }
            }
        }
    }

    fn draw(&mut self, look: Look) -> Result<()> {
        let (chat, rows) = (&mut self.chat, &mut self.rows);
        self.screen.terminal.draw(|frame| *rows = view::draw(frame, chat, look)).context("drawing")?;
        Ok(())
    }

    fn typed(&mut self, event: Terminal) -> Result<()> {
        match event {
            Terminal::Key(key) if key.code == crossterm::event::KeyCode::Char('l') && is_control(key) => {
                self.screen.terminal.clear()?;
            }
            Terminal::Key(key) => keys::press(&mut self.chat, key, self.rows),
            Terminal::Paste(text) => self.chat.input.insert(&text),
            Terminal::FocusGained => self.chat.focused = true,
            Terminal::FocusLost => self.chat.focused = false,
            Terminal::Resize(..) | Terminal::Mouse(_) => {}
        }
        Ok(())
    }

    fn told(&mut self, event: Option<Event>) -> Result<()> {
        match event {
            Some(event) => {
                let again = matches!(event, Event::Connected { .. });
                self.chat.event(event);
                if again {
                    self.chat.connected();
                }
            }
            None => match self.client.ping().now_or_never() {
                Some(Err(error)) => return Err(error.into()),
                _ => bail!("the client has ended"),
            },
        }
        Ok(())
    }

    /// Does what the chat wants done; `false` when that is to end.
    fn act(&mut self) -> bool {
        for action in self.chat.take_actions() {
            match action {
                Action::Quit => return false,
                Action::Send { session, id, text, goes } => self.send(session, id, &text, goes),
                action => {
                    let (client, mark) = (self.client.clone(), Arc::clone(&self.mark));
                    self.work.spawn(async move { doing::outcome_of(&client, &mark, action).await });
                }
            }
        }
        true
    }

    /// Messages are handed over here and now, so that they keep the order in which they were typed; only the answer
    /// is waited for elsewhere.
    fn send(&mut self, session: SessionId, id: u64, text: &str, goes: Goes) {
        let content = match goes {
            Goes::Never => Outgoing::text(text),
            Goes::After(time) => Outgoing::text(text).lasting(time),
            Goes::OnceRead(time) => Outgoing::text(text).burning(time),
        };
        let pending = self.client.send_pipelined(&session, content).now_or_never();
        let refused = match pending {
            Some(Ok(pending)) => {
                self.work.spawn(async move { Outcome::About(session, About::Sent(id, pending.await)) });
                return;
            }
            Some(Err(error)) => error,
            None => ClientError::Invalid("too many messages are on their way; send it again".to_owned()),
        };
        self.chat.outcome(Outcome::About(session, About::Sent(id, Err(refused))));
    }
}

fn is_control(key: crossterm::event::KeyEvent) -> bool {
    key.modifiers.contains(crossterm::event::KeyModifiers::CONTROL)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
