//! Values as they were given, with where they came from, before anything is checked but the keys.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::config::{ConfigError, Key};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// A file.
    File(PathBuf),
    /// Nowhere: the built-in value.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Environment(variable) => write!(f, "{variable}"),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Default => write!(f, "default"),
        }
    }
}

/// The values that were given, by the name of their key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Settings {
    /// Sets a key, whatever it was before.
    pub fn set(&mut self, key: &'static Key, value: String, origin: Origin) {
        self.values.insert(key.name, (value, origin));
    }

    /// The keys of a file; every one must be known. `file` names it in errors.
    pub fn from_toml(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let table: Table = text.parse().map_err(|error| syntax(&error, text, file))?;
        let mut settings = Self::default();
        for (name, value) in &table {
            match value {
                Value::Table(inner) => {
                    for (rest, value) in inner {
                        settings.set_from_toml(&format!("{name}.{rest}"), value, file)?;
                    }
                }
                value => settings.set_from_toml(name, value, file)?,
            }
        }
        Ok(settings)
    }

    fn set_from_toml(&mut self, name: &str, value: &Value, file: &Path) -> Result<(), ConfigError> {
        let Some(key) = Key::named(name) else {
            return Err(ConfigError::UnknownKey {
                file: file.to_owned(),
                key: name.to_owned(),
                nearest: Key::nearest(name).name,
            });
        };
        self.set(key, text(value), Origin::File(file.to_owned()));
        Ok(())
    }

    /// These values, and where there is none, the one of `below`.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        for (name, value) in below.values {
            self.values.entry(name).or_insert(value);
        }
        self
    }

    /// The value of that key, if one was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// Where the value of that key comes from.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        self.values
            .get(name)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// A value as a flag would give it; what is of a wrong type stays what it is, for the error that names it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn syntax(error: &toml::de::Error, text: &str, file: &Path) -> ConfigError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    ConfigError::Syntax {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        what: error.message().replace('\n', "; "),
    }
}
