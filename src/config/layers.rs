//! Defaults < settings file < environment < flags, for any command.
//!
//! clap reads defaults, environment and flags, and knows which of them a value is from. A TOML file, whose keys are
//! the names of the flags, goes in between.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};
use figment::providers::Serialized;
use figment::Figment;
use serde::de::DeserializeOwned;
use serde::Serialize;

use super::error::{problem, ConfigError};

/// Settings of a command as they were typed, and which of them were: the others are defaults.
#[derive(Debug, Clone)]
pub struct Typed<T> {
    value: T,
    /// Names of the flags that were given, on the command line or in the environment.
    given: Vec<String>,
}

impl<T: Args + Clone + Serialize + DeserializeOwned> Typed<T> {
    /// What was typed, and where nothing was typed, what `file` says.
    ///
    /// # Errors
    /// A file that cannot be read, has a key that is no setting, or a value of another type.
    pub fn over(&self, file: Option<&Path>) -> Result<T, ConfigError> {
        let Some(path) = file else {
            return Ok(self.value.clone());
        };
        let unusable =
            |why: &dyn Display| problem("--config", format!("{}: {why}", path.display()));
        let text = fs::read_to_string(path).map_err(|e| unusable(&e))?;
        let file: toml::Table = toml::from_str(&text).map_err(|e| unusable(&e))?;
        let typed = Figment::from(Serialized::defaults(&self.value));
        let mut layers = typed.clone();
        for (key, value) in file {
            known::<T>(&key).map_err(|e| unusable(&e))?;
            layers = layers.merge(Serialized::default(&key, value));
            // One key at a time: an error inside flattened groups does not say where it is.
            let read = layers.extract::<T>();
            read.map_err(|e| unusable(&format!("{key}: {}", e.kind)))?;
        }
        for key in &self.given {
            let value = typed.find_value(key).map_err(|e| unusable(&e.kind))?;
            layers = layers.merge(Serialized::default(key, value));
        }
        layers.extract().map_err(|e| unusable(&e.kind))
    }
}

/// Refuses a key that is no setting, with the one that was probably meant.
fn known<T: Args>(key: &str) -> Result<(), String> {
    let names: Vec<String> = flags::<T>().into_iter().map(|(_, name)| name).collect();
    if names.iter().any(|name| name == key) {
        return Ok(());
    }
    let likeness = |name: &&String| strsim::jaro_winkler(name, key);
    let nearest = names
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    Err(nearest.map_or_else(
        || format!("there is no setting {key:?}"),
        |nearest| format!("there is no setting {key:?} here; the nearest is {nearest:?}"),
    ))
}

/// The flags of a group: clap's id, and the name without the dashes.
fn flags<T: Args>() -> Vec<(Id, String)> {
    let command = T::augment_args(Command::new("flags"));
    let flags = command.get_arguments().filter_map(|flag| {
        let name = flag.get_long()?.to_owned();
        Some((flag.get_id().clone(), name))
    });
    flags.collect()
}

