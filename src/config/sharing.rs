//! What each key and each user may have of the engine.

use super::raw::Serve;
use super::resolved::{ConfigError, MAX_COUNT};
use attune_engine::admission::Caps;
use attune_engine::fairness::Sharing;

/// Checks what was typed.
///
/// # Errors
/// A number that is more than there can be.
pub(super) fn resolve(raw: &Serve) -> Result<Sharing, ConfigError> {
    Ok(Sharing {
        caps: caps(raw)?,
        ..Sharing::default()
    })
}

/// Without a number, one key of several may fill three quarters of the places, so that the others still find some;
/// without keys there is nobody to keep them for.
fn caps(raw: &Serve) -> Result<Caps, ConfigError> {
    let places = raw.max_running + raw.max_queued;
    let usual = match raw.api_keys {
        Some(_) => places.div_ceil(4) * 3,
        None => 0,
    };
    Ok(Caps {
        per_key: cap(
            "--max-answers-per-key",
            raw.max_answers_per_key.unwrap_or(usual),
        )?,
        per_member: cap("--max-answers-per-user", raw.max_answers_per_user)?,
    })
}

/// 0 is no cap.
fn cap(setting: &'static str, value: usize) -> Result<Option<usize>, ConfigError> {
    if value > MAX_COUNT {
        let problem = format!("{value} is not in 0..={MAX_COUNT}");
        return Err(ConfigError { setting, problem });
    }
    Ok((value > 0).then_some(value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::raw::{Cli, Command};
    use super::*;

    fn typed(arguments: &[&str]) -> Result<(Option<usize>, Option<usize>), ConfigError> {
        let all = ["attune", "serve"].iter().chain(arguments);
        let Command::Serve(raw) = Cli::parse_from(all).command else {
            panic!("not serve")
        };
        let caps = resolve(&raw)?.caps;
        Ok((caps.per_key, caps.per_member))
    }

    #[test]
    fn caps_leave_room_for_others() {
        assert_eq!(typed(&[]), Ok((None, Some(128))));
        // 64 run and 512 wait.
        assert_eq!(typed(&["--api-keys", "f"]), Ok((Some(432), Some(128))));
        let both = ["--max-answers-per-key", "5", "--max-answers-per-user", "0"];
        assert_eq!(typed(&both), Ok((Some(5), None)));
    }
}
