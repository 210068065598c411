//! How the commands that speak to a cluster find it and say who they are.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rookery_client::wire::request::Role;
use rookery_client::wire::{DeviceId, GroupId, SessionId, UserId};
use rookery_client::{Client, Events, Options};

use super::ConfigPath;
use crate::config::Config;

/// Flags of every command that connects.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectArgs {
    /// Who you are
    #[arg(long, short, env = "ROOKERY_USER", value_name = "USER")]
    pub(crate) user: UserId,
    /// The device to connect as; a second connection of the same device ends the first
    #[arg(long, env = "ROOKERY_DEVICE", value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// Token, where the cluster asks for one
    #[arg(long, env = "ROOKERY_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Connect as a service, which may act for other users
    #[arg(long)]
    pub(crate) service: bool,
    /// Address of a node, host:port; may be given several times. Else those of the configuration are used
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) seed: Vec<String>,
    /// Configuration file
    #[command(flatten)]
    pub(crate) at: ConfigPath,
    /// How long a request may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) timeout: u64,
}

impl ConnectArgs {
    /// What the client library is told. `device` is used when none was given.
    ///
    /// # Errors
    /// A configuration that cannot be read, when no address was given.
    pub(crate) fn options(&self, device: &str) -> Result<Options> {
        let seeds = match self.seed.as_slice() {
            [] => Config::load(&self.at.config).context("no --seed was given")?.client_addrs(),
            given => given.to_vec(),
        };
        let device = match &self.device {
            Some(device) => device.clone(),
            None => device.parse().context("device")?,
        };
        let mut options = Options::new(seeds, self.user.clone(), device);
        options.token.clone_from(&self.token);
        options.role = if self.service { Role::Service } else { Role::User };
        options.request_deadline = Duration::from_secs(self.timeout);
        options.agent = concat!("rookery/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(options)
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody answers, or the cluster does not take this identity.
    pub(crate) async fn connect(&self, device: &str) -> Result<(Client, Events)> {
        Self::open(self.options(device)?).await
    }

    /// Connects with options that were made by [`ConnectArgs::options`] and changed.
    ///
    /// # Errors
    /// As [`ConnectArgs::connect`].
    pub(crate) async fn open(options: Options) -> Result<(Client, Events)> {
        let seeds = options.seeds.join(", ");
        let user = options.user.clone();
        Client::connect(options).await.with_context(|| format!("cannot connect as {user} to {seeds}"))
    }

    /// The session a person names: `@bob`, `#team`, `group:team` or `direct:ann,bob`.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(crate) fn session(&self, name: &str) -> Result<SessionId> {
        session(&self.user, name)
    }
}

/// As [`ConnectArgs::session`], for `me`.
pub(crate) fn session(me: &UserId, name: &str) -> Result<SessionId> {
    let wrong = || format!("{name} is no session: write @USER, '#GROUP', group:GROUP or direct:USER,USER");
    if let Some(user) = name.strip_prefix('@') {
        let user: UserId = user.parse().with_context(wrong)?;
        if user == *me {
            bail!("@{user} is yourself: a direct session needs two different users");
        }
        return SessionId::direct(me, &user).with_context(wrong);
    }
    if let Some(group) = name.strip_prefix('#') {
        return Ok(SessionId::group(group.parse::<GroupId>().with_context(wrong)?));
    }
    name.parse().with_context(wrong)
}

/// A session as a person names it, seen by `me`.
pub(crate) fn session_name(me: &UserId, session: &SessionId) -> String {
    match (session, session.peer_of(me)) {
        (_, Some(peer)) => format!("@{peer}"),
        (SessionId::Group(group), None) => format!("#{group}"),
        (other, None) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_go_both_ways() {
        let me: UserId = "ann".parse().expect("user");
        for (name, full) in [("@bob", "direct:ann,bob"), ("#team", "group:team"), ("group:a b", "group:a b")]
        {
            let session = session(&me, name).expect(name);
            assert_eq!(session.to_string(), full);
        }
        assert_eq!(session_name(&me, &session(&me, "direct:bob,ann").expect("direct")), "@bob");
        assert_eq!(session_name(&me, &session(&me, "direct:bob,eve").expect("direct")), "direct:bob,eve");
        for wrong in ["bob", "@", "#", "@ann", "direct:ann", ""] {
            assert!(session(&me, wrong).is_err(), "{wrong}");
        }
    }
}