/// A group of settings, none of which was typed.
pub(super) fn defaults<T: Args>() -> T {
    let command = T::augment_args(Command::new("defaults").no_binary_name(true));
    let matches = command.get_matches_from::<[&str; 0], &str>([]);
    T::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

impl<T: Args> FromArgMatches for Typed<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let given = |id: &Id| {
            matches!(
                matches.value_source(id.as_str()),
                Some(ValueSource::CommandLine | ValueSource::EnvVariable)
            )
        };
        let flags = flags::<T>().into_iter().filter(|(id, _)| given(id));
        Ok(Self {
            given: flags.map(|(_, name)| name).collect(),
            value: T::from_arg_matches_mut(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Args> Args for Typed<T> {
    fn group_id() -> Option<Id> {
        T::group_id()
    }

    fn augment_args(command: Command) -> Command {
        T::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use serde::Deserialize;

    use super::super::learning_loop::LoopSettings;
    use super::super::serve::ServeSettings;
    use super::super::train::expo::{ExpDpoSettings, ExpGrpoSettings};
    use super::super::train::pdpo::PdpoSettings;
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        config: Option<std::path::PathBuf>,
        #[command(flatten)]
        settings: Typed<Settings>,
    }

    #[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Settings {
        #[arg(long, default_value_t = 1.5)]
        learning_rate: f64,
        #[arg(long, value_delimiter = ',', default_values = ["q", "v"])]
        targets: Vec<String>,
        /// A variable that every process has.
        #[arg(long, env = "PATH", default_value = "nowhere")]
        search: String,
        #[command(flatten)]
        #[serde(flatten)]
        inner: Inner,
    }

    #[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Inner {
        #[arg(long)]
        patience: Option<usize>,
        #[arg(long)]
        strict: bool,
    }

    fn read(file: Option<&str>, typed: &[&str]) -> Result<Settings, String> {
        let written = tempfile::NamedTempFile::new().unwrap();
        let path = written.path().to_str().unwrap();
        let named = file.map_or(vec![], |_| vec!["--config", path]);
        fs::write(path, file.unwrap_or_default()).unwrap();
        let all = [&["program"], &named[..], typed].concat();
        let cli = Cli::try_parse_from(all).map_err(|e| e.to_string())?;
        let settings = cli.settings.over(cli.config.as_deref());
        settings.map_err(|e| e.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_defaults() {
        let path = std::env::var("PATH").unwrap();
        let defaults = read(None, &[]).unwrap();
        assert_eq!(read(Some(""), &[]).unwrap(), defaults);
        assert_eq!(defaults.search, path);
        let file =
            "learning-rate = 2\ntargets = ['k']\nsearch = 'there'\npatience = 3\nstrict = true\n";
        let settings = read(Some(file), &[]).unwrap();
        let expected = Settings {
            learning_rate: 2.0,
            targets: vec!["k".into()],
            search: path,
            inner: Inner {
                patience: Some(3),
                strict: true,
            },
        };
        assert_eq!(settings, expected);
        let typed = ["--learning-rate", "3", "--search", "here", "--targets", "o"];
        let settings = read(Some(file), &typed).unwrap();
        assert_eq!(settings.learning_rate, 3.0);
        assert_eq!(settings.search, "here");
        assert_eq!(settings.targets, ["o"]);
        assert_eq!(settings.inner, expected.inner);
    }

    /// A flag counts as given even if it says what the default says.
    #[test]
    fn a_flag_with_the_default_value_wins() {
        let settings = read(Some("learning-rate = 2"), &["--learning-rate", "1.5"]);
        assert_eq!(settings.unwrap().learning_rate, 1.5);
    }

    #[test]
    fn what_a_file_cannot_say_is_named() {
        for (file, named) in [
            ("learning-rte = 2", "the nearest is \"learning-rate\""),
            ("learning_rate = 2", "\"learning_rate\""),
            ("config = 'other.toml'", "\"config\""),
            ("learning-rate = 'fast'", "learning-rate: "),
            ("patience = -1", "patience: "),
            ("targets = 'q'", "targets: "),
            ("strict = 1", "strict: "),
            ("learning-rate = ", "line 1"),
        ] {
            let error = read(Some(file), &[]).unwrap_err();
            assert!(error.starts_with("--config: /"), "{error}");
            assert!(error.contains(named), "{file}: {error}");
        }
        let error = Cli::parse_from(["program"])
            .settings
            .over(Some(Path::new("missing.toml")));
        assert!(error.unwrap_err().to_string().contains("missing.toml"));
    }

    /// The keys of a file are the names of the flags, and take the values of the flags.
    #[test]
    fn every_setting_can_be_in_a_file() {
        check::<PdpoSettings>();
        check::<ExpDpoSettings>();
        check::<ExpGrpoSettings>();
        check::<LoopSettings>();
        check::<ServeSettings>();
    }

    fn check<T: Args + Clone + Serialize + DeserializeOwned>() {
        let typed = Typed {
            value: defaults::<T>(),
            given: Vec::new(),
        };
        let value = Figment::from(Serialized::defaults(&typed.value));
        let command = T::augment_args(Command::new("flags"));
        let mut names = Vec::new();
        for flag in command.get_arguments() {
            let name = flag.get_long().unwrap();
            assert!(value.contains(name), "{name} is not read from a file");
            names.push(name.to_owned());
            let values = flag.get_possible_values();
            let quote = |name: &str| match name {
                "true" | "false" => name.to_owned(),
                word => format!("'{word}'"),
            };
            for value in values.iter().map(|v| quote(v.get_name())) {
                let file = tempfile::NamedTempFile::new().unwrap();
                fs::write(file.path(), format!("{name} = {value}")).unwrap();
                let read = typed.over(Some(file.path()));
                assert!(read.is_ok(), "{name} = {value}: {}", read.err().unwrap());
            }
        }
        let keys: figment::value::Dict = value.extract().unwrap();
        let others: Vec<_> = keys.keys().filter(|key| !names.contains(key)).collect();
        assert!(others.is_empty(), "no flags: {others:?}");
    }

    #[test]
    fn the_command_lines_are_sound() {
        Cli::command().debug_assert();
    }
}
