//! `rookery token`: signs a token with the key of the configuration.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rookery_wire::request::Role;
use rookery_wire::{DeviceId, UserId};

use super::ConfigPath;
use crate::config::Config;
use crate::identity::{self, Grant};
use crate::terminal as out;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// A person's device: acts for its own user only
    User,
    /// A backend: may create sessions, change members and send for a named user
    Service,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rookery token ann                        for every device of ann, one day
  rookery token ann --device phone --valid-for 15m
  rookery token shop --role service --valid-for 30d
  ROOKERY_TOKEN=$(rookery token ann) rookery chat --user ann

The token is a JWT (HS256) signed with auth.secret; a backend makes its own with the same key.")]
pub(super) struct TokenArgs {
    /// For whom
    user: UserId,
    /// For this device only
    #[arg(long)]
    device: Option<DeviceId>,
    /// As what
    #[arg(long, value_enum, default_value = "user")]
    role: RoleArg,
    /// How long: 90s, 15m, 12h or 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
    valid_for: u64,
    #[command(flatten)]
    at: ConfigPath,
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text} is not a time: write 90s, 15m, 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|s| (1..=3650 * 86_400).contains(s)).ok_or_else(wrong)
}

pub(super) fn run(args: &TokenArgs) -> Result<()> {
    let config = Config::load(&args.at.config)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let role = match args.role {
        RoleArg::User => Role::User,
        RoleArg::Service => Role::Service,
    };
    let grant = Grant {
        user: args.user.clone(),
        device: args.device.clone(),
        role,
        issued_s: now.as_secs(),
        expires_s: now.as_secs().saturating_add(args.valid_for),
    };
    match identity::issue(&config.auth, &grant) {
        Ok(token) => out::line(token)?,
        Err(why) => bail!("{}: {why}", args.at.config.display()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_a_unit() {
        assert_eq!((seconds("90s"), seconds("15m"), seconds("30d")), (Ok(90), Ok(900), Ok(2_592_000)));
        for wrong in ["", "5", "h", "0s", "-1h", "1w", "99999999999999999999d", "4000d", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
